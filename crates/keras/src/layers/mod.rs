//! What each class of layer is: its variables, and the operators that it becomes.
//!
//! In: a layer's configuration and the values that it is called on. Out: nodes in the graph. A layer knows no file and
//! no other layer; [`Scope`] is all that it sees. Spatial layers keep the layout of the model.
//!
//! To add a layer: a row in the table of its family's file; a new family is one file and one line in [`FAMILIES`].
//! A row names the classes, the variables in the order in which Keras stores them, and the function that builds.

mod activation;
mod convolution;
mod dense;
mod embedding;
mod merging;
mod normalization;
mod operation;
mod padding;
mod pooling;
mod preprocessing;
mod shaping;
mod spatial;
mod training_only;
mod transpose;
mod transposed_convolution;

use fewbit_ir::ValueId;
use serde_json::Value;

use crate::build::Scope;
use crate::config::{Argument, Attributes, Call, Layer, Origin, Variable};
use crate::{Error, Result};

/// The families of layers.
const FAMILIES: [&[Kind]; 12] = [
    activation::KINDS,
    convolution::KINDS,
    dense::KINDS,
    embedding::KINDS,
    merging::KINDS,
    normalization::KINDS,
    padding::KINDS,
    pooling::KINDS,
    preprocessing::KINDS,
    shaping::KINDS,
    training_only::KINDS,
    transposed_convolution::KINDS,
];

/// Classes that compute something else when a call says `training=True`. Layers that augment data say so by default, and
/// what they do is not wanted at inference.
const TRAINING_CLASSES: [&str; 6] =
    ["AlphaDropout", "BatchNormalization", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"];

/// Classes of layers that become the same operators.
struct Kind {
    classes: &'static [&'static str],
    /// The variables, in the order in which Keras stores them.
    variables: fn(&Attributes) -> Result<Vec<Variable>>,
    /// Adds the nodes for one application; the values are the tensors that the layer is called on.
    build: fn(&mut Scope<'_, '_>, &[ValueId]) -> Result<ValueId>,
}

/// The variables that a layer has.
pub(crate) fn variables(layer: &Layer) -> Result<Vec<Variable>> {
    match kind(layer) {
        Some(kind) => (kind.variables)(&layer.attributes).map_err(|e| e.at(format!("layer '{}' ({})", layer.name, layer.class))),
        None => Ok(Vec::new()),
    }
}

/// Applies a layer to the tensors of a call.
pub(crate) fn apply(s: &mut Scope<'_, '_>, call: &Call<ValueId>) -> Result<ValueId> {
    let layer = s.layer();
    if layer.origin == Origin::Operation || operation::is_legacy_class(&layer.class) {
        return operation::build(s, call);
    }
    let Some(kind) = kind(layer) else { return Err(unknown(layer)) };
    if let Some(Argument::Literal(_)) = call.args.first() {
        return Err(Error::unsupported("is called on a constant; wrap the constant in the model as a layer's weight"));
    }
    if let Some((name, _)) = call.kwargs.iter().find(|(_, argument)| !matches!(argument, Argument::Literal(_))) {
        return Err(Error::unsupported(format!("is called with a tensor as '{name}', which is not supported")));
    }
    let in_training = call.kwargs.iter().any(|(name, value)| name == "training" && matches!(value, Argument::Literal(Value::Bool(true))));
    if in_training && TRAINING_CLASSES.contains(&layer.class.as_str()) {
        return Err(Error::unsupported("is called with training=True, so that it would train at inference too; call it without"));
    }
    let mut tensors = Vec::new();
    call.args.iter().for_each(|argument| argument.tensors(&mut tensors));
    let tensors: Vec<ValueId> = tensors.into_iter().copied().collect();
    (kind.build)(s, &tensors)
}

fn kind(layer: &Layer) -> Option<&'static Kind> {
    if layer.origin != Origin::Layer {
        return None;
    }
    FAMILIES.iter().flat_map(|family| family.iter()).find(|kind| kind.classes.contains(&layer.class.as_str()))
}

fn unknown(layer: &Layer) -> Error {
    let class = &layer.class;
    Error::unsupported(match (&layer.origin, class.as_str()) {
        (Origin::Foreign(module), _) => format!(
            "is a class of '{module}', and code in a model file is never executed; replace it by layers of Keras, or export \
             the model (model.export, or to ONNX) and read that"
        ),
        (_, "Lambda") => "holds Python code, which is never executed; replace it by layers of Keras, or export the model \
             (model.export, or to ONNX) and read that"
            .to_owned(),
        (_, "LSTM" | "GRU" | "SimpleRNN" | "RNN" | "Bidirectional" | "ConvLSTM2D") => {
            "recurrent layers are not supported; export the model to ONNX or TFLite and read that".to_owned()
        }
        _ => format!("layers of class {class} are not supported; export the model (model.export, or to ONNX or TFLite) and read that"),
    })
}

/// The only tensor that a layer is called on.
fn single(inputs: &[ValueId]) -> Result<ValueId> {
    match inputs {
        [x] => Ok(*x),
        _ => Err(Error::format(format!("is called on {} tensors, but takes one", inputs.len()))),
    }
}

/// For layers without variables.
#[allow(clippy::unnecessary_wraps, reason = "the signature of every row")]
fn no_variables(_: &Attributes) -> Result<Vec<Variable>> {
    Ok(Vec::new())
}

fn trained(name: &'static str) -> Variable {
    Variable { name, trainable: true, path: String::new() }
}

fn fixed(name: &'static str) -> Variable {
    Variable { name, trainable: false, path: String::new() }
}

/// These names, each if its flag is set.
fn trained_if<const N: usize>(names: [(&'static str, bool); N]) -> Vec<Variable> {
    names.into_iter().filter(|(_, there)| *there).map(|(name, _)| trained(name)).collect()
}
