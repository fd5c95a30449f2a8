//! A plain interpreter of graphs over [`evaluate`].

use fewbit_ir::{Definition, Graph, ValueId};
use fewbit_tensor::Tensor;

use super::evaluate;
use crate::{Error, ErrorKind, Result};

/// Evaluates a graph node by node, and lets go of each tensor after its last use.
///
/// `inputs` are in the order of [`Graph::inputs`]; the results are in the order of [`Graph::outputs`].
pub fn interpret(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    if inputs.len() != graph.inputs.len() {
        let message = format!("graph '{}' has {} inputs, but {} tensors are given", graph.name, graph.inputs.len(), inputs.len());
        return Err(Error::new(ErrorKind::Input, message));
    }
    let mut values = Values { graph, computed: vec![None; graph.value_capacity()] };
    for (id, tensor) in graph.inputs.iter().zip(inputs) {
        values.computed[id.index()] = Some(tensor.clone());
    }
    let mut uses_left = use_counts(graph);
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let arguments = node.inputs.iter().map(|v| v.map(|v| values.get(v)).transpose()).collect::<Result<Vec<_>>>();
        let results = arguments.and_then(|a| evaluate(&node.op, &a, node.outputs.len())).map_err(|e| e.at(node))?;
        for (output, tensor) in node.outputs.iter().zip(results) {
            if uses_left[output.index()] > 0 {
                values.computed[output.index()] = Some(tensor);
            }
        }
        for input in node.inputs.iter().flatten() {
            let left = &mut uses_left[input.index()];
            *left = left.saturating_sub(1);
            if *left == 0 {
                values.computed[input.index()] = None;
            }
        }
    }
    graph.outputs.iter().map(|v| values.get(*v)).collect()
}

/// How often each value is used, by nodes and as graph output.
fn use_counts(graph: &Graph) -> Vec<usize> {
    let mut counts = vec![0; graph.value_capacity()];
    let used = graph.nodes().flat_map(|(_, n)| n.inputs.iter().flatten()).chain(&graph.outputs);
    for value in used {
        counts[value.index()] += 1;
    }
    counts
}

struct Values<'a> {
    graph: &'a Graph,
    computed: Vec<Option<Tensor>>,
}

impl Values<'_> {
    fn get(&self, id: ValueId) -> Result<Tensor> {
        let value = self.graph.value(id);
        let tensor = match &value.definition {
            Definition::Constant(tensor) => Some(tensor),
            Definition::Input | Definition::Node { .. } | Definition::Removed => self.computed[id.index()].as_ref(),
        };
        tensor.cloned().ok_or_else(|| Error::new(ErrorKind::Graph, format!("value '{}' is used but never computed", value.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewbit_ir::Op;

    #[test]
    fn the_number_of_inputs_is_checked_and_constants_are_outputs_too() {
        let mut g = Graph::new("g");
        let x = g.add_input("x", None);
        let y = g.apply("y", Op::Identity, &[x]);
        let c = g.add_constant("c", Tensor::scalar(2.0_f32));
        g.outputs = vec![y, c, x];
        let three = Tensor::scalar(3.0_f32);
        assert_eq!(interpret(&g, std::slice::from_ref(&three)).unwrap(), [three.clone(), Tensor::scalar(2.0_f32), three]);
        assert_eq!(interpret(&g, &[]).unwrap_err().kind(), ErrorKind::Input);
    }
}
