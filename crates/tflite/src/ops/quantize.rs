//! `QUANTIZE` and `DEQUANTIZE` of the file. How the graph's own such nodes are written is [`crate::write()`]'s business:
//! most of them vanish.

use fewbit_ir::op::Cast;
use fewbit_tensor::DType;

use crate::error::Result;
use crate::read::OperatorReader;

/// To integers, from floats or from integers on another scale.
pub(super) fn read_quantize(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    r.finish_quantized()
}

/// To floats, from integers or from halves.
pub(super) fn read_dequantize(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    if r.tensor(0)?.quant.is_some() {
        return r.finish_dequantized();
    }
    let x = r.stored(0)?;
    r.finish_stored(Cast { to: DType::F32, saturate: false }, vec![Some(x)])
}
