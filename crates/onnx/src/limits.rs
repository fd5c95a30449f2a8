//! Bounds on what a file may ask for, each far above any network that is known to exist.

/// Nodes of all graphs together, functions inlined.
pub const MAX_NODES: usize = 1_000_000;

/// Graphs within graphs, by control flow.
pub const MAX_GRAPH_DEPTH: usize = 16;

/// Calls of model-local functions, those within functions counted each time.
pub const MAX_CALLS: usize = 100_000;

/// Functions that call functions.
pub const MAX_FUNCTION_DEPTH: usize = 32;

/// Dimensions of a tensor.
pub const MAX_RANK: usize = 64;

/// Bytes of all tensors together that are not stored as they stand but expanded while reading: sparse ones and those
/// in typed fields.
pub const MAX_EXPANDED_BYTES: usize = 1 << 32;

/// Bytes of a protobuf message, by the definition of protobuf.
pub const MAX_MODEL_BYTES: usize = (1 << 31) - 1;

/// Remarks that a reader keeps; further ones are only counted.
pub const MAX_NOTES: usize = 1000;

/// Outputs of one node.
pub const MAX_OUTPUTS: usize = 65_536;

/// Bytes up to which a constant that a subgraph captures is copied into it, so that shapes and axes stay readable.
pub const MAX_COPIED_CAPTURE_BYTES: usize = 1024;

/// Bytes in memory of everything that a file says apart from tensor data.
pub const MAX_DECODED_BYTES: usize = 1 << 32;
