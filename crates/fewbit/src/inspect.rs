//! What a network consists of: operators, shapes, sizes, multiply-accumulates.

use std::collections::BTreeMap;

use fewbit_ir::{Dim, Graph, Op, TensorType, ValueId, quant_rule, rule::Role};
use serde::Serialize;

/// A network in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Inputs of the interface: name and type.
    pub inputs: Vec<(String, String)>,
    /// Outputs of the interface: name and type.
    pub outputs: Vec<(String, String)>,
    /// How often each operator occurs.
    pub operators: BTreeMap<String, usize>,
    /// The nodes in order of execution.
    pub nodes: Vec<NodeRow>,
    /// Elements of all constants.
    pub parameters: usize,
    /// Bytes of all constants.
    pub constant_bytes: usize,
    /// Bytes of constants by element type.
    pub bytes_by_dtype: BTreeMap<String, usize>,
    /// Multiply-accumulates of one run, of the nodes where they are known.
    pub macs: u64,
    /// Nodes whose multiply-accumulates depend on dimensions that are not known.
    pub unknown_macs: usize,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The type of its first output.
    pub output: String,
    /// Bytes of the constants that it reads.
    pub constant_bytes: usize,
    /// Its multiply-accumulates: 0 for what does not multiply, none where dimensions are not known.
    pub macs: Option<u64>,
}

/// Inspects a graph whose shapes are inferred. A dynamic batch counts as one.
pub fn inspect(graph: &Graph) -> Inspection {
    let ty = |v: ValueId| graph.value(v).ty.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let interface = |values: &[ValueId]| values.iter().map(|v| (graph.value(*v).name.clone(), ty(*v))).collect();
    let mut operators = BTreeMap::new();
    let mut nodes = Vec::new();
    for id in graph.topological_order().unwrap_or_default() {
        let node = graph.node(id);
        *operators.entry(node.op.name().to_owned()).or_insert(0) += 1;
        nodes.push(NodeRow {
            name: node.name.clone(),
            op: node.op.name().to_owned(),
            output: node.outputs.first().map_or_else(String::new, |v| ty(*v)),
            constant_bytes: node.inputs.iter().flatten().filter_map(|v| graph.constant(*v)).map(|t| t.bytes().len()).sum(),
            macs: macs(graph, node),
        });
    }
    let constants = || graph.values().filter_map(|(id, _)| graph.constant(id));
    let mut bytes_by_dtype = BTreeMap::new();
    for tensor in constants() {
        *bytes_by_dtype.entry(tensor.dtype().name().to_owned()).or_insert(0) += tensor.bytes().len();
    }
    Inspection {
        inputs: interface(&graph.inputs),
        outputs: interface(&graph.outputs),
        operators,
        parameters: constants().map(fewbit_tensor::Tensor::len).sum(),
        constant_bytes: constants().map(|t| t.bytes().len()).sum(),
        bytes_by_dtype,
        macs: nodes.iter().filter_map(|n| n.macs).sum(),
        unknown_macs: nodes.iter().filter(|n| n.macs.is_none()).count(),
        nodes,
    }
}

/// Elements of a value, with a first dimension that is not known counted as one.
fn elements(graph: &Graph, value: ValueId) -> Option<u64> {
    let dims = graph.value(value).ty.as_ref()?.dims.as_ref()?;
    dims.iter().enumerate().try_fold(1_u64, |n, (i, d)| match d {
        Dim::Known(d) => n.checked_mul(*d as u64),
        Dim::Symbol(_) | Dim::Unknown if i == 0 => Some(n),
        Dim::Symbol(_) | Dim::Unknown => None,
    })
}

/// Multiply-accumulates of a node: output elements times the elements of the weight that each of them takes.
fn macs(graph: &Graph, node: &fewbit_ir::Node) -> Option<u64> {
    let shape = |index: usize| node.input(index).and_then(|v| graph.value(v).ty.as_ref()).and_then(TensorType::shape);
    let output = || elements(graph, *node.outputs.first()?);
    let per_output = |shape: &[usize], axis: usize| {
        let others = shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, n)| *n as u64);
        others.fold(1_u64, u64::saturating_mul)
    };
    match (&node.op, quant_rule(&node.op).role(1)) {
        (Op::ConvTranspose(_), Role::Weight { .. }) => Some(elements(graph, node.input(0)?)?.saturating_mul(per_output(&shape(1)?, 0))),
        (Op::Conv(_) | Op::Gemm(_), Role::Weight { axis }) => Some(output()?.saturating_mul(per_output(&shape(1)?, axis))),
        (Op::MatMul(_), _) => {
            let depth = shape(1).map(|s| if s.len() > 1 { s[s.len() - 2] } else { s.first().copied().unwrap_or(1) })?;
            Some(output()?.saturating_mul(depth as u64))
        }
        (Op::ConvInteger(_), _) => Some(output()?.saturating_mul(per_output(&shape(1)?, 0))),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_network_in_numbers() {
        let mut graph: Graph = "input x: f32[N,8,8,3]
            const w: f32[4,3,3,3] = random 1
            const d: f32[256,10] = random 2
            y = Conv {\"window\":{\"strides\":[1,1],\"dilations\":[1,1],\"padding\":\"SameUpper\"},\"groups\":1,\"layout\":\"ChannelsLast\"} (x, w)
            f = Flatten {\"axis\":1} (y)
            z = MatMul {} (f, d)
            output z"
            .parse()
            .unwrap();
        fewbit_ir::infer::infer(&mut graph).unwrap();
        let i = inspect(&graph);
        assert_eq!(i.nodes.iter().map(|n| n.macs).collect::<Vec<_>>(), [Some(64 * 4 * 27), Some(0), Some(2560)]);
        assert_eq!((i.macs, i.unknown_macs, i.parameters), (6912 + 2560, 0, 108 + 2560));
    }
}
