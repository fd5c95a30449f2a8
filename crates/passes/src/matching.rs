//! Small questions that patterns ask of a graph.

use fewbit_ir::{Graph, Node, NodeId, Op, Use, ValueId};

/// A graph with its uses, as they were when the pass began or last refreshed them.
pub(crate) struct Matcher {
    uses: Vec<Vec<Use>>,
}

impl Matcher {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self { uses: graph.uses() }
    }

    pub(crate) fn uses(&self, value: ValueId) -> &[Use] {
        self.uses.get(value.index()).map_or(&[], Vec::as_slice)
    }

    /// The only use of a value that is no output of the graph.
    pub(crate) fn only_use(&self, graph: &Graph, value: ValueId) -> Option<Use> {
        match self.uses(value) {
            [u] if !graph.is_output(value) && graph.contains(u.node) => Some(*u),
            _ => None,
        }
    }
}

/// The node that computes an input of `node`.
pub(crate) fn input_node(graph: &Graph, node: &Node, index: usize) -> Option<NodeId> {
    graph.producer(node.input(index)?)
}

/// The value of a constant that has one element.
pub(crate) fn scalar(graph: &Graph, value: ValueId) -> Option<f32> {
    let tensor = graph.constant(value)?;
    if tensor.len() == 1 { tensor.to_f32().first().copied() } else { None }
}

/// For a node of two inputs of which one is a constant scalar: the other input and the scalar.
pub(crate) fn with_scalar(graph: &Graph, node: &Node) -> Option<(ValueId, f32)> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    scalar(graph, b).map(|s| (a, s)).or_else(|| scalar(graph, a).map(|s| (b, s)))
}

/// The same where the constant must be the second input, as for subtraction and division.
pub(crate) fn by_scalar(graph: &Graph, node: &Node) -> Option<(ValueId, f32)> {
    Some((node.input(0)?, scalar(graph, node.input(1)?)?))
}

/// The elementwise operator of two inputs that computes a value, unfused.
pub(crate) fn binary(graph: &Graph, value: ValueId, kind: fewbit_ir::op::Binary) -> Option<&Node> {
    let node = graph.node(graph.producer(value)?);
    match &node.op {
        Op::Binary(op) if op.kind == kind && op.activation.is_none() => Some(node),
        _ => None,
    }
}

/// Whether two numbers agree to the precision with which files spell constants such as √2.
pub(crate) fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * b.abs()
}
