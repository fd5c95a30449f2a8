//! Functions of two tensors, broadcast against each other by numpy's rules.

use std::mem::size_of;

use fewbit_ir::Dim;
use fewbit_ir::infer::broadcast_dims;

use super::call::bounded_len;
use super::strided::{Walk, contiguous, row_indices};
use crate::Result;

/// Elements in row-major order with their shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) shape: &'a [usize],
}

impl<'a, T> View<'a, T> {
    pub(super) fn new(elements: &'a [T], shape: &'a [usize]) -> Self {
        Self { elements, shape }
    }
}

/// The shape of two shapes broadcast against each other.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let dims = |shape: &[usize]| shape.iter().map(|&n| Dim::Known(n)).collect::<Vec<_>>();
    Ok(broadcast_dims(&dims(a), &dims(b))?.iter().filter_map(Dim::known).collect())
}

/// Strides with which a tensor of shape `from` repeats over `to`, which it broadcasts to.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; to.len()];
    for (i, stride) in contiguous(from).into_iter().enumerate() {
        if let Some(axis) = (to.len() + i).checked_sub(from.len())
            && from[i] != 1
        {
            strides[axis] = stride;
        }
    }
    strides
}

/// `f` of each pair of elements, and the shape of the result.
pub(super) fn zip<A: Copy, B: Copy, R>(a: View<'_, A>, b: View<'_, B>, f: impl Fn(A, B) -> R) -> Result<(Vec<usize>, Vec<R>)> {
    let shape = broadcast_shape(a.shape, b.shape)?;
    let len = bounded_len(fewbit_tensor::DType::U8, &shape)?;
    bounded_len(fewbit_tensor::DType::U8, &[len, size_of::<R>()])?;
    let walk = Walk::new(&shape, [&broadcast_strides(a.shape, &shape), &broadcast_strides(b.shape, &shape)]);
    let (a, b, n, steps) = (a.elements, b.elements, walk.row_len(), walk.steps());
    let mut out = Vec::with_capacity(len);
    walk.for_each_row(|[i, j]| match steps {
        [1, 1] => out.extend(a[i..i + n].iter().zip(&b[j..j + n]).map(|(x, y)| f(*x, *y))),
        [1, 0] => out.extend(a[i..i + n].iter().map(|x| f(*x, b[j]))),
        [0, 1] => out.extend(b[j..j + n].iter().map(|y| f(a[i], *y))),
        [p, q] => out.extend(row_indices(i, p, 0..n).zip(row_indices(j, q, 0..n)).map(|(i, j)| f(a[i], b[j]))),
    });
    Ok((shape, out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_or_fail() {
        for (a, b, expected) in [
            (vec![2, 3], vec![3], Some(vec![2, 3])),
            (vec![2, 1], vec![1, 3], Some(vec![2, 3])),
            (vec![], vec![4], Some(vec![4])),
            (vec![0], vec![1], Some(vec![0])),
            (vec![2], vec![3], None),
        ] {
            assert_eq!(broadcast_shape(&a, &b).ok(), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn pairs_are_the_right_ones() {
        let (a, b) = ([10, 20], [1, 2, 3]);
        let sum = |a: i32, b: i32| a + b;
        let (shape, out) = zip(View::new(&a, &[2, 1]), View::new(&b, &[3]), sum).unwrap();
        assert_eq!((shape, out), (vec![2, 3], vec![11, 12, 13, 21, 22, 23]));
        let (shape, out) = zip(View::new(&b, &[3]), View::new(&a[..1], &[]), sum).unwrap();
        assert_eq!((shape, out), (vec![3], vec![11, 12, 13]));
        let wide = vec![0_u8; 1 << 17];
        assert!(zip(View::new(&wide, &[1 << 17, 1]), View::new(&wide, &[1 << 17]), |a, b| a + b).is_err());
    }
}
