//! Operators that repeat elements: `Expand` and `Tile`; and those that regroup them between channels and pixels.

use fewbit_ir::op::{DepthToSpace, SpaceToDepth};
use fewbit_tensor::Tensor;

use super::broadcast::broadcast_strides;
use super::call::Call;
use super::layout::{channels_first, from_channels_first, rearrange};
use super::slice::take;
use super::strided::contiguous;
use crate::{Error, Result};

/// `[x, shape]`: both broadcast against each other.
pub(super) fn expand(call: &Call<'_>) -> Result<Tensor> {
    let (x, shape) = (call.need(0)?, call.shape(0)?);
    take(x, 0, shape, &broadcast_strides(x.shape(), shape))
}

/// `[x, repeats]`, one number per axis.
pub(super) fn tile(call: &Call<'_>) -> Result<Tensor> {
    let (x, shape) = (call.need(0)?, call.shape(0)?);
    let repeats = call.integers(1)?.ok_or_else(|| Error::new(crate::ErrorKind::Input, "input 1, the repeats, is missing"))?;
    let negative = |_| Error::value("a tensor cannot be repeated a negative number of times");
    let repeats = repeats.iter().map(|r| usize::try_from(*r).map_err(negative)).collect::<Result<Vec<_>>>()?;
    // Each axis is seen as two: its repetitions, which do not move, and its elements.
    let apart = repeats.iter().zip(x.shape()).flat_map(|(r, n)| [*r, *n]).collect::<Vec<_>>();
    let strides = contiguous(x.shape()).into_iter().flat_map(|s| [0, s]).collect::<Vec<_>>();
    Ok(take(x, 0, &apart, &strides)?.reshaped(shape)?)
}

/// Moves channels into blocks of pixels.
pub(super) fn depth_to_space(op: DepthToSpace, x: &Tensor) -> Result<Tensor> {
    let (b, x) = (op.block_size, channels_first(x, op.layout)?);
    let &[n, c, h, w] = x.shape() else { return Err(Error::shape("the input must have 4 axes")) };
    let depth = blocked(c, b).and_then(|c| blocked(c, b))?;
    let y = if op.column_row_depth {
        rearrange(&x, &[n, depth, b, b, h, w], &[0, 1, 4, 2, 5, 3], &[n, depth, h * b, w * b])
    } else {
        rearrange(&x, &[n, b, b, depth, h, w], &[0, 3, 4, 1, 5, 2], &[n, depth, h * b, w * b])
    }?;
    from_channels_first(&y, op.layout)
}

/// Moves blocks of pixels into channels.
pub(super) fn space_to_depth(op: SpaceToDepth, x: &Tensor) -> Result<Tensor> {
    let (b, x) = (op.block_size, channels_first(x, op.layout)?);
    let &[n, c, h, w] = x.shape() else { return Err(Error::shape("the input must have 4 axes")) };
    let (rows, columns) = (blocked(h, b)?, blocked(w, b)?);
    let y = rearrange(&x, &[n, c, rows, b, columns, b], &[0, 3, 5, 1, 2, 4], &[n, c * b * b, rows, columns])?;
    from_channels_first(&y, op.layout)
}

fn blocked(size: usize, block: usize) -> Result<usize> {
    if block > 0 && size.is_multiple_of(block) {
        Ok(size / block)
    } else {
        Err(Error::shape(format!("{size} does not divide into blocks of {block}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, evaluate};
    use fewbit_ir::{Layout, Op};
    use fewbit_tensor::DType;

    fn ints(v: &[i64]) -> Option<Tensor> {
        Some(Tensor::vector(v))
    }

    #[test]
    fn repeats() {
        for dtype in [DType::I4, DType::U8, DType::I32] {
            let x = Tensor::from_integers(dtype, [2, 1], &[1, 2]).unwrap();
            for (op, by, shape, expected) in [
                (Op::Expand, ints(&[2]), vec![2, 2], vec![1, 1, 2, 2]),
                (Op::Expand, ints(&[2, 1, 1]), vec![2, 2, 1], vec![1, 2, 1, 2]),
                (Op::Expand, ints(&[0]), vec![2, 0], vec![]),
                (Op::Tile, ints(&[2, 2]), vec![4, 2], vec![1, 1, 2, 2, 1, 1, 2, 2]),
                (Op::Tile, ints(&[1, 0]), vec![2, 0], vec![]),
            ] {
                let y = &evaluate(&op, &[Some(x.clone()), by], 1).unwrap()[0];
                assert_eq!((y.shape(), y.to_i64_vec()), (&shape[..], expected), "{op:?}");
            }
            for (op, by, kind) in [
                (Op::Expand, ints(&[3, 1]), ErrorKind::Shape),
                (Op::Expand, ints(&[1 << 40, 1, 1]), ErrorKind::Limit),
                (Op::Tile, ints(&[1]), ErrorKind::Shape),
                (Op::Tile, ints(&[-1, 1]), ErrorKind::Shape),
            ] {
                assert_eq!(evaluate(&op, &[Some(x.clone()), by], 1).unwrap_err().kind(), kind, "{op:?}");
            }
        }
    }

    #[test]
    fn blocks_go_there_and_back() {
        let x = Tensor::from_integers(DType::I8, [1, 4, 1, 2], &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let op = DepthToSpace { block_size: 2, column_row_depth: false, layout };
            let given = from_channels_first(&x, layout).unwrap();
            let y = evaluate(&op.into(), &[Some(given.clone())], 1).unwrap().remove(0);
            let first = channels_first(&y, layout).unwrap();
            assert_eq!((first.shape(), first.to_i64_vec()), (&[1, 1, 2, 4][..], vec![0, 2, 1, 3, 4, 6, 5, 7]));
            let back = evaluate(&SpaceToDepth { block_size: 2, layout }.into(), &[Some(y)], 1).unwrap().remove(0);
            assert_eq!(back, given);
            assert!(evaluate(&DepthToSpace { block_size: 3, ..op }.into(), &[Some(given)], 1).is_err());
        }
    }
}
