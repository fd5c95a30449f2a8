//! A graph with what a file says around it.

use std::collections::BTreeMap;

use crate::Graph;

/// A network as it was read, or as it is to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// Version of each operator set that the file imports, by domain; `""` is ONNX's own. Empty for other formats.
    pub opsets: BTreeMap<String, i64>,
    /// Free-form key and value pairs of the file, its description among them.
    pub metadata: Vec<(String, String)>,
    /// Named entry points (TFLite signatures); empty where the format has none.
    pub signatures: Vec<Signature>,
}

/// A named entry point: argument names for the graph's inputs and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The entry point's name, such as `serving_default`.
    pub key: String,
    /// An argument name per graph input, in the graph's order.
    pub inputs: Vec<String>,
    /// A result name per graph output, in the graph's order.
    pub outputs: Vec<String>,
}
