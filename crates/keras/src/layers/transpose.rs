//! Weights in another order of axes.

use fewbit_tensor::{Tensor, strides};

use crate::{Error, Result};

/// Elements along each side of a tile: the source lines of one tile stay in the first-level cache.
const TILE: usize = 16;

/// A single-precision tensor with its axes in the order `perm`.
pub(super) fn transpose(tensor: &Tensor, perm: &[usize]) -> Result<Tensor> {
    let mismatch = || Error::format(format!("a weight of shape {:?} should have {} dimensions", tensor.shape(), perm.len()));
    if tensor.rank() != perm.len() {
        return Err(mismatch());
    }
    let pick = |of: &[usize]| perm.iter().map(|axis| of.get(*axis).copied()).collect::<Option<Vec<_>>>().ok_or_else(mismatch);
    let shape = pick(tensor.shape())?;
    let source = tensor.elements::<f32>()?;
    if source.is_empty() {
        return Ok(tensor.reshaped(shape)?);
    }
    let (sizes, steps) = merge_axes(&shape, &pick(&strides(tensor.shape()))?);
    let mut out = vec![0.0; source.len()];
    copy(&source, 0, &sizes, &steps, &mut out);
    Ok(Tensor::from_vec(shape, out)?)
}

/// Drops axes of one element and joins those that follow each other in the source too.
fn merge_axes(shape: &[usize], strides: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut sizes: Vec<usize> = Vec::new();
    let mut steps: Vec<usize> = Vec::new();
    for (size, step) in shape.iter().zip(strides).filter(|(size, _)| **size > 1) {
        match (sizes.last_mut(), steps.last_mut()) {
            (Some(last_size), Some(last_step)) if *last_step == size * step => {
                *last_size *= size;
                *last_step = *step;
            }
            _ => {
                sizes.push(*size);
                steps.push(*step);
            }
        }
    }
    (sizes, steps)
}

/// Copies elements from `start` on, one step per axis, to consecutive places.
fn copy(source: &[f32], start: usize, sizes: &[usize], steps: &[usize], out: &mut [f32]) {
    match (sizes, steps) {
        ([rows, columns], [row_step, column_step]) => {
            for column_tile in (0..*columns).step_by(TILE) {
                let width = TILE.min(columns - column_tile);
                for (row, line) in out.chunks_exact_mut(*columns).take(*rows).enumerate() {
                    let from = start + row * row_step + column_tile * column_step;
                    let source = source.get(from..).unwrap_or_default().iter().step_by((*column_step).max(1));
                    let line = line.get_mut(column_tile..column_tile + width).unwrap_or_default();
                    line.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
                }
            }
        }
        ([size, rest @ ..], [step, rest_steps @ ..]) if !rest.is_empty() => {
            let len = out.len() / (*size).max(1);
            for (i, part) in out.chunks_exact_mut(len.max(1)).enumerate() {
                copy(source, start + i * step, rest, rest_steps, part);
            }
        }
        _ => {
            let step = steps.last().copied().unwrap_or(1).max(1);
            let source = source.get(start..).unwrap_or_default().iter().step_by(step);
            out.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_where_the_permutation_puts_it() {
        for (shape, perm) in [
            (vec![3, 5, 7, 40], vec![3, 2, 0, 1]),
            (vec![1, 1, 33, 17], vec![3, 2, 0, 1]),
            (vec![3, 3, 8, 2], vec![2, 3, 0, 1]),
            (vec![4, 6], vec![1, 0]),
            (vec![4, 6], vec![0, 1]),
            (vec![1, 1], vec![1, 0]),
            (vec![2, 0, 3], vec![2, 1, 0]),
        ] {
            let count: usize = shape.iter().product();
            let data: Vec<f32> = (0_u16..).take(count).map(f32::from).collect();
            let moved = transpose(&Tensor::from_vec(shape.clone(), data.clone()).unwrap(), &perm).unwrap();
            let (from, to) = (strides(&shape), strides(moved.shape()));
            for (i, x) in data.iter().enumerate() {
                let place: usize = perm.iter().zip(&to).map(|(axis, stride)| i / from[*axis] % shape[*axis] * stride).sum();
                assert_eq!(moved.to_f32()[place], *x, "{shape:?} {perm:?} {i}");
            }
        }
        assert!(transpose(&Tensor::vector::<f32>(vec![1.0]), &[1, 0]).is_err());
    }
}
