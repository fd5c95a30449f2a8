//! How kernels share work among threads.
//!
//! Kernels run inside the caller's rayon pool (`ThreadPool::install` decides the number of threads) and start no
//! threads of their own. Output is cut into chunks whose size depends on the dims alone, never on the number of
//! threads, so that every element is computed by the same operations at any thread count.

use rayon::prelude::*;

/// Below this many elementary operations a kernel runs on the calling thread: waking another costs about 5 µs.
const SERIAL_OPERATIONS: usize = 100_000;

/// Calls `body(i, chunk)` for the `i`-th piece of `chunk` elements of `output` (the last may be shorter).
///
/// `operations` is the size of the whole work, in multiply-adds or the like.
pub(crate) fn for_each_chunk<T: Send>(output: &mut [T], chunk: usize, operations: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let chunk = chunk.max(1);
    if operations < SERIAL_OPERATIONS || output.len() <= chunk || rayon::current_num_threads() == 1 {
        output.chunks_mut(chunk).enumerate().for_each(|(i, piece)| body(i, piece));
    } else {
        output.par_chunks_mut(chunk).enumerate().for_each(|(i, piece)| body(i, piece));
    }
}

/// A chunk size that cuts `items` into two pieces per thread; for work in which no cut changes a result.
pub(crate) fn pieces(items: usize) -> usize {
    match rayon::current_num_threads() {
        1 => items,
        threads => items.div_ceil(2 * threads),
    }
}
