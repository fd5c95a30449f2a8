//! How much the answers of a network notice: what quantizing activations costs them, and where errors of a layer matter.
//!
//! In: a network, samples, and ranges that values may be quantized in. Out: the noise that each range adds to the answers, to first
//! order; or by position of a layer's output what an error there does. An outlier that the answers do not notice may be clipped; errors
//! of which they notice little need no fine steps. Neither can be told from the values alone: `MobileNetV2`'s last blocks hold sums of
//! which one position in a hundred reaches ten times as far as the others, and hardly matters.
//!
//! The derivatives of all answers are not computed one by one: the derivative of their sum with random signs has a square of the same
//! mean (Hutchinson, 1989). Signs follow from the sample's number, and sums are taken in the samples' order: the same bits at any number
//! of threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fewbit_ir::ValueId;
use fewbit_kernels::Isa;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::autodiff::{BatchStatistics, Program, Shared, SlotId, Tape, Watch};
use crate::network::{Network, scores};
use crate::trainer::Examples;
use crate::{Error, ErrorKind, Result};

/// Ranges that one of is to be chosen for a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// The value.
    pub value: ValueId,
    /// Smallest and largest number that is not clipped.
    pub ranges: Vec<[f32; 2]>,
    /// Steps from one to the other.
    pub steps: f32,
}

/// A network whose answers are differentiated, one sample at a time.
struct Answers<'a> {
    network: &'a Network,
    program: Program,
    shared: Arc<Shared>,
    /// Of the answers.
    slots: Vec<SlotId>,
    tapes: Mutex<Vec<Tape>>,
    isa: Isa,
}

impl<'a> Answers<'a> {
    /// `values` are those whose gradients are wanted.
    fn new(network: &'a Network, values: impl Iterator<Item = ValueId>) -> Result<Self> {
        let isa = Isa::detect()?;
        let answers = scores(network);
        let graph = network.graph();
        let keep: Vec<ValueId> = answers.iter().copied().chain(values.filter(|v| graph.producer(*v).is_some())).collect();
        let program = network.program(1, BatchStatistics::Running, false, &keep)?;
        let slots = answers.iter().map(|v| program.slot_seen(*v)).collect::<Result<_>>()?;
        let shared = Arc::new(Shared::new(isa, &program, &network.parameters)?);
        Ok(Self { network, program, shared, slots, tapes: Mutex::default(), isa })
    }

    /// Shows values and gradients of the answers' sum with random signs, which follow from the sample's number.
    fn differentiate(&self, inputs: &[&[f32]], number: usize, watch: &mut Watch<'_>) -> Result<()> {
        let Self { network, program, shared, slots, tapes, isa } = self;
        let mut tape = tapes.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        tape.forward_with(*isa, program, &network.parameters, Arc::clone(shared), inputs)?;
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        let mut seeds = Vec::with_capacity(slots.len());
        for slot in slots {
            let y = tape.value(program, &network.parameters, *slot)?;
            let energy: f64 = y.iter().map(|y| f64::from(*y).powi(2)).sum();
            let weight = if energy > 0.0 { energy.sqrt().recip() as f32 } else { 0.0 };
            seeds.push((*slot, y.iter().map(|_| if random.random::<bool>() { weight } else { -weight }).collect()));
        }
        tape.backward_to_leaves(*isa, program, &network.parameters, seeds, watch)?;
        tapes.lock().unwrap_or_else(PoisonError::into_inner).push(tape);
        Ok(())
    }
}

/// How much the answers notice errors of a value, position by position.
pub struct Attention<'a> {
    answers: Answers<'a>,
    slot: SlotId,
}

impl<'a> Attention<'a> {
    /// To a value that a trained parameter of the network has an effect on.
    ///
    /// # Errors
    /// If the network cannot be differentiated, or does not compute the value.
    pub fn new(network: &'a Network, value: ValueId) -> Result<Self> {
        let answers = Answers::new(network, std::iter::once(value))?;
        let slot = answers.program.slot_of(value)?;
        Ok(Self { answers, slot })
    }

    /// For the sample of that number, the sum of squared derivatives over the channels of each position, as fractions of their mean; 1
    /// everywhere if all are zero. Channels are the last axis.
    ///
    /// # Errors
    /// If the inputs are not the network's.
    pub fn of(&self, inputs: &[&[f32]], number: usize) -> Result<Vec<f32>> {
        let shape = self.answers.program.shape(self.slot);
        let channels = shape.last().copied().unwrap_or(1).max(1);
        let mut found = vec![0.0; shape.iter().product::<usize>() / channels];
        self.answers.differentiate(inputs, number, &mut |slot, _, gradient| {
            if slot == self.slot {
                let squares = gradient.chunks_exact(channels).map(|g| g.iter().map(|g| g * g).sum());
                found.iter_mut().zip(squares).for_each(|(to, x): (_, f32)| *to = x);
            }
        })?;
        let mean = found.iter().sum::<f32>() / found.len().max(1) as f32;
        if !mean.is_finite() {
            return Err(Error::new(ErrorKind::Diverged, "a derivative of the answers is no number"));
        }
        found.iter_mut().for_each(|x| *x = if mean > 0.0 { *x / mean } else { 1.0 });
        Ok(found)
    }
}

/// The noise of each range of each value, as a fraction of the answers' energy; `None` for a value that has no gradient. What is
/// clipped counts as it is: errors of one sample add up before they are squared. What is rounded counts as even noise.
///
/// # Errors
/// If a sample cannot be read, or the network cannot be differentiated.
pub fn quantization_noise(network: &Network, candidates: &[Candidates], examples: &dyn Examples) -> Result<Vec<Option<Vec<f64>>>> {
    let answers = Answers::new(network, candidates.iter().map(|c| c.value))?;
    let mut of_slot: BTreeMap<SlotId, Vec<usize>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        if let Ok(slot) = answers.program.slot_of(candidate.value) {
            of_slot.entry(slot).or_default().push(i);
        }
    }
    let of_sample = |index: usize| -> Result<Vec<Option<Vec<f64>>>> {
        let mut found = vec![None; candidates.len()];
        let example = examples.get(index, 0)?;
        let inputs: Vec<&[f32]> = example.inputs.iter().map(Vec::as_slice).collect();
        answers.differentiate(&inputs, index, &mut |slot, x, gradient| {
            for &i in of_slot.get(&slot).into_iter().flatten() {
                found[i] = Some(noise(&candidates[i], x, gradient));
            }
        })?;
        Ok(found)
    };
    let mut sums: Vec<Option<Vec<f64>>> = vec![None; candidates.len()];
    let samples: Vec<usize> = (0..examples.len()).collect();
    for round in samples.chunks(rayon::current_num_threads()) {
        let found: Vec<Result<_>> = round.par_iter().map(|i| of_sample(*i)).collect();
        for found in found {
            for (sum, noise) in sums.iter_mut().zip(found?) {
                match (sum, noise) {
                    (Some(sum), Some(noise)) => sum.iter_mut().zip(noise).for_each(|(sum, x)| *sum += x),
                    (sum, noise) => *sum = sum.take().or(noise),
                }
            }
        }
    }
    let count = samples.len().max(1) as f64;
    sums.iter_mut().flatten().flatten().for_each(|x| *x /= count);
    if sums.iter().flatten().flatten().any(|x| !x.is_finite()) {
        return Err(Error::new(ErrorKind::Diverged, "a derivative of the answers is no number"));
    }
    Ok(sums)
}

/// Of one sample.
fn noise(candidates: &Candidates, x: &[f32], gradient: &[f32]) -> Vec<f64> {
    let energy: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let of_range = |[low, high]: &[f32; 2]| {
        let clipped: f64 = x.iter().zip(gradient).map(|(x, g)| f64::from((x.clamp(*low, *high) - x) * g)).sum();
        let step = f64::from((high - low) / candidates.steps);
        clipped * clipped + step * step / 12.0 * energy
    };
    candidates.ranges.iter().map(of_range).collect()
}

#[cfg(test)]
mod tests {
    use fewbit_passes::canonicalize;

    use super::*;
    use crate::Example;
    use crate::describe::describe;

    /// Two numbers each.
    struct Pairs;

    impl Examples for Pairs {
        fn len(&self) -> usize {
            5
        }

        fn get(&self, index: usize, _seed: u64) -> Result<Example> {
            let x = index as f32;
            Ok(Example { inputs: vec![vec![1.0 + x, 0.5 * x - 1.0]], class: None })
        }
    }

    #[test]
    fn noise_is_that_of_clipping_and_rounding_behind_the_weights() {
        let mut graph = describe("input 2\ndense 3\nrelu\ndense 1\n", 7).unwrap();
        canonicalize(&mut graph).unwrap();
        let network = Network::new(graph, &|_| true).unwrap();
        let graph = network.graph();
        let relu = graph.nodes().find(|(_, n)| matches!(n.op, fewbit_ir::Op::Unary(_))).unwrap().1.outputs[0];
        let ranges = vec![[0.0, 100.0], [0.0, 0.25]];
        let candidates = [relu, graph.inputs[0]].map(|value| Candidates { value, ranges: ranges.clone(), steps: 255.0 });
        let found = quantization_noise(&network, &candidates, &Pairs).unwrap();
        assert_eq!(found[1], None, "an input has no gradient");
        let found = found[0].as_ref().unwrap();

        let (mut expect, mut reach) = ([0.0_f64; 2], 0.0_f32);
        let program = network.program(1, BatchStatistics::Running, false, &[relu]).unwrap();
        let mut tape = Tape::new();
        for i in 0..Pairs.len() {
            let input = Pairs.get(i, 0).unwrap().inputs.remove(0);
            tape.forward(Isa::best(), &program, &network.parameters, &[&input]).unwrap();
            let hidden = tape.value(&program, &network.parameters, program.slot_of(relu).unwrap()).unwrap().to_vec();
            let y = tape.value(&program, &network.parameters, program.output(0)).unwrap()[0];
            let second = network.parameters.iter().filter(|(_, p)| p.values.len() == 3 && p.role == crate::autodiff::Role::Weight);
            let second = second.last().unwrap().1.values.clone();
            reach = hidden.iter().fold(reach, |reach, x| reach.max(*x));
            let energy: f64 = second.iter().map(|w| f64::from(w / y).powi(2)).sum();
            for (expect, [low, high]) in expect.iter_mut().zip(&ranges) {
                let clipped: f32 = hidden.iter().zip(&second).map(|(x, w)| (x.clamp(*low, *high) - x) * w / y).sum();
                *expect += (f64::from(clipped).powi(2) + f64::from((high - low) / 255.0).powi(2) / 12.0 * energy) / Pairs.len() as f64;
            }
        }
        for (found, expect) in found.iter().zip(expect) {
            assert!((found - expect).abs() < 1e-4 * expect, "{found} is not {expect}");
        }
        assert!((0.25..100.0).contains(&reach), "the second range clips and the first does not: {reach}");
    }
}
