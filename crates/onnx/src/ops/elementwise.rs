//! Elementwise operators without attributes of their own, of one, two or any number of inputs.

use fewbit_ir::op::{Arithmetic, Binary, Unary, Variadic};
use fewbit_tensor::DType;

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

/// Functions of one element that have no attributes.
const UNARY: [(&str, Unary); 32] = [
    ("Abs", Unary::Abs),
    ("Neg", Unary::Neg),
    ("Sign", Unary::Sign),
    ("Ceil", Unary::Ceil),
    ("Floor", Unary::Floor),
    ("Round", Unary::Round),
    ("Reciprocal", Unary::Reciprocal),
    ("Sqrt", Unary::Sqrt),
    ("Exp", Unary::Exp),
    ("Log", Unary::Log),
    ("Sin", Unary::Sin),
    ("Cos", Unary::Cos),
    ("Tan", Unary::Tan),
    ("Asin", Unary::Asin),
    ("Acos", Unary::Acos),
    ("Atan", Unary::Atan),
    ("Sinh", Unary::Sinh),
    ("Cosh", Unary::Cosh),
    ("Asinh", Unary::Asinh),
    ("Acosh", Unary::Acosh),
    ("Atanh", Unary::Atanh),
    ("Erf", Unary::Erf),
    ("Not", Unary::Not),
    ("BitwiseNot", Unary::BitwiseNot),
    ("IsNaN", Unary::IsNan),
    ("Relu", Unary::Relu),
    ("Sigmoid", Unary::Sigmoid),
    ("Tanh", Unary::Tanh),
    ("Softplus", Unary::Softplus),
    ("Softsign", Unary::Softsign),
    ("Mish", Unary::Mish),
    ("HardSwish", Unary::HardSwish),
];

/// Functions of two elements.
const BINARY: [(&str, Binary); 16] = [
    ("Add", Binary::Add),
    ("Sub", Binary::Sub),
    ("Mul", Binary::Mul),
    ("Div", Binary::Div),
    ("Pow", Binary::Pow),
    ("Equal", Binary::Equal),
    ("Less", Binary::Less),
    ("LessOrEqual", Binary::LessOrEqual),
    ("Greater", Binary::Greater),
    ("GreaterOrEqual", Binary::GreaterOrEqual),
    ("And", Binary::And),
    ("Or", Binary::Or),
    ("Xor", Binary::Xor),
    ("BitwiseAnd", Binary::BitwiseAnd),
    ("BitwiseOr", Binary::BitwiseOr),
    ("BitwiseXor", Binary::BitwiseXor),
];

const VARIADIC: [(&str, Variadic); 4] = [("Sum", Variadic::Sum), ("Mean", Variadic::Mean), ("Min", Variadic::Min), ("Max", Variadic::Max)];

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Result<T> {
    let row = table.iter().find(|(n, _)| *n == name);
    row.map(|(_, t)| *t).ok_or_else(|| Error::unsupported(format!("operator {name} is not in this family")))
}

pub(super) fn read_unary(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    Ok(find(&UNARY, n.op_type())?.into())
}

pub(super) fn read_binary(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let kind = match n.op_type() {
        "Mod" => Binary::Mod { fmod: n.attributes.flag("fmod", false)? },
        "BitShift" => Binary::BitShift { left: n.attributes.text_or("direction", "")? == "LEFT" },
        name => find(&BINARY, name)?,
    };
    Ok(Arithmetic::from(kind).into())
}

pub(super) fn read_variadic(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    if n.inputs.iter().any(Option::is_none) {
        return Err(Error::malformed("an input is left out"));
    }
    Ok(find(&VARIADIC, n.op_type())?.into())
}

pub(super) fn write_binary(n: &mut NodeOut<'_, '_>, op: Arithmetic) -> Result<()> {
    let name = op.kind.name();
    match op.kind {
        Binary::SquaredDifference => {
            let inputs = n.inputs()?;
            let difference = n.fresh("difference");
            n.emit_node("Sub", inputs, vec![difference.clone()], attributes());
            let square = if op.activation.is_none() { n.output() } else { n.fresh("unclamped") };
            n.emit_node("Mul", vec![difference.clone(), difference], vec![square.clone()], attributes());
            if op.activation.is_none() {
                return Ok(());
            }
            let output = n.output();
            return n.emit_clamp(square, output, op.activation);
        }
        // The first opset in which floats may have the sign of the divisor.
        Binary::Mod { fmod: false } if n.dtype(0).is_some_and(DType::is_float) => n.require(28),
        Binary::Mod { fmod } => return n.emit_clamped(name, attributes().flag_unless("fmod", fmod, false), op.activation),
        Binary::BitShift { left } => {
            if n.dtype(0).is_some_and(DType::is_signed_integer) {
                n.require(28);
            }
            let direction = if left { "LEFT" } else { "RIGHT" };
            return n.emit_clamped(name, attributes().text_unless("direction", direction, ""), op.activation);
        }
        Binary::LessOrEqual | Binary::GreaterOrEqual => n.require(12),
        Binary::BitwiseAnd | Binary::BitwiseOr | Binary::BitwiseXor => n.require(18),
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Pow
        | Binary::Equal
        | Binary::Less
        | Binary::Greater
        | Binary::And
        | Binary::Or
        | Binary::Xor => {}
    }
    n.emit_clamped(name, attributes(), op.activation)
}

pub(super) fn write_variadic(n: &mut NodeOut<'_, '_>, op: Variadic) -> Result<()> {
    n.emit(op.name(), attributes())
}
