//! Functions of dequantized elements: one table of 256 entries for the dequantizer and all functions behind it, and for the
//! quantizer behind those, if there is one.
//!
//! The table holds what the kernels of the steps that it replaces give for each integer, so the results have the same
//! bits. Between integers that is always less work. To floats, a look-up takes as long as two cheap functions, so a chain
//! is replaced where one of them is not cheap: GELU of 260,000 elements takes 0.33 ms, the look-up 0.08.

use std::sync::Arc;

use fewbit_ir::op::{Binary, DequantizeLinear};
use fewbit_ir::{Node, NodeId, Op, ValueId};
use fewbit_kernels as kernels;
use fewbit_kernels::{Clamp, Isa, Operand};
use fewbit_tensor::DType;

use super::super::builder::Builder;
use super::super::integer::{IntegerKernel, Scaled};
use super::super::kernel::{Kernel, kernel_error};
use super::elementwise::{binary_kernel, unary_kernel};
use super::integer::scaled;
use crate::Result;

/// A dequantizer of held integers, with what is done to each element behind it if no one else sees what is in between.
pub(super) fn functions(b: &mut Builder<'_>, id: NodeId, node: &Node, op: DequantizeLinear) -> Result<bool> {
    let Some(x) = node.input(0).filter(|x| b.program.integers.is_held(*x)) else { return Ok(false) };
    let Some(from) = scaled(b, node, op.block_size) else { return Ok(false) };
    let chain = chain(b, node.outputs[0]);
    let worth_it = chain.quantized.is_some() || chain.functions.iter().any(Function::costs);
    if chain.functions.iter().all(|f| matches!(f, Function::View)) || !worth_it {
        return Ok(false);
    }
    let floats = chain.table(b.program.isa, from)?;
    let kernel = match chain.quantized {
        Some(to) => {
            let mut integers = [0; 256];
            let done = kernels::quantize(b.program.isa, &to.affine(&[i32::from(to.zero_point)]), &floats, &mut integers);
            done.map_err(|e| kernel_error(&e))?;
            IntegerKernel::Table(Arc::new(integers))
        }
        None => IntegerKernel::Lookup(Arc::new(floats)),
    };
    let x = b.held(id, x)?;
    let y = if chain.quantized.is_some() { b.held_output(chain.result)? } else { b.output(chain.result)? };
    chain.nodes.into_iter().for_each(|node| b.absorb(node));
    b.emit(id, Kernel::Integer(kernel), vec![Some(x)], vec![y]);
    Ok(true)
}

/// What is done to one element.
enum Function {
    /// Nothing: the tensor gets another shape.
    View,
    Unary(kernels::Unary),
    /// With a constant on one side.
    Binary {
        op: kernels::Binary,
        constant: f32,
        constant_first: bool,
        clamp: Clamp,
    },
}

/// Functions of one element after each other.
struct Chain {
    nodes: Vec<NodeId>,
    functions: Vec<Function>,
    result: ValueId,
    /// How the result is quantized, if the chain ends in held integers.
    quantized: Option<Scaled>,
}

/// What happens to a value of which nothing else is made, as far as it is done to each element alone.
fn chain(b: &Builder<'_>, value: ValueId) -> Chain {
    let mut chain = Chain { nodes: Vec::new(), functions: Vec::new(), result: value, quantized: None };
    let elements = |v: ValueId| b.float_shape(v).map(|s| s.iter().product::<usize>());
    while let ([only], false) = (b.program.uses[chain.result.index()].as_slice(), b.is_kept(chain.result)) {
        let node = b.program.graph.node(only.node);
        let result = node.outputs[0];
        if b.program.integers.is_claimed(only.node) {
            break;
        }
        if let Op::QuantizeLinear(op) = &node.op {
            let held = only.index == 0 && b.program.integers.is_held(result);
            chain.quantized = scaled(b, node, op.block_size).filter(|_| held);
            if chain.quantized.is_some() {
                chain.nodes.push(only.node);
                chain.result = result;
            }
            break;
        }
        let Some(function) = function(b, node, only.index) else { break };
        if elements(result).is_none() || elements(result) != elements(value) {
            break;
        }
        chain.functions.push(function);
        chain.nodes.push(only.node);
        chain.result = result;
    }
    chain
}

/// What a node does to each element of the input at `index`.
fn function(b: &Builder<'_>, node: &Node, index: usize) -> Option<Function> {
    match &node.op {
        Op::Unary(op) => unary_kernel(*op).map(Function::Unary),
        Op::Clip if index == 0 => {
            let limits = b.clip_limits(node)?;
            Some(Function::Unary(kernels::Unary::Clip(Clamp { min: limits.min, max: limits.max })))
        }
        Op::Binary(op) if op.kind != Binary::SquaredDifference => {
            let constant = b.known(node, 1 - index.min(1)).filter(|t| t.dtype() == DType::F32 && t.len() == 1)?;
            let clamp = Clamp { min: op.activation.min, max: op.activation.max };
            let constant = constant.to_f32().first().copied()?;
            Some(Function::Binary { op: binary_kernel(op.kind)?, constant, constant_first: index == 1, clamp })
        }
        Op::Identity | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze if index == 0 => Some(Function::View),
        _ => None,
    }
}

impl Chain {
    /// The result for each integer.
    fn table(&self, isa: Isa, from: Scaled) -> Result<[f32; 256]> {
        let integers: [u8; 256] = std::array::from_fn(|q| q as u8);
        let mut table = [0.0; 256];
        let mut done = kernels::dequantize(isa, &from.affine(&[i32::from(from.zero_point)]), &integers, &mut table);
        for function in &self.functions {
            let before = table;
            done = done.and(match function {
                Function::View => Ok(()),
                Function::Unary(op) => kernels::unary(isa, *op, &before, &mut table),
                Function::Binary { op, constant, constant_first, clamp } => {
                    let (x, constant) = (Operand::Full(&before), Operand::Scalar(*constant));
                    let [lhs, rhs] = if *constant_first { [constant, x] } else { [x, constant] };
                    kernels::binary(isa, *op, lhs, rhs, *clamp, &mut table)
                }
            });
        }
        done.map_err(|e| kernel_error(&e))?;
        Ok(table)
    }
}

impl Function {
    /// Whether it takes longer than a look-up.
    fn costs(&self) -> bool {
        use kernels::Unary as K;
        matches!(
            self,
            Self::Unary(
                K::Celu { .. }
                    | K::Elu { .. }
                    | K::Erf
                    | K::Exp
                    | K::Gelu
                    | K::GeluTanh
                    | K::Log
                    | K::Mish
                    | K::Selu { .. }
                    | K::Sigmoid
                    | K::Silu
                    | K::Softplus
                    | K::Tanh
            ) | Self::Binary { op: kernels::Binary::Pow, .. }
        )
    }
}
