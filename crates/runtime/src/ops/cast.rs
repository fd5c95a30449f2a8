//! `Cast`, and the widening by which every operator computes on 16-bit floats.
//!
//! Floats become integers by truncation towards zero. What is out of range ONNX leaves undefined: here it saturates, but
//! in types of less than 8 bits the higher bits are dropped, as ONNX's tests have it; NaN becomes 0. Integers become
//! narrower by dropping bits. Anything that is not zero becomes `true`.

use fewbit_ir::Op;
use fewbit_tensor::{DType, Tensor};
use half::{bf16, f16};

use super::number::{from_f64, from_wrapped};
use crate::Result;

/// The tensor in another element type.
pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    if to == DType::Bool || (from.is_float() && to.bits() >= 8) {
        return from_f64(to, x.shape(), &x.to_f64_vec());
    }
    let integers = x.to_i64_vec();
    if !to.is_float() {
        return from_wrapped(to, x.shape(), integers);
    }
    // Rounded once, straight from 64 bits.
    let unsigned = from == DType::U64;
    macro_rules! rounded {
        ($float:ty) => {
            integers.into_iter().map(|v| if unsigned { v as u64 as $float } else { v as $float }).collect::<Vec<$float>>()
        };
    }
    Ok(match to {
        DType::F64 => Tensor::from_vec(x.shape(), rounded!(f64))?,
        DType::F32 => Tensor::from_vec(x.shape(), rounded!(f32))?,
        DType::F16 => Tensor::from_vec(x.shape(), rounded!(f64).into_iter().map(f16::from_f64).collect::<Vec<_>>())?,
        _ => Tensor::from_vec(x.shape(), rounded!(f64).into_iter().map(bf16::from_f64).collect::<Vec<_>>())?,
    })
}

/// Inputs of which the 16-bit floats are `f32` now.
pub(super) struct Widened {
    pub(super) inputs: Vec<Option<Tensor>>,
    /// What type the first output must get again, if it must.
    pub(super) dtype: Option<DType>,
}

/// The inputs in `f32`, if some are 16-bit floats and the operator computes.
pub(super) fn widen_halves(op: &Op, inputs: &[Option<Tensor>]) -> Result<Option<Widened>> {
    let half = |t: &Tensor| matches!(t.dtype(), DType::F16 | DType::BF16);
    if keeps_elements(op) || !inputs.iter().flatten().any(half) {
        return Ok(None);
    }
    let widen = |t: &Option<Tensor>| t.as_ref().map(|t| if half(t) { cast(t, DType::F32) } else { Ok(t.clone()) }).transpose();
    let dtype = inputs.first().and_then(Option::as_ref).filter(|t| half(t)).map(Tensor::dtype);
    Ok(Some(Widened { inputs: inputs.iter().map(widen).collect::<Result<_>>()?, dtype }))
}

/// Rounds the first output to the type that the first input had; statistics beside it stay `f32`.
pub(super) fn narrow_first(mut outputs: Vec<Tensor>, dtype: Option<DType>) -> Result<Vec<Tensor>> {
    if let (Some(first), Some(dtype)) = (outputs.first_mut(), dtype)
        && first.dtype() == DType::F32
    {
        *first = cast(first, dtype)?;
    }
    Ok(outputs)
}

/// Whether an operator moves elements of any type without computing on them, or sees to 16-bit floats itself.
fn keeps_elements(op: &Op) -> bool {
    matches!(
        op,
        Op::Where
            | Op::Cast(_)
            | Op::Identity
            | Op::Dropout
            | Op::Reshape(_)
            | Op::Flatten(_)
            | Op::Transpose(_)
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Slice
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::GatherNd(_)
            | Op::Pad(_)
            | Op::Expand
            | Op::Tile
            | Op::Shape(_)
            | Op::Size
            | Op::ConstantOfShape
            | Op::OneHot(_)
            | Op::NonZero
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
            | Op::Trilu(_)
            | Op::DequantizeLinear(_)
            | Op::If(_)
            | Op::Loop(_)
            | Op::Custom(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::op::Binary;

    #[test]
    fn values_cast_as_documented() {
        for (x, to, expected) in [
            (Tensor::vector(vec![1.9_f32, -1.9, 3e9, f32::NAN]), DType::I32, vec![1.0, -1.0, f64::from(i32::MAX), 0.0]),
            (Tensor::vector(vec![-1.0_f32, 300.0]), DType::U8, vec![0.0, 255.0]),
            (Tensor::vector(vec![-9.9_f32, 7.9]), DType::I4, vec![7.0, 7.0]),
            (Tensor::vector(vec![0.0_f32, -0.0, 0.1, f32::NAN]), DType::Bool, vec![0.0, 0.0, 1.0, 1.0]),
            (Tensor::vector(vec![300_i32, -1]), DType::U8, vec![44.0, 255.0]),
            (Tensor::vector(vec![7_i32, 8]), DType::I4, vec![7.0, -8.0]),
            (Tensor::vector(vec![16_777_217_i64]), DType::F32, vec![16_777_216.0]),
            (Tensor::vector(vec![u64::MAX]), DType::F32, vec![18_446_744_073_709_551_616.0]),
            (Tensor::vector(vec![65_520_i32]), DType::F16, vec![f64::INFINITY]),
            (Tensor::from_bools([2], &[true, false]).unwrap(), DType::F32, vec![1.0, 0.0]),
        ] {
            assert_eq!(cast(&x, to).unwrap().to_f64_vec(), expected, "{x:?} to {to}");
        }
    }

    #[test]
    fn halves_are_computed_wide_and_rounded_once() {
        let half = |v: &[f32]| Some(Tensor::from_floats(DType::F16, [v.len()], v).unwrap());
        let sum = evaluate(&Binary::Add.into(), &[half(&[2048.0, 1.0]), half(&[1.0, 0.5])], 1).unwrap();
        assert_eq!((sum[0].dtype(), sum[0].to_f64_vec()), (DType::F16, vec![2048.0, 1.5]));
        let less = evaluate(&Binary::Less.into(), &[half(&[1.0]), half(&[2.0])], 1).unwrap();
        assert_eq!(less[0].dtype(), DType::Bool);
    }
}
