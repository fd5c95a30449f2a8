//! The operators: reading and writing of each family stand side by side in one file.
//!
//! Reading: [`ROWS`] names each operator that has an [`Op`], how many inputs and outputs it may have in any opset from
//! [`MIN_OPSET`](crate::MIN_OPSET) on, and the function that maps it. That function moves what used to be an attribute
//! into the input that it is in the newest opset, and says [`Mapped::Custom`] where the IR has no words.
//!
//! Writing: [`write()`] is an exhaustive match over [`Op`].
//!
//! To add an operator: a row, an arm, and the two functions that they name.

mod activation;
mod axes;
mod cast;
mod constant;
mod control;
mod conv;
mod elementwise;
mod indexing;
mod join;
mod matrix;
mod normalization;
mod pad;
mod plain;
mod pool;
mod qlinear;
mod quantize;
mod reduce;
mod resize;
mod shape;
mod softmax;
mod space;
#[cfg(test)]
mod tests;
mod verbatim;
mod window;

use fewbit_ir::Op;

use crate::read::{Mapped, NodeIn};
use crate::write::NodeOut;
use crate::{Error, Result};

/// Reads one operator.
pub(crate) type Reader = fn(&mut NodeIn<'_, '_, '_>) -> Result<Mapped>;

/// An operator that is understood.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    name: &'static str,
    /// How many inputs it must and may have.
    inputs: (usize, usize),
    /// How many outputs it may have.
    outputs: usize,
    pub(crate) read: Reader,
}

/// Any number of inputs or outputs.
const ANY: usize = usize::MAX;

const fn row(name: &'static str, inputs: (usize, usize), outputs: usize, read: Reader) -> Row {
    Row { name, inputs, outputs, read }
}

/// ONNX's own operators, by name.
const ROWS: &[Row] = &[
    row("Abs", (1, 1), 1, elementwise::read_unary),
    row("Acos", (1, 1), 1, elementwise::read_unary),
    row("Acosh", (1, 1), 1, elementwise::read_unary),
    row("Add", (2, 2), 1, elementwise::read_binary),
    row("And", (2, 2), 1, elementwise::read_binary),
    row("ArgMax", (1, 1), 1, reduce::read_arg),
    row("ArgMin", (1, 1), 1, reduce::read_arg),
    row("Asin", (1, 1), 1, elementwise::read_unary),
    row("Asinh", (1, 1), 1, elementwise::read_unary),
    row("Atan", (1, 1), 1, elementwise::read_unary),
    row("Atanh", (1, 1), 1, elementwise::read_unary),
    row("AveragePool", (1, 1), 1, pool::read),
    row("BatchNormalization", (5, 5), 5, normalization::read_batch),
    row("BitShift", (2, 2), 1, elementwise::read_binary),
    row("BitwiseAnd", (2, 2), 1, elementwise::read_binary),
    row("BitwiseNot", (1, 1), 1, elementwise::read_unary),
    row("BitwiseOr", (2, 2), 1, elementwise::read_binary),
    row("BitwiseXor", (2, 2), 1, elementwise::read_binary),
    row("Cast", (1, 1), 1, cast::read),
    row("CastLike", (2, 2), 1, cast::read_like),
    row("Ceil", (1, 1), 1, elementwise::read_unary),
    row("Celu", (1, 1), 1, activation::read),
    row("Clip", (1, 3), 1, activation::read_clip),
    row("Concat", (1, ANY), 1, join::read_concat),
    row("Constant", (0, 0), 1, constant::read),
    row("ConstantOfShape", (1, 1), 1, constant::read_of_shape),
    row("Conv", (2, 3), 1, conv::read),
    row("ConvInteger", (2, 4), 1, conv::read_integer),
    row("ConvTranspose", (2, 3), 1, conv::read_transpose),
    row("Cos", (1, 1), 1, elementwise::read_unary),
    row("Cosh", (1, 1), 1, elementwise::read_unary),
    row("CumSum", (2, 2), 1, reduce::read_cumsum),
    row("DepthToSpace", (1, 1), 1, space::read_depth_to_space),
    row("DequantizeLinear", (2, 3), 1, quantize::read_dequantize),
    row("Div", (2, 2), 1, elementwise::read_binary),
    row("Dropout", (1, 3), 2, shape::read_dropout),
    row("DynamicQuantizeLinear", (1, 1), 3, plain::read),
    row("Elu", (1, 1), 1, activation::read),
    row("Equal", (2, 2), 1, elementwise::read_binary),
    row("Erf", (1, 1), 1, elementwise::read_unary),
    row("Exp", (1, 1), 1, elementwise::read_unary),
    row("Expand", (2, 2), 1, plain::read),
    row("Flatten", (1, 1), 1, shape::read_flatten),
    row("Floor", (1, 1), 1, elementwise::read_unary),
    row("Gather", (2, 2), 1, indexing::read_gather),
    row("GatherElements", (2, 2), 1, indexing::read_gather),
    row("GatherND", (2, 2), 1, indexing::read_gather_nd),
    row("Gelu", (1, 1), 1, activation::read),
    row("Gemm", (2, 3), 1, matrix::read_gemm),
    row("GlobalAveragePool", (1, 1), 1, pool::read_global),
    row("GlobalLpPool", (1, 1), 1, pool::read_global),
    row("GlobalMaxPool", (1, 1), 1, pool::read_global),
    row("Greater", (2, 2), 1, elementwise::read_binary),
    row("GreaterOrEqual", (2, 2), 1, elementwise::read_binary),
    row("GroupNormalization", (3, 3), 1, normalization::read_group),
    row("HardSigmoid", (1, 1), 1, activation::read),
    row("HardSwish", (1, 1), 1, elementwise::read_unary),
    row("Hardmax", (1, 1), 1, softmax::read),
    row("Identity", (1, 1), 1, plain::read),
    row("If", (1, 1), ANY, control::read_if),
    row("InstanceNormalization", (3, 3), 1, normalization::read_instance),
    row("IsInf", (1, 1), 1, activation::read),
    row("IsNaN", (1, 1), 1, elementwise::read_unary),
    row("LRN", (1, 1), 1, normalization::read_lrn),
    row("LayerNormalization", (2, 3), 3, normalization::read_layer),
    row("LeakyRelu", (1, 1), 1, activation::read),
    row("Less", (2, 2), 1, elementwise::read_binary),
    row("LessOrEqual", (2, 2), 1, elementwise::read_binary),
    row("Log", (1, 1), 1, elementwise::read_unary),
    row("LogSoftmax", (1, 1), 1, softmax::read),
    row("Loop", (0, ANY), ANY, control::read_loop),
    row("LpNormalization", (1, 1), 1, normalization::read_lp),
    row("LpPool", (1, 1), 1, pool::read),
    row("MatMul", (2, 2), 1, plain::read),
    row("MatMulInteger", (2, 4), 1, plain::read),
    row("Max", (1, ANY), 1, elementwise::read_variadic),
    row("MaxPool", (1, 1), 2, pool::read),
    row("Mean", (1, ANY), 1, elementwise::read_variadic),
    row("Min", (1, ANY), 1, elementwise::read_variadic),
    row("Mish", (1, 1), 1, elementwise::read_unary),
    row("Mod", (2, 2), 1, elementwise::read_binary),
    row("Mul", (2, 2), 1, elementwise::read_binary),
    row("Neg", (1, 1), 1, elementwise::read_unary),
    row("NonZero", (1, 1), 1, plain::read),
    row("Not", (1, 1), 1, elementwise::read_unary),
    row("OneHot", (3, 3), 1, indexing::read_one_hot),
    row("Or", (2, 2), 1, elementwise::read_binary),
    row("PRelu", (2, 2), 1, plain::read),
    row("Pad", (1, 4), 1, pad::read),
    row("Pow", (2, 2), 1, elementwise::read_binary),
    row("QLinearConv", (8, 9), 1, qlinear::read_conv),
    row("QLinearMatMul", (8, 8), 1, qlinear::read_matmul),
    row("QuantizeLinear", (2, 3), 1, quantize::read_quantize),
    row("RMSNormalization", (2, 2), 1, normalization::read_rms),
    row("Range", (3, 3), 1, shape::read_range),
    row("Reciprocal", (1, 1), 1, elementwise::read_unary),
    row("ReduceL1", (1, 2), 1, reduce::read),
    row("ReduceL2", (1, 2), 1, reduce::read),
    row("ReduceLogSum", (1, 2), 1, reduce::read),
    row("ReduceLogSumExp", (1, 2), 1, reduce::read),
    row("ReduceMax", (1, 2), 1, reduce::read),
    row("ReduceMean", (1, 2), 1, reduce::read),
    row("ReduceMin", (1, 2), 1, reduce::read),
    row("ReduceProd", (1, 2), 1, reduce::read),
    row("ReduceSum", (1, 2), 1, reduce::read),
    row("ReduceSumSquare", (1, 2), 1, reduce::read),
    row("Relu", (1, 1), 1, elementwise::read_unary),
    row("Reshape", (2, 2), 1, shape::read_reshape),
    row("Resize", (1, 4), 1, resize::read),
    row("Round", (1, 1), 1, elementwise::read_unary),
    row("Scatter", (3, 3), 1, indexing::read_scatter),
    row("ScatterElements", (3, 3), 1, indexing::read_scatter),
    row("ScatterND", (3, 3), 1, indexing::read_scatter_nd),
    row("Selu", (1, 1), 1, activation::read),
    row("Shape", (1, 1), 1, shape::read_shape),
    row("Shrink", (1, 1), 1, activation::read),
    row("Sigmoid", (1, 1), 1, elementwise::read_unary),
    row("Sign", (1, 1), 1, elementwise::read_unary),
    row("Sin", (1, 1), 1, elementwise::read_unary),
    row("Sinh", (1, 1), 1, elementwise::read_unary),
    row("Size", (1, 1), 1, plain::read),
    row("Slice", (1, 5), 1, indexing::read_slice),
    row("Softmax", (1, 1), 1, softmax::read),
    row("Softplus", (1, 1), 1, elementwise::read_unary),
    row("Softsign", (1, 1), 1, elementwise::read_unary),
    row("SpaceToDepth", (1, 1), 1, space::read_space_to_depth),
    row("Split", (1, 2), ANY, join::read_split),
    row("Sqrt", (1, 1), 1, elementwise::read_unary),
    row("Squeeze", (1, 2), 1, shape::read_squeeze),
    row("Sub", (2, 2), 1, elementwise::read_binary),
    row("Sum", (1, ANY), 1, elementwise::read_variadic),
    row("Swish", (1, 1), 1, activation::read),
    row("Tan", (1, 1), 1, elementwise::read_unary),
    row("Tanh", (1, 1), 1, elementwise::read_unary),
    row("ThresholdedRelu", (1, 1), 1, activation::read),
    row("Tile", (2, 2), 1, plain::read),
    row("TopK", (1, 2), 2, reduce::read_top_k),
    row("Transpose", (1, 1), 1, shape::read_transpose),
    row("Trilu", (1, 2), 1, indexing::read_trilu),
    row("Unsqueeze", (1, 2), 1, shape::read_squeeze),
    row("Upsample", (1, 2), 1, resize::read_upsample),
    row("Where", (3, 3), 1, plain::read),
    row("Xor", (2, 2), 1, elementwise::read_binary),
];

/// ONNX Runtime's operators that have a counterpart among ONNX's own, by name. Of those on quantized tensors, inputs in the
/// middle may be left out: their functions say which.
const MICROSOFT_ROWS: &[Row] = &[
    row("DequantizeLinear", (2, 3), 1, quantize::read_dequantize),
    row("Gelu", (1, 1), 1, activation::read),
    row("MatMulIntegerToFloat", (4, 7), 1, qlinear::read_matmul_to_float),
    row("QGemm", (2, 9), 1, qlinear::read_gemm),
    row("QLinearAdd", (2, 8), 1, qlinear::read_binary),
    row("QLinearAveragePool", (2, 5), 1, qlinear::read_one),
    row("QLinearConcat", (5, ANY), 1, qlinear::read_concat),
    row("QLinearGlobalAveragePool", (2, 5), 1, qlinear::read_one),
    row("QLinearLeakyRelu", (2, 5), 1, qlinear::read_one),
    row("QLinearMul", (2, 8), 1, qlinear::read_binary),
    row("QLinearReduceMean", (2, 5), 1, qlinear::read_mean),
    row("QLinearSigmoid", (2, 5), 1, qlinear::read_one),
    row("QLinearSoftmax", (2, 5), 1, qlinear::read_softmax),
    row("QLinearWhere", (3, 9), 1, qlinear::read_where),
    row("QuantizeLinear", (2, 3), 1, quantize::read_quantize),
    row("QuickGelu", (1, 1), 1, activation::read),
];

/// The row of an operator, if it is understood.
pub(crate) fn reader_of(domain: &str, op_type: &str) -> Option<&'static Row> {
    let rows = match domain {
        "" => ROWS,
        "com.microsoft" => MICROSOFT_ROWS,
        _ => return None,
    };
    rows.binary_search_by(|row| row.name.cmp(op_type)).ok().and_then(|i| rows.get(i))
}

impl Row {
    /// Whether outputs that are left out at the end can be forgotten: not where each is a part of a whole.
    pub(crate) fn trims_outputs(&self) -> bool {
        self.outputs != ANY
    }

    /// Whether a node has as many inputs and outputs as the operator may have, and none of the required ones is left out.
    pub(crate) fn check_arity(&self, node: &NodeIn<'_, '_, '_>) -> Result<()> {
        let (least, most) = self.inputs;
        let count = node.inputs.len();
        let missing = node.inputs.iter().take(least).any(Option::is_none);
        if count < least || count > most || missing {
            let wanted = match (least, most) {
                (least, ANY) => format!("at least {least}"),
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            let found = if missing { format!("{count}, a required one left out") } else { format!("{count}") };
            return Err(Error::malformed(format!("takes {wanted} inputs; there are {found}")));
        }
        match node.output_count() {
            outputs if outputs > self.outputs => Err(Error::malformed(format!("gives at most {} outputs, not {outputs}", self.outputs))),
            0 if self.outputs != ANY => Err(Error::malformed("its output has no name")),
            _ => Ok(()),
        }
    }
}

/// Writes a node.
pub(crate) fn write<'g>(op: &'g Op, n: &mut NodeOut<'_, 'g>) -> Result<()> {
    match op {
        Op::Unary(op) => activation::write(n, *op),
        Op::Binary(op) => elementwise::write_binary(n, *op),
        Op::Variadic(op) => elementwise::write_variadic(n, *op),
        Op::Clip => activation::write_clip(n),
        Op::Cast(op) => cast::write(n, *op),
        Op::Conv(op) => conv::write(n, op),
        Op::ConvTranspose(op) => conv::write_transpose(n, op),
        Op::ConvInteger(op) => conv::write_integer(n, op),
        Op::Gemm(op) => matrix::write_gemm(n, op),
        Op::MatMul(op) => matrix::write_matmul(n, *op),
        Op::Pool(op) => pool::write(n, op),
        Op::GlobalPool(op) => pool::write_global(n, *op),
        Op::BatchNormalization(op) => normalization::write_batch(n, *op),
        Op::LayerNormalization(op) => normalization::write_layer(n, *op),
        Op::InstanceNormalization(op) => normalization::write_instance(n, *op),
        Op::GroupNormalization(op) => normalization::write_group(n, *op),
        Op::RmsNormalization(op) => normalization::write_rms(n, *op),
        Op::LpNormalization(op) => normalization::write_lp(n, *op),
        Op::Lrn(op) => normalization::write_lrn(n, *op),
        Op::Softmax(attributes) | Op::LogSoftmax(attributes) | Op::Hardmax(attributes) => softmax::write(n, op.name(), *attributes),
        Op::Reduce(op) => reduce::write(n, *op),
        Op::ArgReduce(op) => reduce::write_arg(n, *op),
        Op::CumSum(op) => reduce::write_cumsum(n, *op),
        Op::TopK(op) => reduce::write_top_k(n, *op),
        Op::Identity
        | Op::Expand
        | Op::Tile
        | Op::Size
        | Op::Range
        | Op::NonZero
        | Op::Where
        | Op::PRelu
        | Op::MatMulInteger
        | Op::DynamicQuantizeLinear => plain::write(n, op.name()),
        Op::Dropout => shape::write_dropout(n),
        Op::Reshape(op) => shape::write_reshape(n, *op),
        Op::Flatten(op) => shape::write_flatten(n, *op),
        Op::Transpose(op) => shape::write_transpose(n, op),
        Op::Squeeze | Op::Unsqueeze => shape::write_squeeze(n, op.name()),
        Op::Shape(op) => shape::write_shape(n, *op),
        Op::ConstantOfShape => constant::write_of_shape(n),
        Op::Concat(op) => join::write_concat(n, *op),
        Op::Split(op) => join::write_split(n, *op),
        Op::Slice => indexing::write_slice(n),
        Op::Gather(attributes) | Op::GatherElements(attributes) => indexing::write_gather(n, op.name(), *attributes),
        Op::GatherNd(op) => indexing::write_gather_nd(n, *op),
        Op::ScatterElements(op) => indexing::write_scatter(n, *op),
        Op::ScatterNd(op) => indexing::write_scatter_nd(n, *op),
        Op::OneHot(op) => indexing::write_one_hot(n, *op),
        Op::Trilu(op) => indexing::write_trilu(n, *op),
        Op::Pad(op) => pad::write(n, *op),
        Op::Resize(op) => resize::write(n, op),
        Op::DepthToSpace(op) => space::write_depth_to_space(n, *op),
        Op::SpaceToDepth(op) => space::write_space_to_depth(n, *op),
        Op::QuantizeLinear(op) => quantize::write_quantize(n, *op),
        Op::DequantizeLinear(op) => quantize::write_dequantize(n, *op),
        Op::If(op) => control::write_if(n, op),
        Op::Loop(op) => control::write_loop(n, op),
        Op::Custom(op) => verbatim::write(n, op),
    }
}

/// The inputs that ONNX wants as 64-bit integers and nothing else.
pub(crate) fn int64_inputs(op: &Op) -> &'static [usize] {
    match op {
        Op::ConstantOfShape | Op::Loop(_) => &[0],
        Op::Reshape(_)
        | Op::Expand
        | Op::Tile
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Reduce(_)
        | Op::TopK(_)
        | Op::Split(_)
        | Op::Trilu(_)
        | Op::Pad(_) => &[1],
        Op::Resize(_) => &[3],
        _ => &[],
    }
}

/// The error for operators on channels-last activations, which ONNX does not have.
fn check_layout(layout: fewbit_ir::Layout) -> Result<()> {
    match layout {
        fewbit_ir::Layout::ChannelsFirst => Ok(()),
        fewbit_ir::Layout::ChannelsLast => {
            Err(Error::write("works on channels-last activations, which ONNX does not have; lower the layout before writing"))
        }
    }
}

#[cfg(test)]
mod row_tests {
    use super::*;

    #[test]
    fn rows_are_sorted_for_the_search() {
        for rows in [ROWS, MICROSOFT_ROWS] {
            assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        }
    }
}
