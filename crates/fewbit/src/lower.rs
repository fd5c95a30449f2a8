//! From the QDQ graph to a file: layout, integers, fusion and opset are chosen here and nowhere else.

use std::path::Path;

use fewbit_ir::{Dim, Graph, Layout, Model, infer};
use fewbit_passes::layout::{Interface, convert_layout};
use fewbit_passes::{Notes, fuse_activation, integer_interface, remove_identity, unsign_activations};
use fewbit_tensor::DType;

use crate::model_file::{Format, ModelFile};
use crate::write_file::{Existing, write_chunks, write_file};
use crate::{Error, Result};

/// Element type of inputs and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// As in the source network; the file quantizes and dequantizes.
    #[default]
    Float32,
    /// int8 where the network quantizes its interface.
    Int8,
    /// uint8 where the network quantizes its interface.
    Uint8,
}

/// How a file is to be written.
#[derive(Clone, Copy, Debug)]
pub struct LowerOptions {
    /// In which format.
    pub format: Format,
    /// With which interface.
    pub io: Io,
    /// Whether activations become uint8 in ONNX, as ONNX Runtime on x86 wants them.
    pub unsigned_onnx: bool,
}

/// A model ready to be encoded, and what the reader of a report should know of it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The model.
    pub model: Model,
    /// Sentences about the interface: what changed its layout, type or batch.
    pub remarks: Vec<String>,
}

/// Brings a graph into the form that a format wants.
pub fn lower(graph: &Graph, source: &ModelFile, options: LowerOptions) -> Result<Lowered> {
    let mut graph = graph.clone();
    let mut notes = Notes::default();
    let mut remarks = Vec::new();
    let fail = |e: fewbit_passes::Error| Error::network(e.to_string());
    let (layout, interface) = match options.format {
        Format::Onnx | Format::Keras => (Layout::ChannelsFirst, Interface::Keep),
        Format::TfLite => (Layout::ChannelsLast, Interface::Convert),
    };
    if options.format == Format::TfLite {
        fix_batch(&mut graph, &mut remarks)?;
    }
    let converted = convert_layout(&mut graph, layout, interface, &mut notes).map_err(fail)?;
    if !converted.interface.is_empty() {
        remarks.push(format!("channels last now: {}", quoted(&converted.interface)));
    } else if options.format == Format::Onnx && source.format != Format::Onnx {
        remarks.push("inputs and outputs keep the layout of the source, channels last".to_owned());
    }
    remove_identity(&mut graph, &mut notes).map_err(fail)?;
    if options.format == Format::Onnx && options.unsigned_onnx {
        unsign_activations(&mut graph, &mut notes).map_err(fail)?;
    }
    let wanted = match options.io {
        Io::Float32 => None,
        Io::Int8 => Some(DType::I8),
        Io::Uint8 => Some(DType::U8),
    };
    if let Some(dtype) = wanted {
        let mut interface = Notes::default();
        integer_interface(&mut graph, dtype, &mut interface).map_err(fail)?;
        for note in interface.iter() {
            remarks.push(match &note.declined {
                None => format!("'{}' is {dtype} now", note.node),
                Some(why) => format!("'{}' stays as it is: {why}", note.node),
            });
        }
    }
    if options.format == Format::TfLite {
        fuse_activation(&mut graph, &mut notes).map_err(fail)?;
    }
    graph.remove_dead();
    infer::infer(&mut graph).map_err(|e| Error::network(e.to_string()))?;
    let model = Model { graph, ..source.model.clone() };
    Ok(Lowered { model, remarks })
}

/// TFLite wants every dimension known: a free first dimension becomes 1, any other is the user's to fix.
fn fix_batch(graph: &mut Graph, remarks: &mut Vec<String>) -> Result<()> {
    let mut fixed = Vec::new();
    for input in graph.inputs.clone() {
        let name = graph.value(input).name.clone();
        let Some(dims) = graph.value_mut(input).ty.as_mut().and_then(|ty| ty.dims.as_mut()) else {
            return Err(Error::settings(format!("a TFLite file needs known shapes: give --input-shape {name}=…")));
        };
        if let Some(first) = dims.first_mut().filter(|d| d.known().is_none()) {
            *first = Dim::Known(1);
            fixed.push(name.clone());
        }
        if dims.iter().any(|d| d.known().is_none()) {
            let shape: Vec<_> = dims.iter().map(ToString::to_string).collect();
            return Err(Error::settings(format!(
                "a TFLite file needs known shapes, but '{name}' is [{}]: give --input-shape {name}={}",
                shape.join(","),
                dims.iter().map(|d| d.known().map_or("N".to_owned(), |n| n.to_string())).collect::<Vec<_>>().join(","),
            )));
        }
    }
    if !fixed.is_empty() {
        remarks.push(format!("batch fixed to 1: {}", quoted(&fixed)));
    }
    infer::infer(graph).map_err(|e| Error::network(e.to_string()))?;
    // Shapes that depended on the batch are numbers now.
    fewbit_passes::fold_constants(graph, &mut Notes::default()).map_err(|e| Error::network(e.to_string()))?;
    graph.remove_dead();
    Ok(())
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}

/// Writes a model to a path, whole or not at all; returns the bytes written.
pub fn save(model: &Model, format: Format, path: &Path, existing: Existing) -> Result<u64> {
    let fail = |e: &dyn std::fmt::Display| Error::network(format!("{}: {e}", path.display()));
    match format {
        Format::Onnx => {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("model");
            let options = fewbit_onnx::WriteOptions { external_location: format!("{name}.data"), ..fewbit_onnx::WriteOptions::default() };
            let encoded = fewbit_onnx::write(model, &options).map_err(|e| fail(&e))?;
            let mut written = encoded.model.len() as u64;
            if let Some(external) = &encoded.external {
                // The weights first: a model file without them would be half a result.
                let chunks: Vec<&[u8]> = external.chunks.iter().map(AsRef::as_ref).collect();
                write_chunks(&path.with_file_name(&external.location), &chunks, existing)?;
                written += external.len() as u64;
            }
            write_file(path, &encoded.model, existing)?;
            Ok(written)
        }
        Format::TfLite => {
            let bytes = fewbit_tflite::write(model, &fewbit_tflite::WriteOptions::default()).map_err(|e| fail(&e))?;
            write_file(path, &bytes, existing)?;
            Ok(bytes.len() as u64)
        }
        Format::Keras => Err(fail(&"Keras files are only read")),
    }
}
