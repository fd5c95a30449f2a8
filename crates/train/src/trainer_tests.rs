//! Whole trainings of small networks.

use std::collections::BTreeMap;

use fewbit_passes::{canonicalize, canonicalize_for_training};
use fewbit_quantize::calibrate::{Executor, Tap, calibrate};
use fewbit_quantize::observe::Sample;
use fewbit_quantize::{PlanParams, QuantPlan, Recipe, TargetSet};
use fewbit_runtime::session::{Arithmetic, Session, SessionOptions, Workspace};
use fewbit_tensor::Tensor;

use crate::describe::describe;
use crate::optimizer::Rule;
use crate::schedule::{Curve, Schedule};
use crate::trainer::{EpochRecord, Event};
use crate::{Example, Examples, Learning, Network, Objective, Observer, Quantization, Result, Settings, Trainer};

/// Pictures of 1 × 8 × 8: the class is the quarter that is bright.
struct Quarters;

impl Examples for Quarters {
    fn len(&self) -> usize {
        96
    }

    fn get(&self, index: usize, _seed: u64) -> Result<Example> {
        let class = index % 4;
        let noise = |i: usize| ((i * 7919 + index * 104_729) % 1000) as f32 / 2000.0;
        let bright = |i: usize| f32::from(u8::from(i / 8 / 4 * 2 + i % 8 / 4 == class));
        let pixels = (0..64).map(|i| noise(i) + 0.5 * bright(i)).collect();
        Ok(Example { inputs: vec![pixels], class: Some(class) })
    }
}

const LAYERS: &str = "input 1x8x8\nconv 24 3x3 stride 2\nbatch-norm\nrelu\ndepthwise 3x3\nbatch-norm\nrelu6\nconv 12 1x1\nbatch-norm\nrelu\n\
                      global-average-pool\ndense 4\n";

fn network(keep_batch_norm: bool) -> Network {
    let mut graph = describe(LAYERS, 3).unwrap();
    if keep_batch_norm {
        canonicalize_for_training(&mut graph).unwrap()
    } else {
        canonicalize(&mut graph).unwrap()
    };
    Network::new(graph, &|_| true).unwrap()
}

fn settings(epochs: usize) -> Settings {
    let schedule = Schedule { rate: 0.01, warm_up: 0.0, curve: Curve::Cosine { end: 0.0 } };
    Settings { epochs, batch: 16, rule: Rule::AdamW, schedule, ..Settings::default() }
}

/// Stops after some epochs.
struct Until(usize);

impl Observer for Until {
    fn event(&mut self, event: Event<'_>) -> bool {
        !matches!(event, Event::Epoch(EpochRecord { epoch, .. }) if *epoch >= self.0)
    }

    fn validate(&mut self, _: &Network) -> Result<Option<f64>> {
        Ok(None)
    }

    fn checkpoint(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }
}

fn trained() -> Network {
    let mut trainer = Trainer::new(network(true), settings(60), None).unwrap();
    trainer.run(&Quarters, &mut Until(99)).unwrap();
    assert!(trainer.history.last().unwrap().accuracy.unwrap() > 95.0, "{:?}", trainer.history);
    trainer.network
}

struct Run<'a>(&'a Session, Workspace);

impl Executor<usize> for Run<'_> {
    fn run(&mut self, index: usize, taps: &[fewbit_ir::ValueId], tap: &mut Tap<'_>) -> fewbit_quantize::Result<()> {
        let input = Tensor::from_vec([1, 1, 8, 8], Quarters.get(index, 0).unwrap().inputs.remove(0)).unwrap();
        self.0
            .run_with_taps(&mut self.1, &[input], taps, &mut |value, view| {
                tap(value, Sample { values: &view.to_f32(), shape: view.shape() }).unwrap();
                Ok(())
            })
            .unwrap();
        Ok(())
    }
}

fn quantized(mut network: Network, weights: Learning, activations: Learning, preset: &str) -> Network {
    let folded = network.folded_graph().unwrap();
    let plan = QuantPlan::new(&folded, &Recipe::preset(preset).unwrap(), &TargetSet::named("fewbit").unwrap()).unwrap();
    let session = Session::new(&folded, SessionOptions::default()).unwrap();
    let requests = plan.statistics_requests(&folded).unwrap();
    let statistics = calibrate(&folded, &requests, vec![Run(&session, Workspace::new())], (0..32).map(Ok)).unwrap();
    let numbers = PlanParams::new(&plan, &folded, Some(&statistics)).unwrap();
    network.quantization = Some(Quantization::new(&mut network, &plan, &numbers, weights, activations).unwrap());
    network
}

#[test]
fn every_quantizer_keeps_a_network_right() {
    let float = trained();
    for (weights, activations, preset) in [
        (Learning::LastValue, Learning::Lsq, "static_wi8_ai8"),
        (Learning::LastValue, Learning::MovingAverage { momentum: 0.9 }, "static_wi8_ai8"),
        (Learning::LastValue, Learning::LastValue, "static_wi8_ai8"),
        (Learning::Lsq, Learning::LsqPlus, "static_wi4_ai8"),
        (Learning::Lsq, Learning::Pact, "static_wi3_ai8"),
        (Learning::Lsq, Learning::Lsq, "static_wi2_ai8"),
        (Learning::Lsq, Learning::Lsq, "static_wi3b16_ai8"),
    ] {
        let network = quantized(float.clone(), weights, activations, preset);
        let settings = Settings { freeze_statistics: 0.5, freeze_ranges: 0.7, quantize_from: 0.1, ..settings(20) };
        let mut trainer = Trainer::new(network, settings, None).unwrap();
        trainer.run(&Quarters, &mut Until(99)).unwrap();
        let graph = trainer.network.quantized_graph().unwrap();
        let session = Session::new(&graph, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
        let mut workspace = Workspace::new();
        let right = (0..96)
            .filter(|&i| {
                let example = Quarters.get(i, 0).unwrap();
                let input = Tensor::from_vec([1, 1, 8, 8], example.inputs[0].clone()).unwrap();
                let y = session.run(&mut workspace, &[input]).unwrap().remove(0).to_f32().into_owned();
                let top = y.iter().enumerate().fold(0, |best, (i, x)| if *x > y[best] { i } else { best });
                Some(top) == example.class
            })
            .count();
        assert!(right >= 90, "{weights:?} {activations:?} {preset}: {right} of 96");
    }
}

#[test]
fn the_forward_pass_is_what_the_integer_network_computes() {
    for (weights, preset) in
        [(Learning::LastValue, "static_wi8_ai8"), (Learning::Lsq, "static_wi4_ai8"), (Learning::Lsq, "static_wi4b16_ai8")]
    {
        forward_is_what_integers_compute(quantized(trained(), weights, Learning::Lsq, preset));
    }
}

fn forward_is_what_integers_compute(network: Network) {
    let frozen = Settings { batch_statistics: false, ..settings(1) };
    let mut trainer = Trainer::new(network, frozen, None).unwrap();
    trainer.run(&Quarters, &mut Until(99)).unwrap();
    let mut network = trainer.network;
    let quantization = network.quantization.clone().unwrap();
    let mut parameters = network.parameters.clone();
    quantization.refresh(&network, &mut parameters);
    network.parameters = parameters;
    // Every layer's output, as the next one sees it, beside that of the integer network.
    let graph = network.quantized_graph().unwrap();
    let session = Session::new(&graph, SessionOptions { arithmetic: Arithmetic::Integer, ..SessionOptions::default() }).unwrap();
    let layers: Vec<_> = quantization.plan().groups.iter().map(|g| (g.members[0], g)).collect();
    let isa = fewbit_kernels::Isa::best();
    let keep: Vec<_> = layers.iter().map(|(v, _)| *v).filter(|v| network.graph().producer(*v).is_some()).collect();
    let program = network.program(1, crate::autodiff::BatchStatistics::Running, true, &keep).unwrap();
    let mut tape = crate::autodiff::Tape::new();
    let (mut elements, mut far) = (BTreeMap::new(), BTreeMap::new());
    for i in 0..32 {
        let example = Quarters.get(i, 0).unwrap();
        tape.forward(isa, &program, &network.parameters, &[&example.inputs[0]]).unwrap();
        let input = Tensor::from_vec([1, 1, 8, 8], example.inputs[0].clone()).unwrap();
        let taps: Vec<_> = keep.iter().copied().filter(|v| session.can_tap(*v)).collect();
        assert!(taps.len() >= 4, "{} of {} layers can be seen", taps.len(), keep.len());
        session
            .run_with_taps(&mut Workspace::new(), &[input], &taps, &mut |value, view| {
                let slot = program.slot_seen(value).unwrap();
                let mut found = tape.value(&program, &network.parameters, slot).unwrap().to_vec();
                if let [1, c, h, w] = view.shape()[..] {
                    // The program has channels last.
                    found = (0..c * h * w).map(|i| found[i % (h * w) * c + i / (h * w)]).collect();
                }
                let scale = quantization.scale_of(&network.parameters, value).unwrap();
                *elements.entry(value).or_insert(0) += found.len();
                let steps =
                    found.iter().zip(view.to_f32().iter()).map(|(a, b)| ((a - b) / scale).abs().round() as usize).collect::<Vec<_>>();
                *far.entry(value).or_insert(0) += steps.iter().filter(|s| **s > 1).count();
                Ok(())
            })
            .unwrap();
    }
    for (value, count) in &elements {
        assert!(far[value] * 1000 <= *count, "'{}': {} of {count} are further than a step", network.graph().value(*value).name, far[value]);
    }
}

#[test]
fn a_training_that_was_interrupted_ends_with_the_same_bytes() {
    let start =
        || Trainer::new(network(true), Settings { rule: Rule::Sgd { momentum: 0.9 }, clip: Some(1.0), ..settings(6) }, None).unwrap();
    let mut whole = start();
    whole.run(&Quarters, &mut Until(99)).unwrap();
    let mut half = start();
    half.run(&Quarters, &mut Until(3)).unwrap();
    let bytes = half.to_checkpoint().unwrap();
    let mut rest = start();
    rest.restore(&bytes).unwrap();
    rest.run(&Quarters, &mut Until(99)).unwrap();
    assert_eq!(rest.network.parameters, whole.network.parameters);
    assert_eq!(rest.history.len(), 6);

    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("no checkpoint", vec![0; 64]),
        ("cut off", bytes[..bytes.len() - 5].to_vec()),
        ("changed", bytes.iter().enumerate().map(|(i, b)| if i == bytes.len() / 2 { b ^ 1 } else { *b }).collect()),
    ] {
        let before = rest.network.parameters.clone();
        assert!(rest.restore(&bytes).is_err(), "{what}");
        assert_eq!(rest.network.parameters, before, "{what}");
    }
    let mut other = Trainer::new(network(true), settings(7), None).unwrap();
    assert!(other.restore(&bytes).unwrap_err().to_string().contains("settings"));
}

#[test]
fn numbers_do_not_depend_on_threads_or_on_passes() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let objective = Objective::Distill { temperature: 2.0, answers: 1.0, features: 1.0 };
            let settings = Settings { objective, batch_statistics: false, memory: Some(20_000), ..settings(2) };
            let mut trainer = Trainer::new(network(false), settings, Some(trained())).unwrap();
            trainer.run(&Quarters, &mut Until(99)).unwrap();
            trainer.network.parameters
        })
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn what_cannot_be_trained_is_said() {
    for (settings, part) in [
        (Settings { batch: 0, ..settings(1) }, "at least one"),
        (Settings { schedule: Schedule { rate: f32::NAN, warm_up: 0.0, curve: Curve::Constant }, ..settings(1) }, "positive"),
        (Settings { objective: Objective::Distill { temperature: 1.0, answers: 1.0, features: 0.0 }, ..settings(1) }, "learned from"),
    ] {
        assert!(Trainer::new(network(true), settings, None).unwrap_err().to_string().contains(part));
    }
    assert!(Network::new(describe(LAYERS, 0).unwrap(), &|_| false).unwrap_err().to_string().contains("nothing is to be trained"));
    let wild = Settings {
        rule: Rule::Sgd { momentum: 0.9 },
        schedule: Schedule { rate: 1e30, warm_up: 0.0, curve: Curve::Constant },
        ..settings(3)
    };
    let mut trainer = Trainer::new(network(true), wild, None).unwrap();
    assert!(trainer.run(&Quarters, &mut Until(99)).unwrap_err().to_string().contains("lower the learning rate"));
}
