//! fewbit's own integer runtime: exact for all 8 bits on every processor.

use super::{Row, Signedness, Target, free, same};

pub(super) const TARGET: Target =
    Target { name: "fewbit", about: "fewbit's own integer runtime", rows: ROWS, activations: Signedness::Signed, exact_weight_bits: 8 };

const ROWS: &[Row] = &[
    free(&["Conv", "ConvTranspose", "Gemm", "MatMul"]),
    free(&["Add", "Sub", "Mul", "HardSwish", "LeakyRelu", "Sigmoid", "Softmax", "Tanh", "AveragePool", "GlobalAveragePool"]),
    free(&["Relu", "Clip"]),
    same(&["MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Resize", "Concat", "Pad"]),
    same(&["Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"]),
];
