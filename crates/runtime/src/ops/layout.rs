//! Transposes, and the change between layouts: most spatial operators are written once, for channels first.

use fewbit_ir::Layout;
use fewbit_ir::axis::resolve_permutation;
use fewbit_kernels::permute;
use fewbit_tensor::Tensor;

use super::cells::with_cells;
use crate::Result;

/// The tensor with its axes in another order: axis `i` of the result is axis `perm[i]`.
pub(super) fn transpose(x: &Tensor, perm: Option<&[usize]>) -> Result<Tensor> {
    let perm = resolve_permutation(perm, x.rank())?;
    let shape: Vec<usize> = perm.iter().map(|&i| x.shape()[i]).collect();
    if perm.iter().copied().eq(0..x.rank()) {
        return Ok(x.clone());
    }
    with_cells!(x.dtype(), shape, [cells = x] => {
        let mut out = vec![Default::default(); cells.len()];
        permute(x.shape(), &perm, cells, &mut out)?;
        out
    })
}

/// The tensor with its axes split, permuted and joined: the way of `DepthToSpace` and its inverse.
pub(super) fn rearrange(x: &Tensor, split: &[usize], perm: &[usize], joined: &[usize]) -> Result<Tensor> {
    Ok(transpose(&x.reshaped(split)?, Some(perm))?.reshaped(joined)?)
}

/// The tensor with its channels on axis 1.
pub(super) fn channels_first(x: &Tensor, layout: Layout) -> Result<Tensor> {
    match layout {
        Layout::ChannelsFirst => Ok(x.clone()),
        Layout::ChannelsLast => move_axis(x, x.rank().saturating_sub(1), 1),
    }
}

/// The tensor with its channels last.
pub(super) fn channels_last(x: &Tensor, layout: Layout) -> Result<Tensor> {
    match layout {
        Layout::ChannelsFirst => move_axis(x, 1, x.rank().saturating_sub(1)),
        Layout::ChannelsLast => Ok(x.clone()),
    }
}

/// A tensor that has its channels on axis 1, in the layout that is asked for.
pub(super) fn from_channels_first(x: &Tensor, layout: Layout) -> Result<Tensor> {
    match layout {
        Layout::ChannelsFirst => Ok(x.clone()),
        Layout::ChannelsLast => channels_last(x, Layout::ChannelsFirst),
    }
}

/// A tensor that has its channels last, in the layout that is asked for.
pub(super) fn from_channels_last(x: &Tensor, layout: Layout) -> Result<Tensor> {
    match layout {
        Layout::ChannelsFirst => channels_first(x, Layout::ChannelsLast),
        Layout::ChannelsLast => Ok(x.clone()),
    }
}

fn move_axis(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    let mut perm: Vec<usize> = (0..x.rank()).collect();
    if from >= perm.len() || to >= perm.len() {
        return Ok(x.clone());
    }
    let axis = perm.remove(from);
    perm.insert(to, axis);
    transpose(x, Some(&perm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_go_there_and_back() {
        let x = Tensor::from_vec([1, 2, 2, 1], vec![1_i16, 2, 3, 4]).unwrap();
        let last = channels_last(&x, Layout::ChannelsFirst).unwrap();
        assert_eq!((last.shape(), last.to_i64_vec()), (&[1, 2, 1, 2][..], vec![1, 3, 2, 4]));
        assert_eq!(from_channels_last(&last, Layout::ChannelsFirst).unwrap(), x);
        assert_eq!(channels_first(&last, Layout::ChannelsLast).unwrap(), x);
        assert_eq!(from_channels_first(&x, Layout::ChannelsLast).unwrap(), last);
        assert_eq!(channels_last(&Tensor::scalar(1_i32), Layout::ChannelsFirst).unwrap(), Tensor::scalar(1_i32));
    }

    #[test]
    fn packed_types_transpose() {
        let x = Tensor::from_integers(fewbit_tensor::DType::I4, [2, 3], &[1, 2, 3, -4, -5, -6]).unwrap();
        assert_eq!(transpose(&x, None).unwrap().to_i64_vec(), [1, -4, 2, -5, 3, -6]);
        assert!(transpose(&x, Some(&[0, 0])).is_err());
    }
}
