//! Loops over slices, shared among threads and compiled for the tier.

use fewbit_kernels::Isa;
use rayon::prelude::*;

/// Elements that a thread takes at a time: with their operands half of the second-level cache.
pub(crate) const CHUNK: usize = 32 * 1024;

/// `f(&mut a[i], b[i])` for all elements.
pub(crate) fn zip(isa: Isa, a: &mut [f32], b: &[f32], f: impl Fn(&mut f32, f32) + Sync) {
    let run = |(a, b): (&mut [f32], &[f32])| {
        isa.run(
            #[inline(always)]
            || a.iter_mut().zip(b).for_each(|(a, b)| f(a, *b)),
        );
    };
    if a.len() <= CHUNK {
        return run((a, b));
    }
    a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).for_each(run);
}

/// `f(&mut a[i], b[i], c[i])` for all elements.
pub(crate) fn zip3(isa: Isa, a: &mut [f32], b: &[f32], c: &[f32], f: impl Fn(&mut f32, f32, f32) + Sync) {
    let run = |((a, b), c): ((&mut [f32], &[f32]), &[f32])| {
        isa.run(
            #[inline(always)]
            || a.iter_mut().zip(b).zip(c).for_each(|((a, b), c)| f(a, *b, *c)),
        );
    };
    if a.len() <= CHUNK {
        return run(((a, b), c));
    }
    a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).zip(c.par_chunks(CHUNK)).for_each(run);
}

/// `f(row of a, row of b)` for all rows of matrices with so many columns.
pub(crate) fn zip_rows(isa: Isa, a: &mut [f32], b: &[f32], columns: usize, f: impl Fn(&mut [f32], &[f32]) + Sync) {
    let columns = columns.max(1);
    let chunk = (CHUNK / columns).max(1) * columns;
    a.par_chunks_mut(chunk).zip(b.par_chunks(chunk)).for_each(|(a, b)| {
        isa.run(
            #[inline(always)]
            || a.chunks_exact_mut(columns).zip(b.chunks_exact(columns)).for_each(|(a, b)| f(a, b)),
        );
    });
}

/// Sums over the rows of `[rows, columns]`, in pieces that the sizes alone decide: `f(sums, row number)` adds a row.
pub(crate) fn sum_rows(isa: Isa, rows: usize, columns: usize, f: impl Fn(&mut [f32], usize) + Sync) -> Vec<f32> {
    const PIECES: usize = 16;
    let piece = rows.div_ceil(PIECES).max((CHUNK / 4).div_ceil(columns.max(1)));
    let part = |i: usize| {
        let mut sums = vec![0.0; columns];
        isa.run(
            #[inline(always)]
            || (i * piece..((i + 1) * piece).min(rows)).for_each(|row| f(&mut sums, row)),
        );
        sums
    };
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(piece.max(1))).into_par_iter().map(part).collect();
    let mut sums = vec![0.0; columns];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sums
}
