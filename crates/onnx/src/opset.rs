//! Versions of ONNX's own operator set: which ones fewbit knows, and where operators changed their meaning.

/// The oldest that is read: the one that introduced numpy's broadcasting.
pub const MIN_OPSET: i64 = 7;

/// The newest that is read.
pub const MAX_OPSET: i64 = 28;

/// The newest that graphs with `QuantizeLinear` or `DequantizeLinear` are written in for choice: ONNX Runtime 1.32 does
/// not run those of opset 28.
pub(crate) const MAX_QUANTIZED_OPSET: i64 = 27;

/// The oldest that is written; older files are raised to it.
pub const MIN_WRITTEN_OPSET: i64 = 11;

/// The one that graphs from other formats are written in, unless they need a newer one.
pub const DEFAULT_OPSET: i64 = 17;

/// The version of the file format that introduced each operator set from [`MIN_OPSET`] on.
/// <https://github.com/onnx/onnx/blob/main/docs/Versioning.md>
const IR_VERSIONS: [(i64, i64); 14] =
    [(7, 3), (9, 4), (10, 5), (11, 6), (12, 7), (15, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13), (26, 13), (27, 13), (28, 14)];

/// The version of the file format that goes with an operator set.
pub(crate) fn ir_version(opset: i64) -> i64 {
    IR_VERSIONS.iter().rev().find(|(since, _)| *since <= opset).map_or(3, |(_, ir)| *ir)
}

/// Versions in which a node that was valid before means something else, or is invalid, if it is left as it is.
/// Versions that only add types, optional inputs or attributes are not listed.
const CHANGES: [(&str, &[i64]); 31] = [
    ("Attention", &[25]),
    ("BatchNormalization", &[9, 14]),
    ("Clip", &[11]),
    ("DFT", &[20]),
    ("Dropout", &[12]),
    ("GridSample", &[20]),
    ("GroupNormalization", &[21]),
    ("Hardmax", &[13]),
    ("LogSoftmax", &[13]),
    ("Pad", &[11]),
    ("ReduceL1", &[18]),
    ("ReduceL2", &[18]),
    ("ReduceLogSum", &[18]),
    ("ReduceLogSumExp", &[18]),
    ("ReduceMax", &[18]),
    ("ReduceMean", &[18]),
    ("ReduceMin", &[18]),
    ("ReduceProd", &[18]),
    ("ReduceSum", &[13]),
    ("ReduceSumSquare", &[18]),
    ("Resize", &[11, 13]),
    ("RoiAlign", &[16]),
    ("Scan", &[9]),
    ("Scatter", &[11]),
    ("Slice", &[10]),
    ("Softmax", &[13]),
    ("Split", &[13, 18]),
    ("Squeeze", &[13]),
    ("TopK", &[10]),
    ("Unsqueeze", &[13]),
    ("Upsample", &[9, 10]),
];

/// The first version after `from`, up to `to`, that changed what a node of that operator means.
pub(crate) fn change_between(op_type: &str, from: i64, to: i64) -> Option<i64> {
    let (_, versions) = CHANGES.iter().find(|(name, _)| *name == op_type)?;
    versions.iter().copied().find(|v| (from.saturating_add(1)..=to).contains(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_versions_follow_opsets() {
        for (opset, ir) in [(7, 3), (8, 3), (11, 6), (13, 7), (14, 7), (17, 8), (20, 9), (21, 10), (28, 14)] {
            assert_eq!(ir_version(opset), ir, "{opset}");
        }
    }

    #[test]
    fn changes_are_found_within_the_span_only() {
        for (op, from, to, changed) in [
            ("Softmax", 11, 13, Some(13)),
            ("Softmax", 13, 21, None),
            ("Softmax", 11, 12, None),
            ("Split", 11, 21, Some(13)),
            ("Split", 13, 21, Some(18)),
            ("Einsum", 12, 28, None),
            ("NoSuchOperator", 7, 28, None),
        ] {
            assert_eq!(change_between(op, from, to), changed, "{op} {from} {to}");
        }
    }
}
