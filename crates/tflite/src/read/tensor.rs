//! Tensors of the file, with everything about them checked.

use bytes::Bytes;
use fewbit_ir::{Dim, TensorType as ValueType};
use fewbit_tensor::{DType, Tensor as Data, element_count};

use super::position;
use crate::error::{Error, Result};
use crate::quant::Quant;
use crate::schema::{self, TensorType};

/// The most dimensions that a tensor may have; LiteRT's own limit is lower.
const MAX_RANK: usize = 32;

/// A tensor of the file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) element_type: TensorType,
    /// With 1 where a dimension may change.
    pub(crate) shape: Vec<usize>,
    dynamic: Vec<bool>,
    pub(crate) quant: Option<Quant>,
    data: Option<Bytes>,
    /// Whether it keeps its elements from one run to the next.
    pub(crate) is_variable: bool,
}

/// The tensors of a subgraph.
pub(super) fn read_all(file: &schema::Model, subgraph: &schema::SubGraph, bytes: &Bytes) -> Result<Vec<Tensor>> {
    let one = |(i, tensor): (usize, &schema::Tensor)| {
        let name = if tensor.name.is_empty() { format!("tensor_{i}") } else { tensor.name.clone() };
        let place = format!("tensor '{name}'");
        Tensor::read(file, tensor, name, bytes).map_err(|e| e.at(place))
    };
    subgraph.tensors.iter().enumerate().map(one).collect()
}

/// The bytes of a buffer, if it has any: in the flatbuffer, or behind it.
pub(super) fn buffer(file: &schema::Model, index: u32, bytes: &Bytes) -> Result<Option<Bytes>> {
    let missing = || Error::format(format!("buffer {index} does not exist"));
    let buffer = position(i64::from(index)).and_then(|i| file.buffers.get(i)).ok_or_else(missing)?;
    if !buffer.data.is_empty() {
        return Ok(Some(buffer.data.clone()));
    }
    if buffer.offset == 0 || buffer.size == 0 {
        return Ok(None);
    }
    let start = usize::try_from(buffer.offset).ok();
    let end = buffer.offset.checked_add(buffer.size).and_then(|end| usize::try_from(end).ok());
    match (start, end) {
        (Some(start), Some(end)) if end <= bytes.len() => Ok(Some(bytes.slice(start..end))),
        _ => Err(Error::format(format!("buffer {index} has {} bytes at {}, beyond the end of the file", buffer.size, buffer.offset))),
    }
}

impl Tensor {
    fn read(file: &schema::Model, tensor: &schema::Tensor, name: String, bytes: &Bytes) -> Result<Self> {
        if tensor.shape.len() > MAX_RANK {
            return Err(Error::format(format!("{} dimensions; at most {MAX_RANK} are supported", tensor.shape.len())));
        }
        let signature = tensor.shape_signature.as_ref().filter(|s| s.len() == tensor.shape.len());
        let dynamic: Vec<bool> = match signature {
            Some(signature) => signature.iter().map(|d| *d < 0).collect(),
            None => tensor.shape.iter().map(|d| *d == -1).collect(),
        };
        let dim = |(d, dynamic): (&i32, &bool)| match usize::try_from(*d) {
            Ok(d) => Ok(d),
            Err(_) if *dynamic => Ok(1),
            Err(_) => Err(Error::format(format!("dimension {d} is negative"))),
        };
        let shape = tensor.shape.iter().zip(&dynamic).map(dim).collect::<Result<Vec<_>>>()?;
        if tensor.sparsity.is_some() {
            return Err(Error::unsupported("sparse tensors are not supported; densify the network before converting it"));
        }
        if tensor.external_buffer != 0 {
            return Err(Error::unsupported("its data lies in another file, which is not supported"));
        }
        let data = buffer(file, tensor.buffer, bytes)?;
        let quant = match &tensor.quantization {
            Some(quantization) => Quant::read(quantization, tensor.dtype, &shape)?,
            None => None,
        };
        Ok(Self { name, element_type: tensor.dtype, shape, dynamic, quant, data, is_variable: tensor.is_variable })
    }

    pub(crate) fn dtype(&self) -> Result<DType> {
        self.element_type.dtype().map_err(|e| e.at(format!("tensor '{}'", self.name)))
    }

    /// The axes along which the tensor's size may change.
    pub(crate) fn dynamic_axes(&self) -> impl Iterator<Item = usize> {
        self.dynamic.iter().enumerate().filter(|(_, d)| **d).map(|(i, _)| i)
    }

    /// The type of the value that holds what the tensor stores.
    pub(crate) fn value_type(&self) -> Result<ValueType> {
        let dims = self.shape.iter().zip(&self.dynamic).map(|(d, dynamic)| if *dynamic { Dim::Unknown } else { Dim::Known(*d) });
        Ok(ValueType { dtype: self.dtype()?, dims: Some(dims.collect()) })
    }

    /// The data of a constant; a tensor without elements needs none.
    pub(crate) fn constant(&self) -> Result<Option<Data>> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None if element_count(&self.shape) == Some(0) => Bytes::new(),
            None => return Ok(None),
        };
        let named = |e: fewbit_tensor::Error| Error::from(e).at(format!("tensor '{}'", self.name));
        let data = Data::new(self.dtype()?, self.shape.clone(), data).map_err(named)?;
        match &self.quant {
            // The graph's biases have 32 bits, see [`Quant::read`].
            Some(quant) if quant.dtype != data.dtype() => {
                Data::from_integers(quant.dtype, data.shape(), &data.to_i64_vec()).map(Some).map_err(named)
            }
            _ => Ok(Some(data)),
        }
    }
}
