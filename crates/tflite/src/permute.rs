//! Rearranging constants: TFLite and the graph order the axes of weights differently.

use fewbit_tensor::{DType, Tensor, strides};

use crate::error::{Error, Result};

/// The tensor with permuted axes: axis `k` of the result is axis `perm[k]` of `tensor`.
pub(crate) fn permute(tensor: &Tensor, perm: &[usize]) -> Result<Tensor> {
    let mut seen = vec![false; tensor.rank()];
    for &p in perm {
        match seen.get_mut(p) {
            Some(s) if !*s => *s = true,
            _ => return Err(Error::format(format!("{perm:?} is no permutation of {} axes", tensor.rank()))),
        }
    }
    if perm.len() != tensor.rank() {
        return Err(Error::format(format!("{perm:?} is no permutation of {} axes", tensor.rank())));
    }
    let pick = |from: &[usize]| -> Vec<usize> { perm.iter().filter_map(|&p| from.get(p).copied()).collect() };
    let shape = pick(tensor.shape());
    // Axes of size 1 may go anywhere without moving a byte.
    let wide = |s: &[usize], order: &[usize]| -> Vec<usize> { order.iter().copied().filter(|&a| s.get(a) != Some(&1)).collect() };
    if wide(tensor.shape(), perm).is_sorted() {
        return Ok(tensor.reshaped(shape)?);
    }
    if tensor.dtype().bits() < 8 {
        return permute_packed(tensor, shape, perm);
    }
    let size = tensor.dtype().bits() / 8;
    let steps: Vec<usize> = pick(&strides(tensor.shape())).iter().map(|s| s * size).collect();
    let mut out = Vec::with_capacity(tensor.bytes().len());
    for_each_offset(&shape, &steps, |at| out.extend_from_slice(tensor.bytes().get(at..at + size).unwrap_or_default()));
    Ok(Tensor::new(tensor.dtype(), shape, out)?)
}

fn permute_packed(tensor: &Tensor, shape: Vec<usize>, perm: &[usize]) -> Result<Tensor> {
    let wide = Tensor::from_integers(DType::I64, tensor.shape(), &tensor.to_i64_vec())?;
    Ok(Tensor::from_integers(tensor.dtype(), shape, &permute(&wide, perm)?.to_i64_vec())?)
}

/// Calls `f` with the offset of each element in row-major order of `shape`.
fn for_each_offset(shape: &[usize], steps: &[usize], mut f: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0_usize; shape.len()];
    let mut at = 0;
    loop {
        f(at);
        let mut advanced = false;
        for ((i, &n), &step) in index.iter_mut().zip(shape).zip(steps).rev() {
            *i += 1;
            at += step;
            if *i < n {
                advanced = true;
                break;
            }
            at -= step * n;
            *i = 0;
        }
        if !advanced {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inverse(perm: [usize; 3]) -> Vec<usize> {
        (0..3).map(|k| perm.iter().position(|p| *p == k).unwrap()).collect()
    }

    #[test]
    fn axes_move_and_come_back() {
        let t = Tensor::from_vec([2, 3, 4], (0..24_i32).collect::<Vec<_>>()).unwrap();
        for perm in [[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]] {
            let moved = permute(&t, &perm).unwrap();
            let at = |i: [usize; 3]| moved.to_i64_vec()[(i[0] * moved.shape()[1] + i[1]) * moved.shape()[2] + i[2]];
            let source = [1, 2, 3];
            assert_eq!(at([source[perm[0]], source[perm[1]], source[perm[2]]]), 23, "{perm:?}");
            assert_eq!(permute(&moved, &inverse(perm)).unwrap(), t, "{perm:?}");
        }
    }

    #[test]
    fn packed_elements_move_too() {
        let t = Tensor::from_integers(DType::I4, [2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(permute(&t, &[1, 0]).unwrap().to_i64_vec(), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn what_is_no_permutation_is_an_error() {
        let t = Tensor::from_vec([1, 1], vec![0_i32]).unwrap();
        for perm in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
            assert!(permute(&t, perm).is_err(), "{perm:?}");
        }
    }
}
