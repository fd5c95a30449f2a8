//! The tables of a TFLite file: field ids, defaults and enum values of the official schema, as far as fewbit uses them.
//!
//! Everything here is fact about the format. What operators mean is [`crate::ops`]' business.

mod builtin;
pub(crate) mod options;
mod types;

use bytes::Bytes;

pub(crate) use builtin::Builtin;
pub(crate) use options::Options;
pub(crate) use types::{Activation, Padding, TensorType};

use crate::flat::table;

/// The version of the schema.
pub(crate) const VERSION: u32 = 3;

table! {
    /// The root.
    Model {
        0 => version: u32 = 0,
        1 => operator_codes: Vec<OperatorCode> = Vec::new(),
        2 => subgraphs: Vec<SubGraph> = Vec::new(),
        3 => description: String = String::new(),
        4 => buffers: Vec<Buffer> = Vec::new(),
        6 => metadata: Option<Vec<Metadata>> = None,
        7 => signature_defs: Option<Vec<SignatureDef>> = None,
    }
    /// An operator that the file uses.
    OperatorCode {
        /// The code as long as it fits a byte, else 127.
        0 => deprecated_builtin_code: i8 = 0,
        1 => custom_code: String = String::new(),
        2 => version: i32 = 1,
        /// The code; 0 in files from before it existed.
        3 => builtin_code: i32 = 0,
    }
    /// Bytes of constants: in the flatbuffer, or at an offset of the file.
    Buffer {
        0 => data: Bytes = Bytes::new(),
        1 => offset: u64 = 0,
        2 => size: u64 = 0,
    }
    /// A graph.
    SubGraph {
        0 => tensors: Vec<Tensor> = Vec::new(),
        1 => inputs: Vec<i32> = Vec::new(),
        2 => outputs: Vec<i32> = Vec::new(),
        3 => operators: Vec<Operator> = Vec::new(),
        4 => name: String = String::new(),
    }
    /// A value of the graph.
    Tensor {
        0 => shape: Vec<i32> = Vec::new(),
        1 => dtype: TensorType = TensorType::FLOAT32,
        /// Index of its bytes; buffer 0 is empty and stands for none.
        2 => buffer: u32 = 0,
        3 => name: String = String::new(),
        4 => quantization: Option<Quantization> = None,
        5 => is_variable: bool = false,
        6 => sparsity: Option<Opaque> = None,
        /// The shape with −1 where a dimension may change.
        7 => shape_signature: Option<Vec<i32>> = None,
        8 => has_rank: bool = false,
        10 => external_buffer: u32 = 0,
    }
    /// How a tensor's integers stand for real numbers.
    Quantization {
        2 => scale: Option<Vec<f32>> = None,
        3 => zero_point: Option<Vec<i64>> = None,
        /// 0 unless scales are neither per tensor nor per axis.
        4 => details_kind: u8 = 0,
        6 => quantized_dimension: i32 = 0,
    }
    /// A table of which only the presence matters.
    Opaque {}
    /// One application of an operator.
    Operator {
        0 => opcode_index: u32 = 0,
        /// Tensors; −1 for one that is left out.
        1 => inputs: Vec<i32> = Vec::new(),
        2 => outputs: Vec<i32> = Vec::new(),
        4 => options: Options = Options::None,
        5 => custom_options: Bytes = Bytes::new(),
        9 => large_custom_options_offset: u64 = 0,
        10 => large_custom_options_size: u64 = 0,
        11 => options_2_kind: u8 = 0,
    }
    /// A named buffer.
    Metadata {
        0 => name: String = String::new(),
        1 => buffer: u32 = 0,
    }
    /// A named entry point.
    SignatureDef {
        0 => inputs: Vec<TensorMap> = Vec::new(),
        1 => outputs: Vec<TensorMap> = Vec::new(),
        2 => signature_key: String = String::new(),
        4 => subgraph_index: u32 = 0,
    }
    /// The name of an argument.
    TensorMap {
        0 => name: String = String::new(),
        1 => tensor_index: u32 = 0,
    }
}

impl OperatorCode {
    /// The builtin operator: the larger of the two codes, of which old files have one and new ones both.
    pub(crate) fn builtin(&self) -> Builtin {
        Builtin(self.builtin_code.max(i32::from(self.deprecated_builtin_code)))
    }
}
