//! Forward and backward passes of a described network, timed for programs that interleave several frameworks.
//!
//! The protocol is that of [`latency`](crate::latency). A pass computes the gradients of all parameters and of the input from ones at
//! the output; batch normalizations use the batch's statistics.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use fewbit_ir::{Definition, Dim, Graph, Layout, ValueId, infer};
use fewbit_kernels::Isa;
use fewbit_passes::layout::{Interface, convert_layout};
use fewbit_tensor::{DType, Tensor};
use fewbit_train::autodiff::{BatchStatistics, Bindings, Parameter, Parameters, Program, Role, Tape};
use fewbit_train::describe::describe;

/// Passes before the clock counts.
const WARM_UP: usize = 3;

pub(crate) fn serve(layers: &Path, batch: usize, threads: usize) -> Result<()> {
    let text = std::fs::read_to_string(layers).with_context(|| format!("cannot read {}", layers.display()))?;
    let mut graph = describe(&text, 0)?;
    let (parameters, bindings) = everything(&mut graph, batch)?;
    let statistics = BatchStatistics::Batch { momentum: 0.9 };
    let program = Program::new(&graph, &parameters, &bindings, statistics, &[])?;
    let output = program.output(0);
    let len = program.shape(output).iter().product();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    pool.install(|| {
        let isa = Isa::best();
        let mut tape = Tape::new();
        let mut pass = || -> Result<f64> {
            let start = Instant::now();
            tape.forward(isa, &program, &parameters, &[])?;
            tape.backward(isa, &program, &parameters, vec![(output, vec![1.0; len])])?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        for _ in 0..WARM_UP {
            pass()?;
        }
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let count: usize = line?.trim().parse().context("a line is not a number of passes")?;
            let times = (0..count).map(|_| Ok(format!("{:.4}", pass()?))).collect::<Result<Vec<_>>>()?;
            println!("[{}]", times.join(", "));
        }
        Ok(())
    })
}

/// The graph with channels last, its input too, and all its floats as parameters.
fn everything(graph: &mut Graph, batch: usize) -> Result<(Parameters, Bindings)> {
    let input = *graph.inputs.first().context("the network has no input")?;
    if let Some(first) = graph.value_mut(input).ty.as_mut().and_then(|ty| ty.dims.as_mut()).and_then(|d| d.first_mut()) {
        *first = Dim::Known(batch);
    }
    infer::infer(graph)?;
    convert_layout(graph, Layout::ChannelsLast, Interface::Convert, &mut fewbit_passes::Notes::default())?;
    let shape = graph.value(input).ty.as_ref().and_then(fewbit_ir::TensorType::shape).context("the input has no shape")?;
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 251) as f32 / 125.0 - 1.0).collect();
    graph.inputs.clear();
    graph.make_constant(input, Tensor::from_vec(shape, numbers)?);
    let (mut parameters, mut bindings) = (Parameters::default(), Bindings::default());
    let constants: Vec<ValueId> = graph.values().map(|(id, _)| id).collect();
    for id in constants {
        let value = graph.value(id);
        let Definition::Constant(tensor) = &value.definition else { continue };
        if tensor.dtype() == DType::F32 {
            let role = if value.name.ends_with("mean") || value.name.ends_with("variance") { Role::Statistic } else { Role::Weight };
            let (shape, values) = (tensor.shape().to_vec(), tensor.to_f32().into_owned());
            let parameter = Parameter { name: value.name.clone(), shape, values, role, trained: role == Role::Weight };
            bindings.parameters.insert(id, parameters.add(parameter));
        }
    }
    Ok((parameters, bindings))
}
