use fewbit_tensor::{DType, Tensor};

use super::*;
use crate::op::*;

/// Input types in the text of [`TensorType`], an operator, integer constants after them, and the expected output.
fn check(op: impl Into<Op>, types: &[&str], constants: &[&[i64]], expected: Option<&str>) {
    let op = op.into();
    let types: Vec<TensorType> = types.iter().map(|t| crate::text::parse_type(t).unwrap()).collect();
    let constants: Vec<Tensor> = constants.iter().map(|c| Tensor::vector(c.to_vec())).collect();
    let constant_types: Vec<TensorType> = constants.iter().map(TensorType::of).collect();
    let mut facts: Vec<Fact<'_>> = types.iter().map(|ty| Fact { ty: Some(ty), constant: None }).collect();
    facts.extend(constants.iter().zip(&constant_types).map(|(t, ty)| Fact { ty: Some(ty), constant: Some(t) }));
    let got = output_types(&op, &facts, 1).ok().map(|t| t[0].as_ref().map_or("none".to_owned(), ToString::to_string));
    assert_eq!(got.as_deref(), expected, "{op:?} of {types:?} {constants:?}");
}

fn conv(groups: usize, layout: Layout) -> Conv {
    Conv { window: Window { padding: Padding::SameUpper, ..Window::unit(2) }, groups, layout, activation: Clamp::NONE }
}

#[test]
fn spatial_operators() {
    use Layout::{ChannelsFirst as First, ChannelsLast as Last};
    check(conv(1, First), &["f32[N,3,8,8]", "f32[16,3,3,3]"], &[], Some("f32[N,16,8,8]"));
    check(conv(1, Last), &["f32[N,8,8,3]", "f32[16,3,3,3]"], &[], Some("f32[N,8,8,16]"));
    check(conv(3, Last), &["f32[N,8,H,3]", "f32[3,1,3,3]"], &[], Some("f32[N,?,?,3]"));
    check(conv(1, First), &["f32[N,4,8,8]", "f32[16,3,3,3]"], &[], None);
    check(conv(1, First), &["f32[N,3,8]", "f32[16,3,3,3]"], &[], None);
    check(conv(1, First), &["f32[*]", "f32[16,3,3,3]"], &[], Some("f32[*]"));
    let average = PoolKind::Average { count_include_pad: false };
    check(GlobalPool { kind: average, layout: Last }, &["f32[1,7,7,5]"], &[], Some("f32[1,1,1,5]"));
    check(DepthToSpace { block_size: 2, column_row_depth: false, layout: First }, &["f32[1,8,2,3]"], &[], Some("f32[1,2,4,6]"));
    check(DepthToSpace { block_size: 2, column_row_depth: false, layout: First }, &["f32[1,7,2,3]"], &[], None);
}

#[test]
fn elementwise_operators_broadcast() {
    check(Binary::Add, &["f32[N,3,1]", "f32[3,5]"], &[], Some("f32[N,3,5]"));
    check(Binary::Add, &["f32[4]", "f32[3]"], &[], None);
    check(Binary::Less, &["f32[A]", "f32[B]"], &[], Some("bool[?]"));
    check(Binary::Less, &["f32[A]", "f32[A]"], &[], Some("bool[A]"));
    check(Op::Where, &["bool[2,1]", "i64[3]", "i64[]"], &[], Some("i64[2,3]"));
}

#[test]
fn linear_operators() {
    check(MatMul::default(), &["f32[B,4,5]", "f32[5,6]"], &[], Some("f32[B,4,6]"));
    check(MatMul::default(), &["f32[5]", "f32[5,6]"], &[], Some("f32[6]"));
    check(MatMul::default(), &["f32[4]", "f32[5,6]"], &[], None);
    check(Gemm { trans_b: true, ..Gemm::default() }, &["f32[N,5]", "f32[6,5]"], &[], Some("f32[N,6]"));
    let mean = |keep_dims| Reduce { kind: ReduceKind::Mean, keep_dims, noop_with_empty_axes: false };
    check(mean(true), &["f32[N,4,5]"], &[&[-1]], Some("f32[N,4,1]"));
    check(mean(false), &["f32[N,4,5]"], &[&[1, 2]], Some("f32[N]"));
    check(mean(false), &["f32[N,4,5]"], &[], Some("f32[]"));
    check(mean(false), &["f32[N,4,5]"], &[&[3]], None);
}

#[test]
fn shaping_operators() {
    let reshape = Reshape::default();
    check(reshape, &["f32[2,3,4]"], &[&[0, -1]], Some("f32[2,12]"));
    check(reshape, &["f32[N,3,4]"], &[&[-1, 12]], Some("f32[N,12]"));
    check(reshape, &["f32[N,3,4]"], &[&[0, 12]], Some("f32[N,12]"));
    check(reshape, &["f32[2,3]"], &[&[4, -1]], None);
    check(reshape, &["f32[2,3]"], &[&[-1, -1]], None);
    check(reshape, &["f32[2,3]", "i64[4]"], &[], Some("f32[?,?,?,?]"));
    check(Flatten { axis: 1 }, &["f32[N,3,4]"], &[], Some("f32[N,12]"));
    check(Transpose { perm: Some(vec![0, 2, 1]) }, &["f32[N,3,4]"], &[], Some("f32[N,4,3]"));
    check(Transpose { perm: Some(vec![0, 2]) }, &["f32[N,3,4]"], &[], None);
    check(Op::Squeeze, &["f32[1,3,1]"], &[&[0]], Some("f32[3,1]"));
    check(Op::Squeeze, &["f32[1,3,1]"], &[&[1]], None);
    check(Op::Unsqueeze, &["f32[3]"], &[&[0, 2]], Some("f32[1,3,1]"));
    check(Op::Expand, &["f32[3,1]"], &[&[2, 1, 6]], Some("f32[2,3,6]"));
    check(Op::Tile, &["f32[3,N]"], &[&[2, 1]], Some("f32[6,N]"));
    check(Shape { start: 1, end: Some(-1) }, &["f32[N,3,4,5]"], &[], Some("i64[2]"));
}

#[test]
fn indexing_operators() {
    check(Concat { axis: -1 }, &["f32[N,3]", "f32[N,4]"], &[], Some("f32[N,7]"));
    check(Concat { axis: 0 }, &["f32[2,3]", "f32[2,4]"], &[], None);
    check(Split { axis: 1 }, &["f32[N,3]"], &[&[3]], Some("f32[N,3]"));
    check(Split { axis: 1 }, &["f32[N,3]"], &[&[4]], None);
    check(Op::Gather(Gather { axis: 1 }), &["f32[N,9,4]", "i64[2,3]"], &[], Some("f32[N,2,3,4]"));
    check(Pad { mode: PadMode::Constant }, &["f32[N,3]"], &[&[0, 1, 0, 2]], Some("f32[N,6]"));
    check(Pad { mode: PadMode::Constant }, &["f32[N,3]"], &[&[0, 1]], None);
}

#[test]
fn a_graph_keeps_declared_names_where_nothing_better_is_known() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", Some(crate::text::parse_type("f32[N,?,4]").unwrap()));
    let shape = g.add_input("shape", Some(TensorType::fixed(DType::I64, &[2])));
    let y = g.apply("y", Reshape::default().into(), &[x, shape]);
    g.value_mut(y).ty = Some(crate::text::parse_type("f32[N,T]").unwrap());
    g.outputs.push(y);
    infer(&mut g).unwrap();
    assert_eq!(g.value(y).ty.as_ref().unwrap().to_string(), "f32[N,T]");
}
