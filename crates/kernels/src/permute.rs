//! Transposition of tensors of any rank and element size.
//!
//! In: a shape, a permutation of its axes and the elements; out: the elements in the new order, as ONNX `Transpose`:
//! axis `i` of the output is axis `permutation[i]` of the input.
//!
//! Axes that stay neighbours are merged first, so that a layout change between channels first and channels last becomes
//! a batch of matrix transposes. For bytes of unknown alignment take `T = [u8; N]`.

use crate::error::{Error, Result, elements, expect_len};
use crate::threads::for_each_chunk;

/// Permutes the axes of a tensor.
///
/// # Errors
/// If `permutation` is none of the shape's axes, or a slice's length contradicts the shape.
pub fn permute<T: Copy + Send + Sync>(shape: &[usize], permutation: &[usize], input: &[T], output: &mut [T]) -> Result<()> {
    let len = elements("transpose", shape)?;
    expect_len("input of transpose", input.len(), len)?;
    expect_len("output of transpose", output.len(), len)?;
    let mut seen = vec![false; shape.len()];
    for &axis in permutation {
        if seen.get(axis).is_none_or(|&seen| seen) {
            break;
        }
        seen[axis] = true;
    }
    if permutation.len() != shape.len() || seen.contains(&false) {
        return Err(Error::dims(format!("transpose: {permutation:?} does not permute the axes of {shape:?}")));
    }
    if len == 0 {
        return Ok(());
    }
    let axes = merged_axes(shape, permutation);
    match axes[..] {
        [] | [_] => output.copy_from_slice(input),
        [.., Axis { stride: 1, size }] => copy_runs(&axes[..axes.len() - 1], size, input, output),
        [ref outer @ .., rows, columns] => transpose_planes(outer, rows, columns, input, output),
    }
    Ok(())
}

/// An axis of the output: its size and its step in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    size: usize,
    stride: usize,
}

/// The output's axes, without those of size 1, neighbours in both tensors merged.
fn merged_axes(shape: &[usize], permutation: &[usize]) -> Vec<Axis> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
    for axis in permutation.iter().map(|&i| Axis { size: shape[i], stride: strides[i] }).filter(|axis| axis.size > 1) {
        match axes.last_mut() {
            Some(last) if last.stride == axis.size * axis.stride => *last = Axis { size: last.size * axis.size, stride: axis.stride },
            _ => axes.push(axis),
        }
    }
    axes
}

/// Where in the input the `index`-th element over `axes` lies.
fn offset(axes: &[Axis], mut index: usize) -> usize {
    let mut at = 0;
    for axis in axes.iter().rev() {
        at += index % axis.size * axis.stride;
        index /= axis.size;
    }
    at
}

/// Elements per piece of work, at least.
const CHUNK: usize = 16_384;

/// The last axis is contiguous in both tensors.
fn copy_runs<T: Copy + Send + Sync>(outer: &[Axis], run: usize, input: &[T], output: &mut [T]) {
    let runs = CHUNK.div_ceil(run);
    let operations = output.len();
    for_each_chunk(output, runs * run, operations, |i, output| {
        for (j, output) in output.chunks_exact_mut(run).enumerate() {
            output.copy_from_slice(&input[offset(outer, i * runs + j)..][..run]);
        }
    });
}

/// Side of the square tiles that keep both tensors' lines in the first-level cache.
const TILE: usize = 16;

/// Planes of `rows × columns`, whose columns are not contiguous in the input.
fn transpose_planes<T: Copy + Send + Sync>(outer: &[Axis], rows: Axis, columns: Axis, input: &[T], output: &mut [T]) {
    let operations = output.len();
    for_each_chunk(output, rows.size * columns.size, operations, |i, output| {
        let input = &input[offset(outer, i)..];
        match (columns.size, rows.stride) {
            (2, 1) => interleave::<T, 2>(columns.stride, input, output),
            (3, 1) => interleave::<T, 3>(columns.stride, input, output),
            (4, 1) => interleave::<T, 4>(columns.stride, input, output),
            _ => transpose(rows, columns, input, output),
        }
    });
}

/// The few columns of a plane, each contiguous in the input, as those of an image's colours: known in number, their stores vectorize.
fn interleave<T: Copy, const C: usize>(stride: usize, input: &[T], output: &mut [T]) {
    let rows = output.as_chunks_mut::<C>().0;
    let columns: [&[T]; C] = std::array::from_fn(|c| &input[c * stride..][..rows.len()]);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = columns.map(|column| column[i]);
    }
}

/// One plane, in square tiles.
fn transpose<T: Copy>(rows: Axis, columns: Axis, input: &[T], output: &mut [T]) {
    for first in (0..rows.size).step_by(TILE) {
        let height = TILE.min(rows.size - first);
        let output = &mut output[first * columns.size..][..height * columns.size];
        for left in (0..columns.size).step_by(TILE) {
            for column in left..columns.size.min(left + TILE) {
                let source = &input[first * rows.stride + column * columns.stride..];
                for row in 0..height {
                    output[row * columns.size + column] = source[row * rows.stride];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn against_index_arithmetic() {
        for (shape, permutation) in [
            (vec![], vec![]),
            (vec![5], vec![0]),
            (vec![3, 4], vec![1, 0]),
            (vec![2, 3, 17, 33], vec![0, 2, 3, 1]),
            (vec![2, 17, 3], vec![2, 0, 1]),
            (vec![4, 17], vec![1, 0]),
            (vec![2, 17, 33, 3], vec![0, 3, 1, 2]),
            (vec![2, 3, 4, 5], vec![3, 2, 1, 0]),
            (vec![2, 3, 4, 5], vec![0, 2, 1, 3]),
            (vec![2, 1, 4, 1, 5], vec![4, 1, 0, 3, 2]),
            (vec![100, 200], vec![1, 0]),
            (vec![4, 0, 2], vec![2, 0, 1]),
        ] {
            let len: usize = shape.iter().product();
            let input: Vec<u32> = (0..len as u32).collect();
            let mut output = vec![0; len];
            permute(&shape, &permutation, &input, &mut output).unwrap();
            for (at, &found) in output.iter().enumerate() {
                let (mut rest, mut index) = (at, vec![0; shape.len()]);
                for &axis in permutation.iter().rev() {
                    index[axis] = rest % shape[axis];
                    rest /= shape[axis];
                }
                let expect = index.iter().zip(&shape).fold(0, |sum, (i, size)| sum * size + i);
                assert_eq!(found as usize, expect, "{shape:?} by {permutation:?} at {at}");
            }
        }
    }

    #[test]
    fn bytes_of_any_alignment() {
        let mut output = [[0_u8; 2]; 4];
        permute(&[2, 2], &[1, 0], &[[1, 2], [3, 4], [5, 6], [7, 8]], &mut output).unwrap();
        assert_eq!(output, [[1, 2], [5, 6], [3, 4], [7, 8]]);
    }

    #[test]
    fn refuses() {
        let mut output = [0_u8; 6];
        for (shape, permutation) in [(vec![2, 3], vec![0, 0]), (vec![2, 3], vec![0]), (vec![2, 3], vec![0, 2]), (vec![2, 4], vec![1, 0])] {
            assert!(permute(&shape, &permutation, &[0_u8; 6], &mut output).is_err(), "{shape:?} by {permutation:?}");
        }
        assert!(permute(&[usize::MAX, 2], &[1, 0], &[0_u8; 6], &mut output).is_err());
    }
}
