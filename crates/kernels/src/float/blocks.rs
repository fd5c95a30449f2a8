//! Sums over blocks of products that were taken block by block.

use crate::error::{Result, elements, expect_len};
use crate::threads::for_each_chunk;
use crate::{Clamp, Isa};

/// Rows per piece of work.
const ROWS: usize = 16;

/// `y[r, c] = clamp(x[r, 0, c] + x[r, 1, c] + … + bias[c])` of `x` with `dims`: rows, blocks and columns. Sums are taken in the blocks'
/// order.
///
/// # Errors
/// If a slice has another length.
pub fn sum_blocks(isa: Isa, dims: [usize; 3], bias: Option<&[f32]>, clamp: Clamp, input: &[f32], output: &mut [f32]) -> Result<()> {
    let [rows, blocks, columns] = dims;
    expect_len("input of a sum over blocks", input.len(), elements("sum over blocks", &dims)?)?;
    expect_len("output of a sum over blocks", output.len(), elements("sum over blocks", &[rows, columns])?)?;
    if let Some(bias) = bias {
        expect_len("bias of a sum over blocks", bias.len(), columns)?;
    }
    if output.is_empty() {
        return Ok(());
    }
    for_each_chunk(output, ROWS * columns, input.len(), |i, output| {
        isa.run(
            #[inline(always)]
            || {
                let input = &input[i * ROWS * blocks * columns..];
                for (r, y) in output.chunks_exact_mut(columns).enumerate() {
                    y.fill(0.0);
                    for x in input[r * blocks * columns..][..blocks * columns].chunks_exact(columns) {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                    }
                    if let Some(bias) = bias {
                        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                    y.iter_mut().for_each(|y| *y = clamp.apply(*y));
                }
            },
        );
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn every_tier_adds_in_order() {
        for [rows, blocks, columns] in [[1, 1, 1], [3, 2, 5], [33, 7, 40], [2, 3, 0], [2, 0, 3]] {
            let (x, bias) = (random(1, rows * blocks * columns), random(2, columns));
            let clamp = Clamp { min: -0.5, max: 1.5 };
            for bias in [None, Some(&bias[..])] {
                let mut expected = vec![0.0_f32; rows * columns];
                for (i, y) in expected.iter_mut().enumerate() {
                    (0..blocks).for_each(|b| *y += x[(i / columns * blocks + b) * columns + i % columns]);
                    *y = clamp.apply(*y + bias.map_or(0.0, |bias| bias[i % columns]));
                }
                for &isa in Isa::supported() {
                    let mut y = vec![f32::NAN; rows * columns];
                    sum_blocks(isa, [rows, blocks, columns], bias, clamp, &x, &mut y).unwrap();
                    assert_eq!(y, expected, "{isa:?} {rows} {blocks} {columns}");
                }
            }
        }
        assert!(sum_blocks(Isa::best(), [1, 2, 3], None, Clamp::NONE, &[0.0; 5], &mut [0.0; 3]).is_err());
        assert!(sum_blocks(Isa::best(), [1, 2, 3], Some(&[0.0; 2]), Clamp::NONE, &[0.0; 6], &mut [0.0; 3]).is_err());
        assert!(sum_blocks(Isa::best(), [1, 2, 3], None, Clamp::NONE, &[0.0; 6], &mut [0.0; 2]).is_err());
    }
}
