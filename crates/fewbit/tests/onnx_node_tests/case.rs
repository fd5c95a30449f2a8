//! One case: a model, and sets of inputs and expected outputs.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fewbit_ir::{Graph, Op};
use fewbit_onnx::{NoExternalData, read};
use fewbit_runtime::interpret;
use fewbit_tensor::Tensor;

use crate::compare::expect_close;

/// How a case ended.
pub(crate) enum Outcome {
    /// Every output is as expected.
    Passed,
    /// The model holds this operator, which is kept as it was read.
    NotExecuted(String),
    /// What went wrong.
    Failed(String),
}

pub(crate) struct Case {
    folder: PathBuf,
}

impl Case {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.join(name) }
    }

    pub(crate) fn run(&self) -> Outcome {
        let graph = match self.model() {
            Ok(graph) => graph,
            Err(why) => return Outcome::Failed(why),
        };
        if let Some(operator) = custom_operator(&graph) {
            return Outcome::NotExecuted(operator);
        }
        match self.run_sets(&graph) {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(why),
        }
    }

    fn model(&self) -> Result<Graph, String> {
        let bytes = file(&self.folder.join("model.onnx"))?;
        Ok(read(bytes, &NoExternalData).map_err(|e| format!("not read: {e}"))?.model.graph)
    }

    fn run_sets(&self, graph: &Graph) -> Result<(), String> {
        let sets = (0..).map(|n| self.folder.join(format!("test_data_set_{n}"))).take_while(|set| set.is_dir());
        for set in sets {
            let inputs = tensors(&set, "input")?;
            let outputs = interpret(graph, &inputs).map_err(|e| e.to_string())?;
            let expected = tensors(&set, "output")?;
            if outputs.len() != expected.len() {
                return Err(format!("{} outputs, not {}", outputs.len(), expected.len()));
            }
            for (i, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
                expect_close(output, expected).map_err(|e| format!("output {i}: {e}"))?;
            }
        }
        Ok(())
    }
}

/// The name of an operator in the graph, or in a graph within it, that is not understood.
fn custom_operator(graph: &Graph) -> Option<String> {
    graph.nodes().find_map(|(_, node)| match &node.op {
        Op::Custom(op) => Some(op.name.clone()),
        Op::If(op) => custom_operator(&op.then_branch).or_else(|| custom_operator(&op.else_branch)),
        Op::Loop(op) => custom_operator(&op.body),
        _ => None,
    })
}

fn file(path: &Path) -> Result<Bytes, String> {
    std::fs::read(path).map(Bytes::from).map_err(|e| format!("{}: {e}", path.display()))
}

/// `input_0.pb`, `input_1.pb`, … or the same of outputs.
fn tensors(set: &Path, stem: &str) -> Result<Vec<Tensor>, String> {
    let paths = (0..).map(|i| set.join(format!("{stem}_{i}.pb"))).take_while(|path| path.is_file());
    paths.map(|path| tensor(&file(&path)?)).collect()
}

/// A tensor message, read as the initializer of a model that has nothing else.
fn tensor(message: &[u8]) -> Result<Tensor, String> {
    let renamed = [message, &field(8, b"t")].concat();
    let graph = [field(5, &renamed), field(12, &field(1, b"t"))].concat();
    let model = field(7, &graph);
    let graph = read(model.into(), &NoExternalData).map_err(|e| format!("a tensor of the data set is not read: {e}"))?.model.graph;
    let output = graph.outputs.first().and_then(|output| graph.constant(*output));
    output.cloned().ok_or_else(|| "a tensor of the data set is not read".to_owned())
}

/// A length-delimited protobuf field. Of a field that a message holds twice the last counts.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(content);
    bytes
}
