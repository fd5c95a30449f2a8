//! Lookup tables.

use fewbit_ir::op::{Cast, Gather};
use fewbit_ir::{Op, ValueId};
use fewbit_tensor::DType;

use super::{Kind, single, trained};
use crate::build::Scope;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] =
    &[Kind { classes: &["Embedding"], variables: |_| Ok(vec![trained("embeddings")]), build: |s, inputs| embedding(s, single(inputs)?) }];

fn embedding(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    if s.attributes().flag("mask_zero", false)? {
        return Err(Error::unsupported("'mask_zero' hides steps from later layers, which is not supported; train with mask_zero=False"));
    }
    let table = s.plain_weight("embeddings")?;
    let indices = match s.dtype(x) {
        Some(DType::I32 | DType::I64) => x,
        _ => s.emit(Cast { to: DType::I32, saturate: false }, &[x])?,
    };
    s.emit(Op::Gather(Gather { axis: 0 }), &[table, indices])
}
