//! Quantization of a tensor as nodes of the graph.

use fewbit_ir::op::{DequantizeLinear, QuantizeLinear};
use fewbit_ir::{Dim, Op, TensorType as ValueType, ValueId};
use fewbit_tensor::{DType, Tensor as Data};

use super::GraphReader;
use crate::error::{Error, Result};
use crate::quant::Quant;

impl Quant {
    /// Scale and zero point as constants of the graph.
    fn parameters(&self, reader: &mut GraphReader<'_>, stem: &str) -> Result<(ValueId, ValueId)> {
        let shape: Vec<usize> = self.axis.map(|_| self.scales.len()).into_iter().collect();
        let scale = Data::from_floats(DType::F32, shape.clone(), &self.scales)?;
        let zero_point = Data::from_integers(self.dtype, shape, &self.zero_points)?;
        let name = reader.unique(&format!("{stem}_scale"));
        let scale = reader.graph.add_constant(name, scale);
        let name = reader.unique(&format!("{stem}_zero_point"));
        Ok((scale, reader.graph.add_constant(name, zero_point)))
    }

    fn axis_after(&self, perm: Option<&[usize]>) -> Result<i64> {
        let axis = match (self.axis, perm) {
            (Some(axis), Some(perm)) => perm.iter().position(|p| *p == axis).unwrap_or(axis),
            (axis, _) => axis.unwrap_or(0),
        };
        i64::try_from(axis).map_err(|_| Error::format("the axis of quantization is too large"))
    }

    /// The real values of `stored`, whose axes may have been permuted since the file. They go by the tensor's name where
    /// the integers do not.
    pub(super) fn dequantize(
        &self,
        reader: &mut GraphReader<'_>,
        stem: &str,
        stored: ValueId,
        perm: Option<&[usize]>,
        dims: Option<Vec<Dim>>,
    ) -> Result<ValueId> {
        if self.dtype.bits() > 32 {
            return Err(Error::unsupported(format!("tensor '{stem}' is quantized to {}, which is not supported", self.dtype)));
        }
        let (scale, zero_point) = self.parameters(reader, stem)?;
        let op = DequantizeLinear { axis: self.axis_after(perm)?, block_size: 0 };
        let name = if reader.names.contains(stem) { format!("{stem}_dequantized") } else { stem.to_owned() };
        let name = reader.unique(&name);
        let value = reader.node(&name, Op::DequantizeLinear(op), vec![Some(stored), Some(scale), Some(zero_point)]);
        reader.graph.value_mut(value).ty = Some(ValueType { dtype: DType::F32, dims });
        Ok(value)
    }

    /// The integers that stand for `real`, as a value of that name.
    pub(super) fn quantize(&self, reader: &mut GraphReader<'_>, stem: &str, name: &str, real: ValueId) -> Result<ValueId> {
        let (scale, zero_point) = self.parameters(reader, stem)?;
        let op = QuantizeLinear { axis: self.axis_after(None)?, block_size: 0, to: self.dtype };
        Ok(reader.node(name, Op::QuantizeLinear(op), vec![Some(real), Some(scale), Some(zero_point)]))
    }
}
