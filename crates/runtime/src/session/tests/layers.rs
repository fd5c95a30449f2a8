//! Dense layers of a row as one step: the bits of the same layers one after the other.

use fewbit_ir::op::Gemm;
use fewbit_ir::{Clamp, Graph, infer};
use fewbit_tensor::DType;

use super::chain::same_bits;
use super::integer::Quantized;
use super::{floats, input, kernels_with};
use crate::session::Arithmetic;

#[test]
fn layers_of_a_single_row_are_one_step() {
    for (rows, expected) in [(1, "quantize_u8 dense layers of a row dequantize_u8"), (2, "")] {
        let mut q = Quantized { g: Graph::new("g"), dtype: DType::I8 };
        let x = input(&mut q.g, "x", &[rows, 40]);
        let mut x = q.qdq(x, 0.02, 7);
        let mut between = Vec::new();
        for (at, (inputs, outputs)) in [(40, 24), (24, 8), (8, 70)].into_iter().enumerate() {
            let w = q.weights(&[outputs, inputs], 0);
            let gemm = Gemm { trans_b: true, activation: Clamp::RELU, ..Gemm::default() };
            let y = q.g.apply(&format!("layer{at}"), gemm.into(), &[x, w]);
            x = q.qdq(y, 0.03, -90);
            between.push(x);
        }
        q.g.outputs = vec![x];
        infer::infer(&mut q.g).unwrap();
        let inputs = [floats(&[rows, 40])];
        let found = kernels_with(Arithmetic::Integer, &q.g, &inputs, &[]);
        assert!(if rows == 1 { found == expected } else { !found.contains("layers") }, "{found}");
        let shown = kernels_with(Arithmetic::Integer, &q.g, &inputs, &between[1..2]);
        assert!(rows > 1 || shown.contains("layers of a row") && shown.matches("dense").count() == 2, "what is shown exists: {shown}");
        same_bits(&format!("{rows} rows"), &q.g, Arithmetic::Integer, &inputs, &between[..2]);
    }
}
