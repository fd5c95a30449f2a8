//! Weights that are too large for the model's own file.

use bytes::Bytes;

use super::WriteOptions;
use crate::external::plain_location;
use crate::proto::{DataLocation, GraphProto, StringStringEntryProto, TensorProto};
use crate::{Error, Result};

/// Tensors smaller than this stay in the model, where tools look for shapes and axes.
const MIN_EXTERNAL_BYTES: usize = 1024;

/// Each tensor starts at a multiple of this, so that a memory map of the file can be used in place.
const ALIGNMENT: usize = 64;

/// A file beside the model.
#[derive(Clone, Debug)]
pub struct ExternalFile {
    /// Its path relative to the model's folder.
    pub location: String,
    /// Its content, to be written one after the other. The chunks share the model's tensors.
    pub chunks: Vec<Bytes>,
}

impl ExternalFile {
    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(Bytes::is_empty)
    }
}

/// Moves large initializers out of the graph if all of them together are larger than the options allow.
pub(super) fn move_out(graph: &mut GraphProto, options: &WriteOptions) -> Result<Option<ExternalFile>> {
    let total: usize = all_initializers(graph).into_iter().map(|t| raw_len(t)).fold(0, usize::saturating_add);
    if total <= options.max_embedded_bytes {
        return Ok(None);
    }
    plain_location(&options.external_location)
        .map_err(|_| Error::write(format!("'{}' is not a plain path within the model's folder", options.external_location)))?;
    let mut file = ExternalFile { location: options.external_location.clone(), chunks: Vec::new() };
    let mut offset = 0_usize;
    for tensor in all_initializers(graph) {
        if raw_len(tensor) < MIN_EXTERNAL_BYTES {
            continue;
        }
        let Some(data) = tensor.raw_data.take() else { continue };
        let padding = offset.next_multiple_of(ALIGNMENT).saturating_sub(offset);
        if padding > 0 {
            file.chunks.push(Bytes::from(vec![0; padding]));
            offset = offset.saturating_add(padding);
        }
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.external_data =
            vec![entry("location", file.location.clone()), entry("offset", offset.to_string()), entry("length", data.len().to_string())];
        tensor.data_location = Some(DataLocation::External.into());
        offset = offset.saturating_add(data.len());
        file.chunks.push(data);
    }
    Ok(Some(file))
}

fn raw_len(tensor: &TensorProto) -> usize {
    tensor.raw_data.as_ref().map_or(0, Bytes::len)
}

/// The initializers of a graph and of the graphs within it.
fn all_initializers(graph: &mut GraphProto) -> Vec<&mut TensorProto> {
    let mut all: Vec<&mut TensorProto> = graph.initializer.iter_mut().collect();
    for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            all.extend(all_initializers(graph));
        }
    }
    all
}
