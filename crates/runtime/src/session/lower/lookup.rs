//! Functions of dequantized elements: one table of 256 entries for the dequantizer and all functions behind it, and for the
//! quantizer behind those, if there is one.
//!
//! The table holds what the kernels of the steps that it replaces give for each integer, so the results have the same
//! bits. Between integers that is always less work. To floats, a look-up takes as long as two cheap functions, so a chain
//! is replaced where one of them is not cheap: GELU of 260,000 elements takes 0.33 ms, the look-up 0.08.
//!
//! If only the largest results of windows are wanted, integers are ordered by their results before, as bytes, and the largest
//! are looked up.

use std::sync::Arc;

use fewbit_ir::op::{Binary, DequantizeLinear, PoolKind, ReduceKind};
use fewbit_ir::{Node, NodeId, Op, ValueId};
use fewbit_kernels as kernels;
use fewbit_kernels::{Clamp, Isa, Operand, Pool2dDims, ReduceDims};
use fewbit_tensor::DType;

use super::super::builder::Builder;
use super::super::integer::{IntegerKernel, Scaled, Width};
use super::super::kernel::{Kernel, kernel_error};
use super::super::plan::SlotId;
use super::elementwise::{binary_kernel, unary_kernel};
use super::integer::scaled;
use super::{pooling, reduction};
use crate::Result;

/// A dequantizer of held integers, with what is done to each element behind it if no one else sees what is in between.
pub(super) fn functions(b: &mut Builder<'_>, id: NodeId, node: &Node, op: DequantizeLinear) -> Result<bool> {
    let Some(x) = node.input(0).filter(|x| b.program.integers.is_held(*x)) else { return Ok(false) };
    let Some(from) = scaled(b, node, op.block_size).filter(|from| from.width == Width::Byte) else { return Ok(false) };
    let chain = chain(b, node.outputs[0]);
    if let Some(largest) = largest(b, &chain)? {
        let floats = chain.table(b.program.isa, from)?;
        if let Some(ranks) = Ranks::of(&floats) {
            let x = b.held(id, x)?;
            chain.nodes.iter().chain([&largest.node]).for_each(|node| b.absorb(*node));
            emit_largest(b, id, x, &largest, &ranks)?;
            return Ok(true);
        }
    }
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

/// The largest of each window of a chain's results, of which nothing else is made.
struct Largest {
    node: NodeId,
    result: ValueId,
    windows: Pool2dDims,
}

/// The node that takes the largest results of a chain; none on padding, which has no rank.
fn largest(b: &Builder<'_>, chain: &Chain) -> Result<Option<Largest>> {
    let ([only], false, None) = (b.program.uses[chain.result.index()].as_slice(), b.is_kept(chain.result), chain.quantized) else {
        return Ok(None);
    };
    let node = b.program.graph.node(only.node);
    let Some(shape) = b.float_shape(chain.result).filter(|_| only.index == 0 && !b.program.integers.is_claimed(only.node)) else {
        return Ok(None);
    };
    let windows = match &node.op {
        Op::GlobalPool(op) if matches!(op.kind, PoolKind::Max { .. }) => pooling::global_dims(&shape, op.layout).map(whole),
        Op::Reduce(op) if op.kind == ReduceKind::Max => reduction::dims(b, node, *op)?.map(whole),
        _ => None,
    };
    let result = node.outputs[0];
    let windows = windows.filter(|w| w.in_h > 0 && b.float_shape(result).is_some());
    Ok(windows.map(|windows| Largest { node: only.node, result, windows }))
}

/// A reduction as windows of one column.
fn whole(dims: ReduceDims) -> Pool2dDims {
    Pool2dDims {
        batch: dims.outer,
        in_h: dims.axis,
        in_w: 1,
        channels: dims.inner,
        out_h: 1,
        out_w: 1,
        kernel: [dims.axis, 1],
        stride: [1; 2],
        dilation: [1; 2],
        pad_h: [0; 2],
        pad_w: [0; 2],
    }
}

/// Integers in the order of the results of a function.
struct Ranks {
    /// By integer.
    ranks: [u8; 256],
    /// By rank.
    floats: [f32; 256],
}

impl Ranks {
    /// Those of a table; `None` if it has entries that cannot be compared.
    fn of(table: &[f32; 256]) -> Option<Self> {
        if table.iter().any(|x| x.is_nan()) {
            return None;
        }
        let mut floats = *table;
        floats.sort_by(f32::total_cmp);
        let ranks = table.map(|x| floats.partition_point(|y| *y < x) as u8);
        Some(Self { ranks, floats })
    }

    /// Whether integers are in that order themselves.
    fn ascends(&self) -> bool {
        self.ranks.is_sorted()
    }
}

/// The steps that take the largest integers by rank, and look them up.
fn emit_largest(b: &mut Builder<'_>, id: NodeId, x: SlotId, largest: &Largest, ranks: &Ranks) -> Result<()> {
    let dims = largest.windows;
    let ranked = if ranks.ascends() {
        x
    } else {
        let ranked = b.room(DType::U8, b.shape_of(x).to_vec())?;
        b.emit(id, Kernel::Integer(IntegerKernel::Table(Arc::new(ranks.ranks))), vec![Some(x)], vec![ranked]);
        ranked
    };
    let pooled = b.room(DType::U8, vec![dims.batch, dims.channels])?;
    b.emit(id, Kernel::Integer(IntegerKernel::MaxPool(dims)), vec![Some(ranked)], vec![pooled]);
    let y = b.output(largest.result)?;
    b.emit(id, Kernel::Integer(IntegerKernel::Lookup(Arc::new(ranks.floats))), vec![Some(pooled)], vec![y]);
    Ok(())
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
            chain.quantized = scaled(b, node, op.block_size).filter(|to| held && to.width == Width::Byte);
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
