//! Operators of old opsets, and what they become; operators of the IR, and what they are written as.

use crate::testing::{read_text, write_text};

/// Reads one node and compares constants and nodes.
fn reads(rows: &[(i64, &str, &str)]) {
    for (opset, node, expected) in rows {
        let inputs = "input x: f32[2,3,4,4]\ninput d: f32[*]\ninput i: i32[2]\nconst low: f32[] = [-1]\nconst six: f32[] = [6]";
        let names = node.split('=').next().unwrap().split(',');
        let outputs: Vec<String> = names.map(|name| format!("output {}", name.trim())).collect();
        let outputs = outputs.join("\n");
        let text = read_text(*opset, &format!("{inputs}\n{node}\n{outputs}"));
        let given = ["const low: f32[] = [-1]", "const six: f32[] = [6]"];
        let lines: Vec<&str> = text.lines().filter(|l| !given.contains(l)).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(lines, expected, "opset {opset}: {node}");
    }
}

/// Writes one node and compares the opset and the nodes.
fn writes(rows: &[(i64, &str, &str)]) {
    for (opset, node, expected) in rows {
        let inputs = "input x: f32[2,3,4,4]\ninput i: i64[1]\nconst axes: i64[1] = [1]\nconst none: i64[0] = []\nconst two: f32[] = [2]";
        let name = if node.ends_with('"') { "" } else { "\"\"" };
        let text = write_text(*opset, &format!("{inputs}\n{node} {name}\noutput y"));
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(" \"\"")).collect();
        assert_eq!(lines, expected, "opset {opset}: {node}");
    }
}

#[test]
fn attributes_that_became_inputs_are_moved() {
    reads(&[
        (
            7,
            r#"y = Slice {"starts": [1], "ends": [2], "axes": [3]} (x)"#,
            "const y_starts: i64[1] = [1]\nconst y_ends: i64[1] = [2]\nconst y_axes: i64[1] = [3]\ny = Slice (x, y_starts, y_ends, y_axes)",
        ),
        (11, r#"y = Squeeze {"axes": [0]} (d)"#, "const y_axes: i64[1] = [0]\ny = Squeeze (d, y_axes)"),
        (11, "y = Squeeze (d)", "y = Squeeze (d)"),
        (11, r#"y = Unsqueeze {"axes": [0]} (d)"#, "const y_axes: i64[1] = [0]\ny = Unsqueeze (d, y_axes)"),
        (11, r#"a, b = Split {"axis": 3, "split": [1, 3]} (x)"#, "const a_split: i64[2] = [1, 3]\na, b = Split {\"axis\":3} (x, a_split)"),
        (
            7,
            r#"y = Pad {"pads": [0, 1], "value": 2.0} (d)"#,
            "const y_pads: i64[2] = [0, 1]\nconst y_value: f32[] = [2]\ny = Pad {\"mode\":\"Constant\"} (d, y_pads, y_value)",
        ),
        (
            7,
            r#"v, i2 = TopK {"k": 2} (d)"#,
            "const v_k: i64[1] = [2]\nv, i2 = TopK {\"axis\":-1,\"largest\":true,\"sorted\":true} (d, v_k)",
        ),
        (
            17,
            r#"y = ReduceMean {"axes": [1], "keepdims": 0} (d)"#,
            "const y_axes: i64[1] = [1]\ny = Reduce {\"keep_dims\":false,\"kind\":\"Mean\",\"noop_with_empty_axes\":false} (d, y_axes)",
        ),
        (
            7,
            r#"y = ConstantOfShape {"value": {"const": "i32[1] = [7]"}} (i)"#,
            "const y_value: i32[] = [7]\ny = ConstantOfShape (i, y_value)",
        ),
        (7, r#"y = Dropout {"ratio": 0.3} (d)"#, "y = Dropout (d)"),
    ]);
}

#[test]
fn known_bounds_become_a_clamp() {
    let clamp = |min: &str, max: &str| format!("y = Unary {{\"Clamp\":{{\"max\":{max},\"min\":{min}}}}} (d)");
    reads(&[
        (6 + 1, r#"y = Clip {"min": -0.5, "max": 1.0} (d)"#, &clamp("-0.5", "1.0")),
        (7, "y = Clip (d)", &clamp("\"-inf\"", "\"inf\"")),
        (11, "y = Clip (d, low, six)", &clamp("-1.0", "6.0")),
        (11, "y = Clip (d, , six)", &clamp("\"-inf\"", "6.0")),
        (11, "y = Clip (d, x)", "y = Clip (d, x)"),
    ]);
}

#[test]
fn old_softmax_flattens_unless_its_axis_is_the_last() {
    reads(&[
        (11, r#"y = Softmax {"axis": 3} (x)"#, "y = Softmax {\"axis\":3} (x)"),
        (13, r#"y = Softmax {"axis": 1} (x)"#, "y = Softmax {\"axis\":1} (x)"),
        (
            11,
            "y = Softmax (x)",
            "y_shape = Shape {\"start\":0} (x)\ny_flat = Flatten {\"axis\":1} (x)\ny_applied = Softmax {\"axis\":-1} (y_flat)\ny = Reshape {\"allow_zero\":false} (y_applied, y_shape)",
        ),
    ]);
}

#[test]
fn what_has_no_words_is_kept_and_what_is_wrong_is_an_error() {
    reads(&[
        (
            13,
            r#"y = Cast {"to": 17} (d)"#,
            "y = Custom {\"attributes\":[[\"to\",[10,2,116,111,24,17,160,1,2]]],\"captures\":0,\"domain\":\"\",\"name\":\"Cast\"} (d)",
        ),
        (13, "y = Conv (d)", "error: Conv node of 'y': takes 2 to 3 inputs; there are 1"),
        (13, "y = Conv (d, )", "error: Conv node of 'y': takes 2 to 3 inputs; there are 1"),
        (13, "y = Add (, d)", "error: Add node of 'y': takes 2 inputs; there are 2, a required one left out"),
        (13, "y, z = Relu (d)", "error: Relu node of 'y': gives at most 1 outputs, not 2"),
        (13, r#"y = Relu (gone) "r""#, "error: Relu node 'r': value 'gone' is used, but nothing before defines it"),
        (13, "x = Relu (d)", "error: Relu node of 'x': value 'x' is defined twice"),
        (13, r#"y = Flatten {"axis": 1.5} (d)"#, "error: Flatten node of 'y': attribute 'axis' is no INT"),
        (13, r#"y = MaxPool {"kernel_shape": [2, 0]} (x)"#, "error: MaxPool node of 'y': attribute 'kernel_shape' has a 0 in it"),
        (13, r#"y = MaxPool {"kernel_shape": [2], "pads": [1]} (x)"#, "error: MaxPool node of 'y': attribute 'pads' has 1 entries, not 2"),
        (
            13,
            r#"y = MaxPool {"kernel_shape": [2], "pads": [-1, 0]} (x)"#,
            "error: MaxPool node of 'y': attribute 'pads': -1 is negative or too large",
        ),
        (13, r#"y = Transpose {"perm": [0, 0]} (d)"#, "error: Transpose node of 'y': attribute 'perm' is [0, 0], which is no permutation"),
        (6, "y = Relu (d)", "error: the file uses opset 6; fewbit reads 7 to 28 (onnx.version_converter converts)"),
        (29, "y = Relu (d)", "error: the file uses opset 29; fewbit reads 7 to 28 (onnx.version_converter converts)"),
    ]);
}

#[test]
fn the_opset_rises_as_far_as_a_node_needs_and_no_further() {
    writes(&[
        (11, r#"y = Unary "Relu" (x)"#, "opset 11\ny = Relu (x)"),
        (9, r#"y = Unary "Relu" (x)"#, "opset 11\ny = Relu (x)"),
        (28, r#"y = Unary "Relu" (x)"#, "opset 28\ny = Relu (x)"),
        (11, r#"y = Softmax {"axis": 1} (x)"#, "opset 13\ny = Softmax axis=1 (x)"),
        (11, r#"y = Softmax {"axis": 3} (x)"#, "opset 11\ny = Softmax axis=3 (x)"),
        (13, r#"y = Unary {"Gelu": {"tanh": false}} (x)"#, "opset 20\ny = Gelu (x)"),
        (11, "y = Squeeze (x, axes)", "opset 11\ny = Squeeze axes=[1] (x)"),
        (11, "y = Squeeze (x, i)", "opset 13\ny = Squeeze (x, i)"),
        (13, "y = Squeeze (x, axes)", "opset 13\ny = Squeeze (x, axes)"),
        (13, r#"y = Reduce {"kind": "Mean", "keep_dims": true} (x, axes)"#, "opset 13\ny = ReduceMean axes=[1] (x)"),
        (13, r#"y = Reduce {"kind": "Mean", "keep_dims": true} (x, none)"#, "opset 13\ny = ReduceMean (x)"),
        (
            13,
            r#"y = Reduce {"kind": "Mean", "keep_dims": true, "noop_with_empty_axes": true} (x)"#,
            "opset 18\ny = ReduceMean noop_with_empty_axes=1 (x)",
        ),
        (13, r#"y = Split {"axis": 0} (x)"#, "opset 13\ny = Split (x)"),
        (18, r#"y = Split {"axis": 0} (x)"#, "opset 18\ny = Split num_outputs=1 (x)"),
        (13, r#"y = Cast {"to": "i4"} (x)"#, "opset 21\ny = Cast to=22 (x)"),
    ]);
}

#[test]
fn what_onnx_does_not_have_is_written_with_what_it_has() {
    writes(&[
        (13, r#"y = Unary "Rsqrt" (x) "r""#, "opset 13\ny_sqrt = Sqrt (x) \"r\"\ny = Reciprocal (y_sqrt) \"r_reciprocal\""),
        (13, r#"y = Unary "Square" (x)"#, "opset 13\ny = Mul (x, x)"),
        (
            13,
            r#"y = Binary {"kind": "SquaredDifference"} (x, two)"#,
            "opset 13\ny_difference = Sub (x, two)\ny = Mul (y_difference, y_difference)",
        ),
        (
            13,
            r#"y = Binary {"kind": "Add", "activation": {"min": 0.0, "max": "inf"}} (x, two)"#,
            "opset 13\ny_unclamped = Add (x, two)\ny = Relu (y_unclamped)",
        ),
        (
            13,
            r#"y = Binary {"kind": "Add", "activation": {"min": 0.0, "max": 6.0}} (x, two)"#,
            "opset 13\ny_unclamped = Add (x, two)\ny = Clip (y_unclamped, clip_min, clip_max)",
        ),
        (13, r#"y = Unary {"Swish": {"alpha": 1.0}} (x)"#, "opset 13\ny_sigmoid = Sigmoid (x)\ny = Mul (x, y_sigmoid)"),
        (13, r#"y = Unary "HardSwish" (x)"#, "opset 13\ny_hardsigmoid = HardSigmoid alpha=0.16666667 (x)\ny = Mul (x, y_hardsigmoid)"),
        (14, r#"y = Unary "HardSwish" (x)"#, "opset 14\ny = HardSwish (x)"),
        (13, "y = ConstantOfShape (i, two)", "opset 13\ny = ConstantOfShape value=f32[1] [2.0] (i)"),
    ]);
}

#[test]
fn what_cannot_be_written_is_an_error_that_says_why() {
    writes(&[
        (
            13,
            r#"y = GlobalPool {"kind": {"Max": {"column_major_indices": false}}, "layout": "ChannelsLast"} (x)"#,
            "error: GlobalMaxPool node '': works on channels-last activations, which ONNX does not have; lower the layout before writing",
        ),
        (
            13,
            r#"y = Custom {"domain": "tflite", "name": "LSH_PROJECTION"} (x)"#,
            "error: LSH_PROJECTION node '': a TFLite operator without a counterpart in ONNX; replace it, or write TFLite",
        ),
        (
            13,
            r#"y = Custom {"domain": "", "name": "Det", "captures": 2} (x)"#,
            "error: Det node '': captures 2 values, more than it has inputs",
        ),
    ]);
}

#[test]
fn a_kept_operator_whose_meaning_would_change_is_named() {
    let graph = "input x: f32[1]\nz = Custom {\"domain\": \"\", \"name\": \"GridSample\"} (x, x)\ny = Unary {\"Gelu\": {\"tanh\": false}} (z)\noutput y";
    let text = write_text(16, graph);
    assert!(text.starts_with("error: GridSample node 'z': GridSample is kept from opset 16, and its meaning changed in 20"), "{text}");
    assert!(write_text(20, graph).starts_with("opset 20\nz = GridSample (x, x)\ny = Gelu (z)"));
}

#[test]
fn quantization_is_written_as_runtimes_want_it() {
    let graph = |node: &str| {
        format!(
            "input x: f32[2,3]\nconst s: f32[] = [0.5]\nconst sa: f32[3] = [1, 2, 3]\nconst w: i8[2,3] = [1,2,3,4,5,6]\nconst b: i32[3] = [1,2,3]\n\
             const w4: i4[2,3] = [1,2,3,4,5,6]\nconst z: i8[] = [3]\nconst zw: u16[] = [3]\n{node}\noutput y"
        )
    };
    for (node, expected) in [
        (r#"y = QuantizeLinear {"axis": 1, "to": "i8"} (x, s, z)"#, "opset 11\ny = QuantizeLinear (x, s, z)"),
        (r#"y = QuantizeLinear {"axis": 1, "to": "u8"} (x, s)"#, "opset 11\ny = QuantizeLinear (x, s, zero_point_u8)"),
        (r#"y = QuantizeLinear {"axis": 1, "to": "u16"} (x, s, zw)"#, "opset 21\ny = QuantizeLinear (x, s, zw)"),
        (r#"y = DequantizeLinear {"axis": 1} (w, sa)"#, "opset 13\ny = DequantizeLinear (w, sa, zero_point_i8)"),
        (r#"y = DequantizeLinear {"axis": 0} (b, sa)"#, "opset 13\ny = DequantizeLinear axis=0 (b, sa, zero_point_i32)"),
        (r#"y = DequantizeLinear {"axis": 1} (w4, s)"#, "opset 21\ny = DequantizeLinear (w4, s, zero_point_i4)"),
    ] {
        assert_eq!(write_text(11, &graph(node)), expected, "{node}");
    }
    // ONNX Runtime does not run those of opset 28.
    let newest = write_text(28, &graph(r#"y = QuantizeLinear {"axis": 1, "to": "i8"} (x, s, z)"#));
    assert_eq!(newest, "opset 27\ny = QuantizeLinear (x, s, z)");
}

#[test]
fn quantized_operators_are_read_as_what_they_mean() {
    let inputs = "input x: u8[2,3,4,4]\ninput a: u8[2,3]\ninput w: i8[3,5]\nconst s: f32[] = [0.5]\nconst z: u8[] = [3]\nconst t: f32[] = [0.25]\n\
                  const zi: i8[] = [0]\nconst bias: i32[5] = [1, 2, 3, 4, 5]\nconst k: i8[1,3,1,1] = [1, 2, 3]\nconst kb: i32[1] = [7]";
    let read = |node: &str| {
        let text = read_text(17, &format!("{inputs}\n{node}\noutput y"));
        text.lines().filter(|l| l.contains(" = ") && (!l.starts_with("const") || l.contains("scale"))).collect::<Vec<_>>().join("\n")
    };
    for (node, expected) in [
        ("y = QLinearConv (x, s, z, k, t, zi, s, z, kb)", ["Conv", "bias_scale: f32[] = [0.125]"]),
        ("y = QLinearMatMul (a, s, z, w, t, zi, s, z)", ["MatMul", "(y_a, y_b)"]),
        ("y = com.microsoft.QLinearAdd (a, s, z, a, t, z, s, z)", ["Binary", "Add"]),
        ("y = com.microsoft.QLinearMul (a, s, , a, t, , s)", ["Binary", "Mul"]),
        ("y = com.microsoft.QLinearSigmoid (a, s, z, t)", ["Sigmoid", "(y_x)"]),
        (r#"y = com.microsoft.QLinearLeakyRelu {"alpha": 0.5} (a, s, z, t, z)"#, ["LeakyRelu", "0.5"]),
        (r#"y = com.microsoft.QLinearSoftmax {"axis": 1, "opset": 11} (a, s, z, t, z)"#, ["Softmax", "\"axis\":1"]),
        (r#"y = com.microsoft.QLinearAveragePool {"kernel_shape": [2, 2]} (x, s, z, t, z)"#, ["Pool", "Average"]),
        (r#"y = com.microsoft.QLinearGlobalAveragePool {"channels_last": 0} (x, s, z, t, z)"#, ["GlobalPool", "Average"]),
        (r#"y = com.microsoft.QLinearReduceMean {"axes": [2, 3]} (x, s, z, t, z)"#, ["Reduce", "(y_x, y_axes)"]),
        (r#"y = com.microsoft.QLinearConcat {"axis": 1} (s, z, a, s, z, a, t, z)"#, ["Concat", "(y_x2, y_x5)"]),
        ("y = com.microsoft.QGemm (a, s, z, w, t, zi, bias, s, z)", ["Gemm", "(y_a, y_b, y_bias)"]),
    ] {
        let text = read(node);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.last().is_some_and(|l| l.starts_with("y = QuantizeLinear") && l.contains("(y_real, ")), "{node} is read as\n{text}");
        assert!(expected.iter().all(|part| text.contains(part)), "{node} is read as\n{text}");
        assert!(text.contains("DequantizeLinear"), "{text}");
    }
    assert!(read("y = com.microsoft.QGemm (a, s, z, w, t, zi)").ends_with("(y_a, y_b)"));
    assert!(read("y = com.microsoft.MatMulIntegerToFloat (a, w, s, t, z, zi)").contains("MatMul"));
    assert!(read(r#"y = com.microsoft.QLinearSoftmax {"axis": 2, "opset": 11} (x, s, z, t, z)"#).contains("Flatten"));
    let kept = r#"y = com.microsoft.QLinearAveragePool {"kernel_shape": [2, 2], "channels_last": 1} (x, s, z, t, z)"#;
    assert!(read(kept).contains("com.microsoft"), "{}", read(kept));
}
