//! What quantize and dequantize nodes of the graph mean for tensors of the file.
//!
//! TFLite has no such nodes around integer operators; it has integer tensors with scales. A node whose real inputs all
//! come from `DequantizeLinear` and whose real outputs all go into `QuantizeLinear` becomes an integer operator, and
//! the nodes around it vanish. What is left of them becomes `QUANTIZE` and `DEQUANTIZE`.

use fewbit_ir::op::DequantizeLinear;
use fewbit_ir::rule::{Class, Role};
use fewbit_ir::{Graph, Node, NodeId, Op, Use, ValueId, quant_rule};
use fewbit_tensor::{DType, Tensor as Data};

use super::Form;
use crate::error::{Error, Result};
use crate::ops;
use crate::quant::Quant;

/// The findings, by value and by node.
pub(super) struct Qdq {
    /// Per value of integers, the reals they stand for.
    params: Vec<Option<Quant>>,
    /// Per node, its form.
    forms: Vec<Form>,
    /// Per node whose addition of a bias is another node's: that node.
    bias_adds: Vec<Option<NodeId>>,
    /// Per node, whether another one has swallowed it.
    swallowed: Vec<bool>,
}

impl Qdq {
    pub(super) fn new(graph: &Graph) -> Result<Self> {
        let mut qdq = Self {
            params: vec![None; graph.value_capacity()],
            forms: vec![Form::Float; graph.node_capacity()],
            bias_adds: vec![None; graph.node_capacity()],
            swallowed: vec![false; graph.node_capacity()],
        };
        let uses = graph.uses();
        qdq.find_params(graph)?;
        qdq.spread_params(graph)?;
        for (id, node) in graph.nodes() {
            if let Some(add) = ops::bias_add(graph, &uses, node) {
                set(&mut qdq.bias_adds, id.index(), Some(add));
                set(&mut qdq.swallowed, add.index(), true);
            }
        }
        for (id, node) in graph.nodes() {
            let form = qdq.form(graph, &uses, id, node);
            set(&mut qdq.forms, id.index(), form);
        }
        Ok(qdq)
    }

    /// The reals that a value of integers stands for.
    pub(super) fn params(&self, value: ValueId) -> Option<&Quant> {
        self.params.get(value.index())?.as_ref()
    }

    pub(super) fn form_of(&self, node: NodeId) -> Form {
        self.forms.get(node.index()).copied().unwrap_or(Form::Float)
    }

    /// The node that adds a node's bias.
    pub(super) fn bias_add(&self, node: NodeId) -> Option<NodeId> {
        self.bias_adds.get(node.index()).copied().flatten()
    }

    pub(super) fn is_swallowed(&self, node: NodeId) -> bool {
        self.swallowed.get(node.index()).copied().unwrap_or(false)
    }

    fn find_params(&mut self, graph: &Graph) -> Result<()> {
        for (_, node) in graph.nodes() {
            let (value, quant) = match &node.op {
                Op::QuantizeLinear(op) => (node.outputs.first().copied(), params_of(graph, node, op.axis, op.block_size, Some(op.to))?),
                Op::DequantizeLinear(op) => (node.input(0), dequantize_params(graph, node, *op)?),
                _ => continue,
            };
            let Some(value) = value else { continue };
            // Constants may be read in several ways; each way becomes a tensor of its own.
            if graph.constant(value).is_none() {
                self.set_params(graph, value, quant).map_err(|e| e.at(place(node)))?;
            }
        }
        Ok(())
    }

    fn set_params(&mut self, graph: &Graph, value: ValueId, quant: Quant) -> Result<()> {
        match self.params.get_mut(value.index()) {
            Some(Some(known)) if *known != quant => Err(Error::unrepresentable(format!(
                "'{}' is quantized in two different ways (scale {:?} and {:?}); a TFLite tensor has one scale",
                graph.value(value).name,
                known.scales.first(),
                quant.scales.first()
            ))),
            Some(slot) => {
                *slot = Some(quant);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What moves integers keeps their meaning.
    fn spread_params(&mut self, graph: &Graph) -> Result<()> {
        let order = graph.topological_order()?;
        for id in order.iter().chain(order.iter().rev()) {
            let node = graph.node(*id);
            let rule = quant_rule(&node.op);
            if rule.class != Class::Move && rule.class != Class::Limit {
                continue;
            }
            let moved = node.inputs.iter().enumerate().filter(|(i, _)| rule.role(*i) == Role::Activation).filter_map(|(_, v)| *v);
            let mut together: Vec<ValueId> = moved.chain(node.outputs.iter().copied()).collect();
            together.retain(|v| graph.dtype(*v).is_some_and(DType::is_integer));
            let known = together.iter().find_map(|v| self.params(*v)).filter(|q| q.axis.is_none()).cloned();
            let Some(known) = known else { continue };
            for value in together {
                if self.params(value).is_none() && graph.dtype(value) == Some(known.dtype) {
                    set(&mut self.params, value.index(), Some(known.clone()));
                }
            }
        }
        Ok(())
    }

    fn form(&self, graph: &Graph, uses: &[Vec<Use>], id: NodeId, node: &Node) -> Form {
        if matches!(node.op, Op::QuantizeLinear(_) | Op::DequantizeLinear(_)) {
            return Form::Float;
        }
        let last = self.bias_add(id).map_or(node, |add| graph.node(add));
        let rule = quant_rule(&node.op);
        let mut reals = 0_usize;
        let mut quantized = 0_usize;
        let mut weights = false;
        for (i, value) in node.inputs.iter().enumerate() {
            let Some(value) = value.filter(|v| graph.dtype(*v).is_none_or(DType::is_float)) else { continue };
            match rule.role(i) {
                _ if !ops::is_real_operand(&node.op, i) => {}
                // A constant bias can be quantized when it is written.
                Role::Bias if graph.constant(value).is_some() => {}
                role => {
                    let integers = dequantized(graph, value);
                    reals += 1;
                    quantized += usize::from(integers.is_some());
                    if let Role::Weight { .. } = role {
                        weights = integers.is_some_and(|v| graph.constant(v).is_some());
                    }
                }
            }
        }
        let outputs_quantized = last.outputs.iter().all(|o| {
            !graph.dtype(*o).is_none_or(DType::is_float)
                || graph.value(*o).name.is_empty() && uses_of(uses, *o).is_empty()
                || self.quantized_to(graph, uses, *o).is_some()
        });
        if reals > 0 && reals == quantized && outputs_quantized && ops::has_integer_form(node) {
            Form::Integer
        } else if weights && ops::has_hybrid_form(graph, node) {
            Form::Hybrid
        } else {
            Form::Float
        }
    }

    /// The integers that a real value is quantized to, if that is all that happens to it.
    fn quantized_to(&self, graph: &Graph, uses: &[Vec<Use>], value: ValueId) -> Option<ValueId> {
        let uses = uses_of(uses, value);
        let first = quantized_by(graph, uses.first()?)?;
        let quant = self.params(first)?;
        let alike = uses.iter().all(|u| quantized_by(graph, u).is_some_and(|v| self.params(v) == Some(quant)));
        (alike && !graph.is_output(value) && quant.axis.is_none()).then_some(first)
    }

    /// Every value of integers that a real value is quantized to.
    pub(super) fn quantizations(graph: &Graph, uses: &[Vec<Use>], value: ValueId) -> Vec<ValueId> {
        uses_of(uses, value).iter().filter_map(|u| quantized_by(graph, u)).collect()
    }
}

fn set<T>(table: &mut [T], index: usize, value: T) {
    if let Some(slot) = table.get_mut(index) {
        *slot = value;
    }
}

fn uses_of(uses: &[Vec<Use>], value: ValueId) -> &[Use] {
    uses.get(value.index()).map_or(&[], Vec::as_slice)
}

fn quantized_by(graph: &Graph, u: &Use) -> Option<ValueId> {
    let node = graph.node(u.node);
    match node.op {
        Op::QuantizeLinear(_) if u.index == 0 => node.outputs.first().copied(),
        _ => None,
    }
}

/// The integers that a real value comes from, if it is their dequantized form.
pub(super) fn dequantized(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let node = graph.node(graph.producer(value)?);
    match node.op {
        Op::DequantizeLinear(_) => node.input(0),
        _ => None,
    }
}

/// The numbers of the `DequantizeLinear` that yields a value.
pub(super) fn dequantize_params_of(graph: &Graph, value: ValueId) -> Result<Option<Quant>> {
    let Some(producer) = graph.producer(value) else { return Ok(None) };
    let node = graph.node(producer);
    match node.op {
        Op::DequantizeLinear(op) => dequantize_params(graph, node, op).map(Some),
        _ => Ok(None),
    }
}

fn dequantize_params(graph: &Graph, node: &Node, op: DequantizeLinear) -> Result<Quant> {
    let dtype = node.input(0).and_then(|v| graph.dtype(v));
    params_of(graph, node, op.axis, op.block_size, dtype)
}

pub(super) fn place(node: &Node) -> String {
    format!("{} node '{}'", node.op.name(), node.name)
}

/// The numbers of a quantize or dequantize node.
fn params_of(graph: &Graph, node: &Node, axis: i64, block_size: usize, dtype: Option<DType>) -> Result<Quant> {
    let fail = |message: &str| Err(Error::unrepresentable(message).at(place(node)));
    let Some(dtype) = dtype else { return fail("the element type of its integers is unknown") };
    if block_size != 0 {
        return fail("TFLite has no blocks of scales that this crate writes; use one scale per tensor or per axis");
    }
    let Some(scale) = graph.constant_input(node, 1) else { return fail("its scale is computed; TFLite needs a constant") };
    let zero_point = match node.input(2) {
        None => None,
        Some(v) => match graph.constant(v) {
            None => return fail("its zero point is computed; TFLite needs a constant"),
            zero_point => zero_point,
        },
    };
    let scales: Vec<f32> = scale.to_f32().into_owned();
    let zero_points = zero_point.map_or_else(|| vec![0; scales.len()], Data::to_i64_vec);
    if scales.is_empty() || zero_points.len() != scales.len() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return fail("its scales and zero points must be as many, and scales positive");
    }
    let rank = node.input(0).and_then(|v| graph.value(v).ty.as_ref()).and_then(fewbit_ir::TensorType::rank);
    let axis = match rank {
        _ if scale.rank() == 0 || scales.len() == 1 => None,
        Some(rank) => Some(fewbit_ir::axis::resolve_axis(axis, rank).map_err(|e| Error::from(e).at(place(node)))?),
        None => return fail("the number of dimensions of its input is unknown"),
    };
    Ok(Quant { dtype, scales, zero_points, axis })
}
