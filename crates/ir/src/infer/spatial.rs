//! Convolutions, pools, resizing.

use fewbit_tensor::DType;

use super::{Fact, Types, known};
use crate::op::{Conv, ConvTranspose, DepthToSpace, GlobalPool, Layout, Pool, Resize, SpaceToDepth};
use crate::{Dim, Error, ErrorKind, Result, TensorType};

/// An activation's dimensions taken apart by layout.
struct Activation<'a> {
    batch: &'a Dim,
    channels: &'a Dim,
    spatial: &'a [Dim],
}

fn split(layout: Layout, dims: &[Dim]) -> Result<Activation<'_>> {
    if dims.len() < 2 {
        return Err(Error::new(
            ErrorKind::Shape,
            format!("a spatial operator needs a batch and a channel axis, its input has {} axes", dims.len()),
        ));
    }
    let (batch, rest) = (&dims[0], &dims[1..]);
    let (channels, spatial) = match layout {
        Layout::ChannelsFirst => (&rest[0], &rest[1..]),
        Layout::ChannelsLast => (&rest[rest.len() - 1], &rest[..rest.len() - 1]),
    };
    Ok(Activation { batch, channels, spatial })
}

fn join(layout: Layout, batch: &Dim, channels: Dim, spatial: Vec<Dim>) -> Vec<Dim> {
    let mut dims = vec![batch.clone()];
    match layout {
        Layout::ChannelsFirst => {
            dims.push(channels);
            dims.extend(spatial);
        }
        Layout::ChannelsLast => {
            dims.extend(spatial);
            dims.push(channels);
        }
    }
    dims
}

fn numbers(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(Dim::known).collect()
}

/// Spatial output sizes by a geometry that treats the axes alike: known ones one at a time are not worth it, so all
/// or nothing.
fn spatial_output(spatial: &[Dim], geometry: impl FnOnce(&[usize]) -> Result<Vec<usize>>) -> Result<Vec<Dim>> {
    Ok(match numbers(spatial) {
        Some(sizes) => geometry(&sizes)?.into_iter().map(Dim::Known).collect(),
        None => vec![Dim::Unknown; spatial.len()],
    })
}

fn check_rank(x: &[Dim], weight: &[Dim]) -> Result<()> {
    if x.len() == weight.len() && x.len() >= 2 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Shape, format!("input has {} axes but the weight has {}", x.len(), weight.len())))
}

fn check_channels(channels: &Dim, wanted: Option<usize>, groups: usize) -> Result<()> {
    match (channels.known(), wanted) {
        (Some(got), Some(wanted)) if got != wanted => {
            Err(Error::new(ErrorKind::Shape, format!("input has {got} channels, but the weight in {groups} group(s) wants {wanted}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn conv(op: &Conv, x: Fact<'_>, weight: Fact<'_>, dtype: Option<DType>) -> Result<Option<TensorType>> {
    let Some(dtype) = dtype else { return Ok(None) };
    let (Some(dims), Some(weight)) = (x.dims(), weight.dims()) else { return Ok(Some(TensorType::unranked(dtype))) };
    check_rank(dims, weight)?;
    let x = split(op.layout, dims)?;
    check_channels(x.channels, weight[1].known().and_then(|n| n.checked_mul(op.groups)), op.groups)?;
    let spatial = match numbers(&weight[2..]) {
        Some(kernel) => spatial_output(x.spatial, |sizes| Ok(op.window.geometry(sizes, &kernel)?.output))?,
        None => vec![Dim::Unknown; x.spatial.len()],
    };
    Ok(Some(TensorType { dtype, dims: Some(join(op.layout, x.batch, weight[0].clone(), spatial)) }))
}

pub(super) fn conv_transpose(op: &ConvTranspose, x: Fact<'_>, weight: Fact<'_>) -> Result<Option<TensorType>> {
    let Some(dtype) = x.dtype() else { return Ok(None) };
    let (Some(dims), Some(weight)) = (x.dims(), weight.dims()) else { return Ok(Some(TensorType::unranked(dtype))) };
    check_rank(dims, weight)?;
    let x = split(op.layout, dims)?;
    check_channels(x.channels, weight[0].known(), op.groups)?;
    let channels = match weight[1].known().map(|n| n.checked_mul(op.groups)) {
        Some(Some(n)) => Dim::Known(n),
        Some(None) => return Err(Error::new(ErrorKind::Shape, "the number of output channels overflows")),
        None => Dim::Unknown,
    };
    let spatial = match numbers(&weight[2..]) {
        Some(kernel) => spatial_output(x.spatial, |sizes| Ok(op.geometry(sizes, &kernel)?.output))?,
        None => vec![Dim::Unknown; x.spatial.len()],
    };
    Ok(Some(TensorType { dtype, dims: Some(join(op.layout, x.batch, channels, spatial)) }))
}

pub(super) fn pool(op: &Pool, x: Fact<'_>) -> Result<Types> {
    let Some(ty) = x.ty else { return Ok(Vec::new()) };
    let dims = match x.dims() {
        None => None,
        Some(dims) => {
            let x = split(op.layout, dims)?;
            let spatial = spatial_output(x.spatial, |sizes| Ok(op.geometry(sizes)?.output))?;
            Some(join(op.layout, x.batch, x.channels.clone(), spatial))
        }
    };
    let indices = TensorType { dtype: DType::I64, dims: dims.clone() };
    Ok(vec![Some(TensorType { dtype: ty.dtype, dims }), Some(indices)])
}

pub(super) fn global_pool(op: GlobalPool, x: Fact<'_>) -> Option<TensorType> {
    let ty = x.ty?;
    let dims = x.dims().and_then(|dims| split(op.layout, dims).ok()).map(|x| {
        let ones = vec![Dim::Known(1); x.spatial.len()];
        join(op.layout, x.batch, x.channels.clone(), ones)
    });
    Some(TensorType { dtype: ty.dtype, dims })
}

/// Moves a factor between channels and the two spatial axes.
fn regroup(layout: Layout, x: Fact<'_>, f: impl Fn(Dim, Dim, Dim) -> Result<[Dim; 3]>) -> Result<Option<TensorType>> {
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(dims) = x.dims() else { return Ok(Some(ty.clone())) };
    if dims.len() != 4 {
        return Err(Error::new(ErrorKind::Shape, format!("input must have 4 axes, it has {}", dims.len())));
    }
    let x = split(layout, dims)?;
    let [channels, height, width] = f(x.channels.clone(), x.spatial[0].clone(), x.spatial[1].clone())?;
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(join(layout, x.batch, channels, vec![height, width])) }))
}

fn scaled(dim: &Dim, by: usize) -> Result<Dim> {
    match dim {
        Dim::Known(n) => n.checked_mul(by).map(Dim::Known).ok_or_else(|| Error::new(ErrorKind::Shape, "a dimension overflows")),
        Dim::Symbol(_) | Dim::Unknown => Ok(Dim::Unknown),
    }
}

fn divided(dim: &Dim, by: usize) -> Result<Dim> {
    match dim {
        Dim::Known(n) if by > 0 && n % by == 0 => Ok(Dim::Known(n / by)),
        Dim::Known(n) => Err(Error::new(ErrorKind::Shape, format!("dimension {n} is no multiple of {by}"))),
        Dim::Symbol(_) | Dim::Unknown => Ok(Dim::Unknown),
    }
}

fn squared(block: usize) -> Result<usize> {
    block.checked_mul(block).ok_or_else(|| Error::new(ErrorKind::Shape, format!("block size {block} is too large")))
}

pub(super) fn depth_to_space(op: DepthToSpace, x: Fact<'_>) -> Result<Option<TensorType>> {
    let (block, area) = (op.block_size, squared(op.block_size)?);
    regroup(op.layout, x, |c, h, w| Ok([divided(&c, area)?, scaled(&h, block)?, scaled(&w, block)?]))
}

pub(super) fn space_to_depth(op: SpaceToDepth, x: Fact<'_>) -> Result<Option<TensorType>> {
    let (block, area) = (op.block_size, squared(op.block_size)?);
    regroup(op.layout, x, |c, h, w| Ok([scaled(&c, area)?, divided(&h, block)?, divided(&w, block)?]))
}

pub(super) fn resize(op: &Resize, inputs: &[Fact<'_>]) -> Result<Option<TensorType>> {
    let x = inputs[0];
    let Some(ty) = x.ty else { return Ok(None) };
    let Some(dims) = x.dims() else { return Ok(Some(ty.clone())) };
    let axes = match &op.axes {
        Some(axes) => crate::axis::resolve_axes(axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let scales = inputs.get(2).and_then(|f| f.constant).filter(|t| !t.is_empty());
    let sizes = inputs.get(3).and_then(|f| f.constant).filter(|t| !t.is_empty());
    let mut out = dims.to_vec();
    match (scales, sizes) {
        (Some(t), _) | (None, Some(t)) if t.len() != axes.len() => {
            return Err(Error::new(ErrorKind::Shape, format!("{} scales or sizes for {} axes", t.len(), axes.len())));
        }
        (Some(scales), _) => {
            for (&axis, &scale) in axes.iter().zip(scales.to_f32().iter()) {
                out[axis] = match dims[axis] {
                    Dim::Known(n) => known((n as f64 * f64::from(scale)).floor() as i64)?,
                    _ if scale == 1.0 => dims[axis].clone(),
                    _ => Dim::Unknown,
                };
            }
        }
        (None, Some(sizes)) if op.aspect == crate::op::KeepAspect::Stretch => {
            for (&axis, &size) in axes.iter().zip(&sizes.to_i64_vec()) {
                out[axis] = known(size)?;
            }
        }
        _ => {
            for axis in axes {
                out[axis] = Dim::Unknown;
            }
        }
    }
    Ok(Some(TensorType { dtype: ty.dtype, dims: Some(out) }))
}
