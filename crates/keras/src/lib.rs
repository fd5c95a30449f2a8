//! Reads Keras models: `.keras` archives of Keras 3 (and 2.12 on), and `.h5` files of every era.
//!
//! In: the bytes of a file. Out: a [`Model`] whose graph computes what the network computes at inference, in the
//! layout of the file. Steps, each a module: [`archive`] tells the kinds of file apart and unpacks them, [`hdf5`] reads
//! the weights file, [`config`] turns the configuration of either era into one form, [`weights`] finds the dataset of
//! each variable, [`build`] walks the network, and [`layers`] knows what each class of layer becomes.
//!
//! Nothing in a file is ever executed: a layer that holds code (`Lambda`, a class of one's own) is an error that names
//! it. So is everything else that is not understood; there is no silent approximation. Variables in half precision are
//! widened to single. This crate knows no other format, quantizes nothing and runs nothing.
//!
//! To add a layer, see [`layers`].

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::unwrap_used, clippy::indexing_slicing))]
#![allow(rustdoc::private_intra_doc_links, reason = "the module map above is for readers of the source")]

mod archive;
mod build;
mod config;
mod error;
mod hdf5;
mod layers;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fewbit_ir::{Model, Signature};

pub use error::{Error, ErrorKind, Result};

use crate::build::Dialect;
use crate::config::Network;

/// Reads a `.keras` or `.h5` file.
///
/// Weights that need no change of layout share `bytes`, so a memory-mapped file stays so.
pub fn read(bytes: Bytes) -> Result<Model> {
    let contents = archive::open(bytes)?;
    let mut network = config::read(&contents.config)?;
    weights::bind(&mut network, &contents.weights, contents.naming)?;
    let dialect = if contents.version.starts_with('3') { Dialect::Keras3 } else { Dialect::Keras2 };
    let graph = build::build(&network, &contents.weights, dialect)?;
    let metadata = if contents.version.is_empty() { Vec::new() } else { vec![("keras_version".to_owned(), contents.version)] };
    Ok(Model { graph, opsets: BTreeMap::new(), metadata, signatures: vec![signature(&network)] })
}

/// The names that a caller knows: those of the input layers, and the keys or layers of the outputs.
fn signature(network: &Network) -> Signature {
    let mut taken = BTreeSet::new();
    let mut unique = |name: &str| {
        let mut candidate = name.to_owned();
        let mut n = 0_usize;
        while !taken.insert(candidate.clone()) {
            n += 1;
            candidate = format!("{name}_{n}");
        }
        candidate
    };
    let inputs = network.inputs.iter().map(|port| port.layer.clone()).collect();
    let outputs = network.outputs.iter().map(|(key, port)| unique(key.as_ref().unwrap_or(&port.layer))).collect();
    Signature { key: "serving_default".to_owned(), inputs, outputs }
}
