//! Operators on integers, and the borders between integers and floats.

use std::sync::Arc;

use fewbit_ir::axis::{resolve_axis, resolve_permutation};
use fewbit_ir::op::{DequantizeLinear, PoolKind, QuantizeLinear};
use fewbit_ir::{Node, NodeId, Op, ValueId};
use fewbit_kernels::{ChannelFactors, Clamp, Conv2dDims};
use fewbit_tensor::{DType, Tensor};

use super::super::broadcast::Broadcast;
use super::super::builder::Builder;
use super::super::integer::{
    BlockProduct, Blocks, Dynamic, IntegerKernel, IntegerNode, Kind, Output, Packed, Scaled, Sums, Weights, Width, WordKernel, Work,
};
use super::super::kernel::{Kernel, kernel_error};
use super::super::plan::SlotId;
use super::moving::Movement;
use super::{convolution, moving, pooling, product};
use crate::{Error, ErrorKind, Result};

/// The steps of an integer operator.
pub(super) fn integer(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode) -> Result<()> {
    let inputs = integer.inputs.iter().map(|x| b.held(id, x.value)).collect::<Result<Vec<_>>>()?;
    if integer.is_wide() {
        return wide(b, id, node, integer, inputs);
    }
    let scaled = |i: usize| integer.inputs.get(i).map(|x| x.scaled).ok_or_else(unplanned);
    let shape = |b: &Builder<'_>, value: Option<ValueId>| value.and_then(|v| b.facts.shape(v)).ok_or_else(unplanned);
    let to = || integer.output.to().map(Scaled::bytes).ok_or_else(unplanned);
    let kernel = match &integer.work {
        Work::Conv { weights, pads } => {
            let dims = conv_dims(b, node, inputs[0], *pads)?;
            return emit_conv(b, id, integer, weights, dims, inputs[0]);
        }
        Work::ConvTranspose(weights) => {
            let Packed::Bytes(packed) = &weights.packed else { return Err(unplanned()) };
            let (dims, sums) = (transposed_dims(b, node)?, sums(&weights.factors, integer));
            IntegerKernel::ConvTranspose { weights: Arc::clone(packed), dims, zero_point: scaled(0)?.zero_byte(), sums }
        }
        Work::Product { weights, k } => {
            let dims = product_dims(b, node, integer, *k)?;
            return emit_conv(b, id, integer, weights, dims, inputs[0]);
        }
        Work::Blocks(product) => return block_product(b, id, node, product, integer, inputs[0]),
        Work::Dynamic(work) => return dynamic(b, id, node, work, integer),
        Work::Matmul => {
            let [x, y] = [scaled(0)?, scaled(1)?];
            let Some((dims, batch)) = product::batched(&shape(b, node.input(0))?, &shape(b, node.input(1))?) else {
                return in_floats(b, id, node, integer, &inputs);
            };
            let to = to()?;
            let factor = ChannelFactors::new(vec![x.scale * y.scale / to.scale]).map_err(|e| kernel_error(&e))?;
            IntegerKernel::Matmul { dims, batch, zero_points: [x.zero_byte(), y.zero_byte()], factor, to }
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
        Work::Binary(op) => IntegerKernel::Binary { op: *op, broadcast: broadcast(b, node)?, sides: [scaled(0)?, scaled(1)?], to: to()? },
        Work::Table(table) => IntegerKernel::Table(Arc::clone(table)),
        Work::WordTable(_) => return Err(unplanned()),
        Work::MaxPool | Work::AveragePool => {
            let Op::Pool(op) = &node.op else { return Err(unplanned()) };
            let (dims, count) = pooling::dims(&shape(b, node.input(0))?, op)?;
            match op.kind {
                PoolKind::Average { .. } => IntegerKernel::AveragePool { dims, count, input: scaled(0)?, to: to()? },
                _ => IntegerKernel::MaxPool(dims),
            }
        }
        Work::GlobalAverage => IntegerKernel::GlobalAverage { dims: positions(&shape(b, node.input(0))?)?, input: scaled(0)?, to: to()? },
        Work::Move => return moved(b, id, node, integer, inputs),
    };
    emit(b, id, integer, kernel, inputs)
}

/// The step of an integer operator that fills its output.
fn emit(b: &mut Builder<'_>, id: NodeId, integer: &IntegerNode, kernel: IntegerKernel, inputs: Vec<SlotId>) -> Result<()> {
    let output = match integer.output {
        Output::Integers { value, .. } => b.held_output(value)?,
        Output::Floats { value, .. } => b.output(value)?,
    };
    b.emit(id, Kernel::Integer(kernel), inputs.into_iter().map(Some).collect(), vec![output]);
    Ok(())
}

/// The steps of an operator that computes on words.
fn wide(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode, inputs: Vec<SlotId>) -> Result<()> {
    let mut widened = Vec::with_capacity(inputs.len());
    for (slot, x) in inputs.into_iter().zip(&integer.inputs) {
        widened.push(match x.scaled.width {
            Width::Word => slot,
            Width::Byte => {
                let words = b.room(DType::I16, b.shape_of(slot).to_vec())?;
                b.emit(id, Kernel::Integer(IntegerKernel::Words(WordKernel::Widen)), vec![Some(slot)], vec![words]);
                words
            }
        });
    }
    let inputs = widened;
    let scaled = |i: usize| integer.inputs.get(i).map(|x| x.scaled).ok_or_else(unplanned);
    let shape = |b: &Builder<'_>, value: Option<ValueId>| value.and_then(|v| b.facts.shape(v)).ok_or_else(unplanned);
    let to = || integer.output.to().ok_or_else(unplanned);
    let kernel = match &integer.work {
        Work::Conv { weights, pads } => {
            let dims = conv_dims(b, node, inputs[0], *pads)?;
            return emit_conv(b, id, integer, weights, dims, inputs[0]);
        }
        Work::Product { weights, k } => {
            let dims = product_dims(b, node, integer, *k)?;
            return emit_conv(b, id, integer, weights, dims, inputs[0]);
        }
        Work::ConvTranspose(weights) => {
            let Packed::Words(packed) = &weights.packed else { return Err(unplanned()) };
            let (dims, sums) = (transposed_dims(b, node)?, sums(&weights.factors, integer));
            WordKernel::ConvTranspose { weights: Arc::clone(packed), dims, zero_point: scaled(0)?.zero_point, sums }
        }
        Work::Binary(op) => WordKernel::Binary { op: *op, broadcast: broadcast(b, node)?, sides: [scaled(0)?, scaled(1)?], to: to()? },
        Work::WordTable(table) => WordKernel::Table { first: scaled(0)?.limits[0], table: Arc::clone(table) },
        Work::MaxPool | Work::AveragePool => {
            let Op::Pool(op) = &node.op else { return Err(unplanned()) };
            let (dims, count) = pooling::dims(&shape(b, node.input(0))?, op)?;
            match op.kind {
                PoolKind::Average { .. } => WordKernel::AveragePool { dims, count, input: scaled(0)?, to: to()? },
                _ => WordKernel::MaxPool(dims),
            }
        }
        Work::GlobalAverage => WordKernel::GlobalAverage { dims: positions(&shape(b, node.input(0))?)?, input: scaled(0)?, to: to()? },
        Work::Move => return moved(b, id, node, integer, inputs),
        _ => return Err(unplanned()),
    };
    emit_words(b, id, integer, kernel, inputs)
}

/// The step of an operator on words that fills its output, and one that narrows this if it is held as bytes.
fn emit_words(b: &mut Builder<'_>, id: NodeId, integer: &IntegerNode, kernel: WordKernel, inputs: Vec<SlotId>) -> Result<()> {
    let kernel = IntegerKernel::Words(kernel);
    let Output::Integers { value, to: Scaled { width: Width::Byte, .. } } = integer.output else {
        return emit(b, id, integer, kernel, inputs);
    };
    let words = b.room(DType::I16, b.facts.shape(value).ok_or_else(unplanned)?)?;
    b.emit(id, Kernel::Integer(kernel), inputs.into_iter().map(Some).collect(), vec![words]);
    emit(b, id, integer, IntegerKernel::Words(WordKernel::Narrow), vec![words])
}

/// The step of a convolution, by the width of its weights' inputs.
fn emit_conv(b: &mut Builder<'_>, id: NodeId, integer: &IntegerNode, weights: &Weights, dims: Conv2dDims, x: SlotId) -> Result<()> {
    let input = integer.inputs.first().ok_or_else(unplanned)?.scaled;
    let sums = sums(&weights.factors, integer);
    match &weights.packed {
        Packed::Bytes(packed) => {
            let kernel = IntegerKernel::Conv { weights: Arc::clone(packed), dims, zero_point: input.zero_byte(), sums };
            emit(b, id, integer, kernel, vec![x])
        }
        Packed::Words(packed) => {
            let kernel = WordKernel::Conv { weights: Arc::clone(packed), dims, zero_point: input.zero_point, sums };
            emit_words(b, id, integer, kernel, vec![x])
        }
    }
}

/// The sizes of a transposed convolution.
fn transposed_dims(b: &Builder<'_>, node: &Node) -> Result<Conv2dDims> {
    let Op::ConvTranspose(op) = &node.op else { return Err(unplanned()) };
    let problem = convolution::Problem::new(b, node, op.layout).ok_or_else(unplanned)?;
    Ok(problem.dims(&op.window, op.groups, &op.geometry(&problem.spatial, &problem.kernel)?))
}

/// The sizes of a convolution over `x`, which lies behind a padding that is done here: it is smaller than what the node sees.
fn conv_dims(b: &Builder<'_>, node: &Node, x: SlotId, [top, left]: [usize; 2]) -> Result<Conv2dDims> {
    let Op::Conv(op) = &node.op else { return Err(unplanned()) };
    let problem = convolution::Problem::new(b, node, op.layout).ok_or_else(unplanned)?;
    let mut dims = problem.dims(&op.window, op.groups, &op.window.geometry(&problem.spatial, &problem.kernel)?);
    (dims.in_h, dims.in_w) = match *b.shape_of(x) {
        [_, w, _] => (1, w),
        [_, h, w, _] => (h, w),
        _ => return Err(unplanned()),
    };
    dims.pad_top += top;
    dims.pad_left += left;
    Ok(dims)
}

/// The sizes of a product by a constant matrix of `k` rows.
fn product_dims(b: &Builder<'_>, node: &Node, integer: &IntegerNode, k: usize) -> Result<Conv2dDims> {
    let shape = node.input(0).and_then(|v| b.facts.shape(v)).ok_or_else(unplanned)?;
    let (Output::Integers { value, .. } | Output::Floats { value, .. }) = integer.output;
    one_row(shape.iter().product::<usize>().checked_div(k).unwrap_or(0), k, value, b)
}

/// How two operands are laid over their result.
fn broadcast(b: &Builder<'_>, node: &Node) -> Result<Broadcast> {
    let shape = |value: Option<ValueId>| value.and_then(|v| b.facts.shape(v)).ok_or_else(unplanned);
    Ok(Broadcast::new(&shape(node.input(0))?, &shape(node.input(1))?, &shape(node.outputs.first().copied())?))
}

/// Batch, positions and channels.
fn positions(shape: &[usize]) -> Result<[usize; 3]> {
    let [batch, positions @ .., channels] = shape else { return Err(unplanned()) };
    Ok([*batch, positions.iter().product(), *channels])
}

/// The steps that quantize floats, multiply, and scale back.
fn dynamic(b: &mut Builder<'_>, id: NodeId, node: &Node, work: &Dynamic, integer: &IntegerNode) -> Result<()> {
    let Output::Floats { value, clamp } = integer.output else { return Err(unplanned()) };
    let shape = b.float_shape(work.input).ok_or_else(unplanned)?;
    let rows = |k: usize| shape.iter().product::<usize>().checked_div(k).unwrap_or(0);
    let dims = match (work.kind, &node.op) {
        (Kind::Blocks(blocks), _) => blocks.dims(rows(blocks.k)),
        (Kind::Rows(k), _) => one_row(rows(k), k, value, b)?,
        (Kind::Windows, Op::Conv(op) | Op::ConvInteger(op)) => {
            let problem = convolution::Problem::of_any(b, node, op.layout).ok_or_else(unplanned)?;
            problem.dims(&op.window, op.groups, &op.window.geometry(&problem.spatial, &problem.kernel)?)
        }
        (Kind::Windows, _) => return Err(unplanned()),
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
    let operands = vec![Some(x), Some(range), Some(factors)];
    let conv = |bias, clamp| Kernel::Integer(IntegerKernel::DynamicConv { weights: Arc::clone(&work.weights), dims, bias, clamp });
    let Kind::Blocks(blocks) = work.kind else {
        let y = b.output(value)?;
        b.emit(id, conv(work.bias.clone(), clamp), operands, vec![y]);
        return Ok(());
    };
    let products = in_blocks(b, id, blocks, dims.in_w, conv(None, Clamp::NONE), operands)?;
    let y = b.output(value)?;
    b.emit(id, sum_blocks(blocks, dims.in_w, work.bias.as_ref(), clamp), vec![Some(products)], vec![y]);
    Ok(())
}

/// The step that multiplies rows by each block of a matrix.
fn in_blocks(b: &mut Builder<'_>, id: NodeId, blocks: Blocks, rows: usize, conv: Kernel, operands: Vec<Option<SlotId>>) -> Result<SlotId> {
    let products = b.temporary(vec![rows, blocks.count, blocks.out_c])?;
    b.emit(id, conv, operands, vec![products]);
    Ok(products)
}

/// What adds up the products of all blocks.
fn sum_blocks(blocks: Blocks, rows: usize, bias: Option<&Arc<[f32]>>, clamp: Clamp) -> Kernel {
    Kernel::SumBlocks { dims: [rows, blocks.count, blocks.out_c], bias: bias.cloned(), clamp }
}

/// The steps that multiply by each block of a matrix, add up, and quantize if that is asked for.
fn block_product(b: &mut Builder<'_>, id: NodeId, node: &Node, product: &BlockProduct, integer: &IntegerNode, x: SlotId) -> Result<()> {
    let BlockProduct { blocks, weights, factors, bias } = product;
    let shape = node.input(0).and_then(|v| b.facts.shape(v)).ok_or_else(unplanned)?;
    let rows = shape.iter().product::<usize>().checked_div(blocks.k).unwrap_or(0);
    let zero_point = integer.inputs.first().ok_or_else(unplanned)?.scaled.zero_byte();
    let sums = Sums::Floats { factors: Arc::clone(factors), clamp: Clamp::NONE };
    let conv = IntegerKernel::Conv { weights: Arc::clone(weights), dims: blocks.dims(rows), zero_point, sums };
    let products = in_blocks(b, id, *blocks, rows, Kernel::Integer(conv), vec![Some(x)])?;
    let (clamp, y) = match integer.output {
        Output::Floats { value, clamp } => (clamp, b.output(value)?),
        Output::Integers { .. } => (Clamp::NONE, b.temporary(vec![rows, blocks.out_c])?),
    };
    b.emit(id, sum_blocks(*blocks, rows, bias.as_ref(), clamp), vec![Some(products)], vec![y]);
    if let Some(to) = integer.output.to() {
        emit(b, id, integer, IntegerKernel::Quantize(to), vec![y])?;
    }
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
    let width = width(integer);
    let requantized = |x: Scaled| match width {
        Width::Byte => IntegerKernel::Requantize { input: x, to: to.bytes() },
        Width::Word => IntegerKernel::Words(WordKernel::Requantize { input: x, to }),
    };
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
            (permute(width, shape, permutation), integer.inputs.iter().map(|x| !x.keeps(to)).collect())
        }
        Movement::Copy { fill, parts } => {
            let fill = fill.map(|x| to.nearest(x));
            let kernel = match width {
                Width::Byte => IntegerKernel::Copy { fill: fill.map(|q| q as u8), parts },
                Width::Word => IntegerKernel::Words(WordKernel::Copy { fill, parts }),
            };
            (kernel, integer.inputs.iter().map(|x| !x.keeps(to)).collect())
        }
    };
    for (i, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
        let shape = b.shape_of(inputs[i]).to_vec();
        let y = b.room(width.dtype(), shape)?;
        b.emit(id, Kernel::Integer(requantized(integer.inputs[i].scaled)), vec![Some(inputs[i])], vec![y]);
        inputs[i] = y;
    }
    match kernel {
        IntegerKernel::Words(kernel) => emit_words(b, id, integer, kernel, inputs),
        kernel => emit(b, id, integer, kernel, inputs),
    }
}

/// What an operator computes on.
fn width(integer: &IntegerNode) -> Width {
    if integer.is_wide() { Width::Word } else { Width::Byte }
}

/// A transposition of integers as they are held.
fn permute(width: Width, shape: Vec<usize>, permutation: Vec<usize>) -> IntegerKernel {
    match width {
        Width::Byte => IntegerKernel::Permute { shape, permutation },
        Width::Word => IntegerKernel::Words(WordKernel::Permute { shape, permutation }),
    }
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
            let width = b.dtype(node.outputs[0]).and_then(Width::of).ok_or_else(unplanned)?;
            b.emit(id, Kernel::Integer(permute(width, shape, permutation)), vec![Some(x)], vec![y]);
        }
        Some(Movement::Copy { .. }) | None => return Ok(false),
    }
    Ok(true)
}

/// The node as it is, on dequantized inputs, for shapes that no kernel on integers takes.
fn in_floats(b: &mut Builder<'_>, id: NodeId, node: &Node, integer: &IntegerNode, inputs: &[SlotId]) -> Result<()> {
    let Output::Integers { value, to } = integer.output else { return Err(unplanned()) };
    // As the operator has them, whatever they were held as before.
    let width = width(integer);
    let mut operands = Vec::with_capacity(node.inputs.len());
    for (i, input) in node.inputs.iter().enumerate() {
        operands.push(match (integer.inputs.get(i), inputs.get(i)) {
            (Some(x), Some(&slot)) => {
                let real = b.temporary(b.shape_of(slot).to_vec())?;
                b.emit(id, Kernel::Integer(IntegerKernel::Dequantize(Scaled { width, ..x.scaled })), vec![Some(slot)], vec![real]);
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
    let interleaved = if scaled.width == Width::Byte { interleaved(b, output)? } else { None };
    let x = b.slot(x)?;
    let (kernel, output) = match interleaved {
        Some((transpose, output, dims)) => {
            b.absorb(transpose);
            (IntegerKernel::Interleave { dims, to: scaled.bytes() }, output)
        }
        None => (IntegerKernel::Quantize(scaled), output),
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
