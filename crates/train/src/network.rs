//! A graph whose constants are trained.

use std::collections::BTreeMap;

use fewbit_ir::op::{Binary, Reshape};
use fewbit_ir::rule::{self, quant_rule};
use fewbit_ir::{Definition, Dim, Graph, Layout, Node, NodeId, Op, ValueId, infer};
use fewbit_passes::layout::{Interface, convert_layout};
use fewbit_passes::{Notes, canonicalize};
use fewbit_tensor::Tensor;

use crate::autodiff::{BatchStatistics, Bindings, Parameter, ParameterId, Parameters, Program, Role};
use crate::quantization::Quantization;
use crate::{Error, ErrorKind, Result};

/// A network in training: a graph, its parameters, and how it is quantized, if it is.
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) graph: Graph,
    /// The numbers, trained and not.
    pub parameters: Parameters,
    pub(crate) bindings: Bindings,
    /// Quantizers of weights and activations.
    pub quantization: Option<Quantization>,
}

impl Network {
    /// Takes a graph in canonical form, with batch normalizations folded or not
    /// ([`canonicalize_for_training`](fewbit_passes::canonicalize_for_training)). Parameters are the float constants that operators
    /// use as weights, biases, scales and shifts of normalizations, slopes and tables; `trained` says by their names which of them
    /// are trained.
    ///
    /// # Errors
    /// If none is.
    pub fn new(graph: Graph, trained: &dyn Fn(&str) -> bool) -> Result<Self> {
        let (mut parameters, mut bindings) = (Parameters::default(), Bindings::default());
        for id in graph.topological_order()? {
            for (index, value) in graph.node(id).inputs.iter().enumerate() {
                let Some((value, role)) = value.and_then(|v| Some((v, role(&graph, graph.node(id), index)?))) else { continue };
                let Some(tensor) = crate::autodiff::float_constant(&graph, value) else { continue };
                bindings.parameters.entry(value).or_insert_with(|| {
                    let name = graph.value(value).name.clone();
                    let trained = role != Role::Statistic && trained(&name);
                    parameters.add(Parameter { name, shape: tensor.shape().to_vec(), values: tensor.to_f32().into_owned(), role, trained })
                });
            }
        }
        if !parameters.iter().any(|(_, p)| p.trained) {
            let names: Vec<_> = parameters.iter().take(8).map(|(_, p)| format!("'{}'", p.name)).collect();
            return Err(Error::new(ErrorKind::Setting, format!("nothing is to be trained; parameters are {} …", names.join(", "))));
        }
        Ok(Self { graph, parameters, bindings, quantization: None })
    }

    /// The graph with the parameters as they are now, batch normalizations as in the graph that was taken.
    pub fn trained_graph(&self) -> Result<Graph> {
        let mut graph = self.graph.clone();
        for (value, id) in &self.bindings.parameters {
            let parameter = self.parameters.get(*id);
            if let Some(x) = parameter.values.iter().find(|x| !x.is_finite()) {
                return Err(Error::new(ErrorKind::Diverged, format!("parameter '{}' holds {x}: lower the learning rate", parameter.name)));
            }
            let tensor = Tensor::from_vec(parameter.shape.clone(), parameter.values.clone())?;
            graph.value_mut(*value).definition = Definition::Constant(tensor);
        }
        Ok(graph)
    }

    /// The same in canonical form.
    pub fn folded_graph(&self) -> Result<Graph> {
        let mut graph = self.trained_graph()?;
        canonicalize(&mut graph)?;
        Ok(graph)
    }

    /// The quantized network in QDQ form.
    ///
    /// # Errors
    /// If the network is not quantized, or a parameter is no number.
    pub fn quantized_graph(&self) -> Result<Graph> {
        let quantization = self.quantization.as_ref().ok_or_else(|| Error::graph("the network is not quantized"))?;
        quantization.apply(&self.parameters, &self.folded_graph()?)
    }

    /// The graph that was taken.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameter that a node reads at an input, if it is in the graph and reads one there.
    pub(crate) fn parameter_of(&self, node: NodeId, input: usize) -> Option<ParameterId> {
        let value = self.graph.contains(node).then(|| self.graph.node(node).input(input))??;
        self.bindings.parameters.get(&value).copied()
    }

    /// Whether it has batch normalizations.
    pub fn has_batch_norm(&self) -> bool {
        self.graph.nodes().any(|(_, n)| matches!(n.op, Op::BatchNormalization(_)))
    }

    /// Compiles it for batches of so many samples; `simulate` quantization, if it is quantized.
    ///
    /// # Errors
    /// If its inputs have no known shapes, or an operator cannot be trained.
    pub fn program(&self, batch: usize, statistics: BatchStatistics, simulate: bool, keep: &[ValueId]) -> Result<Program> {
        let mut graph = self.graph.clone();
        fix_batch(&mut graph, batch)?;
        convert_layout(&mut graph, Layout::ChannelsLast, Interface::Keep, &mut Notes::default())?;
        let simulated = self.quantization.as_ref().filter(|_| simulate).map(|q| q.simulated(self)).unwrap_or_default();
        Program::simulating(&graph, &self.parameters, &self.bindings, statistics, &simulated, keep)
    }

    /// Batch normalizations behind convolutions into which they will be folded, by convolution.
    pub(crate) fn foldable(&self) -> BTreeMap<NodeId, NodeId> {
        let uses = self.graph.uses();
        let only_reader = |node: &Node| match uses[node.outputs[0].index()][..] {
            [only] if !self.graph.is_output(node.outputs[0]) && only.index == 0 => Some(only.node),
            _ => None,
        };
        self.graph
            .nodes()
            .filter(|(_, n)| matches!(&n.op, Op::Conv(op) if op.activation.is_none()))
            .filter_map(|(id, n)| Some((id, only_reader(n)?)))
            .filter(|(_, norm)| matches!(self.graph.node(*norm).op, Op::BatchNormalization(_)))
            .collect()
    }
}

/// The outputs of a network, or of a softmax before them its input.
pub(crate) fn scores(network: &Network) -> Vec<ValueId> {
    let graph = network.graph();
    graph
        .outputs
        .iter()
        .map(|output| {
            let node = graph.producer(*output).map(|p| graph.node(p));
            node.filter(|n| matches!(n.op, Op::Softmax(_))).and_then(|n| n.input(0)).unwrap_or(*output)
        })
        .collect()
}

/// What a constant at an input of a node is as a parameter, if it can be one.
fn role(graph: &Graph, node: &Node, index: usize) -> Option<Role> {
    match (&node.op, index) {
        (Op::BatchNormalization(_), 1 | 2) => Some(Role::Affine),
        (Op::BatchNormalization(_), 3 | 4) => Some(Role::Statistic),
        (Op::LayerNormalization(_) | Op::InstanceNormalization(_) | Op::GroupNormalization(_) | Op::RmsNormalization(_), 1 | 2) => {
            Some(Role::Affine)
        }
        (Op::PRelu, 1) => Some(Role::Affine),
        (Op::Gather(_), 0) => Some(Role::Weight),
        (Op::MatMul(_), _) => Some(Role::Weight),
        // What is added to a product is its bias.
        (Op::Binary(op), _) if op.kind == Binary::Add => {
            let product = |v: &ValueId| graph.producer(*v).is_some_and(|p| matches!(graph.node(p).op, Op::MatMul(_) | Op::Conv(_)));
            node.inputs.iter().flatten().any(product).then_some(Role::Bias)
        }
        (op, _) => match quant_rule(op).role(index) {
            rule::Role::Weight { .. } => Some(Role::Weight),
            rule::Role::Bias => Some(Role::Bias),
            rule::Role::Activation | rule::Role::Parameter => None,
        },
    }
}

/// Gives the inputs of a graph batches of so many samples, and infers what follows. Reshapes that name a batch of one follow.
pub(crate) fn fix_batch(graph: &mut Graph, batch: usize) -> Result<()> {
    let mut single = false;
    for input in graph.inputs.clone() {
        let name = graph.value(input).name.clone();
        let dims = graph.value_mut(input).ty.as_mut().and_then(|ty| ty.dims.as_mut());
        let Some(first) = dims.and_then(|d| d.first_mut()) else {
            return Err(Error::graph(format!("input '{name}' has no batch dimension: give it a shape with --input-shape")));
        };
        match first.known() {
            Some(1) => single = true,
            Some(n) if n != batch => {
                return Err(Error::graph(format!("input '{name}' has a batch of {n}; batches are made of single samples")));
            }
            _ => {}
        }
        *first = Dim::Known(batch);
    }
    if single && batch != 1 {
        for id in graph.node_ids() {
            let node = graph.node(id);
            if !matches!(node.op, Op::Reshape(Reshape { .. })) {
                continue;
            }
            let Some(shape) = graph.constant_input(node, 1) else { continue };
            let mut shape = shape.to_i64_vec();
            if shape.first() == Some(&1) {
                shape[0] = batch as i64;
                let name = graph.fresh_name("batched_shape");
                let shape = graph.add_constant(name, Tensor::vector(shape));
                graph.node_mut(id).inputs[1] = Some(shape);
            }
        }
    }
    // Types that were inferred for another batch are forgotten.
    let computed: Vec<ValueId> = graph.nodes().flat_map(|(_, n)| n.outputs.clone()).collect();
    computed.into_iter().for_each(|v| graph.value_mut(v).ty = None);
    Ok(infer::infer(graph)?)
}
