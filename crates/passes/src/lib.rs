//! Rewrites of graphs.
//!
//! In goes a [`Graph`], out comes the same graph rewritten, with [`Notes`] of what was done and what was not, and why.
//! Each pass says in its module doc whether it is exact or what its tolerance is. Ids of values and nodes that stay are
//! stable, and the interface keeps its names.
//!
//! A pass knows no file format, no target and no recipe; which passes a target wants is the caller's list. To add one:
//! a file with a function `verb_object(&mut Graph, &mut Notes) -> Result<()>`, and a line in [`CANONICAL`] if every
//! graph should go through it.

#![forbid(unsafe_code)]

mod error;
mod fold;
mod fuse_activation;
mod integer_interface;
pub mod layout;
mod matching;
mod note;
mod recognize;
mod remove_identity;
mod unsign_activations;

use fewbit_ir::{Graph, infer};

pub use error::{Error, ErrorKind, Result};
pub use fold::{fold_affine, fold_batch_norm, fold_constants, fold_gathered, fold_padding, fold_shapes};
pub use fuse_activation::fuse_activation;
pub use integer_interface::integer_interface;
pub use note::{Note, Notes};
pub use recognize::{recognize_activations, recognize_embedding, recognize_layer_norm};
pub use remove_identity::remove_identity;
pub use unsign_activations::unsign_activations;

/// A rewrite.
pub type Pass = fn(&mut Graph, &mut Notes) -> Result<()>;

/// The passes that bring every graph to one form, whatever file it came from and whatever will execute it.
pub const CANONICAL: &[(&str, Pass)] = &[
    ("fold_constants", fold_constants),
    ("fold_shapes", fold_shapes),
    ("remove_identity", remove_identity),
    ("recognize_activations", recognize_activations),
    ("recognize_layer_norm", recognize_layer_norm),
    ("recognize_embedding", recognize_embedding),
    ("fold_gathered", fold_gathered),
    ("fold_padding", fold_padding),
    ("fold_batch_norm", fold_batch_norm),
    ("fold_affine", fold_affine),
];

/// Brings a graph to canonical form: constants and batch normalization folded, activations recognized, what does
/// nothing removed, every type that follows inferred.
pub fn canonicalize(graph: &mut Graph) -> Result<Notes> {
    run(graph, CANONICAL.iter())
}

/// As [`canonicalize`], but batch normalizations stay, to be trained; [`canonicalize`] folds them later, and nodes and values keep
/// their ids.
pub fn canonicalize_for_training(graph: &mut Graph) -> Result<Notes> {
    run(graph, CANONICAL.iter().filter(|(name, _)| *name != "fold_batch_norm"))
}

fn run<'a>(graph: &mut Graph, passes: impl Iterator<Item = &'a (&'static str, Pass)>) -> Result<Notes> {
    let mut notes = Notes::default();
    infer::infer(graph)?;
    for (name, pass) in passes {
        notes.begin(name);
        pass(graph, &mut notes)?;
        graph.remove_dead();
        infer::infer(graph)?;
    }
    Ok(notes)
}

#[cfg(test)]
mod check;
