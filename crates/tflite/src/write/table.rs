//! Tensors, operators and buffers of the file in the making.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use fewbit_tensor::{DType, Tensor as Data};

use super::{Shape, version};
use crate::error::{Error, ErrorKind, Result};
use crate::quant::Quant;
use crate::schema::{Builtin, Options};

/// Names a tensor of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TensorId(pub(super) usize);

/// What a tensor is, but for its name and data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) quant: Option<Quant>,
}

impl Spec {
    /// The same with another shape.
    pub(crate) fn shaped(&self, shape: Shape) -> Self {
        Self { shape, ..self.clone() }
    }

    /// A tensor without quantization.
    pub(crate) fn plain(dtype: DType, shape: Shape) -> Self {
        Self { dtype, shape, quant: None }
    }
}

/// A tensor of the file.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) spec: Spec,
    /// Index of its buffer; 0 for none.
    pub(super) buffer: usize,
}

/// An operator with its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Code {
    pub(crate) builtin: Builtin,
    pub(crate) custom: String,
    pub(crate) version: i32,
}

/// One application of an operator.
pub(crate) struct Application {
    pub(crate) code: Code,
    pub(crate) inputs: Vec<Option<TensorId>>,
    pub(crate) outputs: Vec<TensorId>,
    pub(crate) options: Options,
    pub(crate) custom_options: Bytes,
}

/// What the file will hold.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) tensors: Vec<Row>,
    pub(super) applications: Vec<Application>,
    /// The first one is empty.
    pub(super) buffers: Vec<Bytes>,
    buffer_of: HashMap<Bytes, usize>,
    names: BTreeSet<String>,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self { buffers: vec![Bytes::new()], ..Self::default() }
    }

    fn unique(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        let mut n = self.tensors.len();
        while !self.names.insert(name.clone()) {
            name = format!("{stem}_{n}");
            n += 1;
        }
        name
    }

    /// Adds a tensor, with data if it is a constant.
    pub(super) fn add(&mut self, name: &str, spec: Spec, data: Option<&Data>) -> TensorId {
        let name = self.unique(name);
        let buffer = data.map_or(0, |d| self.add_buffer(d.bytes().clone()));
        self.tensors.push(Row { name, spec, buffer });
        TensorId(self.tensors.len() - 1)
    }

    /// The buffer with these bytes; equal bytes share one.
    pub(super) fn add_buffer(&mut self, bytes: Bytes) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        *self.buffer_of.entry(bytes).or_insert_with_key(|bytes| {
            self.buffers.push(bytes.clone());
            self.buffers.len() - 1
        })
    }

    pub(super) fn row(&self, id: TensorId) -> Option<&Row> {
        self.tensors.get(id.0)
    }

    pub(super) fn apply(
        &mut self,
        builtin: Builtin,
        options: Options,
        inputs: Vec<Option<TensorId>>,
        outputs: Vec<TensorId>,
    ) -> Result<()> {
        let row = |id: &TensorId| self.row(*id).ok_or_else(|| Error::new(ErrorKind::Graph, format!("tensor {} is not in the file", id.0)));
        let input = |i: &Option<TensorId>| i.as_ref().map(row).transpose();
        let ins = inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let ins: Vec<_> = ins.into_iter().map(|r| r.map(|r| &r.spec)).collect();
        let outs = outputs.iter().map(row).collect::<Result<Vec<_>>>()?;
        let outs: Vec<_> = outs.into_iter().map(|r| &r.spec).collect();
        let version = version::of(builtin, &options, &ins, &outs);
        let code = Code { builtin, custom: String::new(), version };
        self.applications.push(Application { code, inputs, outputs, options, custom_options: Bytes::new() });
        Ok(())
    }
}
