use fewbit_ir::{Graph, Layout};

use super::{Interface, convert_layout};
use crate::check::check;
use crate::{Notes, Result};

const CONV: &str = r#"Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":"SameUpper"},"groups":1}"#;
const CONV_LAST: &str = r#"Conv {"window":{"strides":[1,1],"dilations":[1,1],"padding":"SameUpper"},"groups":1,"layout":"ChannelsLast"}"#;

fn last(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    convert_layout(graph, Layout::ChannelsLast, Interface::Keep, notes).map(|_| ())
}

fn first(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    convert_layout(graph, Layout::ChannelsFirst, Interface::Keep, notes).map(|_| ())
}

#[test]
fn one_transpose_in_and_one_out() {
    check(
        last,
        &format!(
            "input x: f32[1,3,5,4]\nconst w: f32[3,3,3,3] = random 1\nconst b: f32[3,1,1] = [1,2,3]\nconst k: f32[] = [2]
            y = {CONV} (x, w)
            a = Binary {{\"kind\":\"Add\"}} (y, b)
            m = Binary {{\"kind\":\"Mul\"}} (a, k)
            s = Binary {{\"kind\":\"Add\"}} (m, x)
            z = {CONV} (s, w)
            output z"
        ),
        &["x_channels_last = Transpose", "y = Conv", "a = Binary", "m = Binary", "s = Binary", "z_channels_first = Conv", "z = Transpose"],
        1e-5,
    );
}

#[test]
fn axes_are_renamed() {
    check(
        last,
        &format!(
            "input x: f32[1,2,4,6]\nconst w: f32[2,2,3,3] = random 1
            const st: i64[1] = [1]\nconst en: i64[1] = [3]\nconst ax: i64[1] = [2]\nconst p: i64[8] = [0,1,0,2,0,0,1,0]\nconst hw: i64[2] = [2,3]
            y = {CONV} (x, w)
            c = Concat {{\"axis\":1}} (y, x)
            s = Slice (c, st, en, ax)
            d = Pad {{\"mode\":\"Constant\"}} (s, p)
            f = Softmax {{\"axis\":1}} (d)
            z = Reduce {{\"kind\":\"Mean\",\"keep_dims\":false}} (f, hw)
            output z"
        ),
        &["x_channels_last = Transpose", "y = Conv", "c = Concat {\"axis\":3}", "s = Slice", "d = Pad", "f = Softmax {\"axis\":3}", "z = Reduce"],
        1e-5,
    );
}

#[test]
fn transposes_of_the_source_cancel() {
    check(
        |g, n| {
            last(g, n)?;
            crate::remove_identity(g, n)
        },
        &format!(
            "input x: f32[1,5,4,3]\nconst w: f32[2,3,3,3] = random 1
            t = Transpose {{\"perm\":[0,3,1,2]}} (x)
            y = {CONV} (t, w)
            z = Transpose {{\"perm\":[0,2,3,1]}} (y)
            output z"
        ),
        &["z = Conv"],
        1e-5,
    );
}

#[test]
fn pooled_features_flatten_without_a_transpose() {
    check(
        last,
        &format!(
            "input x: f32[1,3,5,4]\nconst w: f32[2,3,3,3] = random 1
            y = {CONV} (x, w)
            p = GlobalPool {{\"kind\":{{\"Average\":{{\"count_include_pad\":false}}}}}} (y)
            z = Flatten {{\"axis\":1}} (p)
            output z"
        ),
        &["x_channels_last = Transpose", "y = Conv", "p = GlobalPool", "z = Flatten"],
        1e-5,
    );
}

#[test]
fn squeezed_axes_are_renamed() {
    check(
        last,
        &format!(
            "input x: f32[1,3,5,4]\nconst w: f32[2,3,3,3] = random 1\nconst hw: i64[2] = [2,3]\nconst last: i64[1] = [3]
            y = {CONV} (x, w)
            p = GlobalPool {{\"kind\":{{\"Max\":{{\"column_major_indices\":false}}}}}} (y)
            a = Squeeze (p, hw)
            b = Squeeze (p, last)
            output a
            output b"
        ),
        &["x_channels_last = Transpose", "y = Conv", "p = GlobalPool", "a = Squeeze", "b_channels_first = Squeeze", "b = Transpose"],
        1e-5,
    );
}

#[test]
fn axes_of_one_come_and_go() {
    check(
        last,
        &format!(
            "input x: f32[1,3,5,4]\nconst w: f32[2,3,3,4] = random 1\nconst v: f32[3,2,3,1] = random 2\nconst a: i64[1] = [-1]\nconst b: f32[1,2,1] = [1,2]
            y = Conv {{\"window\":{{\"strides\":[1,1],\"dilations\":[1,1]}},\"groups\":1}} (x, w)
            s = Squeeze (y, a)
            t = Binary {{\"kind\":\"Add\"}} (s, b)
            u = Unsqueeze (t, a)
            z = {CONV} (u, v)
            output z"
        ),
        &["x_channels_last = Transpose", "y = Conv", "s = Squeeze", "t = Binary", "u = Unsqueeze", "z_channels_first = Conv", "z = Transpose"],
        1e-5,
    );
}

#[test]
fn what_the_source_transposed_is_quantized_untransposed() {
    check(
        |g, n| {
            last(g, n)?;
            crate::remove_identity(g, n)
        },
        &format!(
            "input x: f32[1,5,4,3]\nconst w: f32[2,3,3,3] = random 1\nconst s: f32[] = [0.05]\nconst o: i8[] = [3]
            t = Transpose {{\"perm\":[0,3,1,2]}} (x)
            q = QuantizeLinear {{\"axis\":1,\"to\":\"i8\"}} (t, s, o)
            d = DequantizeLinear {{\"axis\":1}} (q, s, o)
            y = {CONV} (d, w)
            z = Transpose {{\"perm\":[0,2,3,1]}} (y)
            output z"
        ),
        &["q = QuantizeLinear", "d = DequantizeLinear", "z = Conv"],
        1e-5,
    );
}

#[test]
fn integers_are_transposed_rather_than_what_they_stand_for() {
    check(
        first,
        &format!(
            "input x: f32[1,5,4,3]\nconst w: f32[2,3,3,3] = random 1\nconst s: f32[] = [0.05]\nconst o: i8[] = [3]
            q = QuantizeLinear {{\"axis\":1,\"to\":\"i8\"}} (x, s, o)
            d = DequantizeLinear {{\"axis\":1}} (q, s, o)
            y = {CONV_LAST} (d, w)
            r = QuantizeLinear {{\"axis\":1,\"to\":\"i8\"}} (y, s, o)
            z = DequantizeLinear {{\"axis\":1}} (r, s, o)
            output z"
        ),
        &[
            "q = QuantizeLinear",
            "q_channels_first = Transpose",
            "d_channels_first = DequantizeLinear",
            "y = Conv",
            "r = QuantizeLinear",
            "r_channels_last = Transpose",
            "z = DequantizeLinear",
        ],
        1e-5,
    );
}

#[test]
fn the_interface_converts_where_it_may() {
    let mut graph: Graph =
        format!("input x: f32[N,3,5,4]\nconst w: f32[2,3,3,3] = random 1\nr = Unary \"Relu\" (x)\ny = {CONV} (r, w)\noutput y")
            .parse()
            .unwrap();
    let converted = convert_layout(&mut graph, Layout::ChannelsLast, Interface::Convert, &mut Notes::default()).unwrap();
    assert_eq!(converted.interface, ["y", "x"]);
    assert_eq!(converted.transposes, 0);
    let types: Vec<_> = [graph.inputs[0], graph.outputs[0]].iter().map(|v| graph.value(*v).ty.as_ref().unwrap().to_string()).collect();
    assert_eq!(types, ["f32[N,5,4,3]", "f32[N,5,4,2]"]);
}
