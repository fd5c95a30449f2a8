//! Operators that leave every element where it is: another shape, or only what the shape is.

use fewbit_ir::op::Shape;
use fewbit_tensor::{DType, Tensor};

use super::call::Call;
use crate::{Error, ErrorKind, Result};

/// `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`: the same bytes in the shape that inference gives.
pub(super) fn reshape(call: &Call<'_>) -> Result<Tensor> {
    Ok(call.need(0)?.reshaped(call.shape(0)?)?)
}

/// `[x]` → `[y, mask?]`: the identity at inference, whose mask keeps everything.
pub(super) fn dropout(call: &Call<'_>) -> Result<Vec<Tensor>> {
    let x = call.need(0)?;
    if call.get(2).is_some_and(|training| training.to_i64_vec().iter().any(|t| *t != 0)) {
        return Err(Error::unsupported("Dropout drops nothing here, it cannot run in training mode"));
    }
    let mut outputs = vec![x.clone()];
    if call.outputs() > 1 {
        outputs.push(Tensor::new(DType::Bool, x.shape(), vec![1_u8; x.len()])?);
    }
    Ok(outputs)
}

/// The input's dimensions in a range.
pub(super) fn shape(op: Shape, x: &Tensor) -> Result<Tensor> {
    let dims: Vec<usize> = x.shape()[op.range(x.rank())].to_vec();
    Ok(Tensor::vector(dims.into_iter().map(dimension).collect::<Result<Vec<i64>>>()?))
}

/// The number of elements.
pub(super) fn size(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::scalar(dimension(x.len())?))
}

fn dimension(n: usize) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::new(ErrorKind::Shape, format!("dimension {n} is too large")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::Op;
    use fewbit_ir::op::{Flatten, Reshape};

    #[test]
    fn rows() {
        let x = || Some(Tensor::from_vec([1, 2, 3], vec![0_i16; 6]).unwrap());
        let axes = |v: &[i64]| Some(Tensor::vector(v));
        for (op, inputs, expected) in [
            (Op::Reshape(Reshape::default()), vec![x(), axes(&[0, -1])], vec![1, 6]),
            (Op::Flatten(Flatten { axis: -1 }), vec![x()], vec![2, 3]),
            (Op::Flatten(Flatten { axis: 0 }), vec![x()], vec![1, 6]),
            (Op::Squeeze, vec![x()], vec![2, 3]),
            (Op::Squeeze, vec![x(), axes(&[0])], vec![2, 3]),
            (Op::Unsqueeze, vec![x(), axes(&[-1, 0])], vec![1, 1, 2, 3, 1]),
            (Op::Identity, vec![x()], vec![1, 2, 3]),
            (Op::Dropout, vec![x()], vec![1, 2, 3]),
            (Op::Shape(Shape { start: -2, end: None }), vec![x()], vec![2]),
            (Op::Size, vec![x()], vec![]),
        ] {
            assert_eq!(evaluate(&op, &inputs, 1).unwrap()[0].shape(), expected, "{op:?}");
        }
        assert_eq!(evaluate(&Shape { start: -2, end: None }.into(), &[x()], 1).unwrap()[0].to_i64_vec(), [2, 3]);
        assert_eq!(evaluate(&Op::Size, &[x()], 1).unwrap()[0].to_i64_vec(), [6]);
        assert_eq!(evaluate(&Op::Dropout, &[x()], 2).unwrap()[1].to_i64_vec(), [1; 6]);
        for (op, inputs) in [
            (Op::Reshape(Reshape::default()), vec![x(), axes(&[4, -1])]),
            (Op::Reshape(Reshape::default()), vec![x(), None]),
            (Op::Squeeze, vec![x(), axes(&[1])]),
            (Op::Unsqueeze, vec![x(), axes(&[7])]),
            (Op::Flatten(Flatten { axis: 4 }), vec![x()]),
            (Op::Identity, vec![None]),
        ] {
            assert!(evaluate(&op, &inputs, 1).is_err(), "{op:?}");
        }
    }
}
