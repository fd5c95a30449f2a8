//! A network ready to run on samples of real numbers, whatever its interface is.
//!
//! Layouts differ between formats and integer interfaces hold quantized numbers; a sample is in the layout and in the
//! real numbers of the network that it was read for. What an [`Executable`] is given it brings to its own interface,
//! and what it answers are real numbers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fewbit_ir::axis::resolve_axis;
use fewbit_ir::{Dim, Graph, Layout, Op, TensorType, ValueId};
use fewbit_passes::layout::{Interface, convert_layout, permutation};
use fewbit_runtime::evaluate;
use fewbit_runtime::session::{Arithmetic, Schedule, Session, SessionOptions, TapView, Workspace};
use fewbit_tensor::{DType, Granularity, QuantParams, QuantScheme, Rounding, ScaleKind, Tensor};

use crate::data::{InputSpec, Sample};
use crate::{Error, Result};

/// A network ready to run.
#[derive(Debug)]
pub struct Executable {
    session: Session,
    graph: Graph,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    permuted: BTreeSet<ValueId>,
}

/// One input or output of the interface.
#[derive(Debug)]
struct Port {
    name: String,
    ty: Option<TensorType>,
    /// How it is quantized, if it holds integers that stand for real numbers.
    params: Option<QuantParams>,
}

impl Executable {
    /// Compiles a graph. Its values keep their ids and names.
    pub fn new(graph: &Graph, arithmetic: Arithmetic) -> Result<Self> {
        let mut graph = graph.clone();
        let inputs = graph.inputs.iter().map(|v| port(&graph, *v, input_params(&graph, *v))).collect();
        let outputs = graph.outputs.iter().map(|v| port(&graph, *v, output_params(&graph, *v))).collect();
        let converted = convert_layout(&mut graph, Layout::ChannelsLast, Interface::Keep, &mut fewbit_passes::Notes::default())
            .map_err(|e| Error::network(e.to_string()))?;
        let session =
            Session::new(&graph, SessionOptions { arithmetic, ..SessionOptions::default() }).map_err(|e| Error::network(e.to_string()))?;
        Ok(Self { session, graph, inputs, outputs, permuted: converted.permuted })
    }

    /// The graph as it runs: with channels last.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether a value is in another order than in the graph that was compiled.
    pub fn is_permuted(&self, value: ValueId) -> bool {
        self.permuted.contains(&value)
    }

    /// Whether a value can be tapped.
    pub fn can_tap(&self, value: ValueId) -> bool {
        self.session.can_tap(value)
    }

    /// What data its inputs want, integers that stand for real numbers as those.
    pub fn input_specs(&self) -> Vec<InputSpec> {
        let dims = |ty: &TensorType| ty.dims.as_ref().map_or_else(Vec::new, |d| d.iter().map(Dim::known).collect::<Vec<_>>());
        self.inputs
            .iter()
            .map(|port| {
                let (dtype, dims) = port.ty.as_ref().map_or((DType::F32, Vec::new()), |ty| (ty.dtype, dims(ty)));
                InputSpec::new(port.name.clone(), if port.params.is_some() { DType::F32 } else { dtype }, dims)
            })
            .collect()
    }

    /// Names of its outputs.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|p| p.name.as_str())
    }

    /// Runs one sample; returns its outputs as real numbers.
    pub fn run(&self, workspace: &mut Workspace, sample: &Sample) -> Result<Vec<Tensor>> {
        self.run_with_taps(workspace, sample, &[], &mut |_, _| Ok(()))
    }

    /// Runs one sample and shows each value of `taps` to `sink` as soon as it is computed.
    pub fn run_with_taps(
        &self,
        workspace: &mut Workspace,
        sample: &Sample,
        taps: &[ValueId],
        sink: &mut dyn FnMut(ValueId, TapView<'_>) -> fewbit_runtime::Result<()>,
    ) -> Result<Vec<Tensor>> {
        let inputs = self.accept(sample)?;
        let fail = |e: fewbit_runtime::Error| Error::network(format!("{}: {e}", sample.origin));
        let outputs = self.session.run_with_taps(workspace, &inputs, taps, sink).map_err(fail)?;
        outputs
            .into_iter()
            .zip(&self.outputs)
            .map(|(tensor, port)| match &port.params {
                Some(params) => params.dequantize(&tensor).map_err(|e| Error::network(format!("output '{}': {e}", port.name))),
                None => Ok(tensor),
            })
            .collect()
    }

    /// Bytes of activations that a run holds at its peak; dimensions that are not known count as 1. `None` if the network
    /// does not run with such shapes.
    pub fn arena_bytes(&self) -> Option<usize> {
        let known = |port: &Port| Some(port.ty.as_ref()?.dims.as_ref()?.iter().map(|d| d.known().unwrap_or(1)).collect());
        let shapes: Vec<Vec<usize>> = self.inputs.iter().map(known).collect::<Option<_>>()?;
        Some(self.session.plan(&shapes, &[]).ok()?.arena_bytes())
    }

    /// Runs what [`accept`](Self::accept) gave as often as is asked for; returns the time of each run.
    pub fn time(&self, workspace: &mut Workspace, inputs: &[Tensor], runs: usize) -> Result<Vec<Duration>> {
        let run = |_| {
            let start = Instant::now();
            self.session.run(workspace, inputs).map_err(|e| Error::network(e.to_string()))?;
            Ok(start.elapsed())
        };
        (0..runs).map(run).collect()
    }

    /// Runs what [`accept`](Self::accept) gave, step by step; returns the plan's schedule with the median time of each step.
    pub fn profile(&self, workspace: &mut Workspace, inputs: &[Tensor], runs: usize) -> Result<(Schedule, Vec<Duration>)> {
        let fail = |e: fewbit_runtime::Error| Error::network(e.to_string());
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape().to_vec()).collect();
        let schedule = self.session.describe(&*self.session.plan(&shapes, &[]).map_err(fail)?);
        let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(runs); schedule.steps.len()];
        for _ in 0..runs.max(1) {
            self.session.run_timed(workspace, inputs, &mut |step, time| times[step].push(time)).map_err(fail)?;
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        Ok((schedule, times.into_iter().map(median).collect()))
    }

    /// The sample's tensors in this network's order, layout and type.
    pub fn accept(&self, sample: &Sample) -> Result<Vec<Tensor>> {
        self.inputs
            .iter()
            .enumerate()
            .map(|(i, port)| {
                let by_name = sample.inputs.iter().find(|(name, _)| *name == port.name);
                let (_, tensor) = by_name
                    .or_else(|| sample.inputs.get(i))
                    .ok_or_else(|| Error::data(format!("{}: there is nothing for input '{}'", sample.origin, port.name)))?;
                let mut tensor = in_layout_of(tensor, port.ty.as_ref())?;
                if let Some(params) = &port.params {
                    tensor = params.quantize(&tensor, Rounding::HalfToEven).map_err(|e| Error::data(e.to_string()))?;
                }
                Ok(tensor)
            })
            .collect()
    }
}

fn port(graph: &Graph, value: ValueId, params: Option<QuantParams>) -> Port {
    let v = graph.value(value);
    Port { name: v.name.clone(), ty: v.ty.clone(), params }
}

/// A tensor whose dimensions fit a type once the channel axis is moved, with it moved; else as it is.
pub(crate) fn in_layout_of(tensor: &Tensor, ty: Option<&TensorType>) -> Result<Tensor> {
    let rank = tensor.rank();
    let Some(dims) = ty.and_then(|ty| ty.dims.as_ref()).filter(|d| d.len() == rank && rank >= 3) else { return Ok(tensor.clone()) };
    let fits = |shape: &[usize]| shape.iter().zip(dims).all(|(n, d)| d.known().is_none_or(|d| d == *n));
    if fits(tensor.shape()) {
        return Ok(tensor.clone());
    }
    for to in [Layout::ChannelsLast, Layout::ChannelsFirst] {
        let perm = permutation(to, rank);
        let shape: Vec<usize> = perm.iter().map(|&i| tensor.shape()[i]).collect();
        if fits(&shape) {
            let op = fewbit_ir::op::Transpose { perm: Some(perm) }.into();
            let moved = evaluate(&op, &[Some(tensor.clone())], 1).map_err(|e| Error::data(e.to_string()))?;
            return moved.into_iter().next().ok_or_else(|| Error::data("transposing gave nothing"));
        }
    }
    Ok(tensor.clone())
}

/// How an integer input is read: by the parameters of the dequantizer that takes it.
fn input_params(graph: &Graph, input: ValueId) -> Option<QuantParams> {
    let reader = |op: &Op| matches!(op, Op::DequantizeLinear(_));
    let mut value = input;
    // A transpose may stand in between.
    for _ in 0..2 {
        let uses = &graph.uses()[value.index()];
        let node = uses.iter().map(|u| graph.node(u.node)).find(|n| reader(&n.op) || matches!(n.op, Op::Transpose(_)))?;
        if reader(&node.op) {
            return quantizer_params(graph, node, graph.dtype(input)?);
        }
        value = node.outputs[0];
    }
    None
}

/// How an integer output was made: by the parameters of the quantizer that gives it.
fn output_params(graph: &Graph, output: ValueId) -> Option<QuantParams> {
    let mut value = output;
    loop {
        let node = graph.node(graph.producer(value)?);
        match node.op {
            Op::QuantizeLinear(_) => return quantizer_params(graph, node, graph.dtype(output)?),
            Op::Transpose(_) | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze => value = node.input(0)?,
            _ => return None,
        }
    }
}

/// The parameters of a quantizer or dequantizer whose integers are of a type, if they are constants.
pub(crate) fn quantizer_params(graph: &Graph, node: &fewbit_ir::Node, dtype: DType) -> Option<QuantParams> {
    let scales = graph.constant_input(node, 1)?;
    let axis = match &node.op {
        Op::QuantizeLinear(op) => op.axis,
        Op::DequantizeLinear(op) => op.axis,
        _ => return None,
    };
    let rank = graph.value(node.input(0)?).ty.as_ref().and_then(TensorType::rank);
    let granularity =
        if scales.len() == 1 { Granularity::PerTensor } else { Granularity::PerAxis { axis: resolve_axis(axis, rank?).ok()? } };
    let scheme = QuantScheme {
        bits: u8::try_from(dtype.bits()).ok()?,
        signed: dtype.is_signed_integer(),
        symmetric: false,
        narrow_range: false,
        granularity,
        scale: ScaleKind::Float,
    };
    let zero_points = match graph.constant_input(node, 2) {
        Some(t) => t.to_i64_vec().into_iter().map(i32::try_from).collect::<std::result::Result<Vec<_>, _>>().ok()?,
        None => vec![0; scales.len()],
    };
    QuantParams::new(scheme, scales.to_f32().into_owned(), zero_points).ok()
}
