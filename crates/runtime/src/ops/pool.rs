//! Pools over any number of spatial axes, and global pools.
//!
//! Values are compared and summed in `f64`, which holds every type that ONNX pools. NaN wins a maximum.

use fewbit_ir::op::{GlobalPool, Pool, PoolKind};
use fewbit_tensor::{DType, Tensor};

use super::call::{bounded_len, span};
use super::layout::{channels_first, from_channels_first};
use super::number::{Number, floats, from_f64, no_arithmetic};
use super::window::{Extents, Sliding, Tap};
use crate::{Error, Result};

/// `[y]`, and with `want_indices` also where in x each maximum stands.
pub(super) fn pool(op: &Pool, x: &Tensor, want_indices: bool) -> Result<Vec<Tensor>> {
    let x = channels_first(x, op.layout)?;
    let &[batch, channels, ref input @ ..] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let geometry = op.geometry(input)?;
    let extents = Extents { plane: input, positions: &geometry.output, kernel: &op.kernel, begin: &geometry.begin, end: &geometry.end };
    let sliding = Sliding::new(&op.window, &extents)?;
    let shape = [&[batch, channels], &geometry.output[..]].concat();
    let len = bounded_len(DType::F64, &shape)?;
    let (plane, positions) = (sliding.plane(), sliding.positions());
    let values = pooled(op.kind, &x)?;
    let mut out = vec![0.0; len];
    let mut winners = vec![0_i64; if want_indices { len } else { 0 }];
    let column_major = column_major_index(op.kind, input);
    let mut taps = Vec::new();
    for position in 0..if len == 0 { 0 } else { positions } {
        sliding.taps(position, &mut taps);
        let padded = sliding.padded_taps(position);
        for p in 0..batch * channels {
            let values = &values[p * plane..][..plane];
            out[p * positions + position] = one_window(op.kind, taps.iter().map(|t| values[t.element]), padded);
            if want_indices {
                let element = winner(values, &taps).map_or(0, &column_major);
                winners[p * positions + position] = (p * plane + element) as i64;
            }
        }
    }
    let mut outputs = vec![from_channels_first(&from_f64(x.dtype(), &shape[..], &out)?, op.layout)?];
    if want_indices {
        if !matches!(op.kind, PoolKind::Max { .. }) {
            return Err(Error::unsupported("only a max-pool has indices"));
        }
        outputs.push(from_channels_first(&Tensor::from_vec(shape, winners)?, op.layout)?);
    }
    Ok(outputs)
}

/// All spatial axes at once; they stay with size 1.
pub(super) fn global_pool(op: GlobalPool, x: &Tensor) -> Result<Tensor> {
    let x = channels_first(x, op.layout)?;
    let &[batch, channels, ref spatial @ ..] = x.shape() else { return Err(Error::shape("the input needs a batch and a channel axis")) };
    let plane: usize = span(spatial);
    let values = pooled(op.kind, &x)?;
    let out: Vec<f64> = (0..batch * channels).map(|p| one_window(op.kind, values[p * plane..][..plane].iter().copied(), plane)).collect();
    let shape = [&[batch, channels][..], &vec![1; spatial.len()]].concat();
    from_channels_first(&from_f64(x.dtype(), shape, &out)?, op.layout)
}

/// The elements, of the types that a pool computes on: a maximum also takes 8-bit integers.
fn pooled(kind: PoolKind, x: &Tensor) -> Result<Vec<f64>> {
    match (kind, x.dtype()) {
        (PoolKind::Max { .. }, dtype) if dtype.is_integer() && dtype.bits() < 64 => Ok(x.to_f64_vec()),
        (PoolKind::Lp { p }, _) if p < 1 => Err(Error::value(format!("the order of a norm must be at least 1, it is {p}"))),
        (_, dtype) if dtype.is_float() => floats(x),
        (_, dtype) => Err(no_arithmetic(dtype)),
    }
}

/// `padded` is how many elements count where padding does.
fn one_window(kind: PoolKind, values: impl ExactSizeIterator<Item = f64>, padded: usize) -> f64 {
    match kind {
        PoolKind::Max { .. } => values.fold(f64::NEG_INFINITY, Number::larger),
        PoolKind::Average { count_include_pad } => {
            let n = if count_include_pad { padded } else { values.len() };
            values.sum::<f64>() / n as f64
        }
        PoolKind::Lp { p: 1 } => values.map(f64::abs).sum(),
        PoolKind::Lp { p: 2 } => values.map(|v| v * v).sum::<f64>().sqrt(),
        PoolKind::Lp { p } => values.map(|v| v.abs().powf(p as f64)).sum::<f64>().powf(1.0 / p as f64),
    }
}

/// The first element of a window that holds its maximum.
fn winner(values: &[f64], taps: &[Tap]) -> Option<usize> {
    let beats = |a: f64, b: f64| a > b || (a.is_nan() && !b.is_nan());
    taps.iter().map(|t| t.element).reduce(|best, e| if beats(values[e], values[best]) { e } else { best })
}

/// The index of an element of the plane, counted along the first spatial axis fastest if the pool wants it so.
fn column_major_index(kind: PoolKind, plane: &[usize]) -> impl Fn(usize) -> usize {
    let sizes = if matches!(kind, PoolKind::Max { column_major_indices: true }) { plane.to_vec() } else { Vec::new() };
    move |element| {
        if sizes.is_empty() {
            return element;
        }
        let (mut rest, mut stride, mut at) = (element, span(&sizes), 0);
        for size in sizes.iter().rev() {
            stride /= size;
            at += rest % size * stride;
            rest /= size;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;
    use fewbit_ir::op::{Padding, Window};
    use fewbit_ir::{Layout, Op};

    const MAX: PoolKind = PoolKind::Max { column_major_indices: false };

    fn op(kind: PoolKind, window: Window) -> Pool {
        Pool { kind, kernel: vec![2; window.strides.len()], window, ceil_mode: false, layout: Layout::ChannelsFirst }
    }

    fn run(op: &Pool, x: Tensor) -> Vec<f64> {
        evaluate(&Op::Pool(op.clone()), &[Some(x)], 1).unwrap()[0].to_f64_vec()
    }

    #[test]
    fn rows() {
        let padded = Window { padding: Padding::Explicit { begin: vec![1], end: vec![1] }, strides: vec![2], ..Window::unit(1) };
        let x = Tensor::from_vec([1, 1, 3], vec![1.0_f32, -2.0, 4.0]).unwrap();
        for (kind, expected) in [
            (MAX, vec![1.0, 4.0]),
            (PoolKind::Average { count_include_pad: false }, vec![1.0, 1.0]),
            (PoolKind::Average { count_include_pad: true }, vec![0.5, 1.0]),
            (PoolKind::Lp { p: 1 }, vec![1.0, 6.0]),
            (PoolKind::Lp { p: 2 }, vec![1.0, f64::from(20.0_f32.sqrt())]),
        ] {
            assert_eq!(run(&op(kind, padded.clone()), x.clone()), expected, "{kind:?}");
        }
        let ceil = Pool { ceil_mode: true, ..op(MAX, Window { strides: vec![2], ..Window::unit(1) }) };
        assert_eq!(run(&ceil, x.clone()), [1.0, 4.0]);
        assert_eq!(run(&op(MAX, Window::unit(1)), Tensor::from_vec([1, 1, 3], vec![1_i8, -2, 4]).unwrap()), [1.0, 4.0]);
        assert!(run(&op(MAX, Window::unit(1)), Tensor::from_vec([1, 1, 2], vec![1.0, f32::NAN]).unwrap())[0].is_nan());
    }

    #[test]
    fn indices_count_in_the_whole_tensor_and_either_way() {
        let x = Tensor::from_vec([1, 2, 2, 3], (0..12_u8).map(f32::from).collect::<Vec<_>>()).unwrap();
        for (column_major_indices, expected) in [(false, [4, 5, 10, 11]), (true, [3, 5, 9, 11])] {
            let op = op(PoolKind::Max { column_major_indices }, Window::unit(2));
            let outputs = evaluate(&Op::Pool(op), &[Some(x.clone())], 2).unwrap();
            assert_eq!(outputs[1].to_i64_vec(), expected);
        }
    }

    #[test]
    fn global_pools_and_channels_last() {
        let x = Tensor::from_vec([1, 2, 2, 1], vec![1.0_f32, 2.0, 3.0, 6.0]).unwrap();
        for (layout, shape, expected) in
            [(Layout::ChannelsFirst, [1, 2, 1, 1], vec![1.5, 4.5]), (Layout::ChannelsLast, [1, 1, 1, 1], vec![3.0])]
        {
            let op = GlobalPool { kind: PoolKind::Average { count_include_pad: false }, layout };
            let y = &evaluate(&Op::GlobalPool(op), &[Some(x.clone())], 1).unwrap()[0];
            assert_eq!((y.shape(), y.to_f64_vec()), (&shape[..], expected));
        }
        let last = Pool { layout: Layout::ChannelsLast, ..op(MAX, Window::unit(2)) };
        assert_eq!(run(&last, x), [6.0]);
    }

    #[test]
    fn errors() {
        let x = |shape: &[usize]| Some(Tensor::zeros(DType::F32, shape).unwrap());
        for (what, op, input, outputs) in [
            ("no batch", op(MAX, Window::unit(1)), x(&[3]), 1),
            ("other rank", op(MAX, Window::unit(1)), x(&[1, 1, 3, 3]), 1),
            ("kernel too large", op(MAX, Window::unit(1)), x(&[1, 1, 1]), 1),
            ("order", op(PoolKind::Lp { p: 0 }, Window::unit(1)), x(&[1, 1, 3]), 1),
            ("indices", op(PoolKind::Lp { p: 2 }, Window::unit(1)), x(&[1, 1, 3]), 2),
            ("type", op(PoolKind::Lp { p: 2 }, Window::unit(1)), Some(Tensor::zeros(DType::I8, [1, 1, 3]).unwrap()), 1),
        ] {
            assert!(evaluate(&Op::Pool(op), &[input], outputs).is_err(), "{what}");
        }
    }
}
