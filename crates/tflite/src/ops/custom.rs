//! Operators that the graph has no equal of: kept as they are, so that the report can name them and a TFLite file that
//! is written again still has them.

use bytes::Bytes;
use fewbit_ir::Op;
use fewbit_ir::op::Custom;

use crate::error::{Error, Result};
use crate::read::OperatorReader;
use crate::schema::{Builtin, Options};
use crate::write::{Application, Code, NodeWriter};

/// The domain of such operators.
const DOMAIN: &str = "tflite";

/// Attributes: the operator's version, four bytes; its options, a flatbuffer of their own; options of a custom operator;
/// and that something was there that could not be kept.
const VERSION: &str = "version";
const OPTIONS: &str = "builtin_options";
const CUSTOM_OPTIONS: &str = "custom_options";
const CUSTOM_CODE: &str = "custom_code";
const LOST: &str = "lost";

pub(super) fn read(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (code, raw) = (r.code(), r.raw());
    let mut attributes = vec![(VERSION.to_owned(), code.version.to_le_bytes().to_vec())];
    let custom = r.builtin() == Builtin::CUSTOM;
    if custom {
        attributes.push((CUSTOM_CODE.to_owned(), code.custom_code.clone().into_bytes()));
    }
    if raw.options != Options::None {
        attributes.push((OPTIONS.to_owned(), raw.options.to_bytes()?));
    }
    if !raw.custom_options.is_empty() {
        attributes.push((CUSTOM_OPTIONS.to_owned(), raw.custom_options.to_vec()));
    }
    let subgraphs = matches!(raw.options, Options::If(_) | Options::While(_) | Options::Call(_) | Options::CallOnce(_));
    let lost = matches!(raw.options, Options::Unknown(_)) || raw.options_2_kind != 0 || raw.large_custom_options_size != 0;
    if subgraphs || lost {
        attributes.push((LOST.to_owned(), Vec::new()));
    }
    let name = if custom { code.custom_code.clone() } else { r.builtin().name() };
    let mut inputs = Vec::new();
    for i in 0..r.input_count() {
        inputs.push(r.optional_real(i)?);
    }
    r.finish(Op::Custom(Box::new(Custom { domain: DOMAIN.to_owned(), name, attributes, captures: 0 })), inputs)
}

/// Whether an operator came from a TFLite file.
pub(super) fn is_own(op: &Custom) -> bool {
    op.domain == DOMAIN
}

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: &Custom) -> Result<()> {
    if !is_own(op) {
        return Err(Error::unrepresentable(format!("'{}' of operator set '{}' is unknown to TFLite", op.name, op.domain)));
    }
    let attribute = |name: &str| op.attributes.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_slice());
    if attribute(LOST).is_some() {
        return Err(Error::unrepresentable("it refers to other graphs or has options that were not kept when it was read"));
    }
    let custom = attribute(CUSTOM_CODE);
    let builtin = if custom.is_some() { Some(Builtin::CUSTOM) } else { Builtin::from_name(&op.name) };
    let builtin = builtin.ok_or_else(|| Error::unrepresentable(format!("TFLite has no operator '{}'", op.name)))?;
    let version = attribute(VERSION).and_then(|v| v.try_into().ok()).map_or(1, i32::from_le_bytes);
    let options = attribute(OPTIONS).map(Options::from_bytes).transpose()?.unwrap_or_default();
    let inputs = (0..w.node().inputs.len()).map(|i| w.node().input(i).map(|v| w.tensor(v)).transpose()).collect::<Result<_>>()?;
    let outputs = (0..w.node().outputs.len()).map(|i| w.output(i)).collect::<Result<_>>()?;
    w.apply_code(Application {
        code: Code { builtin, custom: custom.map(|c| String::from_utf8_lossy(c).into_owned()).unwrap_or_default(), version },
        inputs,
        outputs,
        options,
        custom_options: attribute(CUSTOM_OPTIONS).map(Bytes::copy_from_slice).unwrap_or_default(),
    });
    Ok(())
}
