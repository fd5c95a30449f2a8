//! `PAD`, `PADV2` and `MIRROR_PAD`.

use fewbit_ir::op::{Pad, PadMode};
use fewbit_tensor::Tensor as Data;

use super::window::Border;
use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options, options};
use crate::write::{NodeWriter, TensorId};

/// The mirror that does not repeat the border.
const REFLECT: i8 = 0;

/// Pairs per axis become all begins, then all ends.
pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<bool> {
    if r.constant(1)?.is_none() {
        return Ok(false);
    }
    let mode = match r.builtin() {
        Builtin::MIRROR_PAD if r.options::<options::MirrorPad>().mode == REFLECT => PadMode::Reflect,
        Builtin::MIRROR_PAD => return Ok(false),
        _ => PadMode::Constant,
    };
    let pairs = r.integers(1)?;
    let begins = pairs.iter().step_by(2);
    let ends = pairs.iter().skip(1).step_by(2);
    let pads = begins.chain(ends).copied().collect();
    let mut inputs = vec![Some(r.real(0)?), Some(r.add_integers("pads", pads))];
    if r.builtin() == Builtin::PADV2 {
        inputs.push(Some(r.real(2)?));
    }
    r.finish(Pad { mode }, inputs)?;
    Ok(true)
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: Pad) -> Result<()> {
    let pads = w.integers(1, "pads")?;
    let shape = w.shape(0)?;
    let axes = match w.optional_integers(3, "axes")? {
        Some(axes) => fewbit_ir::axis::resolve_axes(&axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::unrepresentable(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mut pairs = vec![(0, 0); shape.rank()];
    for (axis, (begin, end)) in axes.iter().zip(pads.iter().zip(pads.iter().skip(axes.len()))) {
        let size = |p: i64| usize::try_from(p).map_err(|_| Error::unrepresentable("a negative pad; cut with a slice instead"));
        if let Some(pair) = pairs.get_mut(*axis) {
            *pair = (size(*begin)?, size(*end)?);
        }
    }
    let (x, to) = (w.input(0)?, w.output(0)?);
    match op.mode {
        PadMode::Constant => {
            let value = w.optional_scalar(2, "value")?.unwrap_or(0.0);
            if value == 0.0 {
                return write_pads(w, x, &pairs, Border::Zero, to);
            }
            let spec = w.spec(x);
            let value = w.scalar_like("pad_value", value, &spec)?;
            write_pads_with(w, Builtin::PADV2, Options::None, x, &pairs, Some(value), to)
        }
        PadMode::Reflect => write_pads_with(w, Builtin::MIRROR_PAD, options::MirrorPad { mode: REFLECT }.into(), x, &pairs, None, to),
        PadMode::Edge | PadMode::Wrap => Err(Error::unrepresentable("TFLite pads with a constant or a reflection only")),
    }
}

/// Pads with a border.
pub(super) fn write_pads(w: &mut NodeWriter<'_, '_>, x: TensorId, pairs: &[(usize, usize)], border: Border, to: TensorId) -> Result<()> {
    match border {
        Border::Zero => write_pads_with(w, Builtin::PAD, Options::None, x, pairs, None, to),
        Border::Lowest => {
            let spec = w.spec(x);
            let lowest = match &spec.quant {
                Some(quant) => {
                    let lowest = spec.dtype.integer_range().map_or(0, |(lo, _)| lo);
                    w.quantized_constant("pad_value", &Data::from_integers(spec.dtype, [], &[lowest])?, quant.clone())
                }
                None => w.constant("pad_value", &Data::from_floats(spec.dtype, [], &[f32::MIN])?),
            };
            write_pads_with(w, Builtin::PADV2, Options::None, x, pairs, Some(lowest), to)
        }
    }
}

fn write_pads_with(
    w: &mut NodeWriter<'_, '_>,
    builtin: Builtin,
    options: Options,
    x: TensorId,
    pairs: &[(usize, usize)],
    value: Option<TensorId>,
    to: TensorId,
) -> Result<()> {
    w.same_scale(&[x, to])?;
    let flat = pairs.iter().flat_map(|(b, e)| [*b, *e]).map(super::size).collect::<Result<Vec<_>>>()?;
    let pads = w.constant("paddings", &Data::from_vec([pairs.len(), 2], flat)?);
    let inputs: Vec<_> = [x, pads].into_iter().chain(value).collect();
    w.apply(builtin, options, &inputs, &[to])
}
