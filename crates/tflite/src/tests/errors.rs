//! What cannot be written: the error names the node and says why.

use super::{graph, model};
use crate::{ErrorKind, WriteOptions, supports, write};

const QUANTIZED_INPUT: &str = "input q: i8[1,4]
const s: f32[] = [0.5]
const z: i8[] = [0]
const t: f32[] = [0.25]
x = DequantizeLinear {\"axis\":0} (q, s, z)
";

/// Text of a graph, whether `QUANTIZED_INPUT` comes first, the kind, and what the message says.
const CASES: &[(&str, bool, ErrorKind, &str)] = &[
    (
        "input x: f32[1,3,8,8]\nconst w: f32[4,3,1,1] = random 1\ny = Conv {\"window\":{\"strides\":[1,1],\"dilations\":[1,1]},\"groups\":1} (x, w) \"first\"\noutput y",
        false,
        ErrorKind::Unrepresentable,
        "Conv node 'first': it is channels first",
    ),
    ("input x: f32[2,N]\ny = Unary \"Relu\" (x)\noutput y", false, ErrorKind::UnknownShape, "--input-shape"),
    ("input x: f32[2]\ny = Unary \"Acosh\" (x) \"a\"\noutput y", false, ErrorKind::Unrepresentable, "Acosh node 'a': TFLite has no Acosh"),
    (
        "input x: f32[2]\nconst m: f32[2] = random 1\ny = Binary {\"kind\":{\"Mod\":{\"fmod\":true}}} (x, m)\noutput y",
        false,
        ErrorKind::Unrepresentable,
        "divisor",
    ),
    (
        "input x: f32[2,3]\nconst k: i64[1] = [1]\ny, i = TopK {\"axis\":0,\"largest\":true,\"sorted\":true} (x, k)\noutput y",
        false,
        ErrorKind::Unrepresentable,
        "last axis",
    ),
    (
        "input x: f32[1,5,5,2]\ny, i = Pool {\"kind\":{\"Max\":{\"column_major_indices\":false}},\"kernel\":[2,2],\"window\":{\"strides\":[1,1],\"dilations\":[1,1]},\"layout\":\"ChannelsLast\"} (x)\noutput i",
        false,
        ErrorKind::Unrepresentable,
        "where the maxima are",
    ),
    (
        "y = Softmax {\"axis\":1} (x) \"soft\"\ny_q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (y, s, z)\noutput y_q",
        true,
        ErrorKind::Unrepresentable,
        "Softmax node 'soft': LiteRT wants its quantized output to have scale 0.00390625 and zero point -128",
    ),
    (
        "y = Concat {\"axis\":1} (x, x) \"join\"\ny_q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (y, t, z)\noutput y_q",
        true,
        ErrorKind::Unrepresentable,
        "Concat node 'join': LiteRT wants one scale",
    ),
    (
        "b = DequantizeLinear {\"axis\":0} (q, t, z)\ny = Binary {\"kind\":\"Add\"} (x, b)\noutput y",
        true,
        ErrorKind::Unrepresentable,
        "two different ways",
    ),
    (
        "const w: i8[2,4] = [1,2,3,4,5,6,7,8]\nconst o: i8[] = [3]\nd = DequantizeLinear {\"axis\":0} (w, s, o)\ny = Gemm {\"alpha\":1.0,\"beta\":1.0,\"trans_a\":false,\"trans_b\":true} (x, d)\ny_q = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (y, s, z)\noutput y_q",
        true,
        ErrorKind::Unrepresentable,
        "zero point 0",
    ),
    (
        "input r: f32[1,4]\nw = Unary \"Abs\" (t)\ny = QuantizeLinear {\"axis\":0,\"to\":\"i8\"} (r, w, z)\noutput y",
        true,
        ErrorKind::Unrepresentable,
        "its scale is computed",
    ),
    (
        "input x: f32[2,3]\nconst i: i64[1,1] = [0]\nconst u: f32[1,3] = random 1\ny = ScatterNd {} (x, i, u)\noutput y",
        false,
        ErrorKind::Unrepresentable,
        "no such operator",
    ),
    (
        "input x: f32[2]\ny: f32[2] = Custom {\"domain\":\"com.example\",\"name\":\"Magic\"} (x)\noutput y",
        false,
        ErrorKind::Unrepresentable,
        "'Magic' of operator set 'com.example'",
    ),
];

#[test]
fn what_cannot_be_written_is_said() {
    for (text, quantized, kind, says) in CASES {
        let text = if *quantized { format!("{QUANTIZED_INPUT}{text}") } else { (*text).to_owned() };
        let graph = graph(&text, &text);
        let error = write(&model(graph.clone()), &WriteOptions::default()).expect_err(&text);
        assert!(error.to_string().contains(says), "{text}\n{error}");
        assert_eq!(error.kind(), *kind, "{text}\n{error}");
        let refused = graph.nodes().any(|(id, _)| supports(&graph, id).is_err());
        assert!(refused, "{text}: no node is refused beforehand");
    }
}
