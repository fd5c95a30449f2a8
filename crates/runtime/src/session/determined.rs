//! Which shapes follow from those of the graph's inputs, whatever the data are.
//!
//! In: a graph. Out: [`Determined`]. A plan knows the shapes of such values; others are known when they are computed.

use fewbit_ir::{Definition, Graph, NodeId, Op, ValueId};

/// The values whose shapes follow from those of the inputs.
pub(super) struct Determined {
    /// By [`ValueId::index`].
    shapes: Vec<bool>,
}

impl Determined {
    /// Looks at the nodes in topological order.
    pub(super) fn new(graph: &Graph, order: &[NodeId]) -> Self {
        let mut shapes = vec![true; graph.value_capacity()];
        // Whether a value's elements are known once shapes are.
        let mut elements = vec![false; graph.value_capacity()];
        for (id, value) in graph.values() {
            elements[id.index()] = matches!(value.definition, Definition::Constant(_));
        }
        for &id in order {
            let node = graph.node(id);
            let shaping = match &node.op {
                Op::NonZero | Op::If(_) | Op::Loop(_) | Op::Custom(_) => None,
                Op::ConstantOfShape => Some(0..1),
                Op::Range => Some(0..3),
                Op::Reshape(_) | Op::Squeeze | Op::Unsqueeze | Op::Expand | Op::Tile => Some(1..2),
                Op::TopK(_) | Op::Reduce(_) | Op::Split(_) | Op::OneHot(_) => Some(1..2),
                Op::Pad(_) | Op::Resize(_) => Some(1..4),
                Op::Slice => Some(1..5),
                _ => Some(0..0),
            };
            let of_inputs = |known: &[bool]| node.inputs.iter().flatten().all(|v| known[v.index()]);
            let shape = shaping.is_some_and(|mut inputs| inputs.all(|i| node.input(i).is_none_or(|v| elements[v.index()])));
            let shape = shape && of_inputs(&shapes);
            let known = shape && (matches!(node.op, Op::Shape(_) | Op::Size) || of_inputs(&elements));
            for output in &node.outputs {
                shapes[output.index()] = shape;
                elements[output.index()] = known;
            }
        }
        Self { shapes }
    }

    /// Whether the shape of a value follows.
    pub(super) fn shape(&self, value: ValueId) -> bool {
        self.shapes.get(value.index()).is_some_and(|known| *known)
    }

    /// Whether all shapes follow.
    pub(super) fn all(&self) -> bool {
        self.shapes.iter().all(|known| *known)
    }
}
