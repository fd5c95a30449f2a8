//! Samples over threads.
//!
//! Each worker pulls the next sample and runs it on its own, single-threaded: that keeps both cores busy without
//! splitting small operators. What workers accumulate must merge exactly, since which worker gets which sample is a
//! matter of chance; of several errors, that of the first sample is returned, whatever the timing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{Error, Result};

/// How far a run over the samples is. Called from any worker.
pub trait Progress: Sync {
    /// A stage begins that goes over `samples` samples.
    fn begin(&self, stage: &str, samples: usize);
    /// One more sample is done.
    fn advance(&self);
    /// The stage is over.
    fn end(&self);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _samples: usize) {}
    fn advance(&self) {}
    fn end(&self) {}
}

/// So many threads for kernels that split their work.
///
/// # Errors
/// If they cannot be started.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| Error::settings(format!("cannot start {threads} threads: {e}")))
}

/// Runs `work` on the samples `0..count` over `threads` workers, each with a state of its own; returns the states.
pub(crate) fn for_each_sample<S: Send>(
    count: usize,
    threads: usize,
    progress: &dyn Progress,
    make_state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first_error: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let worker = || {
        let mut state = make_state();
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            if let Err(e) = work(&mut state, i) {
                stop.store(true, Ordering::Relaxed);
                let mut slot = first_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if slot.as_ref().is_none_or(|(first, _)| i < *first) {
                    *slot = Some((i, e));
                }
            }
            progress.advance();
        }
        state
    };
    let workers = threads.clamp(1, count.max(1));
    let states = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| alone(worker))).collect();
        let joined = handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<S>>>()
    })?;
    match first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, e)) => Err(e),
        None => Ok(states),
    }
}

/// Runs `work` on this thread, which must be a new one, with kernels that do not share their work with others.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    pool.map_err(|e| Error::network(format!("cannot start a worker thread: {e}"))).map(|_pool| work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_visited_once() {
        for threads in [1, 2, 5] {
            let states = for_each_sample(37, threads, &Silent, Vec::new, |seen, i| {
                seen.push(i);
                Ok(())
            });
            let mut all: Vec<usize> = states.unwrap().concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..37), "{threads} threads");
        }
    }

    #[test]
    fn an_error_ends_the_run() {
        let failed = for_each_sample(10, 3, &Silent, || (), |(), i| if i == 0 { Err(Error::data("sample 0")) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "sample 0");
    }
}
