//! One application of an operator: its inputs, and the shapes that its outputs will have.

use fewbit_ir::infer::{Fact, output_types};
use fewbit_ir::{Op, TensorType};
use fewbit_tensor::{DType, Tensor, element_count};

use crate::{Error, ErrorKind, Result};

/// The largest tensor that an operator makes, 4 GiB. A graph from an untrusted file may ask for any size.
pub const MAX_TENSOR_BYTES: u64 = 1 << 32;

/// Inputs and output shapes of an operator.
pub(super) struct Call<'a> {
    inputs: &'a [Option<Tensor>],
    shapes: Vec<Option<Vec<usize>>>,
}

impl<'a> Call<'a> {
    /// Infers and bounds the shape of each of `outputs` outputs.
    pub(super) fn new(op: &Op, inputs: &'a [Option<Tensor>], outputs: usize) -> Result<Self> {
        let types: Vec<Option<TensorType>> = inputs.iter().map(|t| t.as_ref().map(TensorType::of)).collect();
        let facts: Vec<Fact<'_>> =
            types.iter().zip(inputs).map(|(ty, constant)| Fact { ty: ty.as_ref(), constant: constant.as_ref() }).collect();
        let mut shapes = Vec::with_capacity(outputs);
        for ty in output_types(op, &facts, outputs)? {
            let shape = ty.as_ref().and_then(TensorType::shape);
            if let (Some(ty), Some(shape)) = (&ty, &shape) {
                bounded_len(ty.dtype, shape)?;
            }
            shapes.push(shape);
        }
        Ok(Self { inputs, shapes })
    }

    /// How many outputs the node has.
    pub(super) fn outputs(&self) -> usize {
        self.shapes.len()
    }

    /// The shape of an output that inference knows once all inputs are.
    pub(super) fn shape(&self, output: usize) -> Result<&[usize]> {
        let shape = self.shapes.get(output).and_then(Option::as_deref);
        shape.ok_or_else(|| Error::shape(format!("the inputs do not determine the shape of output {output}")))
    }

    /// How many inputs the node has, absent ones included.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// An input that may be left out.
    pub(super) fn get(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index)?.as_ref()
    }

    /// An input that must be there.
    pub(super) fn need(&self, index: usize) -> Result<&'a Tensor> {
        self.get(index).ok_or_else(|| Error::new(ErrorKind::Input, format!("input {index} is missing")))
    }

    /// Every input from `first` on; none may be absent.
    pub(super) fn rest(&self, first: usize) -> Result<Vec<&'a Tensor>> {
        (first..self.len()).map(|i| self.need(i)).collect()
    }

    /// The integers of an input that may be left out.
    pub(super) fn integers(&self, index: usize) -> Result<Option<Vec<i64>>> {
        let Some(tensor) = self.get(index) else { return Ok(None) };
        if !tensor.dtype().is_integer() {
            return Err(Error::element_type(format!("input {index} must hold integers, it is {}", tensor.dtype())));
        }
        Ok(Some(tensor.to_i64_vec()))
    }

    /// The one integer of an input that may be left out.
    pub(super) fn integer(&self, index: usize) -> Result<Option<i64>> {
        match self.integers(index)?.as_deref() {
            None => Ok(None),
            Some([n]) => Ok(Some(*n)),
            Some(many) => Err(Error::shape(format!("input {index} must hold one integer, it holds {}", many.len()))),
        }
    }

    /// An input that must be there and hold one element.
    pub(super) fn scalar(&self, index: usize) -> Result<&'a Tensor> {
        let tensor = self.need(index)?;
        if tensor.len() == 1 {
            Ok(tensor)
        } else {
            Err(Error::shape(format!("input {index} must hold one element, it holds {}", tensor.len())))
        }
    }
}

/// Number of elements of a tensor that may be made; packed elements count a byte each, since they are unpacked on the way.
pub(super) fn bounded_len(dtype: DType, shape: &[usize]) -> Result<usize> {
    let len =
        element_count(shape).filter(|&n| (n as u64).checked_mul(dtype.bits().max(8) as u64 / 8).is_some_and(|b| b <= MAX_TENSOR_BYTES));
    len.ok_or_else(|| {
        Error::new(ErrorKind::Limit, format!("{dtype} tensor of shape {shape:?} would take more than {MAX_TENSOR_BYTES} bytes"))
    })
}

/// Number of elements that some of a tensor's dimensions span. Where another dimension is 0 they may overflow; then
/// there is nothing to count, and the number does not matter.
pub(super) fn span(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |n: usize, size| n.wrapping_mul(*size))
}

/// Fails unless two inputs have the same element type.
pub(super) fn same_type(a: &Tensor, b: &Tensor) -> Result<DType> {
    if a.dtype() == b.dtype() {
        return Ok(a.dtype());
    }
    Err(Error::element_type(format!("inputs are {} and {}, but must have one type", a.dtype(), b.dtype())))
}

/// Fails unless a tensor has this shape.
pub(super) fn expect_shape(what: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    Err(Error::shape(format!("{what} has shape {:?}, it must be {shape:?}", tensor.shape())))
}
