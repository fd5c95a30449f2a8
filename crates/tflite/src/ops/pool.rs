//! `AVERAGE_POOL_2D` and `MAX_POOL_2D`, and pools over everything as reductions.
//!
//! TFLite's average does not count padding. Where the graph's padding is neither `SAME` nor `VALID`, the input is padded
//! first, and an average that must not count the padding is corrected by a constant factor per place.

use fewbit_ir::op::{GlobalPool, Padding, Pool, PoolKind};
use fewbit_ir::{Layout, Op};
use fewbit_tensor::Tensor as Data;

use super::window::{Border, Plan, channels_last, pad_spatial, read_window};
use crate::error::{Error, Result};
use crate::read::{OperatorReader, positive};
use crate::schema::{Builtin, options};
use crate::write::{NodeWriter, Shape};

pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::Pool2d = r.options();
    let kind = match r.builtin() {
        Builtin::MAX_POOL_2D => PoolKind::Max { column_major_indices: false },
        _ => PoolKind::Average { count_include_pad: false },
    };
    let op = Pool {
        kind,
        kernel: vec![positive(o.filter_height, "the window's height")?, positive(o.filter_width, "the window's width")?],
        window: read_window(o.padding, [o.stride_h, o.stride_w], [1, 1])?,
        ceil_mode: false,
        layout: Layout::ChannelsLast,
    };
    let x = r.real(0)?;
    r.finish_activated(Op::Pool(op), vec![Some(x)], o.activation)
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: &Pool) -> Result<()> {
    channels_last(op.layout)?;
    let (builtin, count_include_pad) = match op.kind {
        PoolKind::Max { .. } => (Builtin::MAX_POOL_2D, false),
        PoolKind::Average { count_include_pad } => (Builtin::AVERAGE_POOL_2D, count_include_pad),
        PoolKind::Lp { .. } => return Err(Error::unrepresentable("TFLite has no pool by a norm")),
    };
    if w.output_is_used(1) {
        return Err(Error::unrepresentable("TFLite's max-pool does not tell where the maxima are"));
    }
    if op.window.dilations.iter().any(|d| *d != 1) {
        return Err(Error::unrepresentable("TFLite has no dilation in pools"));
    }
    let (shape, output) = (w.shape(0)?, w.output_shape(0)?);
    let spatial = shape.rank().saturating_sub(2);
    if !(1..=2).contains(&spatial) || op.kernel.len() != spatial {
        return Err(Error::unrepresentable(format!("TFLite has pools over 2 spatial axes; this one has {spatial}")));
    }
    let sizes = shape.dims.get(1..=spatial).unwrap_or_default().to_vec();
    let out_sizes = output.dims.get(1..=spatial).unwrap_or_default().to_vec();
    let geometry = Geometry::new(op, &sizes, &out_sizes)?;
    let to = w.output(0)?;
    let mut x = w.input(0)?;
    let averages = builtin == Builtin::AVERAGE_POOL_2D;
    w.same_scale(&[x, to])?;
    let native = Plan::new(&geometry.window(op), &op.kernel, &sizes)?;
    let padded = geometry.pads.iter().any(|p| *p != (0, 0));
    // An average that counts its padding must see it as elements.
    let explicit = if padded && averages && count_include_pad { Some(geometry.pads.clone()) } else { native.explicit.clone() };
    let padding = if explicit.is_some() { crate::schema::Padding::VALID } else { native.padding };
    let factors = if explicit.is_some() && averages { geometry.factors(op, count_include_pad, &sizes, &out_sizes)? } else { None };
    let (mut kernel, mut strides, mut explicit) = (op.kernel.clone(), op.window.strides.clone(), explicit);
    let flat = spatial == 1;
    let mut target_shape = output.clone();
    if flat {
        kernel.insert(0, 1);
        strides.insert(0, 1);
        if let Some(pads) = &mut explicit {
            pads.insert(0, (0, 0));
        }
        let mut wide = shape.clone();
        wide.dims.insert(1, 1);
        x = w.reshape("input_2d", x, &wide)?;
        target_shape.dims.insert(1, 1);
    }
    if let Some(pads) = &explicit {
        let border = if averages { Border::Zero } else { Border::Lowest };
        x = pad_spatial(w, x, pads, border)?;
    }
    let [filter_height, filter_width] = super::conv::pair(&kernel)?;
    let [stride_h, stride_w] = super::conv::pair(&strides)?;
    let o = options::Pool2d { padding, stride_w, stride_h, filter_width, filter_height, ..options::Pool2d::default() };
    let spec = w.spec(to);
    let pooled = if flat || factors.is_some() { w.temporary("pooled", spec.shaped(target_shape.clone())) } else { to };
    w.apply(builtin, o, &[x], &[pooled])?;
    let mut last = pooled;
    if let Some(factors) = factors {
        if w.is_integer() {
            return Err(Error::unrepresentable(
                "its average must not count padding that is neither SAME nor VALID, which a quantized one cannot; leave it in float",
            ));
        }
        let factors = w.constant("padding_factor", &factors.reshaped(factor_shape(&target_shape))?);
        let next = if flat { w.temporary("corrected", spec.shaped(target_shape)) } else { to };
        w.apply(Builtin::MUL, options::Mul::default(), &[last, factors], &[next])?;
        last = next;
    }
    if flat { w.reshape_into("output", last, to) } else { Ok(()) }
}

fn factor_shape(output: &Shape) -> Vec<usize> {
    vec![1, output.dim(1), output.dim(2), 1]
}

/// Padding by numbers, long enough for every window.
struct Geometry {
    pads: Vec<(usize, usize)>,
    /// Padding that was asked for; what ceil mode adds beyond it never counts.
    counted: Vec<(usize, usize)>,
}

impl Geometry {
    fn new(op: &Pool, input: &[usize], output: &[usize]) -> Result<Self> {
        let mut pads = Vec::new();
        let mut counted = Vec::new();
        for (axis, ((&size, &out), &kernel)) in input.iter().zip(output).zip(&op.kernel).enumerate() {
            let at = |v: &[usize]| v.get(axis).copied().unwrap_or(0);
            let stride = at(&op.window.strides).max(1);
            // What the windows reach beyond the first element.
            let reach = out.saturating_sub(1) * stride + kernel;
            let total = reach.saturating_sub(size);
            let (begin, end) = match &op.window.padding {
                Padding::Valid => (0, 0),
                Padding::SameUpper => (total / 2, total - total / 2),
                Padding::SameLower => (total - total / 2, total / 2),
                Padding::Explicit { begin, end } => (at(begin), at(end)),
            };
            let needed = reach.saturating_sub(size + begin);
            if begin >= kernel {
                return Err(Error::unrepresentable("its padding is larger than its window"));
            }
            counted.push((begin, end));
            pads.push((begin, needed.max(if op.ceil_mode { needed } else { end })));
        }
        Ok(Self { pads, counted })
    }

    /// The window with this padding.
    fn window(&self, op: &Pool) -> fewbit_ir::op::Window {
        let (begin, end) = self.pads.iter().copied().unzip();
        let same = matches!(op.window.padding, Padding::SameUpper);
        let padding = if same { Padding::SameUpper } else { Padding::Explicit { begin, end } };
        fewbit_ir::op::Window { padding, ..op.window.clone() }
    }

    /// By what each place of an average over the padded input is to be multiplied; `None` if by 1 everywhere.
    fn factors(&self, op: &Pool, count_include_pad: bool, input: &[usize], output: &[usize]) -> Result<Option<Data>> {
        let mut product = vec![1.0_f32];
        for (axis, ((&size, &out), &kernel)) in input.iter().zip(output).zip(&op.kernel).enumerate() {
            let stride = op.window.strides.get(axis).copied().unwrap_or(1);
            let (begin, end) = self.counted.get(axis).copied().unwrap_or((0, 0));
            // Elements that count are those of [from, to) in the padded input.
            let (from, to) = if count_include_pad { (0, begin + size + end) } else { (begin, begin + size) };
            let counts = (0..out).map(|o| (o * stride + kernel).min(to).saturating_sub((o * stride).max(from)).max(1));
            let mut next = Vec::with_capacity(product.len() * out);
            let ratios: Vec<f32> = counts.map(|n| ratio(kernel, n)).collect::<Result<_>>()?;
            for p in &product {
                next.extend(ratios.iter().map(|r| p * r));
            }
            product = next;
        }
        if product.iter().all(|f| *f == 1.0) {
            return Ok(None);
        }
        let len = product.len();
        Ok(Some(Data::from_vec([len], product)?))
    }
}

fn ratio(a: usize, b: usize) -> Result<f32> {
    let narrow = |n: usize| u16::try_from(n).map(f32::from).map_err(|_| Error::unrepresentable("its window is too large"));
    Ok(narrow(a)? / narrow(b)?)
}

/// A pool over everything is a reduction.
pub(super) fn write_global(w: &mut NodeWriter<'_, '_>, op: GlobalPool) -> Result<()> {
    channels_last(op.layout)?;
    let builtin = match op.kind {
        PoolKind::Average { .. } => Builtin::MEAN,
        PoolKind::Max { .. } => Builtin::REDUCE_MAX,
        PoolKind::Lp { .. } => return Err(Error::unrepresentable("TFLite has no pool by a norm")),
    };
    let (x, to) = (w.input(0)?, w.output(0)?);
    if builtin == Builtin::REDUCE_MAX {
        w.same_scale(&[x, to])?;
    }
    let axes: Vec<usize> = (1..w.shape(0)?.rank().saturating_sub(1)).collect();
    let axes = w.size_vector("axes", &axes)?;
    w.apply(builtin, options::Reducer { keep_dims: true }, &[x, axes], &[to])
}
