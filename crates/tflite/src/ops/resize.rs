//! `RESIZE_BILINEAR`, `RESIZE_NEAREST_NEIGHBOR`, and moves between channels and pixels.

use fewbit_ir::op::{CoordinateMode, DepthToSpace, KeepAspect, NearestMode, Resize, ResizeMode, SpaceToDepth};
use fewbit_ir::{Layout, Op};
use fewbit_tensor::Tensor as Data;

use super::window::channels_last;
use crate::error::{Error, Result};
use crate::read::{OperatorReader, positive};
use crate::schema::{Builtin, options};
use crate::write::NodeWriter;

// --- reading ---

pub(super) fn read_bilinear(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::ResizeBilinear = r.options();
    read(r, ResizeMode::Linear, coordinates(o.align_corners, o.half_pixel_centers), NearestMode::RoundPreferFloor)
}

/// Half-pixel centres are rounded up here, as TFLite's `floor((i + ½) · scale)` is.
pub(super) fn read_nearest(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let o: options::ResizeNearestNeighbor = r.options();
    let coordinates = coordinates(o.align_corners, o.half_pixel_centers);
    let nearest = if coordinates == CoordinateMode::Asymmetric { NearestMode::Floor } else { NearestMode::RoundPreferCeil };
    read(r, ResizeMode::Nearest, coordinates, nearest)
}

fn coordinates(align_corners: bool, half_pixel_centers: bool) -> CoordinateMode {
    match (align_corners, half_pixel_centers) {
        (true, _) => CoordinateMode::AlignCorners,
        (_, true) => CoordinateMode::HalfPixel,
        _ => CoordinateMode::Asymmetric,
    }
}

fn read(r: &mut OperatorReader<'_, '_>, mode: ResizeMode, coordinates: CoordinateMode, nearest: NearestMode) -> Result<()> {
    let op = Resize { mode, coordinates, nearest, axes: Some(vec![1, 2]), ..Resize::default() };
    let inputs = vec![Some(r.real(0)?), None, None, Some(r.shape_like(1, "size")?)];
    r.finish(op, inputs)
}

pub(super) fn read_depth_to_space(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let block_size = positive(r.options::<options::DepthToSpace>().block_size, "the block size")?;
    let x = r.real(0)?;
    r.finish(DepthToSpace { block_size, column_row_depth: false, layout: Layout::ChannelsLast }, vec![Some(x)])
}

pub(super) fn read_space_to_depth(r: &mut OperatorReader<'_, '_>) -> Result<()> {
    let block_size = positive(r.options::<options::SpaceToDepth>().block_size, "the block size")?;
    let x = r.real(0)?;
    r.finish(Op::SpaceToDepth(SpaceToDepth { block_size, layout: Layout::ChannelsLast }), vec![Some(x)])
}

// --- writing ---

pub(super) fn write(w: &mut NodeWriter<'_, '_>, op: &Resize) -> Result<()> {
    let (from, to_shape) = (w.shape(0)?, w.output_shape(0)?);
    if from.rank() != 4 || from.dim(3) != to_shape.dim(3) || from.dim(0) != to_shape.dim(0) {
        return Err(Error::unrepresentable("TFLite resizes height and width of a channels-last tensor of 4 dimensions only"));
    }
    if op.antialias || op.exclude_outside || op.aspect != KeepAspect::Stretch {
        return Err(Error::unrepresentable("TFLite's resize has no antialiasing, no exclusion of what is outside, and no aspect policy"));
    }
    let axes: Vec<Axis> = (1..3).map(|a| Axis { from: from.dim(a), to: to_shape.dim(a), scale: scale(w, op, a) }).collect();
    let (x, to) = (w.input(0)?, w.output(0)?);
    let size = w.size_vector("size", &[to_shape.dim(1), to_shape.dim(2)])?;
    let choice = [(false, false), (false, true), (true, false)].into_iter().find(|c| axes.iter().all(|a| a.agrees(op, *c)));
    let Some((align_corners, half_pixel_centers)) = choice else {
        return Err(Error::unrepresentable(format!(
            "TFLite cannot express {:?} interpolation with {:?} coordinates rounded by {:?} at these sizes",
            op.mode, op.coordinates, op.nearest
        )));
    };
    if op.mode == ResizeMode::Nearest {
        w.same_scale(&[x, to])?;
        let o = options::ResizeNearestNeighbor { align_corners, half_pixel_centers };
        return w.apply(Builtin::RESIZE_NEAREST_NEIGHBOR, o, &[x, size], &[to]);
    }
    w.same_scale(&[x, to])?;
    w.apply(Builtin::RESIZE_BILINEAR, options::ResizeBilinear { align_corners, half_pixel_centers }, &[x, size], &[to])
}

/// The scale that the graph says, if it says one.
fn scale(w: &NodeWriter<'_, '_>, op: &Resize, axis: usize) -> Option<f64> {
    let scales = w.constant_input(2)?.to_f64_vec();
    let at = match &op.axes {
        None => axis,
        Some(axes) => axes.iter().position(|a| fewbit_ir::axis::resolve_axis(*a, 4).is_ok_and(|a| a == axis))?,
    };
    scales.get(at).copied()
}

/// One axis of a resize.
struct Axis {
    from: usize,
    to: usize,
    scale: Option<f64>,
}

impl Axis {
    /// Whether TFLite with (align corners, half-pixel centres) picks the same elements as the graph asks for.
    fn agrees(&self, op: &Resize, choice: (bool, bool)) -> bool {
        let (Ok(from), Ok(to)) = (u32::try_from(self.from).map(f64::from), u32::try_from(self.to).map(f64::from)) else { return false };
        let scale = self.scale.unwrap_or(to / from);
        let ratio = if choice.0 && self.to > 1 { (from - 1.0) / (to - 1.0) } else { from / to };
        let indices = || (0_u32..).map(f64::from).take(self.to);
        match op.mode {
            ResizeMode::Cubic => false,
            ResizeMode::Linear => indices().all(|i| {
                let theirs = if choice.1 { (i + 0.5) * ratio - 0.5 } else { i * ratio };
                same(source(op, i, scale, from, to).clamp(0.0, from - 1.0), theirs.clamp(0.0, from - 1.0))
            }),
            ResizeMode::Nearest => indices().all(|i| {
                let theirs = match choice {
                    (true, _) => (i * ratio).round(),
                    (_, true) => ((i + 0.5) * ratio).floor(),
                    _ => (i * ratio).floor(),
                };
                let ours = round(op.nearest, source(op, i, scale, from, to));
                ours.clamp(0.0, from - 1.0) == theirs.clamp(0.0, from - 1.0)
            }),
        }
    }
}

/// Coordinates that differ by less are the same place.
const SAME_PLACE: f64 = 1e-4;

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < SAME_PLACE
}

/// The input coordinate that the graph means by output index `i`.
fn source(op: &Resize, i: f64, scale: f64, from: f64, to: f64) -> f64 {
    match op.coordinates {
        CoordinateMode::HalfPixel => (i + 0.5) / scale - 0.5,
        CoordinateMode::HalfPixelSymmetric => {
            let adjustment = to / (scale * from);
            from / 2.0 * (1.0 - adjustment) + (i + 0.5) / scale - 0.5
        }
        CoordinateMode::PytorchHalfPixel if to > 1.0 => (i + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel => 0.0,
        CoordinateMode::AlignCorners if to > 1.0 => i * (from - 1.0) / (to - 1.0),
        CoordinateMode::AlignCorners => 0.0,
        CoordinateMode::Asymmetric => i / scale,
        CoordinateMode::TfCropAndResize => f64::NAN,
    }
}

fn round(mode: NearestMode, x: f64) -> f64 {
    match mode {
        NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
        NearestMode::RoundPreferCeil => (x + 0.5).floor(),
        NearestMode::Floor => x.floor(),
        NearestMode::Ceil => x.ceil(),
    }
}

/// TFLite has channels after blocks; the other order is brought to that by picking channels.
pub(super) fn write_depth_to_space(w: &mut NodeWriter<'_, '_>, op: DepthToSpace) -> Result<()> {
    channels_last(op.layout)?;
    let (mut x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    if op.column_row_depth {
        let blocks = op.block_size * op.block_size;
        let spec = w.spec(x);
        let depth = spec.shape.dim(3) / blocks.max(1);
        let order = (0..blocks).flat_map(|b| (0..depth).map(move |d| d * blocks + b)).map(super::size).collect::<Result<Vec<_>>>()?;
        let order = w.constant("channel_order", &Data::vector(order));
        let picked = w.temporary("reordered", spec);
        w.apply(Builtin::GATHER, options::Gather { axis: 3, batch_dims: 0 }, &[x, order], &[picked])?;
        x = picked;
    }
    w.apply(Builtin::DEPTH_TO_SPACE, options::DepthToSpace { block_size: super::size(op.block_size)? }, &[x], &[to])
}

/// The graph's order of channels is TFLite's.
pub(super) fn write_space_to_depth(w: &mut NodeWriter<'_, '_>, op: SpaceToDepth) -> Result<()> {
    channels_last(op.layout)?;
    let (x, to) = (w.input(0)?, w.output(0)?);
    w.same_scale(&[x, to])?;
    w.apply(Builtin::SPACE_TO_DEPTH, options::SpaceToDepth { block_size: super::size(op.block_size)? }, &[x], &[to])
}
