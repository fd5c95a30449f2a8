//! Shape and type inference.
//!
//! In go a graph's input types and constants; out come types of values, as far as they follow. Inference never
//! guesses: what does not follow stays unknown, and what contradicts itself is an error that names the node. What a
//! file declares for inner values is overwritten where more is known.
//!
//! [`output_types`] infers one operator; each family has a file here. A function gets [`Fact`]s about the inputs and
//! returns one entry per output; an operator whose output cannot be known returns `None` for it.

mod indexing;
mod linear;
mod shaping;
mod spatial;

use fewbit_tensor::{DType, Tensor};

use crate::op::Op;
use crate::{Dim, Error, ErrorKind, Graph, Node, NodeId, Result, TensorType};

/// What is known of one input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fact<'a> {
    /// Its type.
    pub ty: Option<&'a TensorType>,
    /// Its elements.
    pub constant: Option<&'a Tensor>,
}

impl<'a> Fact<'a> {
    fn dtype(&self) -> Option<DType> {
        self.ty.map(|t| t.dtype)
    }

    fn dims(&self) -> Option<&'a [Dim]> {
        self.ty?.dims.as_deref()
    }

    fn integers(&self) -> Option<Vec<i64>> {
        self.constant.map(Tensor::to_i64_vec)
    }
}

type Types = Vec<Option<TensorType>>;

/// Infers the type of every value from the types of the inputs and constants, in topological order.
pub fn infer(graph: &mut Graph) -> Result<()> {
    for id in graph.topological_order()? {
        infer_node(graph, id)?;
    }
    Ok(())
}

/// Infers the outputs of one node from what is known of its inputs.
pub fn infer_node(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let facts = facts(graph, node);
    let types = output_types(&node.op, &facts, node.outputs.len()).map_err(|e| e.at(node))?;
    let outputs = node.outputs.clone();
    for (value, ty) in outputs.into_iter().zip(types) {
        if let Some(ty) = ty {
            let declared = graph.value_mut(value).ty.take();
            graph.value_mut(value).ty = Some(merge(ty, declared));
        }
    }
    Ok(())
}

/// What is known of a node's inputs.
pub fn facts<'a>(graph: &'a Graph, node: &Node) -> Vec<Fact<'a>> {
    node.inputs
        .iter()
        .map(|input| match input {
            Some(value) => Fact { ty: graph.value(*value).ty.as_ref(), constant: graph.constant(*value) },
            None => Fact::default(),
        })
        .collect()
}

/// Keeps what was declared where inference knows less; numbers beat names, names beat nothing.
fn merge(inferred: TensorType, declared: Option<TensorType>) -> TensorType {
    let Some(declared) = declared.filter(|d| d.dtype == inferred.dtype) else { return inferred };
    let dims = match (inferred.dims, declared.dims) {
        (Some(inferred), Some(declared)) if inferred.len() == declared.len() => Some(
            inferred
                .into_iter()
                .zip(declared)
                .map(|(i, d)| match (&i, &d) {
                    (Dim::Unknown, _) | (Dim::Symbol(_), Dim::Known(_)) => d,
                    _ => i,
                })
                .collect(),
        ),
        (None, declared) => declared,
        (inferred, _) => inferred,
    };
    TensorType { dtype: inferred.dtype, dims }
}

/// The types of an operator's outputs; one entry per output, `None` where nothing follows.
pub fn output_types(op: &Op, inputs: &[Fact<'_>], outputs: usize) -> Result<Types> {
    let graphs = matches!(op, Op::If(_) | Op::Loop(_) | Op::Custom(_));
    if inputs.is_empty() && !graphs {
        return Err(Error::new(ErrorKind::Shape, "the node has no input"));
    }
    let x = inputs.first().copied().unwrap_or_default();
    let single = |ty: Option<TensorType>| vec![ty];
    let mut types = match op {
        Op::Unary(op) => single(x.ty.map(|ty| unary(*op, ty))),
        Op::Binary(op) => single(broadcast(inputs, op.kind.is_comparison().then_some(DType::Bool))?),
        Op::Variadic(_) => single(broadcast(inputs, None)?),
        Op::PRelu => single(broadcast(inputs, x.dtype())?),
        Op::Where => {
            let dtype = inputs.get(1).and_then(Fact::dtype).or_else(|| inputs.get(2).and_then(Fact::dtype));
            match dtype {
                Some(dtype) => single(broadcast(inputs, Some(dtype))?),
                None => single(None),
            }
        }
        Op::Clip
        | Op::BatchNormalization(_)
        | Op::InstanceNormalization(_)
        | Op::GroupNormalization(_)
        | Op::RmsNormalization(_)
        | Op::LpNormalization(_)
        | Op::Lrn(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Hardmax(_)
        | Op::CumSum(_)
        | Op::Identity
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::Trilu(_) => single(x.ty.cloned()),
        Op::Dropout => vec![x.ty.cloned(), x.ty.map(|ty| TensorType { dtype: DType::Bool, dims: ty.dims.clone() })],
        Op::Cast(op) => single(x.ty.map(|ty| TensorType { dtype: op.to, dims: ty.dims.clone() })),
        Op::QuantizeLinear(op) => single(x.ty.map(|ty| TensorType { dtype: op.to, dims: ty.dims.clone() })),
        Op::DequantizeLinear(_) => {
            let dtype = inputs.get(1).and_then(Fact::dtype).unwrap_or(DType::F32);
            single(x.ty.map(|ty| TensorType { dtype, dims: ty.dims.clone() }))
        }
        Op::DynamicQuantizeLinear => vec![
            x.ty.map(|ty| TensorType { dtype: DType::U8, dims: ty.dims.clone() }),
            Some(TensorType::fixed(DType::F32, &[])),
            Some(TensorType::fixed(DType::U8, &[])),
        ],

        Op::Conv(op) => single(spatial::conv(op, x, inputs.get(1).copied().unwrap_or_default(), x.dtype())?),
        Op::ConvInteger(op) => single(spatial::conv(op, x, inputs.get(1).copied().unwrap_or_default(), Some(DType::I32))?),
        Op::ConvTranspose(op) => single(spatial::conv_transpose(op, x, inputs.get(1).copied().unwrap_or_default())?),
        Op::Pool(op) => spatial::pool(op, x)?,
        Op::GlobalPool(op) => single(spatial::global_pool(*op, x)),
        Op::DepthToSpace(op) => single(spatial::depth_to_space(*op, x)?),
        Op::SpaceToDepth(op) => single(spatial::space_to_depth(*op, x)?),
        Op::Resize(op) => single(spatial::resize(op, inputs)?),

        Op::Gemm(op) => single(linear::gemm(*op, inputs)?),
        Op::MatMul(_) => single(linear::matmul(inputs, x.dtype())?),
        Op::MatMulInteger => single(linear::matmul(inputs, Some(DType::I32))?),
        Op::LayerNormalization(op) => linear::layer_normalization(*op, x)?,
        Op::Reduce(op) => single(linear::reduce(*op, inputs)?),
        Op::ArgReduce(op) => single(linear::arg_reduce(*op, x)?),
        Op::TopK(op) => linear::top_k(*op, inputs)?,

        Op::Reshape(op) => single(shaping::reshape(*op, inputs)?),
        Op::Flatten(op) => single(shaping::flatten(*op, x)?),
        Op::Transpose(op) => single(shaping::transpose(op, x)?),
        Op::Squeeze => single(shaping::squeeze(inputs)?),
        Op::Unsqueeze => single(shaping::unsqueeze(inputs)?),
        Op::Expand => single(shaping::expand(inputs)?),
        Op::Tile => single(shaping::tile(inputs)?),
        Op::Shape(op) => single(Some(shaping::shape(*op, x))),
        Op::Size => single(Some(TensorType::fixed(DType::I64, &[]))),
        Op::ConstantOfShape => single(shaping::constant_of_shape(inputs)?),
        Op::Range => single(shaping::range(inputs)),
        Op::OneHot(op) => single(shaping::one_hot(*op, inputs)?),
        Op::NonZero => single(Some(TensorType {
            dtype: DType::I64,
            dims: Some(vec![x.dims().map_or(Dim::Unknown, |d| Dim::Known(d.len())), Dim::Unknown]),
        })),

        Op::Concat(op) => single(indexing::concat(*op, inputs)?),
        Op::Split(op) => indexing::split(*op, inputs, outputs)?,
        Op::Slice => single(indexing::slice(inputs)?),
        Op::Gather(op) => single(indexing::gather(*op, inputs)?),
        Op::GatherElements(_) => single(indexing::like_indices(inputs)),
        Op::GatherNd(op) => single(indexing::gather_nd(*op, inputs)?),
        Op::Pad(_) => single(indexing::pad(inputs)?),

        Op::If(_) | Op::Loop(_) | Op::Custom(_) => Vec::new(),
    };
    types.resize(outputs, None);
    Ok(types)
}

fn unary(op: crate::op::Unary, ty: &TensorType) -> TensorType {
    use crate::op::Unary;
    let dtype = match op {
        Unary::IsNan | Unary::IsInf { .. } => DType::Bool,
        _ => ty.dtype,
    };
    TensorType { dtype, dims: ty.dims.clone() }
}

/// The type of an elementwise result: dimensions by numpy's rules, the element type given or the first input's.
fn broadcast(inputs: &[Fact<'_>], dtype: Option<DType>) -> Result<Option<TensorType>> {
    let Some(dtype) = dtype.or_else(|| inputs.iter().find_map(Fact::dtype)) else { return Ok(None) };
    let mut dims: Option<Vec<Dim>> = Some(Vec::new());
    for input in inputs {
        dims = match (dims, input.dims()) {
            (Some(a), Some(b)) => Some(broadcast_dims(&a, b)?),
            _ => None,
        };
    }
    Ok(Some(TensorType { dtype, dims }))
}

/// The dimensions of two tensors broadcast against each other by numpy's rules.
pub fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Known(1);
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(one.clone(), |i| dims[i].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y && x != Dim::Unknown => Ok(x),
            (Dim::Known(1), other) | (other, Dim::Known(1)) => Ok(other),
            (Dim::Known(x), Dim::Known(y)) => Err(Error::new(ErrorKind::Shape, format!("dimensions {x} and {y} do not broadcast"))),
            (Dim::Known(x), _) | (_, Dim::Known(x)) => Ok(Dim::Known(x)),
            _ => Ok(Dim::Unknown),
        })
        .collect()
}

/// An element count or offset as a dimension; an error where it is negative or too large.
fn known(n: i64) -> Result<Dim> {
    usize::try_from(n).map(Dim::Known).map_err(|_| Error::new(ErrorKind::Shape, format!("a dimension cannot be {n}")))
}

#[cfg(test)]
mod tests;
