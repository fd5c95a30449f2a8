//! ONNX Runtime, CPU execution provider.
//!
//! Rows are the selectors of its `qdq_selector_action_transformer.cc` (1.23 to 1.32): an operator that is not there is
//! computed in float between its dequantize and quantize nodes. `Pad`, `Sub`, `ConvTranspose`, `HardSwish` and
//! `GlobalMaxPool` are such. `DepthToSpace` and `SpaceToDepth` have no integer kernel (onnxruntime issue 21287).

use super::{Row, Signedness, Target, free, same};

pub(super) const TARGET: Target = Target {
    name: "ort-cpu",
    about: "ONNX Runtime on CPUs, from QDQ nodes",
    rows: ROWS,
    // On x86, convolutions of int8 activations are not fused, or run slower than float (measured: 1.6 times uint8's time).
    activations: Signedness::Unsigned,
    // Exact with `session.x64quantprecision`, on VNNI and on Arm. Its default mode on x86 without VNNI saturates beyond 7
    // bits: top-1 agreement of MobileNetV2 falls from 84 to 67 %.
    exact_weight_bits: 8,
};

const ROWS: &[Row] = &[
    free(&["Conv", "Gemm", "MatMul"]),
    free(&["Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax"]),
    // Not kernels: it melts them into the quantize node behind them.
    free(&["Relu", "Clip"]),
    free(&["Concat"]),
    same(&["MaxPool", "ReduceMax", "ReduceMin", "Resize"]),
    same(&["Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"]),
];
