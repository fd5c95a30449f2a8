//! What is known of every value once the shapes of the inputs are.
//!
//! In: a program and input shapes. Out: the type of every value, as far as it follows, and the elements of those that
//! follow from shapes alone, such as the targets of reshapes. Those are not computed again when the plan runs.

use fewbit_ir::infer::{Fact, output_types};
use fewbit_ir::op::Shape;
use fewbit_ir::{Node, NodeId, Op, TensorType, ValueId};
use fewbit_tensor::{Tensor, element_count};

use super::compile::Program;
use crate::{Result, evaluate};

/// The most elements of a value that is computed while planning; a plan holds nothing larger.
const FOLDED_ELEMENTS: usize = 1 << 16;

/// What a plan knows of each value, by [`ValueId::index`].
#[derive(Debug)]
pub(super) struct Facts {
    types: Vec<Option<TensorType>>,
    folded: Vec<Option<Tensor>>,
}

impl Facts {
    /// Propagates the shapes of the inputs through the nodes of `order`.
    pub(super) fn new(program: &Program, order: &[NodeId], shapes: &[Vec<usize>]) -> Result<Self> {
        let graph = &program.graph;
        let mut facts = Self { types: vec![None; graph.value_capacity()], folded: vec![None; graph.value_capacity()] };
        let sources = order.iter().flat_map(|id| graph.node(*id).inputs.iter().flatten());
        for &id in sources.chain(&graph.inputs).chain(&graph.outputs).filter(|v| graph.producer(**v).is_none()) {
            facts.types[id.index()].clone_from(&graph.value(id).ty);
        }
        for (id, shape) in graph.inputs.iter().zip(shapes) {
            let ty = &mut facts.types[id.index()];
            *ty = ty.take().map(|ty| TensorType::fixed(ty.dtype, shape));
        }
        for id in order {
            let node = graph.node(*id);
            // What an integer operator has absorbed, the weights' dequantizers among it, is never asked for.
            facts.infer(program, node, !program.integers.is_absorbed(*id)).map_err(|e| e.at(node))?;
        }
        Ok(facts)
    }

    /// The types of a node's outputs and, with `fold`, what they are if that is known.
    fn infer(&mut self, program: &Program, node: &Node, fold: bool) -> Result<()> {
        let inputs: Vec<Fact<'_>> = node
            .inputs
            .iter()
            .map(|input| {
                input.map_or(Fact::default(), |v| Fact { ty: self.types[v.index()].as_ref(), constant: self.constant(program, v) })
            })
            .collect();
        let types =
            output_types(&node.op, &inputs, node.outputs.len()).map_err(|e| crate::Error::new(crate::ErrorKind::Shape, e.to_string()))?;
        if let Some(tensors) = if fold { self.fold(program, node, &types)? } else { None } {
            for (output, tensor) in node.outputs.iter().zip(tensors) {
                self.types[output.index()] = Some(TensorType::of(&tensor));
                self.folded[output.index()] = Some(tensor);
            }
            return Ok(());
        }
        for (output, ty) in node.outputs.iter().zip(types) {
            self.types[output.index()] = ty;
        }
        Ok(())
    }

    /// The outputs of a node that depends on shapes and constants alone, if they are small.
    fn fold(&self, program: &Program, node: &Node, types: &[Option<TensorType>]) -> Result<Option<Vec<Tensor>>> {
        match &node.op {
            Op::Shape(op) => return Ok(node.input(0).and_then(|x| self.shape(x)).map(|shape| vec![dimensions(*op, &shape)])),
            Op::Size => {
                let count = node.input(0).and_then(|x| element_count(&self.shape(x)?));
                return Ok(count.map(|n| vec![Tensor::scalar(n as i64)]));
            }
            Op::If(_) | Op::Loop(_) | Op::Custom(_) => return Ok(None),
            _ => {}
        }
        let small = types
            .iter()
            .all(|ty| ty.as_ref().and_then(TensorType::shape).and_then(|s| element_count(&s)).is_some_and(|n| n <= FOLDED_ELEMENTS));
        let inputs: Option<Vec<Option<Tensor>>> =
            node.inputs.iter().map(|v| v.map_or(Some(None), |v| self.constant(program, v).map(|t| Some(t.clone())))).collect();
        match inputs.filter(|inputs| small && !inputs.is_empty()) {
            Some(inputs) => evaluate(&node.op, &inputs, node.outputs.len()).map(Some),
            None => Ok(None),
        }
    }

    /// The elements of a value, if they are known before the run.
    pub(super) fn constant<'a>(&'a self, program: &'a Program, value: ValueId) -> Option<&'a Tensor> {
        self.folded[value.index()].as_ref().or_else(|| program.graph.constant(value))
    }

    /// The elements of a value, if they follow from the shapes of the inputs.
    pub(super) fn folded(&self, value: ValueId) -> Option<&Tensor> {
        self.folded[value.index()].as_ref()
    }

    /// The type of a value, if it is known.
    pub(super) fn ty(&self, value: ValueId) -> Option<&TensorType> {
        self.types[value.index()].as_ref()
    }

    /// The shape of a value, if all of it is known.
    pub(super) fn shape(&self, value: ValueId) -> Option<Vec<usize>> {
        self.ty(value)?.shape()
    }
}

/// What `Shape` gives for a tensor of that shape.
fn dimensions(op: Shape, shape: &[usize]) -> Tensor {
    Tensor::vector(shape[op.range(shape.len())].iter().map(|&n| n as i64).collect::<Vec<_>>())
}
