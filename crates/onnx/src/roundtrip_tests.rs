//! Whole models: control flow, functions, kept operators, external data, and what hostile bytes do.

use std::collections::BTreeMap;

use bytes::Bytes;
use fewbit_ir::{Model, Op};
use prost::Message;

use crate::proto::{FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto, TypeValue, ValueInfoProto};
use crate::testing::{canonical, decode, model, model_with, node, without_interface};
use crate::{Decoded, Encoded, ErrorKind, ExternalData, NoExternalData, WriteOptions, limits, read, write};

fn encode(model: &Model) -> Encoded {
    write(model, &WriteOptions::default()).unwrap()
}

/// Reads, writes, and reads again: the graph stays the same.
fn check_round_trip(proto: &ModelProto) -> Decoded {
    let first = decode(proto).unwrap();
    let encoded = encode(&first.model);
    let second = read(encoded.model.clone().into(), &NoExternalData).unwrap();
    assert_eq!(canonical(&second.model.graph), canonical(&first.model.graph));
    assert_eq!(encode(&second.model).model, encoded.model, "the second writing changed bytes");
    first
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

const BRANCHES: [(&str, &str); 2] = [("then", "t = Relu (a)\noutput t"), ("else", "e0 = Mul (a, k)\ne = Add (e0, w)\noutput e")];

fn branching() -> ModelProto {
    let large: String = format!("const w: f32[400] = {:?}", vec![0.5; 400]);
    let text = format!(
        "input c: bool[]\ninput x: f32[400]\nconst k: f32[] = [2]\n{large}\na = Abs (x)\n\
         y = If {{\"then_branch\": {{\"graph\": \"then\"}}, \"else_branch\": {{\"graph\": \"else\"}}}} (c)\nz = Mul (y, k)\noutput z"
    );
    model_with(13, &text, &BRANCHES)
}

#[test]
fn branches_take_what_they_capture_as_inputs_and_copy_small_constants() {
    let decoded = check_round_trip(&branching());
    let graph = &decoded.model.graph;
    let (_, node) = graph.nodes().find(|(_, n)| matches!(n.op, Op::If(_))).unwrap();
    let inputs: Vec<_> = node.inputs.iter().flatten().map(|v| graph.value(*v).name.as_str()).collect();
    assert_eq!(inputs, ["c", "a", "w"]);
    let Op::If(op) = &node.op else { unreachable!() };
    for branch in [&op.then_branch, &op.else_branch] {
        assert_eq!(branch.inputs.iter().map(|v| branch.value(*v).name.as_str()).collect::<Vec<_>>(), ["a", "w"]);
    }
    assert_eq!(op.else_branch.constant(op.else_branch.find_value("k").unwrap()).unwrap().to_f64_vec(), [2.0]);
    // The copy stands for the constant outside: it is written once.
    let proto = ModelProto::decode(encode(&decoded.model).model.as_slice()).unwrap();
    let mut written: Vec<_> = proto.graph.as_ref().unwrap().initializer.iter().map(TensorProto::name).collect();
    written.sort_unstable();
    assert_eq!(written, ["k", "w"]);
}

#[test]
fn loops_carry_scan_and_capture() {
    let body = [(
        "body",
        "input i: i64[]\ninput go: bool[]\ninput s: f32[2]\ns1 = Add (s, x)\ngo1 = Identity (go)\ns2 = Mul (s1, s1)\noutput go1\noutput s1\noutput s2",
    )];
    let text = "input n: i64[]\ninput x: f32[2]\nlast, all = Loop {\"body\": {\"graph\": \"body\"}} (n, , x)\noutput last\noutput all";
    let decoded = check_round_trip(&model_with(13, text, &body));
    let Op::Loop(op) = &decoded.model.graph.nodes().next().unwrap().1.op else { panic!("not a loop") };
    assert_eq!((op.captures, op.body.inputs.len(), op.body.outputs.len()), (1, 4, 3));
    for (change, message) in [
        (("(n, , x)", "(n)"), "its body takes 3 values where 2 are given"),
        (("last, all =", "last ="), "its body gives 2 values where 1 are wanted"),
    ] {
        let text = text.replace(change.0, change.1).replace("output all", "");
        let e = decode(&model_with(13, &text, &body)).unwrap_err();
        assert!(e.to_string().ends_with(message), "{e}");
    }
}

#[test]
fn graphs_nested_too_deeply_are_refused() {
    let names: Vec<String> = (0..20).map(|i| format!("g{i}")).collect();
    let texts: Vec<String> = (0..20)
        .map(|i| match i {
            0 => "r = Relu (x)\noutput r".to_owned(),
            i => format!(
                "r{i} = If {{\"then_branch\": {{\"graph\": \"g{0}\"}}, \"else_branch\": {{\"graph\": \"g0\"}}}} (c)\noutput r{i}",
                i - 1
            ),
        })
        .collect();
    let graphs: Vec<(&str, &str)> = names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let text = |depth| format!("input c: bool[]\ninput x: f32[2]\n{}", texts[depth]);
    check_round_trip(&model_with(13, &text(limits::MAX_GRAPH_DEPTH), &graphs));
    let e = decode(&model_with(13, &text(limits::MAX_GRAPH_DEPTH + 1), &graphs)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit);
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], attributes: &[&str], nodes: &[&str]) -> FunctionProto {
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: list(inputs),
        output: list(outputs),
        attribute: list(attributes),
        node: nodes.iter().map(|n| node(n, &[])).collect(),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(13) }],
        ..FunctionProto::default()
    }
}

#[test]
fn functions_are_written_out_with_the_attributes_of_their_call() {
    let mut proto = model(13, "input x: f32[3]\ny, y2 = local.Outer {\"slope\": 0.25} (x) \"call\"\nz = Add (y, y2)\noutput z");
    proto.functions = vec![
        function("Inner", &["a", "b"], &["o"], &["s"], &["t = LeakyRelu {\"alpha\": {\"ref\": \"s\"}} (a)", "o = Identity (t)"]),
        function(
            "Outer",
            &["a"],
            &["o", "same"],
            &["slope"],
            &["o = local.Inner {\"s\": {\"ref\": \"slope\"}} (a)", "same = Identity (a)"],
        ),
    ];
    let decoded = check_round_trip(&proto);
    assert_eq!(
        without_interface(&decoded.model.graph.to_string()),
        "call/o/t = Unary {\"LeakyRelu\":{\"alpha\":0.25}} (x)\ny = Identity (call/o/t)\ny2 = Identity (x)\nz = Binary {\"kind\":\"Add\"} (y, y2)"
    );
}

#[test]
fn functions_without_end_are_refused() {
    let text = "input x: f32[3]\ny = local.F (x)\noutput y";
    let mut proto = model(13, text);
    proto.functions = vec![function("F", &["a"], &["o"], &[], &["o = local.F (a)"])];
    assert_eq!(decode(&proto).unwrap_err().kind(), ErrorKind::Limit);
    // Each level calls the next one often: the nodes are counted, not only the levels.
    let level = |i: usize| {
        let calls = format!(" = local.F{} (a)", i + 1);
        let nodes: Vec<&str> = ["o = Relu (a)"].into_iter().chain(std::iter::repeat_n(calls.as_str(), 32)).collect();
        function(&format!("F{i}"), &["a"], &["o"], &[], &nodes)
    };
    let mut proto = model(13, &text.replace(".F", ".F0"));
    proto.functions = (0..8).map(level).chain([function("F8", &["a"], &[], &[], &[])]).collect();
    assert_eq!(decode(&proto).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn kept_operators_keep_attributes_and_what_their_graphs_capture() {
    let body = [("body", "input s: f32[2]\ninput e: f32[2]\ns2 = Add (s, e)\no = Mul (s2, x)\noutput s2\noutput o")];
    let text = "input x: f32[2]\ninput xs: f32[3,2]\ny, z = Scan {\"body\": {\"graph\": \"body\"}, \"num_scan_inputs\": 1} (x, xs) \"scan\"\noutput z";
    let decoded = check_round_trip(&model_with(13, text, &body));
    let node = decoded.model.graph.nodes().next().unwrap().1;
    let Op::Custom(op) = &node.op else { panic!("not kept") };
    assert_eq!((op.captures, node.inputs.len()), (1, 3));
    assert_eq!(decoded.notes, ["Scan node 'scan': kept as it is: fewbit does not know this operator"]);
}

#[test]
fn initializers_that_are_inputs_are_constants_and_strings_are_kept() {
    let mut proto = model(
        13,
        "input x: f32[2]\ninput k: f32[]\nconst k: f32[] = [2]\ny = Mul (x, k)\nl = ai.onnx.ml.LabelEncoder (names)\noutput y\noutput l",
    );
    let graph = proto.graph.as_mut().unwrap();
    graph.initializer.push(TensorProto {
        name: Some("names".into()),
        data_type: Some(8),
        dims: vec![1],
        string_data: vec![Bytes::from_static(b"a")],
        ..TensorProto::default()
    });
    let decoded = check_round_trip(&proto);
    assert_eq!(decoded.model.graph.inputs.len(), 1);
    let text = decoded.model.graph.to_string();
    assert!(text.contains("\"name\":\"Constant\"") && text.contains("\"name\":\"LabelEncoder\""), "{text}");
}

#[test]
fn an_interface_without_tensors_is_refused_by_name() {
    let mut proto = model(13, "input x: f32[2]\ny = Relu (x)\noutput y");
    let sequence = TypeProto { value: Some(TypeValue::SequenceType(Box::default())), denotation: None };
    proto.graph.as_mut().unwrap().input.push(ValueInfoProto {
        name: Some("s".into()),
        r#type: Some(sequence),
        ..ValueInfoProto::default()
    });
    let e = decode(&proto).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("input 's' is a sequence"), "{e}");
}

#[test]
fn metadata_and_description_survive() {
    let mut proto = model(13, "input x: f32[2]\ny = Relu (x)\noutput y");
    proto.doc_string = Some("what it is".into());
    proto.metadata_props = vec![crate::proto::StringStringEntryProto { key: Some("k".into()), value: Some("v".into()) }];
    proto.training_info = vec![Bytes::new()];
    let decoded = check_round_trip(&proto);
    assert_eq!(decoded.notes, ["training graphs not kept: 1"]);
    let again = ModelProto::decode(encode(&decoded.model).model.as_slice()).unwrap();
    assert_eq!((again.doc_string(), again.producer_name()), ("what it is", "fewbit"));
    assert_eq!(again.metadata_props, proto.metadata_props);
}

struct Files(BTreeMap<String, Bytes>);

impl ExternalData for Files {
    fn open(&self, location: &str) -> std::io::Result<Bytes> {
        self.0.get(location).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn large_weights_go_beside_the_model_and_come_back() {
    let decoded = decode(&branching()).unwrap();
    let options = WriteOptions { max_embedded_bytes: 100, external_location: "sub/w.bin".into(), ..WriteOptions::default() };
    let encoded = write(&decoded.model, &options).unwrap();
    let external = encoded.external.unwrap();
    assert_eq!((external.location.as_str(), external.len()), ("sub/w.bin", 1600));
    let files = Files([("sub/w.bin".to_owned(), external.chunks.concat().into())].into());
    let again = read(encoded.model.clone().into(), &files).unwrap();
    assert_eq!(canonical(&again.model.graph), canonical(&decoded.model.graph));
    assert_eq!(read(encoded.model.into(), &NoExternalData).unwrap_err().kind(), ErrorKind::External);
    let outside = WriteOptions { external_location: "../w.bin".into(), ..options };
    assert_eq!(write(&decoded.model, &outside).unwrap_err().kind(), ErrorKind::Write);
}

#[test]
fn names_that_collide_are_changed_but_never_those_of_the_interface() {
    let text = "input x: f32[2]\nconst w: f32[2] = [1,2]\na = Binary \"Add\" (x, w)\noutput a";
    let text = text.replace("Binary \"Add\"", "Binary {\"kind\":\"Add\",\"activation\":{\"min\":0.0,\"max\":6.0}}");
    let mut graph: fewbit_ir::Graph = text.parse().unwrap();
    let (w, a) = (graph.find_value("w").unwrap(), graph.find_value("a").unwrap());
    graph.value_mut(w).name = "x".into();
    graph.value_mut(a).name = "clip_min".into();
    let model = Model { graph, ..Model::default() };
    let proto = ModelProto::decode(encode(&model).model.as_slice()).unwrap().graph.unwrap();
    assert_eq!(proto.input[0].name(), "x");
    assert_eq!(proto.output[0].name(), "clip_min");
    let constants: Vec<_> = proto.initializer.iter().map(TensorProto::name).collect();
    assert_eq!(constants, ["x_1", "clip_min_1", "clip_max"]);
    assert_eq!(proto.node[0].input, ["x", "x_1"]);
}

/// A linear congruential generator: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// Reads bytes, and writes what was read; neither may panic.
fn survive(bytes: Vec<u8>) {
    if let Ok(decoded) = read(bytes.into(), &NoExternalData) {
        let _ = write(&decoded.model, &WriteOptions::default());
    }
}

/// Cuts and changes bytes in many places.
fn torture(file: &[u8], cuts: usize, flips: usize) {
    for i in 0..cuts {
        survive(file[..file.len() * i / cuts].to_vec());
    }
    let mut random = Random(7);
    for _ in 0..flips {
        let mut bytes = file.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = match random.below(3) {
                0 => bytes[at] ^ (1 << random.below(8)),
                1 => bytes[at].wrapping_add(1),
                _ => u8::try_from(random.below(256)).unwrap(),
            };
        }
        survive(bytes);
    }
}

#[test]
fn broken_bytes_never_panic() {
    let mut functions = model(13, "input x: f32[3]\ny = local.F {\"s\": 0.25} (x) \"call\"\noutput y");
    functions.functions = vec![function("F", &["a"], &["o"], &["s"], &["t = LeakyRelu {\"alpha\": {\"ref\": \"s\"}} (a)", "o = Relu (t)"])];
    let old = "input x: f32[2,3,4,4]\nconst w: f32[2,3,1,1] = [1,2,3,4,5,6]\n\
               a = Conv {\"kernel_shape\": [1,1], \"pads\": [1,1,1,1], \"strides\": [1,1]} (x, w)\nb = Softmax (a)\n\
               c = Slice {\"starts\": [0], \"ends\": [1], \"axes\": [1]} (b)\nd = ReduceMean {\"axes\": [2,3]} (c)\n\
               e, f = Split {\"axis\": 0, \"split\": [1,1]} (d)\ng = Clip {\"min\": 0.0, \"max\": 6.0} (e)\noutput g\noutput f";
    for proto in [branching(), functions, model(9, old)] {
        let mut proto = proto;
        // Without the weights, every byte matters.
        for tensor in &mut proto.graph.as_mut().unwrap().initializer {
            if tensor.dims == [400] {
                tensor.dims = vec![1];
                tensor.raw_data = Some(Bytes::from_static(&[0; 4]));
            }
        }
        let bytes = proto.encode_to_vec();
        torture(&bytes, bytes.len(), 3000);
    }
}

#[test]
fn real_models_round_trip_and_survive_broken_bytes() {
    let folder = std::env::var_os("FEWBIT_SHARED").map_or_else(|| "../../../shared".into(), std::path::PathBuf::from);
    for name in ["ppocr_cls", "ppocr_det", "ppocr_rec", "magika", "mobilenet_v2"] {
        let path = folder.join("models").join(format!("{name}.onnx"));
        let Ok(file) = std::fs::read(&path) else {
            #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
            {
                eprintln!("skipped: {} is not there (set FEWBIT_SHARED)", path.display());
            }
            return;
        };
        let decoded = read(file.clone().into(), &NoExternalData).unwrap();
        let encoded = encode(&decoded.model);
        let again = read(encoded.model.into(), &NoExternalData).unwrap();
        assert_eq!(canonical(&again.model.graph), canonical(&decoded.model.graph), "{name}");
        assert_eq!(again.model.opsets, decoded.model.opsets, "{name}");
        torture(&file, 24, 24);
    }
}

#[test]
fn nodes_keep_their_names() {
    let proto = model(13, "input x: f32[2]\na = Relu (x) \"first\"\nb = Relu (a)\noutput b");
    let decoded = check_round_trip(&proto);
    let written = ModelProto::decode(encode(&decoded.model).model.as_slice()).unwrap().graph.unwrap();
    assert_eq!(written.node.iter().map(NodeProto::name).collect::<Vec<_>>(), ["first", ""]);
}
