//! Operators on integers, and the borders between integers and floats.

use std::sync::Arc;

use fewbit_ir::axis::{resolve_axis, resolve_permutation};
use fewbit_ir::op::{DequantizeLinear, PoolKind, QuantizeLinear};
use fewbit_ir::{Node, NodeId, Op, ValueId};
use fewbit_kernels::{ChannelFactors, Conv2dDims};
use fewbit_tensor::{DType, Tensor};

use super::super::broadcast::Broadcast;
use super::super::builder::Builder;
use super::super::integer::{Dynamic, IntegerKernel, IntegerNode, Output, Scaled, Sums, Work};
use super::super::kernel::{Kernel, kernel_error};
use super::super::plan::SlotId;
use super::moving::Movement;
use super::{convolution, moving, pooling, product};
use crate::{Error, ErrorKind, Result};

/// The steps of an integer operator.
pub(super) fn integer(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode) -> Result<()> {
    let inputs = integer.inputs.iter().map(|x| b.held(id, x.value)).collect::<Result<Vec<_>>>()?;
    let scaled = |i: usize| integer.inputs.get(i).map(|x| x.scaled).ok_or_else(unplanned);
    let shape = |b: &Builder<'_>, value: Option<ValueId>| value.and_then(|v| b.facts.shape(v)).ok_or_else(unplanned);
    let to = match integer.output {
        Output::Integers { to, .. } => Some(to),
        Output::Floats { .. } => None,
    };
    let to = || to.ok_or_else(unplanned);
    let kernel = match &integer.work {
        Work::Conv { weights, pads: [top, left] } => {
            let Op::Conv(op) = &node.op else { return Err(unplanned()) };
            let problem = convolution::Problem::new(b, node, op.layout).ok_or_else(unplanned)?;
            let mut dims = problem.dims(&op.window, op.groups, &op.window.geometry(&problem.spatial, &problem.kernel)?);
            // What lies behind a padding that is done here is smaller than what the node sees.
            (dims.in_h, dims.in_w) = match *b.shape_of(inputs[0]) {
                [_, w, _] => (1, w),
                [_, h, w, _] => (h, w),
                _ => return Err(unplanned()),
            };
            dims.pad_top += top;
            dims.pad_left += left;
            let sums = sums(&weights.factors, integer);
            IntegerKernel::Conv { weights: Arc::clone(&weights.packed), dims, zero_point: scaled(0)?.zero_point, sums }
        }
        Work::ConvTranspose(weights) => {
            let Op::ConvTranspose(op) = &node.op else { return Err(unplanned()) };
            let problem = convolution::Problem::new(b, node, op.layout).ok_or_else(unplanned)?;
            let dims = problem.dims(&op.window, op.groups, &op.geometry(&problem.spatial, &problem.kernel)?);
            let sums = sums(&weights.factors, integer);
            IntegerKernel::ConvTranspose { weights: Arc::clone(&weights.packed), dims, zero_point: scaled(0)?.zero_point, sums }
        }
        Work::Product { weights, k } => {
            let rows = shape(b, node.input(0))?.iter().product::<usize>().checked_div(*k).unwrap_or(0);
            let (Output::Integers { value, .. } | Output::Floats { value, .. }) = integer.output;
            let (dims, sums) = (one_row(rows, *k, value, b)?, sums(&weights.factors, integer));
            IntegerKernel::Conv { weights: Arc::clone(&weights.packed), dims, zero_point: scaled(0)?.zero_point, sums }
        }
        Work::Dynamic(work) => return dynamic(b, id, node, work, integer),
        Work::Matmul => {
            let [x, y] = [scaled(0)?, scaled(1)?];
            let Some((dims, batch)) = product::batched(&shape(b, node.input(0))?, &shape(b, node.input(1))?) else {
                return in_floats(b, id, node, integer, &inputs);
            };
            let to = to()?;
            let factor = ChannelFactors::new(vec![x.scale * y.scale / to.scale]).map_err(|e| kernel_error(&e))?;
            IntegerKernel::Matmul { dims, batch, zero_points: [x.zero_point, y.zero_point], factor, to }
        }
        Work::Softmax(table) => {
            let shape = shape(b, node.input(0))?;
            let columns = shape.last().copied().unwrap_or(1);
            let rows = shape.iter().product::<usize>().checked_div(columns).unwrap_or(0);
            IntegerKernel::Softmax { dims: [rows, columns], table: Arc::clone(table), to: to()? }
        }
        Work::LayerNorm { epsilon } => {
            let Op::LayerNormalization(op) = &node.op else { return Err(unplanned()) };
            let shape = shape(b, node.input(0))?;
            let axis = resolve_axis(op.axis, shape.len())?;
            let dims = [shape[..axis].iter().product(), shape[axis..].iter().product()];
            let kernel = IntegerKernel::LayerNorm { dims, epsilon: *epsilon, input: scaled(0)?, to: to()? };
            let Output::Integers { value, .. } = integer.output else { return Err(unplanned()) };
            let mut operands = vec![inputs.first().copied()];
            for i in [1, 2] {
                operands.push(node.input(i).map(|v| b.slot(v)).transpose()?);
            }
            let y = b.held_output(value)?;
            b.emit(id, Kernel::Integer(kernel), operands, vec![y]);
            return Ok(());
        }
        Work::Binary(op) => {
            let shapes = [shape(b, node.input(0))?, shape(b, node.input(1))?, shape(b, node.outputs.first().copied())?];
            let broadcast = Broadcast::new(&shapes[0], &shapes[1], &shapes[2]);
            IntegerKernel::Binary { op: *op, broadcast, sides: [scaled(0)?, scaled(1)?], to: to()? }
        }
        Work::Table(table) => IntegerKernel::Table(Arc::clone(table)),
        Work::MaxPool | Work::AveragePool => {
            let Op::Pool(op) = &node.op else { return Err(unplanned()) };
            let (dims, count) = pooling::dims(&shape(b, node.input(0))?, op)?;
            match op.kind {
                PoolKind::Average { .. } => IntegerKernel::AveragePool { dims, count, input: scaled(0)?, to: to()? },
                _ => IntegerKernel::MaxPool(dims),
            }
        }
        Work::GlobalAverage => {
            let shape = shape(b, node.input(0))?;
            let [batch, positions @ .., channels] = shape.as_slice() else { return Err(unplanned()) };
            IntegerKernel::GlobalAverage { dims: [*batch, positions.iter().product(), *channels], input: scaled(0)?, to: to()? }
        }
        Work::Move => return moved(b, id, node, integer, inputs),
    };
    let output = match integer.output {
        Output::Integers { value, .. } => b.held_output(value)?,
        Output::Floats { value, .. } => b.output(value)?,
    };
    b.emit(id, Kernel::Integer(kernel), inputs.into_iter().map(Some).collect(), vec![output]);
    Ok(())
}

/// The steps that quantize floats, multiply, and scale back.
fn dynamic(b: &mut Builder<'_>, id: NodeId, node: &Node, work: &Dynamic, integer: &IntegerNode) -> Result<()> {
    let Output::Floats { value, clamp } = integer.output else { return Err(unplanned()) };
    let shape = b.float_shape(work.input).ok_or_else(unplanned)?;
    let dims = match (&node.op, work.k) {
        (Op::Conv(op) | Op::ConvInteger(op), None) => {
            let problem = convolution::Problem::of_any(b, node, op.layout).ok_or_else(unplanned)?;
            problem.dims(&op.window, op.groups, &op.window.geometry(&problem.spatial, &problem.kernel)?)
        }
        (_, Some(k)) => one_row(shape.iter().product::<usize>().checked_div(k).unwrap_or(0), k, value, b)?,
        (_, None) => return Err(unplanned()),
    };
    let (x, range) = match b.dynamic(work.input) {
        Some(known) => known,
        None => {
            let real = b.slot(work.input)?;
            let range = b.temporary(vec![2])?;
            b.emit(id, Kernel::Integer(IntegerKernel::DynamicRange), vec![Some(real)], vec![range]);
            let x = b.room(DType::U8, shape)?;
            b.emit(id, Kernel::Integer(IntegerKernel::DynamicQuantize), vec![Some(real), Some(range)], vec![x]);
            b.remember_dynamic(work.input, (x, range));
            (x, range)
        }
    };
    let factors = b.temporary(vec![work.scales.len()])?;
    b.emit(id, Kernel::Integer(IntegerKernel::DynamicFactors(Arc::clone(&work.scales))), vec![Some(range)], vec![factors]);
    let kernel = IntegerKernel::DynamicConv { weights: Arc::clone(&work.weights), dims, bias: work.bias.clone(), clamp };
    let y = b.output(value)?;
    b.emit(id, Kernel::Integer(kernel), vec![Some(x), Some(range), Some(factors)], vec![y]);
    Ok(())
}

/// What becomes of sums.
fn sums(factors: &Arc<ChannelFactors<'static>>, integer: &IntegerNode) -> Sums {
    let factors = Arc::clone(factors);
    match integer.output {
        Output::Integers { to, .. } => Sums::Integers { factors, to },
        Output::Floats { clamp, .. } => Sums::Floats { factors, clamp },
    }
}

/// A matrix product as a convolution of one pixel over an image of one row.
fn one_row(rows: usize, k: usize, output: ValueId, b: &Builder<'_>) -> Result<Conv2dDims> {
    let out_c = b.facts.shape(output).and_then(|s| s.last().copied()).ok_or_else(unplanned)?;
    Ok(Conv2dDims::product(rows, k, out_c))
}

/// Elements in other places.
fn moved(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode, mut inputs: Vec<SlotId>) -> Result<()> {
    let Output::Integers { value, to } = integer.output else { return Err(unplanned()) };
    let Some(movement) = moving::movement(b, node)? else { return in_floats(b, id, node, integer, &inputs) };
    let requantized = |x: Scaled| IntegerKernel::Requantize { input: x, to };
    let (kernel, changed): (_, Vec<bool>) = match movement {
        Movement::Alias => match integer.inputs[..] {
            [x] if x.keeps(to) => {
                b.alias(id, inputs[0], value);
                return Ok(());
            }
            [x] => (requantized(x.scaled), vec![false]),
            _ => return Err(unplanned()),
        },
        Movement::Permute { shape, permutation } => {
            (IntegerKernel::Permute { shape, permutation }, integer.inputs.iter().map(|x| !x.keeps(to)).collect())
        }
        Movement::Copy { fill, parts } => {
            let fill = fill.map(|x| Scaled::from(to).nearest(x));
            (IntegerKernel::Copy { fill, parts }, integer.inputs.iter().map(|x| !x.keeps(to)).collect())
        }
    };
    for (i, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
        let shape = b.shape_of(inputs[i]).to_vec();
        let y = b.room(DType::U8, shape)?;
        b.emit(id, Kernel::Integer(requantized(integer.inputs[i].scaled)), vec![Some(inputs[i])], vec![y]);
        inputs[i] = y;
    }
    let y = b.held_output(value)?;
    b.emit(id, Kernel::Integer(kernel), inputs.into_iter().map(Some).collect(), vec![y]);
    Ok(())
}

/// Integers in other places, as they are held.
pub(super) fn held_move(b: &mut Builder<'_>, id: NodeId, node: &Node) -> Result<bool> {
    let (Some(x), Some(&y)) = (node.input(0), node.outputs.first()) else { return Ok(false) };
    let integers = &b.program.integers;
    if !integers.is_held(x) || !integers.is_held(y) || integers.is_claimed(id) {
        return Ok(false);
    }
    match moving::movement(b, node)? {
        Some(Movement::Alias) => {
            let x = b.held(id, x)?;
            b.alias(id, x, y);
        }
        Some(Movement::Permute { shape, permutation }) => {
            let x = b.held(id, x)?;
            let y = b.held_output(y)?;
            b.emit(id, Kernel::Integer(IntegerKernel::Permute { shape, permutation }), vec![Some(x)], vec![y]);
        }
        Some(Movement::Copy { .. }) | None => return Ok(false),
    }
    Ok(true)
}

/// The node as it is, on dequantized inputs, for shapes that no kernel on integers takes.
fn in_floats(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode, inputs: &[SlotId]) -> Result<()> {
    let Output::Integers { value, to } = integer.output else { return Err(unplanned()) };
    let mut operands = Vec::with_capacity(node.inputs.len());
    for (i, input) in node.inputs.iter().enumerate() {
        operands.push(match (integer.inputs.get(i), inputs.get(i)) {
            (Some(x), Some(&slot)) => {
                let real = b.temporary(b.shape_of(slot).to_vec())?;
                b.emit(id, Kernel::Integer(IntegerKernel::Dequantize(x.scaled)), vec![Some(slot)], vec![real]);
                Some(real)
            }
            _ => input.map(|v| b.slot(v)).transpose()?,
        });
    }
    let real = b.heap(node.outputs[0]);
    b.emit(id, Kernel::Evaluate, operands, vec![real]);
    let y = b.held_output(value)?;
    b.emit(id, Kernel::Integer(IntegerKernel::Quantize(to)), vec![Some(real)], vec![y]);
    Ok(())
}

/// From integers to floats, where a reader wants floats; what only integer operators read is not computed.
pub(super) fn dequantize(b: &mut Builder<'_>, id: NodeId, node: &Node, op: DequantizeLinear) -> Result<bool> {
    let (Some(x), output) = (node.input(0).filter(|x| b.program.integers.is_held(*x)), node.outputs[0]) else { return Ok(false) };
    let Some(scaled) = scaled(b, node, op.block_size) else { return Ok(false) };
    let wanted = b.program.uses[output.index()].iter().any(|u| !b.program.integers.is_claimed(u.node));
    if wanted || b.is_kept(output) {
        let x = b.held(id, x)?;
        let y = b.output(output)?;
        b.emit(id, Kernel::Integer(IntegerKernel::Dequantize(scaled)), vec![Some(x)], vec![y]);
    }
    Ok(true)
}

/// From floats to integers that are held.
pub(super) fn quantize(b: &mut Builder<'_>, id: NodeId, node: &Node, op: QuantizeLinear) -> Result<bool> {
    let (Some(x), output) = (node.input(0), node.outputs[0]) else { return Ok(false) };
    let Some(scaled) = scaled(b, node, op.block_size).filter(|_| b.program.integers.is_held(output)) else { return Ok(false) };
    if b.float_shape(x).is_none() {
        return Ok(false);
    }
    let interleaved = interleaved(b, output)?;
    let x = b.slot(x)?;
    let (kernel, output) = match interleaved {
        Some((transpose, output, dims)) => {
            b.absorb(transpose);
            (IntegerKernel::Interleave { dims, to: scaled.output() }, output)
        }
        None => (IntegerKernel::Quantize(scaled.output()), output),
    };
    let y = b.held_output(output)?;
    b.emit(id, Kernel::Integer(kernel), vec![Some(x)], vec![y]);
    Ok(true)
}

/// The transpose of held integers to channels last that is all that happens to them: the node, its output, and the
/// transposed tensor as batch, channels and pixels.
fn interleaved(b: &Builder<'_>, value: ValueId) -> Result<Option<(NodeId, ValueId, [usize; 3])>> {
    let ([only], false, Some(shape)) = (b.program.uses[value.index()].as_slice(), b.is_kept(value), b.facts.shape(value)) else {
        return Ok(None);
    };
    let node = b.program.graph.node(only.node);
    let Op::Transpose(op) = &node.op else { return Ok(None) };
    let output = node.outputs[0];
    let permutation = resolve_permutation(op.perm.as_deref(), shape.len())?;
    let last = permutation.iter().copied().eq(std::iter::once(0).chain(2..shape.len()).chain([1]));
    if !last || !b.program.integers.is_held(output) || b.program.integers.is_claimed(only.node) {
        return Ok(None);
    }
    Ok(Some((only.node, output, [shape[0], shape[1], shape[2..].iter().product()])))
}

/// The one scale of a quantizer or dequantizer whose integers are held.
pub(super) fn scaled(b: &Builder<'_>, node: &Node, block_size: usize) -> Option<Scaled> {
    let integers = if matches!(node.op, Op::QuantizeLinear(_)) { node.outputs[0] } else { node.input(0)? };
    let (scale, zero_point) = (b.known(node, 1)?, node.input(2).map(|_| b.known(node, 2)));
    (block_size == 0).then(|| Scaled::of(scale, zero_point.unwrap_or(Some(&Tensor::scalar(0_i64)))?, b.dtype(integers)?))?
}

fn unplanned() -> Error {
    Error::new(ErrorKind::Graph, "an integer operator has no plan for these shapes")
}
