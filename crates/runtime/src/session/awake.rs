//! Keeps a pool's threads awake while a plan runs.
//!
//! Between two kernels that share their work a thread of the pool has nothing to do for some microseconds, falls asleep, and is
//! woken again: in a network of sixty layers that costs more than a second thread gains. So the others look for work until the run ends.

use std::sync::atomic::{AtomicBool, Ordering};

/// Multiply-adds of a run from which on it is worth it.
const LONG: usize = 1 << 22;

/// Looks for nothing between two looks for work.
const PAUSES: usize = 16;

/// Does `work` of so many multiply-adds.
pub(super) fn run<R>(macs: usize, work: impl FnOnce() -> R) -> R {
    let threads = rayon::current_num_threads();
    if threads == 1 || macs < LONG {
        return work();
    }
    let (home, done) = (rayon::current_thread_index(), AtomicBool::new(false));
    rayon::in_place_scope(|scope| {
        // Tasks are taken in the order in which they were spawned, so none is begun within work that `work` waits for; but the thread
        // that does `work` may take one while it waits, and must not stay.
        for _ in 1..threads {
            scope.spawn(|_| {
                while rayon::current_thread_index() != home && !done.load(Ordering::Acquire) {
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        (0..PAUSES).for_each(|_| std::hint::spin_loop());
                    }
                }
            });
        }
        let _end = End(&done);
        work()
    })
}

/// Ends the run, come what may.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::panic::AssertUnwindSafe;

    #[test]
    fn work_that_is_shared_ends_and_so_does_a_panic() {
        for threads in [1, 2, 3, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for macs in [0, LONG] {
                for _ in 0..50 {
                    let sum: u64 =
                        pool.install(|| run(macs, || (0..200).map(|i| (0..1000_u64).into_par_iter().map(|k| k * i).sum::<u64>()).sum()));
                    assert_eq!(sum, 499_500 * 19_900);
                }
                let panics = || pool.install(|| run(macs, || panic!("in a kernel")));
                assert!(std::panic::catch_unwind(AssertUnwindSafe(panics)).is_err());
            }
        }
    }
}
