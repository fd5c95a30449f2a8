//! What follows about a value's type from the nodes before it, without full shape inference: as much as the meaning
//! of an operator can depend on while it is read or written.

use fewbit_ir::{Definition, Graph, Node, Op, TensorType, ValueId};
use fewbit_tensor::DType;

/// Nodes that are followed upstream.
const MAX_STEPS: usize = 1024;

/// Follows the first inputs upstream until `of_type` or `of_node` knows the answer. A node says that its first input
/// knows better with [`Step::Same`].
fn follow<T>(
    graph: &Graph,
    mut value: ValueId,
    of_type: impl Fn(&TensorType) -> Option<T>,
    of_node: impl Fn(&Graph, &Node, usize) -> Step<T>,
) -> Option<T> {
    for _ in 0..MAX_STEPS {
        let v = graph.value(value);
        if let Some(answer) = v.ty.as_ref().and_then(&of_type) {
            return Some(answer);
        }
        let Definition::Node { node, index } = v.definition else { return None };
        let node = graph.node(node);
        match of_node(graph, node, index) {
            Step::Known(answer) => return Some(answer),
            Step::Unknown => return None,
            Step::Same(input) => value = node.input(input)?,
        }
    }
    None
}

enum Step<T> {
    Known(T),
    Unknown,
    /// What holds for the input at this place.
    Same(usize),
}

/// The element type of a value.
pub(crate) fn dtype(graph: &Graph, value: ValueId) -> Option<DType> {
    follow(graph, value, |ty| Some(ty.dtype), |_, node, index| dtype_of_output(node, index))
}

fn dtype_of_output(node: &Node, index: usize) -> Step<DType> {
    match &node.op {
        Op::Cast(cast) => Step::Known(cast.to),
        Op::QuantizeLinear(op) => Step::Known(op.to),
        Op::DequantizeLinear(_) | Op::Where | Op::ConstantOfShape => Step::Same(1),
        Op::OneHot(_) => Step::Same(2),
        Op::DynamicQuantizeLinear => Step::Known(if index == 1 { DType::F32 } else { DType::U8 }),
        Op::ConvInteger(_) | Op::MatMulInteger => Step::Known(DType::I32),
        Op::Shape(_) | Op::Size | Op::NonZero | Op::ArgReduce(_) => Step::Known(DType::I64),
        Op::Binary(op) if op.kind.is_comparison() => Step::Known(DType::Bool),
        Op::TopK(_) | Op::Pool(_) if index == 1 => Step::Known(DType::I64),
        Op::Dropout if index == 1 => Step::Known(DType::Bool),
        Op::If(op) => known(dtype_of_graph(&op.then_branch, index)),
        Op::Loop(op) => known(dtype_of_graph(&op.body, index.saturating_add(1))),
        Op::Custom(_) => Step::Unknown,
        Op::Unary(op) if matches!(op.name(), "IsNaN" | "IsInf") => Step::Known(DType::Bool),
        _ => Step::Same(0),
    }
}

fn dtype_of_graph(graph: &Graph, output: usize) -> Option<DType> {
    dtype(graph, *graph.outputs.get(output)?)
}

fn known<T>(answer: Option<T>) -> Step<T> {
    answer.map_or(Step::Unknown, Step::Known)
}

/// The number of dimensions of a value.
pub(crate) fn rank(graph: &Graph, value: ValueId) -> Option<usize> {
    follow(graph, value, TensorType::rank, |graph, node, _| rank_of_output(graph, node))
}

fn rank_of_output(graph: &Graph, node: &Node) -> Step<usize> {
    let elements = |index| graph.constant_input(node, index).map_or(Step::Unknown, |t| Step::Known(t.len()));
    match &node.op {
        Op::Gemm(_) | Op::Flatten(_) | Op::NonZero => Step::Known(2),
        Op::Shape(_) | Op::Range => Step::Known(1),
        Op::Size => Step::Known(0),
        Op::Reshape(_) => elements(1),
        Op::ConstantOfShape => elements(0),
        Op::Transpose(op) => op.perm.as_ref().map_or(Step::Same(0), |p| Step::Known(p.len())),
        Op::Reduce(op) if !op.keep_dims => Step::Unknown,
        Op::ArgReduce(op) if !op.keep_dims => Step::Unknown,
        Op::Unary(_)
        | Op::Clip
        | Op::PRelu
        | Op::Cast(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::BatchNormalization(_)
        | Op::LayerNormalization(_)
        | Op::InstanceNormalization(_)
        | Op::GroupNormalization(_)
        | Op::RmsNormalization(_)
        | Op::LpNormalization(_)
        | Op::Lrn(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Hardmax(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::CumSum(_)
        | Op::TopK(_)
        | Op::Identity
        | Op::Dropout
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::Tile
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_)
        | Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_) => Step::Same(0),
        Op::GatherElements(_) => Step::Same(1),
        // Two operands broadcast; a constant of one element cannot raise the rank.
        Op::Binary(_) => match (graph.constant_input(node, 0), graph.constant_input(node, 1)) {
            (_, Some(t)) if t.rank() <= 1 => Step::Same(0),
            (Some(t), _) if t.rank() <= 1 => Step::Same(1),
            _ => Step::Unknown,
        },
        // A matrix product with a matrix keeps the rank of the other operand, unless that is a vector.
        Op::MatMul(_) => match graph.constant_input(node, 1) {
            Some(t) if t.rank() == 2 => Step::Same(0),
            _ => Step::Unknown,
        },
        _ => Step::Unknown,
    }
}

/// The shape of a value, where it is the same as that of a value whose shape is known.
pub(crate) fn shape(graph: &Graph, value: ValueId) -> Option<Vec<usize>> {
    follow(graph, value, TensorType::shape, |_, node, _| match node.op {
        Op::QuantizeLinear(_) | Op::DequantizeLinear(_) | Op::Identity | Op::Cast(_) | Op::Unary(_) => Step::Same(0),
        _ => Step::Unknown,
    })
}
