//! Whole files: graphs in the text form are written and read back; the operators of the file, what comes
//! back, and errors are checked.
//!
//! `float.txt` and `quantized.txt` hold one graph per block, under `=== name: OPERATORS…`. To add a case, add a block.

mod errors;
mod hostile;
mod real_files;

use std::collections::BTreeSet;

use bytes::Bytes;
use fewbit_ir::{Dim, Graph, Model, Signature};
use fewbit_tensor::DType;

use crate::flat::File;
use crate::{WriteOptions, read, schema, supports, write};

const FLOAT: &str = include_str!("float.txt");
const QUANTIZED: &str = include_str!("quantized.txt");

/// A graph of a test with what its file should hold.
struct Case {
    name: &'static str,
    operators: &'static str,
    graph: Graph,
}

fn cases(text: &'static str) -> Vec<Case> {
    text.split("=== ").skip(1).map(case).collect()
}

fn case(block: &'static str) -> Case {
    let (header, body) = block.split_once('\n').unwrap();
    let (name, operators) = header.split_once(": ").unwrap();
    Case { name, operators, graph: graph(name, body) }
}

fn graph(name: &str, body: &str) -> Graph {
    let mut graph: Graph = body.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
    fewbit_ir::infer::infer(&mut graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    graph
}

fn model(graph: Graph) -> Model {
    Model { graph, ..Model::default() }
}

fn bytes_of(graph: &Graph) -> Vec<u8> {
    write(&model(graph.clone()), &WriteOptions::default()).unwrap_or_else(|e| panic!("{graph}\n{e}"))
}

fn file(bytes: &[u8]) -> schema::Model {
    File::new(Bytes::copy_from_slice(bytes)).root().unwrap()
}

fn operators(file: &schema::Model) -> Vec<String> {
    let code = |o: &schema::Operator| file.operator_codes[o.opcode_index as usize].builtin().name();
    file.subgraphs[0].operators.iter().map(code).collect()
}

/// Writes and reads a graph; the interface must stay, and what is read must infer the same output types. Returns
/// complaints.
fn check(case: &Case) -> Vec<String> {
    let mut complaints = Vec::new();
    for (id, node) in case.graph.nodes() {
        if let Err(e) = supports(&case.graph, id) {
            complaints.push(format!("{}: supports '{}': {e}", case.name, node.name));
        }
    }
    let bytes = bytes_of(&case.graph);
    let written = operators(&file(&bytes)).join(" ");
    if written != case.operators {
        complaints.push(format!("{}: wrote {written}, expected {}", case.name, case.operators));
    }
    let mut back = read(bytes.into()).unwrap_or_else(|e| panic!("{}: {e}", case.name)).graph;
    if let Err(e) = fewbit_ir::infer::infer(&mut back) {
        complaints.push(format!("{}: read back: {e}\n{back}", case.name));
    }
    if interface(&case.graph) != interface(&back) {
        complaints.push(format!("{}: interface {:?} became {:?}", case.name, interface(&case.graph), interface(&back)));
    }
    complaints
}

/// Names and types of inputs and outputs; a dynamic batch is 1.
fn interface(graph: &Graph) -> Vec<(String, DType, Vec<usize>)> {
    let one = |id: &fewbit_ir::ValueId| {
        let value = graph.value(*id);
        let ty = value.ty.clone().unwrap();
        let dims = ty.dims.unwrap().iter().map(|d| d.known().unwrap_or(1)).collect();
        (value.name.clone(), ty.dtype, dims)
    };
    graph.inputs.iter().chain(&graph.outputs).map(one).collect()
}

#[test]
fn float_graphs_become_the_expected_operators_and_come_back() {
    let complaints: Vec<String> = cases(FLOAT).iter().flat_map(check).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn quantized_graphs_become_the_expected_operators_and_come_back() {
    let complaints: Vec<String> = cases(QUANTIZED).iter().flat_map(check).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn names_of_cases_are_unique() {
    let all: Vec<_> = cases(FLOAT).into_iter().chain(cases(QUANTIZED)).map(|c| c.name).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn writing_is_deterministic_and_a_fixed_point() {
    for case in cases(FLOAT).into_iter().chain(cases(QUANTIZED)) {
        let bytes = bytes_of(&case.graph);
        assert_eq!(bytes, bytes_of(&case.graph), "{}", case.name);
        let mut once = read(bytes.into()).unwrap().graph;
        fewbit_ir::infer::infer(&mut once).unwrap();
        let again = bytes_of(&once);
        let mut twice = read(again.clone().into()).unwrap().graph;
        fewbit_ir::infer::infer(&mut twice).unwrap();
        // Casts of indices may come and go with the types that a reader declares.
        let lasting = |bytes: &[u8]| operators(&file(bytes)).into_iter().filter(|o| o != "CAST").collect::<Vec<_>>();
        assert_eq!(lasting(&again), lasting(&bytes_of(&twice)), "{}", case.name);
    }
}

#[test]
fn files_start_as_runtimes_expect() {
    let bytes = bytes_of(&graph("relu", "input x: f32[2]\ny = Unary \"Relu\" (x)\noutput y"));
    assert_eq!(&bytes[4..8], b"TFL3");
    let root = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert!(root < bytes.len() && root.is_multiple_of(4));
    let file = file(&bytes);
    assert_eq!(file.version, schema::VERSION);
    assert!(file.buffers[0].data.is_empty());
    assert!(file.subgraphs[0].tensors.iter().all(|t| t.has_rank && t.buffer == 0));
    assert!(file.metadata.unwrap().iter().any(|m| m.name == "min_runtime_version"));
}

const DENSE: &str = "input x: f32[N,4]
const w: f32[3,4] = random 1
y = Gemm {\"alpha\":1.0,\"beta\":1.0,\"trans_a\":false,\"trans_b\":true} (x, w)
output y";

#[test]
fn a_dynamic_batch_is_one_that_may_be_resized() {
    let bytes = bytes_of(&graph("dense", DENSE));
    let tensor = |name: &str| file(&bytes).subgraphs[0].tensors.iter().find(|t| t.name == name).unwrap().clone();
    for name in ["x", "y"] {
        assert_eq!((tensor(name).shape[0], tensor(name).shape_signature.unwrap()[0]), (1, -1), "{name}");
    }
    assert_eq!(tensor("w").shape_signature, None);
    let back = read(bytes.into()).unwrap().graph;
    let dims = back.value(back.inputs[0]).ty.clone().unwrap().dims.unwrap();
    assert_eq!(dims, [Dim::Symbol("batch".into()), Dim::Known(4)]);
}

#[test]
fn what_surrounds_the_graph_survives() {
    let mut model = model(graph("dense", DENSE));
    model.metadata = vec![("description".into(), "a test".into()), ("author".into(), "nobody".into())];
    model.signatures = vec![Signature { key: "serve".into(), inputs: vec!["in".into()], outputs: vec!["out".into()] }];
    let back = read(write(&model, &WriteOptions::default()).unwrap().into()).unwrap();
    assert_eq!(back.signatures, model.signatures);
    for entry in &model.metadata {
        assert!(back.metadata.contains(entry), "{entry:?} of {:?}", back.metadata);
    }
    assert_eq!(write(&back, &WriteOptions::default()).unwrap(), write(&model, &WriteOptions::default()).unwrap());
}

#[test]
fn weights_behind_the_flatbuffer_are_the_same_weights() {
    let model = model(graph("dense", DENSE));
    let bytes = write(&model, &WriteOptions { external_weights_above: 0 }).unwrap();
    let file = file(&bytes);
    assert!(file.buffers.iter().all(|b| b.data.is_empty() && b.offset % 16 == 0));
    assert!(file.buffers.iter().any(|b| b.size == 48));
    let back = read(bytes.into()).unwrap().graph;
    let w = back.find_value("w").unwrap();
    assert_eq!(back.constant(w), model.graph.constant(model.graph.find_value("w").unwrap()));
}

#[test]
fn equal_constants_share_a_buffer_and_equal_vectors_an_offset() {
    let text = "input x: f32[1,4]
const w: f32[4,4] = random 1
const v: f32[4,4] = random 1
y = Gemm {\"alpha\":1.0,\"beta\":1.0,\"trans_a\":false,\"trans_b\":true} (x, w)
z = Gemm {\"alpha\":1.0,\"beta\":1.0,\"trans_a\":false,\"trans_b\":true} (y, v)
output z";
    let bytes = bytes_of(&graph("twins", text));
    let file = file(&bytes);
    let buffer = |name: &str| file.subgraphs[0].tensors.iter().find(|t| t.name == name).unwrap().buffer;
    assert_eq!(buffer("w"), buffer("v"));
    let one = bytes_of(&graph("single", &text.replace("(y, v)", "(y, w)")));
    assert!(bytes.len() < one.len() + 256, "{} against {}", bytes.len(), one.len());
}

#[test]
fn quantization_becomes_parameters_of_tensors() {
    let case = cases(QUANTIZED).into_iter().find(|c| c.name == "qconv").unwrap();
    let file = file(&bytes_of(&case.graph));
    let tensor = |name: &str| file.subgraphs[0].tensors.iter().find(|t| t.name == name).unwrap().clone();
    let weight = tensor("w");
    let quant = weight.quantization.unwrap();
    assert_eq!((weight.dtype.dtype().unwrap(), weight.shape.as_slice()), (DType::I8, [4, 3, 3, 3].as_slice()));
    assert_eq!((quant.scale.unwrap().len(), quant.zero_point.unwrap(), quant.quantized_dimension), (4, vec![0; 4], 0));
    let quantized = |t: &&schema::Tensor| t.dtype.dtype().unwrap() == DType::I32 && t.quantization.is_some();
    let bias = file.subgraphs[0].tensors.iter().find(quantized).unwrap();
    let scales = bias.quantization.clone().unwrap().scale.unwrap();
    assert_eq!(scales, [0.001_f32, 0.002, 0.003, 0.004].map(|s| s * 0.03));
    assert_eq!(tensor("q0").quantization.unwrap().zero_point, Some(vec![5]));
    assert!(file.subgraphs[0].tensors.iter().all(|t| t.name != "x0"), "the dequantized input is no tensor");
}

#[test]
fn what_comes_out_of_a_quantization_names_its_tensor() {
    let body = r#"input q: i8[1,4]
const s: f32[] = [0.5]
const z: i8[] = [0]
x = DequantizeLinear {"axis":0} (q, s, z)
y_float = Unary "Relu" (x)
y_quantized = QuantizeLinear {"axis":0,"to":"i8"} (y_float, s, z)
y = DequantizeLinear {"axis":0} (y_quantized, s, z)
"#;
    let integers = r#"w_float = Unary "Relu" (y)
w_quantized = QuantizeLinear {"axis":0,"to":"i8"} (w_float, s, z)
output w_quantized
"#;
    let reals = "w = Unary \"Exp\" (y)\noutput w\n";
    for (rest, name) in [(integers, "y"), (reals, "y_int8")] {
        let graph = graph("names", &format!("{body}{rest}"));
        let file = file(&bytes_of(&graph));
        let quantized: Vec<_> =
            file.subgraphs[0].tensors.iter().filter(|t| t.dtype.dtype().unwrap() == DType::I8).map(|t| t.name.as_str()).collect();
        assert!(quantized.contains(&name), "{quantized:?}");
    }
}

#[test]
fn unknown_operators_survive() {
    let text = "input x: f32[2,3]
y = Custom {\"domain\":\"tflite\",\"name\":\"REVERSE_SEQUENCE\"} (x)
z: f32[2,3] = Custom {\"domain\":\"tflite\",\"name\":\"Mine\",\"attributes\":[[\"custom_code\",[77,105,110,101]],[\"custom_options\",[1,2,3]]]} (y)
output z";
    let mut graph = graph("custom", text);
    let options = schema::Options::from(schema::options::ReverseSequence { seq_dim: 1, batch_dim: 0 });
    for id in graph.node_ids() {
        if let fewbit_ir::Op::Custom(op) = &mut graph.node_mut(id).op
            && op.name == "REVERSE_SEQUENCE"
        {
            op.attributes.push(("builtin_options".into(), options.to_bytes().unwrap()));
        }
        let output = graph.node(id).outputs[0];
        graph.value_mut(output).ty = graph.value(graph.inputs[0]).ty.clone();
    }
    let bytes = bytes_of(&graph);
    let file = file(&bytes);
    assert_eq!(operators(&file), ["REVERSE_SEQUENCE", "CUSTOM"]);
    assert_eq!(file.subgraphs[0].operators[0].options, options);
    assert_eq!(file.subgraphs[0].operators[1].custom_options.as_ref(), [1, 2, 3]);
    let back = read(bytes.clone().into()).unwrap().graph;
    let names: Vec<_> = back.nodes().map(|(_, n)| n.op.name().to_owned()).collect();
    assert_eq!(names, ["REVERSE_SEQUENCE", "Mine"]);
    assert_eq!(bytes_of(&back), bytes);
}
