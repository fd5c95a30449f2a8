//! From tables to the bytes of a file.

use std::collections::BTreeSet;

use bytes::Bytes;
use fewbit_ir::{Model, Signature, ValueId};

use super::WriteOptions;
use super::lowering::Parts;
use super::shape::size;
use super::table::{Code, Row, TensorId};
use crate::error::{Error, ErrorKind, Result};
use crate::flat::Builder;
use crate::quant::Quant;
use crate::read::DESCRIPTION;
use crate::schema::{self, TensorType};

/// Codes from this one on do not fit the byte that old runtimes read, which then says 127.
const PLACEHOLDER_CODE: i8 = 127;

/// The oldest runtime that has every operator version that this crate writes, under the key that TFLite's tools read.
const MIN_RUNTIME: (&str, &str) = ("min_runtime_version", "2.17.0");

/// The entry point of a model that names none.
const DEFAULT_SIGNATURE: &str = "serving_default";

/// Bytes of that entry, padded with zeros as TFLite's tools do.
const MIN_RUNTIME_LEN: usize = 16;

/// Alignment of weights behind the flatbuffer.
const ALIGNMENT: usize = 16;

pub(super) fn assemble(parts: Parts, model: &Model, options: &WriteOptions) -> Result<Vec<u8>> {
    let Parts { mut tables, inputs, outputs } = parts;
    let metadata = metadata(model, |bytes| tables.add_buffer(bytes))?;
    let codes: BTreeSet<Code> = tables.applications.iter().map(|a| a.code.clone()).collect();
    let codes: Vec<Code> = codes.into_iter().collect();
    let mut operators = Vec::with_capacity(tables.applications.len());
    for a in &tables.applications {
        let opcode_index = codes.binary_search(&a.code).map_err(|_| Error::new(ErrorKind::Graph, "an operator has no code"))?;
        operators.push(schema::Operator {
            opcode_index: index(opcode_index)?,
            inputs: a.inputs.iter().map(|i| i.map_or(Ok(-1), |i| size(i.0))).collect::<Result<_>>()?,
            outputs: a.outputs.iter().map(|o| size(o.0)).collect::<Result<_>>()?,
            options: a.options.clone(),
            custom_options: a.custom_options.clone(),
            ..schema::Operator::default()
        });
    }
    let subgraph = schema::SubGraph {
        tensors: tables.tensors.iter().map(tensor).collect::<Result<_>>()?,
        inputs: inputs.iter().map(|i| size(i.0)).collect::<Result<_>>()?,
        outputs: outputs.iter().map(|o| size(o.0)).collect::<Result<_>>()?,
        operators,
        name: if model.graph.name.is_empty() { "main".to_owned() } else { model.graph.name.clone() },
    };
    let mut file = schema::Model {
        version: schema::VERSION,
        operator_codes: codes.iter().map(operator_code).collect(),
        subgraphs: vec![subgraph],
        description: model.metadata.iter().find(|(k, _)| k == DESCRIPTION).map(|(_, v)| v.clone()).unwrap_or_default(),
        buffers: Vec::new(),
        metadata: Some(metadata),
        signature_defs: signatures(model, &inputs, &outputs)?,
    };
    let total: usize = tables.buffers.iter().map(Bytes::len).sum();
    if total > options.external_weights_above {
        return with_weights_behind(file, &tables.buffers);
    }
    file.buffers = tables.buffers.iter().map(|b| schema::Buffer { data: b.clone(), ..schema::Buffer::default() }).collect();
    Builder::file(&file)
}

/// A flatbuffer whose buffers only say where in the file their bytes are.
fn with_weights_behind(mut file: schema::Model, buffers: &[Bytes]) -> Result<Vec<u8>> {
    // What the offsets are does not change the flatbuffer's size, as long as none is 0, the default.
    let mut start = 1;
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let mut at = start;
        file.buffers.clear();
        for buffer in buffers {
            let (offset, size) = if buffer.is_empty() { (0, 0) } else { (wide(at)?, wide(buffer.len())?) };
            file.buffers.push(schema::Buffer { offset, size, ..schema::Buffer::default() });
            at += buffer.len().next_multiple_of(ALIGNMENT);
        }
        bytes = Builder::file(&file)?;
        start = bytes.len().next_multiple_of(ALIGNMENT);
    }
    bytes.resize(start, 0);
    for buffer in buffers {
        bytes.extend_from_slice(buffer);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    Ok(bytes)
}

fn tensor(row: &Row) -> Result<schema::Tensor> {
    let named = |e: Error| e.at(format!("tensor '{}'", row.name));
    let shape = &row.spec.shape;
    Ok(schema::Tensor {
        shape: shape.sizes().map_err(named)?,
        dtype: TensorType::from_dtype(row.spec.dtype).map_err(named)?,
        buffer: index(row.buffer)?,
        name: row.name.clone(),
        quantization: row.spec.quant.as_ref().map(quantization).transpose()?,
        shape_signature: if shape.dynamic_batch { Some(shape.signature().map_err(named)?) } else { None },
        has_rank: true,
        ..schema::Tensor::default()
    })
}

fn quantization(quant: &Quant) -> Result<schema::Quantization> {
    Ok(schema::Quantization {
        scale: Some(quant.scales.clone()),
        zero_point: Some(quant.zero_points.clone()),
        quantized_dimension: size(quant.axis.unwrap_or(0))?,
        ..schema::Quantization::default()
    })
}

fn operator_code(code: &Code) -> schema::OperatorCode {
    schema::OperatorCode {
        deprecated_builtin_code: i8::try_from(code.builtin.0).unwrap_or(PLACEHOLDER_CODE),
        custom_code: code.custom.clone(),
        version: code.version,
        builtin_code: code.builtin.0,
    }
}

fn metadata(model: &Model, mut add: impl FnMut(Bytes) -> usize) -> Result<Vec<schema::Metadata>> {
    let mut runtime = MIN_RUNTIME.1.as_bytes().to_vec();
    runtime.resize(MIN_RUNTIME_LEN, 0);
    let own = (MIN_RUNTIME.0.to_owned(), Bytes::from(runtime));
    let others = model.metadata.iter().filter(|(k, _)| k != DESCRIPTION && k != MIN_RUNTIME.0);
    let all = std::iter::once(own).chain(others.map(|(k, v)| (k.clone(), Bytes::from(v.clone().into_bytes()))));
    all.map(|(name, bytes)| Ok(schema::Metadata { name, buffer: index(add(bytes))? })).collect()
}

/// The model's entry points, those that do not name every input and output left out; one with the names of the graph's
/// values if there is none, since runtimes look for one.
fn signatures(model: &Model, inputs: &[TensorId], outputs: &[TensorId]) -> Result<Option<Vec<schema::SignatureDef>>> {
    let names = |values: &[ValueId]| values.iter().map(|v| model.graph.value(*v).name.clone()).collect();
    let default = Signature { key: DEFAULT_SIGNATURE.to_owned(), inputs: names(&model.graph.inputs), outputs: names(&model.graph.outputs) };
    let map = |names: &[String], tensors: &[TensorId]| -> Result<Vec<schema::TensorMap>> {
        let one = |(name, id): (&String, &TensorId)| Ok(schema::TensorMap { name: name.clone(), tensor_index: index(id.0)? });
        names.iter().zip(tensors).map(one).collect()
    };
    let def = |s: &Signature| {
        Ok(schema::SignatureDef {
            inputs: map(&s.inputs, inputs)?,
            outputs: map(&s.outputs, outputs)?,
            signature_key: s.key.clone(),
            subgraph_index: 0,
        })
    };
    let whole = |s: &&Signature| s.inputs.len() == inputs.len() && s.outputs.len() == outputs.len();
    let mut defs = model.signatures.iter().filter(whole).map(def).collect::<Result<Vec<_>>>()?;
    if defs.is_empty() {
        defs.push(def(&default)?);
    }
    Ok(Some(defs))
}

fn index(i: usize) -> Result<u32> {
    u32::try_from(i).map_err(|_| Error::new(ErrorKind::Limit, "the file would have more than 2^32 tensors or buffers"))
}

fn wide(n: usize) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::new(ErrorKind::Limit, "the file is too large"))
}
