//! Functions of two and more elements, comparisons and selection.

use fewbit_ir::op::{Arithmetic, Binary, Unary, Variadic};
use fewbit_ir::{Op, TensorType as ValueType};
use fewbit_tensor::{DType, Tensor as Data};

use super::unary::{apply_without_activation, with_activation};
use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Activation, Builtin, Options, options};
use crate::write::NodeWriter;

/// Functions that both sides have. Where two have the same meaning, the first is written.
const FUNCTIONS: [(Builtin, Binary); 16] = [
    (Builtin::ADD, Binary::Add),
    (Builtin::SUB, Binary::Sub),
    (Builtin::MUL, Binary::Mul),
    (Builtin::DIV, Binary::Div),
    (Builtin::POW, Binary::Pow),
    (Builtin::FLOOR_MOD, Binary::Mod { fmod: false }),
    (Builtin::SQUARED_DIFFERENCE, Binary::SquaredDifference),
    (Builtin::EQUAL, Binary::Equal),
    (Builtin::LESS, Binary::Less),
    (Builtin::LESS_EQUAL, Binary::LessOrEqual),
    (Builtin::GREATER, Binary::Greater),
    (Builtin::GREATER_EQUAL, Binary::GreaterOrEqual),
    (Builtin::LOGICAL_AND, Binary::And),
    (Builtin::LOGICAL_OR, Binary::Or),
    (Builtin::BITWISE_XOR, Binary::BitwiseXor),
    (Builtin::RIGHT_SHIFT, Binary::BitShift { left: false }),
];

/// Functions of any number of elements, as TFLite has them of two.
const VARIADIC: [(Builtin, Variadic); 2] = [(Builtin::MAXIMUM, Variadic::Max), (Builtin::MINIMUM, Variadic::Min)];

// --- reading ---

/// Reads a function of two elements; `false` if it is none.
pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let builtin = r.builtin();
    let op: Op = if let Some((_, kind)) = FUNCTIONS.iter().find(|(b, _)| *b == builtin) {
        (*kind).into()
    } else if let Some((_, kind)) = VARIADIC.iter().find(|(b, _)| *b == builtin) {
        (*kind).into()
    } else {
        return Ok(false);
    };
    let activation = match builtin {
        Builtin::ADD => r.options::<options::Add>().activation,
        Builtin::SUB => r.options::<options::Sub>().activation,
        Builtin::MUL => r.options::<options::Mul>().activation,
        Builtin::DIV => r.options::<options::Div>().activation,
        _ => Activation::NONE,
    };
    let inputs = vec![Some(r.real(0)?), Some(r.real(1)?)];
    r.finish_activated(op, inputs, activation)?;
    Ok(true)
}

pub(super) fn read_not_equal(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = vec![Some(r.real(0)?), Some(r.real(1)?)];
    let ty = ValueType { dtype: DType::Bool, ..r.output_tensor(0)?.value_type()? };
    let equal = r.emit_typed("equal", Binary::Equal.into(), inputs, ty);
    r.finish(Unary::Not, vec![Some(equal)])
}

/// Division rounded down, of floats: of integers the graph's division rounds toward zero.
pub(super) fn read_floor_div(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    if !r.tensor(0)?.dtype()?.is_float() {
        return Ok(false);
    }
    let inputs = vec![Some(r.real(0)?), Some(r.real(1)?)];
    let ty = r.output_tensor(0)?.value_type()?;
    let quotient = r.emit_typed("quotient", Binary::Div.into(), inputs, ty);
    r.finish(Unary::Floor, vec![Some(quotient)])?;
    Ok(true)
}

pub(super) fn read_sum(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = (0..r.input_count()).map(|i| r.real(i).map(Some)).collect::<Result<_>>()?;
    r.finish(Variadic::Sum, inputs)
}

/// Selection; the old form without broadcasting picks whole rows where its condition is a vector.
pub(super) fn read_select(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    let (condition, x) = (r.tensor(0)?.shape.len(), r.tensor(1)?.shape.len());
    if r.builtin() == Builtin::SELECT && condition == 1 && x > 1 {
        return Ok(false);
    }
    let inputs = vec![Some(r.stored(0)?), Some(r.real(1)?), Some(r.real(2)?)];
    r.finish(Op::Where, inputs)?;
    Ok(true)
}

// --- writing ---

/// Whether LiteRT computes it on integers.
pub(super) fn has_integer_form(op: Binary) -> bool {
    matches!(op, Binary::Add | Binary::Sub | Binary::Mul | Binary::SquaredDifference) || op.is_comparison()
}

/// Whether LiteRT computes it on integers: a sum of more than two would need scales for its partial sums.
pub(super) fn variadic_has_integer_form(op: Variadic, inputs: usize) -> bool {
    match op {
        Variadic::Max | Variadic::Min => true,
        Variadic::Sum => inputs == 2,
        Variadic::Mean => false,
    }
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: Arithmetic) -> Result<()> {
    let (a, b) = (w.input(0)?, w.input(1)?);
    let found = FUNCTIONS.iter().find(|(_, f)| *f == op.kind).map(|(b, _)| *b);
    let builtin = match (found, op.kind) {
        (Some(builtin), _) => builtin,
        (None, Binary::Xor) => Builtin::NOT_EQUAL,
        (None, Binary::Mod { .. }) => {
            return Err(Error::unrepresentable("TFLite's remainder has the sign of the divisor; fmod's has that of the dividend"));
        }
        (None, _) => return Err(Error::unrepresentable(format!("TFLite has no {}", op.kind.name()))),
    };
    // Integers of 16 bits may have scales that are no powers of two.
    let pot_scale_int16 = w.spec(a).dtype != DType::I16;
    with_activation(w, op.activation, |w, activation, to| {
        let options: Options = match builtin {
            Builtin::ADD => options::Add { activation, pot_scale_int16 }.into(),
            Builtin::SUB => options::Sub { activation, pot_scale_int16 }.into(),
            Builtin::MUL => options::Mul { activation }.into(),
            Builtin::DIV => options::Div { activation }.into(),
            _ => {
                return apply_without_activation(w, activation, to, |w, to| w.apply(builtin, Options::None, &[a, b], &[to]));
            }
        };
        w.apply(builtin, options, &[a, b], &[to])
    })
}

pub(super) fn write_variadic(w: &mut NodeWriter<'_, '_>, op: Variadic) -> Result<()> {
    let count = w.node().inputs.len();
    let inputs = (0..count).map(|i| w.input(i)).collect::<Result<Vec<_>>>()?;
    let to = w.output(0)?;
    let builtin = match op {
        Variadic::Sum | Variadic::Mean => Builtin::ADD,
        Variadic::Max => Builtin::MAXIMUM,
        Variadic::Min => Builtin::MINIMUM,
    };
    if builtin != Builtin::ADD {
        let all: Vec<_> = inputs.iter().copied().chain([to]).collect();
        w.same_scale(&all)?;
    }
    let spec = w.spec(to);
    let Some((first, rest)) = inputs.split_first() else {
        return Err(Error::unrepresentable("it has no inputs"));
    };
    let mut sum = *first;
    for (i, x) in rest.iter().enumerate() {
        let last = i + 1 == rest.len() && op != Variadic::Mean;
        let next = if last { to } else { w.temporary("partial", spec.clone()) };
        w.apply(builtin, Options::None, &[sum, *x], &[next])?;
        sum = next;
    }
    match op {
        Variadic::Mean => {
            let count = u16::try_from(count).map_err(|_| Error::unrepresentable("it has too many inputs"))?;
            let factor = w.constant("factor", &Data::scalar(1.0 / f32::from(count)));
            w.apply(Builtin::MUL, options::Mul::default(), &[sum, factor], &[to])
        }
        _ if rest.is_empty() => w.reshape_into("copy", sum, to),
        _ => Ok(()),
    }
}

pub(super) fn write_where(w: &mut NodeWriter<'_, '_>) -> Result<()> {
    let (condition, a, b, to) = (w.input(0)?, w.input(1)?, w.input(2)?, w.output(0)?);
    w.same_scale(&[a, b, to])?;
    w.apply(Builtin::SELECT_V2, Options::None, &[condition, a, b], &[to])
}
