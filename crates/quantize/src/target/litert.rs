//! LiteRT (TensorFlow Lite), reference kernels and the XNNPACK delegate.
//!
//! Scales follow LiteRT's 8-bit quantization specification and its `operator_property.h`. `MatMul` stands for
//! `FULLY_CONNECTED` and `BATCH_MATMUL`, `GlobalAveragePool` for `MEAN`. Fully connected layers run with scales per
//! channel since TensorFlow 2.16, in XNNPACK as well.

use super::{Row, Signedness, Target, fixed, free, same};

pub(super) const TARGET: Target = Target {
    name: "litert",
    about: "LiteRT and TensorFlow Lite, with XNNPACK or without",
    rows: ROWS,
    activations: Signedness::Signed,
    exact_weight_bits: 8,
};

const ROWS: &[Row] = &[
    free(&["Conv", "ConvTranspose", "Gemm", "MatMul"]),
    free(&["Add", "Sub", "Mul", "HardSwish", "LeakyRelu", "PRelu", "GlobalAveragePool", "ReduceMean", "ReduceSum"]),
    free(&["Relu", "Clip"]),
    fixed(&["Sigmoid", "Softmax"], 1.0 / 256.0, -128),
    fixed(&["Tanh", "LpNormalization"], 1.0 / 128.0, 0),
    fixed(&["LogSoftmax"], 16.0 / 256.0, 127),
    same(&["MaxPool", "AveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Min", "Max", "Resize"]),
    same(&["Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherND", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split"]),
    same(&["Squeeze", "Tile", "Transpose", "Unsqueeze"]),
];
