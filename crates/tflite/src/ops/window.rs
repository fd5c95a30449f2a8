//! Sliding windows: TFLite knows only `SAME` and `VALID`, the graph also padding by numbers.

use fewbit_ir::Layout;
use fewbit_ir::op::{Padding, Window};

use crate::error::{Error, Result};
use crate::read::positive;
use crate::schema;
use crate::write::{NodeWriter, Shape, TensorId};

/// The padding of a TFLite operator.
pub(super) fn read_padding(padding: schema::Padding) -> Result<Padding> {
    match padding {
        schema::Padding::SAME => Ok(Padding::SameUpper),
        schema::Padding::VALID => Ok(Padding::Valid),
        other => Err(Error::format(format!("padding {} does not exist", other.name()))),
    }
}

/// A window over height and width.
pub(super) fn read_window(padding: schema::Padding, strides: [i32; 2], dilations: [i32; 2]) -> Result<Window> {
    let both = |v: [i32; 2], what: &str| v.into_iter().map(|v| positive(v, what)).collect::<Result<Vec<_>>>();
    Ok(Window { strides: both(strides, "a stride")?, dilations: both(dilations, "a dilation")?, padding: read_padding(padding)? })
}

/// A window as TFLite says it, over height and width; what it cannot say comes as explicit padding before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) padding: schema::Padding,
    /// Elements before and after, per spatial axis, if the input must be padded first.
    pub(super) explicit: Option<Vec<(usize, usize)>>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
}

impl Plan {
    /// The plan for a window of size `kernel` over an input of spatial size `input`.
    pub(super) fn new(window: &Window, kernel: &[usize], input: &[usize]) -> Result<Self> {
        let rank = kernel.len();
        if window.strides.len() != rank || window.dilations.len() != rank || input.len() != rank {
            return Err(Error::unrepresentable("strides, dilations and kernel disagree about the number of spatial axes"));
        }
        let same: Vec<usize> = (0..rank).map(|a| Self::same_total(window, kernel, input, a)).collect();
        let (padding, explicit) = match &window.padding {
            Padding::Valid => (schema::Padding::VALID, None),
            Padding::SameUpper => (schema::Padding::SAME, None),
            Padding::SameLower => Self::place(same.iter().map(|t| (t.div_ceil(2), t / 2)).collect(), &same),
            Padding::Explicit { begin, end } if begin.len() == rank && end.len() == rank => {
                Self::place(begin.iter().copied().zip(end.iter().copied()).collect(), &same)
            }
            Padding::Explicit { .. } => return Err(Error::unrepresentable("padding and kernel disagree about the number of spatial axes")),
        };
        Ok(Self { padding, explicit, strides: window.strides.clone(), dilations: window.dilations.clone() })
    }

    /// Padding that `SAME` means along an axis.
    fn same_total(window: &Window, kernel: &[usize], input: &[usize], axis: usize) -> usize {
        let at = |v: &[usize]| v.get(axis).copied().unwrap_or(1);
        let (stride, dilation, kernel, input) = (at(&window.strides).max(1), at(&window.dilations), at(kernel), at(input));
        let effective = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        (input.div_ceil(stride).saturating_sub(1) * stride).saturating_add(effective).saturating_sub(input)
    }

    fn place(pads: Vec<(usize, usize)>, same: &[usize]) -> (schema::Padding, Option<Vec<(usize, usize)>>) {
        if pads.iter().all(|p| *p == (0, 0)) {
            (schema::Padding::VALID, None)
        } else if pads.iter().zip(same).all(|((begin, end), total)| *begin == total / 2 && begin + end == *total) {
            (schema::Padding::SAME, None)
        } else {
            (schema::Padding::VALID, Some(pads))
        }
    }

    /// The same over one more spatial axis in front, of size 1.
    #[must_use]
    pub(super) fn widened(mut self) -> Self {
        self.strides.insert(0, 1);
        self.dilations.insert(0, 1);
        if let Some(pads) = &mut self.explicit {
            pads.insert(0, (0, 0));
        }
        self
    }
}

/// An error unless the operator is channels last, which is all that TFLite has.
pub(super) fn channels_last(layout: Layout) -> Result<()> {
    match layout {
        Layout::ChannelsLast => Ok(()),
        Layout::ChannelsFirst => {
            Err(Error::unrepresentable("it is channels first, and TFLite is channels last; change the layout of the graph first"))
        }
    }
}

/// What the border is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Border {
    /// The real number 0.
    Zero,
    /// The lowest number there is.
    Lowest,
}

/// Pads the spatial axes of a channels-last tensor.
pub(super) fn pad_spatial(w: &mut NodeWriter<'_, '_>, x: TensorId, pads: &[(usize, usize)], border: Border) -> Result<TensorId> {
    let spec = w.spec(x);
    let mut dims = spec.shape.dims.clone();
    let mut all = vec![(0, 0); dims.len()];
    for (axis, pad) in pads.iter().enumerate() {
        if let (Some(dim), Some(slot)) = (dims.get_mut(axis + 1), all.get_mut(axis + 1)) {
            *dim += pad.0 + pad.1;
            *slot = *pad;
        }
    }
    let padded = w.temporary("padded", spec.shaped(Shape { dims, ..spec.shape.clone() }));
    super::pad::write_pads(w, x, &all, border, padded)?;
    Ok(padded)
}
