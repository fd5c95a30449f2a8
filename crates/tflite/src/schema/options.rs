//! The options of operators: one table per kind, in the order of their union tags.
//!
//! Field ids, defaults and tags are those of the official schema; kinds without a field are [`Options::Empty`].
//! To add one: its table here and its tag in the list below it.

use super::{Activation, Padding, TensorType};
use crate::error::Result;
use crate::flat::{Builder, Entry, Field, File, Table, TableType, table};

table! {
    Conv2d {
        0 => padding: Padding = Padding::SAME,
        1 => stride_w: i32 = 0,
        2 => stride_h: i32 = 0,
        3 => activation: Activation = Activation::NONE,
        4 => dilation_w: i32 = 1,
        5 => dilation_h: i32 = 1,
        6 => quantized_bias_type: TensorType = TensorType::FLOAT32,
    }
    DepthwiseConv2d {
        0 => padding: Padding = Padding::SAME,
        1 => stride_w: i32 = 0,
        2 => stride_h: i32 = 0,
        3 => depth_multiplier: i32 = 0,
        4 => activation: Activation = Activation::NONE,
        5 => dilation_w: i32 = 1,
        6 => dilation_h: i32 = 1,
    }
    ConcatEmbeddings {
        0 => num_channels: i32 = 0,
        1 => num_columns_per_channel: Option<Vec<i32>> = None,
        2 => embedding_dim_per_channel: Option<Vec<i32>> = None,
    }
    LshProjection {
        0 => kind: i8 = 0,
    }
    Pool2d {
        0 => padding: Padding = Padding::SAME,
        1 => stride_w: i32 = 0,
        2 => stride_h: i32 = 0,
        3 => filter_width: i32 = 0,
        4 => filter_height: i32 = 0,
        5 => activation: Activation = Activation::NONE,
    }
    Svdf {
        0 => rank: i32 = 0,
        1 => activation: Activation = Activation::NONE,
        2 => asymmetric_quantize_inputs: bool = false,
    }
    Rnn {
        0 => activation: Activation = Activation::NONE,
        1 => asymmetric_quantize_inputs: bool = false,
    }
    FullyConnected {
        0 => activation: Activation = Activation::NONE,
        1 => weights_format: i8 = 0,
        2 => keep_num_dims: bool = false,
        3 => asymmetric_quantize_inputs: bool = false,
        4 => quantized_bias_type: TensorType = TensorType::FLOAT32,
        5 => quant_spec: Option<Vec<u8>> = None,
    }
    Softmax {
        0 => beta: f32 = 0.0,
    }
    Concatenation {
        0 => axis: i32 = 0,
        1 => activation: Activation = Activation::NONE,
    }
    Add {
        0 => activation: Activation = Activation::NONE,
        1 => pot_scale_int16: bool = true,
    }
    L2Norm {
        0 => activation: Activation = Activation::NONE,
    }
    LocalResponseNormalization {
        0 => radius: i32 = 0,
        1 => bias: f32 = 0.0,
        2 => alpha: f32 = 0.0,
        3 => beta: f32 = 0.0,
    }
    Lstm {
        0 => activation: Activation = Activation::NONE,
        1 => cell_clip: f32 = 0.0,
        2 => proj_clip: f32 = 0.0,
        3 => kernel_type: i8 = 0,
        4 => asymmetric_quantize_inputs: bool = false,
    }
    ResizeBilinear {
        2 => align_corners: bool = false,
        3 => half_pixel_centers: bool = false,
    }
    Call {
        0 => subgraph: u32 = 0,
    }
    Reshape {
        0 => new_shape: Option<Vec<i32>> = None,
    }
    SkipGram {
        0 => ngram_size: i32 = 0,
        1 => max_skip_size: i32 = 0,
        2 => include_all_ngrams: bool = false,
    }
    SpaceToDepth {
        0 => block_size: i32 = 0,
    }
    EmbeddingLookupSparse {
        0 => combiner: i8 = 0,
    }
    Mul {
        0 => activation: Activation = Activation::NONE,
    }
    Gather {
        0 => axis: i32 = 0,
        1 => batch_dims: i32 = 0,
    }
    Reducer {
        0 => keep_dims: bool = false,
    }
    Sub {
        0 => activation: Activation = Activation::NONE,
        1 => pot_scale_int16: bool = true,
    }
    Div {
        0 => activation: Activation = Activation::NONE,
    }
    Squeeze {
        0 => squeeze_dims: Option<Vec<i32>> = None,
    }
    SequenceRnn {
        0 => time_major: bool = false,
        1 => activation: Activation = Activation::NONE,
        2 => asymmetric_quantize_inputs: bool = false,
    }
    StridedSlice {
        0 => begin_mask: i32 = 0,
        1 => end_mask: i32 = 0,
        2 => ellipsis_mask: i32 = 0,
        3 => new_axis_mask: i32 = 0,
        4 => shrink_axis_mask: i32 = 0,
        5 => offset: bool = false,
    }
    Split {
        0 => num_splits: i32 = 0,
    }
    Cast {
        0 => in_data_type: TensorType = TensorType::FLOAT32,
        1 => out_data_type: TensorType = TensorType::FLOAT32,
    }
    ArgMax {
        0 => output_type: TensorType = TensorType::FLOAT32,
    }
    TransposeConv {
        0 => padding: Padding = Padding::SAME,
        1 => stride_w: i32 = 0,
        2 => stride_h: i32 = 0,
        3 => activation: Activation = Activation::NONE,
        4 => quantized_bias_type: TensorType = TensorType::FLOAT32,
    }
    SparseToDense {
        0 => validate_indices: bool = false,
    }
    Shape {
        0 => out_type: TensorType = TensorType::FLOAT32,
    }
    ArgMin {
        0 => output_type: TensorType = TensorType::FLOAT32,
    }
    FakeQuant {
        0 => min: f32 = 0.0,
        1 => max: f32 = 0.0,
        2 => num_bits: i32 = 0,
        3 => narrow_range: bool = false,
    }
    Pack {
        0 => values_count: i32 = 0,
        1 => axis: i32 = 0,
    }
    OneHot {
        0 => axis: i32 = 0,
    }
    Unpack {
        0 => num: i32 = 0,
        1 => axis: i32 = 0,
    }
    BidirectionalSequenceLstm {
        0 => activation: Activation = Activation::NONE,
        1 => cell_clip: f32 = 0.0,
        2 => proj_clip: f32 = 0.0,
        3 => merge_outputs: bool = false,
        4 => time_major: bool = true,
        5 => asymmetric_quantize_inputs: bool = false,
    }
    BidirectionalSequenceRnn {
        0 => time_major: bool = false,
        1 => activation: Activation = Activation::NONE,
        2 => merge_outputs: bool = false,
        3 => asymmetric_quantize_inputs: bool = false,
    }
    UnidirectionalSequenceLstm {
        0 => activation: Activation = Activation::NONE,
        1 => cell_clip: f32 = 0.0,
        2 => proj_clip: f32 = 0.0,
        3 => time_major: bool = false,
        4 => asymmetric_quantize_inputs: bool = false,
        5 => diagonal_recurrent_tensors: bool = false,
    }
    ResizeNearestNeighbor {
        0 => align_corners: bool = false,
        1 => half_pixel_centers: bool = false,
    }
    LeakyRelu {
        0 => alpha: f32 = 0.0,
    }
    MirrorPad {
        0 => mode: i8 = 0,
    }
    SplitV {
        0 => num_splits: i32 = 0,
    }
    Unique {
        0 => idx_out_type: TensorType = TensorType::INT32,
    }
    ReverseSequence {
        0 => seq_dim: i32 = 0,
        1 => batch_dim: i32 = 0,
    }
    If {
        0 => then_subgraph_index: i32 = 0,
        1 => else_subgraph_index: i32 = 0,
    }
    While {
        0 => cond_subgraph_index: i32 = 0,
        1 => body_subgraph_index: i32 = 0,
    }
    DepthToSpace {
        0 => block_size: i32 = 0,
    }
    BatchMatMul {
        0 => adj_x: bool = false,
        1 => adj_y: bool = false,
        2 => asymmetric_quantize_inputs: bool = false,
    }
    Cumsum {
        0 => exclusive: bool = false,
        1 => reverse: bool = false,
    }
    CallOnce {
        0 => init_subgraph_index: i32 = 0,
    }
    Conv3d {
        0 => padding: Padding = Padding::SAME,
        1 => stride_d: i32 = 0,
        2 => stride_w: i32 = 0,
        3 => stride_h: i32 = 0,
        4 => activation: Activation = Activation::NONE,
        5 => dilation_d: i32 = 1,
        6 => dilation_w: i32 = 1,
        7 => dilation_h: i32 = 1,
    }
    Hashtable {
        0 => table_id: i32 = 0,
        1 => key_dtype: TensorType = TensorType::FLOAT32,
        2 => value_dtype: TensorType = TensorType::FLOAT32,
    }
    VarHandle {
        0 => container: String = String::new(),
        1 => shared_name: String = String::new(),
    }
    Random {
        0 => seed: i64 = 0,
        1 => seed2: i64 = 0,
    }
    Bucketize {
        0 => boundaries: Option<Vec<f32>> = None,
    }
    Gelu {
        0 => approximate: bool = false,
    }
}

macro_rules! options {
    ($($name:ident = $tag:literal),* $(,)?) => {
        /// The options of an operator.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) enum Options {
            /// None at all.
            #[default]
            None,
            /// A kind without fields.
            Empty(u8),
            /// A kind that this list does not have; what it says is lost.
            Unknown(u8),
            $($name($name),)*
        }

        impl Options {
            fn tag(&self) -> u8 {
                match self {
                    Self::None => 0,
                    Self::Empty(tag) | Self::Unknown(tag) => *tag,
                    $(Self::$name(_) => $tag,)*
                }
            }

            fn from_table(tag: u8, table: &Table<'_>) -> Result<Self> {
                Ok(match tag {
                    0 => Self::None,
                    $($tag => Self::$name($name::read(table)?),)*
                    1..=LAST_TAG => Self::Empty(tag),
                    _ => Self::Unknown(tag),
                })
            }

            fn to_table(&self, builder: &mut Builder) -> Result<crate::flat::Offset> {
                match self {
                    Self::None | Self::Empty(_) | Self::Unknown(_) => builder.table(Vec::new()),
                    $(Self::$name(options) => options.write(builder),)*
                }
            }
        }

        $(impl From<$name> for Options {
            fn from(options: $name) -> Self {
                Self::$name(options)
            }
        }

        impl Kind for $name {
            fn of(options: &Options) -> Option<&Self> {
                match options {
                    Options::$name(options) => Some(options),
                    _ => None,
                }
            }
        })*
    };
}

/// A kind of options.
pub(crate) trait Kind: Sized + Default + Clone {
    /// The options, if they are of this kind.
    fn of(options: &Options) -> Option<&Self>;
}

/// The last tag of the union; those up to it that are not listed below have no fields.
const LAST_TAG: u8 = 126;

options! {
    Conv2d = 1, DepthwiseConv2d = 2, ConcatEmbeddings = 3, LshProjection = 4, Pool2d = 5, Svdf = 6, Rnn = 7,
    FullyConnected = 8, Softmax = 9, Concatenation = 10, Add = 11, L2Norm = 12, LocalResponseNormalization = 13, Lstm =
    14, ResizeBilinear = 15, Call = 16, Reshape = 17, SkipGram = 18, SpaceToDepth = 19, EmbeddingLookupSparse = 20, Mul
    = 21, Gather = 23, Reducer = 27, Sub = 28, Div = 29, Squeeze = 30, SequenceRnn = 31, StridedSlice = 32, Split = 35,
    Cast = 37, ArgMax = 40, TransposeConv = 49, SparseToDense = 50, Shape = 55, ArgMin = 57, FakeQuant = 58, Pack = 59,
    OneHot = 61, Unpack = 64, BidirectionalSequenceLstm = 69, BidirectionalSequenceRnn = 70, UnidirectionalSequenceLstm
    = 71, ResizeNearestNeighbor = 74, LeakyRelu = 75, MirrorPad = 77, SplitV = 79, Unique = 80, ReverseSequence = 87, If
    = 92, While = 93, DepthToSpace = 94, BatchMatMul = 101, Cumsum = 102, CallOnce = 103, Conv3d = 106, Hashtable = 107,
    VarHandle = 111, Random = 114, Bucketize = 115, Gelu = 116,
}

/// A union: its tag stands in the slot before its value.
impl Field for Options {
    fn read(table: &Table<'_>, slot: u16, _: Self) -> Result<Self> {
        let tag = u8::read(table, slot - 1, 0)?;
        match table.table(slot)? {
            Some(options) => Self::from_table(tag, &options),
            None => Ok(Self::None),
        }
    }

    fn write(&self, slot: u16, _: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        if self.tag() != 0 {
            entries.push(Entry::Scalar { slot: slot - 1, bytes: vec![self.tag()] });
            entries.push(Entry::Reference { slot, to: self.to_table(builder)? });
        }
        Ok(())
    }
}

table! {
    /// Options on their own, as a custom operator of the graph carries them.
    Detached {
        1 => options: Options = Options::None,
    }
}

impl Options {
    /// The options as a flatbuffer of their own: a table with their tag and themselves.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        Builder::bare(&Detached { options: self.clone() })
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(File::new(bytes::Bytes::copy_from_slice(bytes)).bare_root::<Detached>()?.options)
    }
}
