//! Runs a network over calibration data and remembers what the plan needs.
//!
//! In: a plan, samples, and one [`Executor`] per thread. Out: [`Statistics`], the same bits for any number of threads:
//! each thread has its own accumulators, and merging them is exact. Memory is bounded by the network and the threads,
//! not by the number of samples, which are drawn one at a time.
//!
//! How a network is run is the executor's business; what ranges follow is [`crate::range`]'s.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use fewbit_ir::{Graph, ValueId};
use fewbit_kernels::Isa;

use crate::observe::{AxisOrder, Sample, Scratch, StatisticsRequest, ValueStatistics};
use crate::plan::{Decision, Numbers, QuantPlan};
use crate::statistics::{Fingerprint, Statistics};
use crate::{Error, ErrorKind, Result};

/// Shows a value to whoever observes it: its id, elements and shape.
pub type Tap<'a> = dyn FnMut(ValueId, Sample<'_>) -> Result<()> + 'a;

/// Runs a network on samples of type `S`, in float.
pub trait Executor<S> {
    /// Runs one sample and shows each value of `taps` once.
    ///
    /// # Errors
    /// What `tap` returned, unchanged; or [`ErrorKind::Executor`] with the reason.
    fn run(&mut self, sample: S, taps: &[ValueId], tap: &mut Tap<'_>) -> Result<()>;

    /// In which order the dimensions of a value are when it is shown; an executor that converts layouts must say so.
    fn axis_order(&self, _value: ValueId) -> AxisOrder {
        AxisOrder::Source
    }
}

/// What to remember of which value, in rising order of ids.
pub type Requests = Vec<(ValueId, StatisticsRequest)>;

impl QuantPlan {
    /// The statistics that follow-up steps need: for each value with a calibrated scale what its range rule asks for,
    /// for each input of corrected weights its channels' means.
    ///
    /// # Errors
    /// If two nodes read channels of one value along different axes.
    pub fn statistics_requests(&self, graph: &Graph) -> Result<Requests> {
        let mut requests: BTreeMap<ValueId, StatisticsRequest> = BTreeMap::new();
        let mut ask = |value: ValueId, request: StatisticsRequest| -> Result<()> {
            let known = requests.entry(value).or_default();
            *known = known.union(request).map_err(|e| e.at(format!("value '{}'", graph.value(value).name)))?;
            Ok(())
        };
        for group in &self.groups {
            if let Numbers::Calibrated(method) = group.numbers {
                group.members.iter().try_for_each(|v| ask(*v, method.request()))?;
            }
        }
        for node in self.nodes.iter().filter(|_| self.bias_correction) {
            let Decision::Integer(integer) = &node.decision else { continue };
            if let (Some(weight), Some(x)) = (&integer.weight, graph.node(node.id).input(0)) {
                ask(x, StatisticsRequest { channel_mean: weight.channel_axis, ..Default::default() })?;
            }
        }
        Ok(requests.into_iter().collect())
    }
}

/// Runs every sample on one of the executors, a thread each, and merges what they saw.
///
/// # Errors
/// The error of the earliest sample that failed, with its number; NaN and infinity are errors that name the value.
pub fn calibrate<S, E, I>(graph: &Graph, requests: &Requests, executors: Vec<E>, samples: I) -> Result<Statistics>
where
    S: Send,
    E: Executor<S> + Send,
    I: Iterator<Item = Result<S>> + Send,
{
    let fingerprint = Fingerprint::of(graph)?;
    let isa = Isa::detect().map_err(|e| Error::new(ErrorKind::Executor, e.to_string()))?;
    let names: Vec<&str> = requests.iter().map(|(v, _)| graph.value(*v).name.as_str()).collect();
    let queue = Mutex::new(samples.enumerate());
    let failed = AtomicBool::new(false);
    let next = || if failed.load(Relaxed) { None } else { queue.lock().unwrap_or_else(PoisonError::into_inner).next() };
    let parts: Vec<Worker> = std::thread::scope(|scope| {
        let work = |mut executor: E| {
            let mut worker = Worker::new(requests, isa);
            // Samples are dealt in order, so every sample before one that fails was dealt before: the earliest failure is found.
            while let Some((index, sample)) = next() {
                worker.take(index, sample, &mut executor, &names);
                if worker.failure.is_some() {
                    failed.store(true, Relaxed);
                    break;
                }
            }
            worker
        };
        let threads: Vec<_> = executors.into_iter().map(|executor| scope.spawn(move || work(executor))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    if let Some((index, error)) = parts.iter().filter_map(|w| w.failure.clone()).min_by_key(|(index, _)| *index) {
        return Err(error.at(format!("sample {index}")));
    }
    let mut whole = Worker::new(requests, isa);
    for part in &parts {
        whole.samples += part.samples;
        for (a, b) in whole.observers.iter_mut().zip(&part.observers) {
            a.merge(b)?;
        }
    }
    if whole.samples == 0 {
        return Err(Error::new(ErrorKind::Statistics, "there is no calibration sample: give at least one"));
    }
    let values = names.into_iter().map(str::to_owned).zip(whole.observers).collect();
    Ok(Statistics::new(fingerprint, whole.samples, values))
}

/// The accumulators of one thread.
struct Worker {
    values: Vec<ValueId>,
    observers: Vec<ValueStatistics>,
    scratch: Scratch,
    samples: u64,
    failure: Option<(usize, Error)>,
}

impl Worker {
    fn new(requests: &Requests, isa: Isa) -> Self {
        Self {
            values: requests.iter().map(|(v, _)| *v).collect(),
            observers: requests.iter().map(|(_, r)| ValueStatistics::new(r)).collect(),
            scratch: Scratch::new(isa),
            samples: 0,
            failure: None,
        }
    }

    fn take<S, E: Executor<S>>(&mut self, index: usize, sample: Result<S>, executor: &mut E, names: &[&str]) {
        let Self { values, observers, scratch, .. } = self;
        let orders: Vec<AxisOrder> = values.iter().map(|v| executor.axis_order(*v)).collect();
        let mut tap = |value: ValueId, sample: Sample<'_>| match values.binary_search(&value) {
            Ok(i) => observers[i].observe(sample, orders[i], scratch).map_err(|e| e.at(format!("value '{}'", names[i]))),
            Err(_) => Err(Error::new(ErrorKind::Executor, format!("the executor showed value {}, which was not asked for", value.index()))),
        };
        match sample.and_then(|s| executor.run(s, values, &mut tap)) {
            Ok(()) => self.samples += 1,
            Err(e) => self.failure = Some((index, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network whose only value is its input.
    struct Echo;

    impl Executor<Vec<f32>> for Echo {
        fn run(&mut self, sample: Vec<f32>, taps: &[ValueId], tap: &mut Tap<'_>) -> Result<()> {
            taps.iter().try_for_each(|v| tap(*v, Sample { values: &sample, shape: &[1, sample.len()] }))
        }
    }

    fn graph() -> Graph {
        "input x: f32[1,3]\ny = Unary \"Relu\" (x)\noutput y".parse().unwrap()
    }

    fn run(threads: usize, samples: Vec<Result<Vec<f32>>>) -> Result<Statistics> {
        let graph = graph();
        let request = StatisticsRequest { mean_min_max: true, histogram: true, channel_mean: Some(1) };
        let requests = vec![(graph.inputs[0], request)];
        calibrate(&graph, &requests, (0..threads).map(|_| Echo).collect(), samples.into_iter())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes() {
        let samples = |n: u16| -> Vec<_> { (0..n).map(|i| Ok(vec![f32::from(i) * 0.37 - 9.0, 1e-9, f32::from(i * i)])).collect() };
        let one = run(1, samples(100)).unwrap();
        assert_eq!(one.samples(), 100);
        for threads in [2, 3, 7] {
            assert_eq!(run(threads, samples(100)).unwrap().to_bytes(), one.to_bytes(), "{threads} threads");
        }
    }

    #[test]
    fn the_earliest_failure_is_told_with_sample_and_value() {
        let failed = || Err(Error::new(ErrorKind::Executor, "no such image"));
        for (samples, kind, says) in [
            (vec![], ErrorKind::Statistics, "no calibration sample"),
            (vec![Ok(vec![1.0; 3]), Ok(vec![1.0, f32::NAN, 1.0])], ErrorKind::NotFinite, "sample 1: value 'x': 1 of 3"),
            (vec![failed(), failed()], ErrorKind::Executor, "sample 0: no such image"),
            (vec![Ok(vec![1.0; 3]), Ok(vec![1.0; 4])], ErrorKind::Statistics, "sample 1: value 'x': a sample with 4 channels"),
        ] {
            let e = run(1, samples).unwrap_err();
            assert!(e.kind() == kind && e.to_string().starts_with(says) || e.to_string().contains(says), "{e}");
        }
    }
}
