//! How kernels share work among threads.
//!
//! Kernels run inside the caller's rayon pool (`ThreadPool::install` decides the number of threads) and start no
//! threads of their own. Output is cut into chunks. Where the cut could change a result, as the order of a sum, it
//! depends on the sizes alone; so every element is computed by the same operations at any number of threads.

use rayon::prelude::*;

/// Below this many elementary operations, some 1 to 10 µs, a kernel runs on the calling thread: sharing with another takes as long.
const SERIAL_OPERATIONS: usize = 500_000;

/// Calls `body(i, chunk)` for the `i`-th piece of `chunk` elements of `output` (the last may be shorter).
///
/// `operations` is the size of the whole work, in multiply-adds or the like. Every kernel shares its work so; callers that
/// compute a piece of the output by several kernels do, too.
pub fn for_each_chunk<T: Send>(output: &mut [T], chunk: usize, operations: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let chunk = chunk.max(1);
    if operations < SERIAL_OPERATIONS || output.len() <= chunk || rayon::current_num_threads() == 1 {
        output.chunks_mut(chunk).enumerate().for_each(|(i, piece)| body(i, piece));
    } else {
        share(output, chunk, &body);
    }
}

/// Behind a pointer, so that the sharing itself is compiled once per element type and not once per kernel.
fn share<T: Send>(output: &mut [T], chunk: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
    output.par_chunks_mut(chunk).enumerate().for_each(|(i, piece)| body(i, piece));
}

/// Threads that share the work; for cutting work in which no cut changes a result.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Those that share work of so many operations, as [`for_each_chunk`] does.
pub(crate) fn threads_for(operations: usize) -> usize {
    if operations < SERIAL_OPERATIONS { 1 } else { rayon::current_num_threads() }
}
