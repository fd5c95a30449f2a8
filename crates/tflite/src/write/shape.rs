//! Shapes as TFLite wants them: numbers, but for a leading batch.

use fewbit_ir::{Dim, Graph, ValueId};

use crate::error::{Error, ErrorKind, Result};

/// The dimensions of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sizes; 1 for a dynamic batch.
    pub(crate) dims: Vec<usize>,
    /// Whether the leading dimension may change.
    pub(crate) dynamic_batch: bool,
}

impl Shape {
    /// Dimensions that do not change.
    pub(crate) fn fixed(dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), dynamic_batch: false }
    }

    /// The shape of a value of the graph.
    pub(crate) fn of(graph: &Graph, value: ValueId) -> Result<Self> {
        let v = graph.value(value);
        let unknown = |what: &str| {
            let message =
                format!("{what} of '{}' is unknown, and TFLite needs a number; fix the sizes of the inputs with --input-shape", v.name);
            Error::new(ErrorKind::UnknownShape, message)
        };
        let dims = v.ty.as_ref().and_then(|t| t.dims.as_ref()).ok_or_else(|| unknown("the shape"))?;
        let dynamic_batch = dims.first().is_some_and(|d| d.known().is_none());
        let known = |(i, d): (usize, &Dim)| match d.known() {
            Some(d) => Ok(d),
            None if i == 0 => Ok(1),
            None => Err(unknown(&format!("dimension {i} ({d})"))),
        };
        Ok(Self { dims: dims.iter().enumerate().map(known).collect::<Result<_>>()?, dynamic_batch })
    }

    pub(crate) fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The size along an axis, 1 beyond the last.
    pub(crate) fn dim(&self, axis: usize) -> usize {
        self.dims.get(axis).copied().unwrap_or(1)
    }

    /// Number of elements, of one batch where it is dynamic.
    pub(crate) fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The sizes as TFLite stores them.
    pub(crate) fn sizes(&self) -> Result<Vec<i32>> {
        self.dims.iter().map(|d| size(*d)).collect()
    }

    /// The sizes with −1 for a dynamic batch, as reshapes and signatures say it.
    pub(crate) fn signature(&self) -> Result<Vec<i32>> {
        let mut sizes = self.sizes()?;
        if let (true, Some(batch)) = (self.dynamic_batch, sizes.first_mut()) {
            *batch = -1;
        }
        Ok(sizes)
    }

    /// Axes in another order; a batch that is dynamic must stay in front.
    pub(crate) fn permuted(&self, perm: &[usize]) -> Result<Self> {
        if self.dynamic_batch && perm.first() != Some(&0) {
            return Err(Error::new(ErrorKind::UnknownShape, "the batch is moved, so its size must be known; fix it with --input-shape"));
        }
        Ok(Self { dims: perm.iter().map(|&p| self.dim(p)).collect(), dynamic_batch: self.dynamic_batch })
    }
}

/// A size as TFLite stores it.
pub(crate) fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::unrepresentable(format!("the size {n} does not fit TFLite's 32 bits")))
}
