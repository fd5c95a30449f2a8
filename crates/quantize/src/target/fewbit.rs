//! fewbit's own integer runtime: exact for all 8 bits on every processor. Activations of 4 bits are held as bytes within their
//! limits; operators on 16 bits compute in floats, which hold them exactly, between a dequantizer and a quantizer.

use super::{Row, Signedness, Target, free, same};

pub(super) const TARGET: Target =
    Target { name: "fewbit", about: "fewbit's own integer runtime", rows: ROWS, activations: Signedness::Signed, exact_weight_bits: 8 };

/// Widths of weights and activations that all operators run with.
const WIDTHS: &[(u8, u8)] = &[(8, 4), (8, 8), (8, 16)];

const ROWS: &[Row] = &[
    any_width(free(&["Conv", "ConvTranspose", "Gemm", "MatMul"])),
    any_width(free(&["Add", "Sub", "Mul", "HardSwish", "LeakyRelu", "Sigmoid", "Softmax", "Tanh", "AveragePool", "GlobalAveragePool"])),
    any_width(free(&["Relu", "Clip"])),
    any_width(same(&["MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Resize", "Concat", "Pad"])),
    any_width(same(&[
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ])),
];

const fn any_width(row: Row) -> Row {
    Row { bits: WIDTHS, ..row }
}
