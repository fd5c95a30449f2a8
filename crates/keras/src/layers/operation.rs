//! Functions in a functional model that are no layers: `keras.ops` in Keras 3, `TFOpLambda` in Keras 2.
//!
//! `x * 2 + y` on symbolic tensors makes them. Keras 3 writes their parameters into the configuration and their
//! operands into the call; Keras 2 writes everything into the call.

use fewbit_ir::op::{Binary, Concat, Reduce, ReduceKind, Reshape, Transpose, Unary, Variadic};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::Tensor;
use serde_json::Value;

use super::activation::Activation;
use crate::build::Scope;
use crate::config::{Argument, Attributes, Call, float};
use crate::{Error, Result};

/// What a function is made of.
#[derive(Clone, Copy)]
enum Function {
    Binary(Binary),
    Variadic(Variadic),
    Unary(Unary),
    /// By the name that layers use too.
    Activation(&'static str),
    Reduce(ReduceKind),
    Gelu,
    Concatenate,
    Reshape,
    Transpose,
    ExpandDims,
    Squeeze,
}

/// Class in `keras.ops`, name under `tf`, and what it is.
const FUNCTIONS: &[(&str, &[&str], Function)] = &[
    ("Add", &["math.add", "__operators__.add"], Function::Binary(Binary::Add)),
    ("Subtract", &["math.subtract", "__operators__.sub"], Function::Binary(Binary::Sub)),
    ("Multiply", &["math.multiply", "__operators__.mul"], Function::Binary(Binary::Mul)),
    ("TrueDivide", &["math.truediv", "__operators__.truediv"], Function::Binary(Binary::Div)),
    ("Divide", &["math.divide", "realdiv", "RealDiv"], Function::Binary(Binary::Div)),
    ("Maximum", &["math.maximum"], Function::Variadic(Variadic::Max)),
    ("Minimum", &["math.minimum"], Function::Variadic(Variadic::Min)),
    ("Absolute", &["math.abs"], Function::Unary(Unary::Abs)),
    ("Abs", &[], Function::Unary(Unary::Abs)),
    ("Negative", &["math.negative"], Function::Unary(Unary::Neg)),
    ("Exp", &["math.exp"], Function::Unary(Unary::Exp)),
    ("Log", &["math.log"], Function::Unary(Unary::Log)),
    ("Sqrt", &["math.sqrt"], Function::Unary(Unary::Sqrt)),
    ("Square", &["math.square"], Function::Unary(Unary::Square)),
    ("Relu", &["nn.relu"], Function::Activation("relu")),
    ("Relu6", &["nn.relu6"], Function::Activation("relu6")),
    ("Sigmoid", &["math.sigmoid", "nn.sigmoid"], Function::Activation("sigmoid")),
    ("Tanh", &["math.tanh", "nn.tanh"], Function::Activation("tanh")),
    ("Silu", &["nn.silu", "nn.swish"], Function::Activation("silu")),
    ("Softplus", &["math.softplus"], Function::Activation("softplus")),
    ("Softsign", &["nn.softsign"], Function::Activation("softsign")),
    ("HardSigmoid", &[], Function::Activation("hard_sigmoid")),
    ("HardSilu", &[], Function::Activation("hard_silu")),
    ("Softmax", &["nn.softmax"], Function::Activation("softmax")),
    ("LogSoftmax", &["nn.log_softmax"], Function::Activation("log_softmax")),
    ("Gelu", &["nn.gelu"], Function::Gelu),
    ("Mean", &["math.reduce_mean"], Function::Reduce(ReduceKind::Mean)),
    ("Sum", &["math.reduce_sum"], Function::Reduce(ReduceKind::Sum)),
    ("Max", &["math.reduce_max"], Function::Reduce(ReduceKind::Max)),
    ("Min", &["math.reduce_min"], Function::Reduce(ReduceKind::Min)),
    ("Concatenate", &["concat"], Function::Concatenate),
    ("Reshape", &["reshape"], Function::Reshape),
    ("Transpose", &["transpose"], Function::Transpose),
    ("ExpandDims", &["expand_dims"], Function::ExpandDims),
    ("Squeeze", &["squeeze"], Function::Squeeze),
];

/// Classes in which Keras 2 keeps functions of TensorFlow.
pub(super) fn is_legacy_class(class: &str) -> bool {
    matches!(class, "TFOpLambda" | "SlicingOpLambda" | "TensorFlowOpLayer" | "ClassMethod" | "InstanceMethod" | "InstanceProperty")
}

/// Adds the operators of a function.
pub(super) fn build(s: &mut Scope<'_, '_>, call: &Call<ValueId>) -> Result<ValueId> {
    let layer = s.layer();
    let legacy = is_legacy_class(&layer.class);
    let name = if legacy { layer.attributes.text("function").unwrap_or(&layer.class) } else { layer.class.as_str() };
    let row = FUNCTIONS.iter().find(|(class, tf, _)| if legacy { tf.contains(&name) } else { *class == name });
    let (_, _, function) = row.ok_or_else(|| {
        Error::unsupported(format!(
            "the function '{name}' is not supported in a model file; replace it by a layer, or export the model (to ONNX or TFLite) and read that"
        ))
    })?;
    let parameters = parameters(&layer.attributes, call);
    let mut operands = Operands::read(s, call)?;
    match function {
        Function::Binary(kind) => {
            let pair = operands.pair(s)?;
            s.emit(*kind, &pair)
        }
        Function::Variadic(kind) => {
            let pair = operands.pair(s)?;
            s.emit(*kind, &pair)
        }
        Function::Unary(unary) => {
            let x = operands.first()?;
            s.emit(Op::Unary(*unary), &[x])
        }
        Function::Activation(name) => {
            let x = operands.first()?;
            let activation = match Activation::by_name(name, s.dialect())? {
                Activation::Softmax(_) => Activation::Softmax(parameters.integers("axis")?.unwrap_or_else(|| vec![-1])),
                Activation::LogSoftmax(_) => Activation::LogSoftmax(parameters.integer("axis", -1)?),
                other => other,
            };
            activation.apply(s, x)
        }
        Function::Gelu => {
            let x = operands.first()?;
            // keras.ops approximates by default, tf.nn does not; both write down which.
            let tanh = parameters.flag("approximate", !legacy)?;
            s.emit(Op::Unary(Unary::Gelu { tanh }), &[x])
        }
        Function::Reduce(kind) => {
            let x = operands.first()?;
            let keep_dims = parameters.flag("keepdims", false)?;
            let reduce = Op::Reduce(Reduce { kind: *kind, keep_dims, noop_with_empty_axes: false });
            match parameters.integers("axis")? {
                None => s.emit(reduce, &[x]),
                Some(axes) => {
                    let axes = s.integers("axes", &axes);
                    s.emit(reduce, &[x, axes])
                }
            }
        }
        Function::Concatenate => {
            let axis = parameters.integer("axis", 0)?;
            s.emit(Concat { axis }, &operands.tensors)
        }
        Function::Reshape => {
            let x = operands.first()?;
            let shape = parameters.integers("newshape")?.or(parameters.integers("shape")?);
            let shape = shape.ok_or_else(|| Error::unsupported("a shape that is computed is not supported; use a Reshape layer"))?;
            let shape = s.integers("shape", &shape);
            s.emit(Reshape { allow_zero: false }, &[x, shape])
        }
        Function::Transpose => {
            let x = operands.first()?;
            let axes = parameters.integers("axes")?.or(parameters.integers("perm")?);
            let perm = axes.map(|axes| axes.iter().map(|axis| s.axis(x, *axis)).collect::<Result<_>>()).transpose()?;
            s.emit(Transpose { perm }, &[x])
        }
        Function::ExpandDims => {
            let x = operands.first()?;
            let axes = parameters.integers("axis")?.ok_or_else(|| Error::format("has no axis"))?;
            let axes = s.integers("axes", &axes);
            s.emit(Op::Unsqueeze, &[x, axes])
        }
        Function::Squeeze => {
            let x = operands.first()?;
            match parameters.integers("axis")? {
                None => s.emit(Op::Squeeze, &[x]),
                Some(axes) => {
                    let axes = s.integers("axes", &axes);
                    s.emit(Op::Squeeze, &[x, axes])
                }
            }
        }
    }
}

/// The configuration and what the call gives by name.
fn parameters(attributes: &Attributes, call: &Call<ValueId>) -> Attributes {
    let mut parameters = attributes.clone();
    for (name, argument) in &call.kwargs {
        if let Some(value) = literal(argument) {
            parameters.insert(name, value);
        }
    }
    parameters
}

fn literal(argument: &Argument<ValueId>) -> Option<Value> {
    match argument {
        Argument::Literal(value) => Some(value.clone()),
        Argument::Many(items) => items.iter().map(literal).collect::<Option<Vec<_>>>().map(Value::Array),
        Argument::Tensor(_) => None,
    }
}

/// What a function works on.
struct Operands {
    tensors: Vec<ValueId>,
}

impl Operands {
    /// Tensors, and numbers in the place of tensors.
    fn read(s: &mut Scope<'_, '_>, call: &Call<ValueId>) -> Result<Self> {
        let mut operands = Self { tensors: Vec::new() };
        for argument in &call.args {
            operands.add(s, argument)?;
        }
        // The second operand of a TFOpLambda goes by name.
        for (name, argument) in &call.kwargs {
            if matches!(name.as_str(), "x" | "y") || matches!(argument, Argument::Tensor(_)) {
                operands.add(s, argument)?;
            }
        }
        Ok(operands)
    }

    fn add(&mut self, s: &mut Scope<'_, '_>, argument: &Argument<ValueId>) -> Result<()> {
        match argument {
            Argument::Tensor(value) => self.tensors.push(*value),
            Argument::Many(items) if items.iter().any(|item| !matches!(item, Argument::Literal(_))) => {
                items.iter().try_for_each(|item| self.add(s, item))?;
            }
            Argument::Literal(Value::Null) => {}
            other => {
                let numbers = literal(other).as_ref().and_then(numbers);
                let numbers = numbers.ok_or_else(|| Error::unsupported("works on something that is neither a tensor nor numbers"))?;
                let tensor = match numbers.as_slice() {
                    [one] => Tensor::scalar(*one),
                    _ => Tensor::vector::<f32>(numbers),
                };
                self.tensors.push(s.constant("operand", tensor));
            }
        }
        Ok(())
    }

    fn first(&mut self) -> Result<ValueId> {
        self.tensors.first().copied().ok_or_else(|| Error::format("is called on nothing"))
    }

    fn pair(&mut self, s: &mut Scope<'_, '_>) -> Result<[ValueId; 2]> {
        let [x, y] = self.tensors.as_slice() else {
            return Err(Error::format(format!("is called on {} operands, but takes two", self.tensors.len())));
        };
        if s.dtype(*x) == s.dtype(*y) {
            return Ok([*x, *y]);
        }
        Err(Error::unsupported("mixes element types; cast the input of the model to float32"))
    }
}

/// A number, or a list of them.
fn numbers(value: &Value) -> Option<Vec<f32>> {
    match value {
        Value::Array(items) => items.iter().map(float).collect(),
        one => float(one).map(|x| vec![x]),
    }
}
