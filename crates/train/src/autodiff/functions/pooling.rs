//! Pools over windows and over everything, with channels last.

use fewbit_ir::Layout;
use fewbit_ir::op::{GlobalPool, Pool, PoolKind};
use fewbit_kernels::Isa;
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::{Error, Result};

/// Windows over one or two axes, by output position the inputs that it reads; the mean or the largest of each channel.
#[derive(Debug)]
struct Windows {
    batch: usize,
    channels: usize,
    /// Positions of an image.
    inputs: usize,
    /// By output position: the input positions.
    taps: Vec<Vec<usize>>,
    kind: Kind,
    /// What a mean divides by, by output position.
    counts: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Max,
    Average,
}

fn kind(kind: PoolKind) -> Result<Kind> {
    match kind {
        PoolKind::Max { .. } => Ok(Kind::Max),
        PoolKind::Average { .. } => Ok(Kind::Average),
        PoolKind::Lp { .. } => Err(Error::unsupported("pools by a norm are not trained")),
    }
}

pub(super) fn pool(site: &Site<'_>, op: &Pool) -> Result<Compiled> {
    let x = site.shape(0)?;
    if op.layout != Layout::ChannelsLast || site.outputs.len() > 1 {
        return Err(Error::unsupported("pools are trained with channels last and without indices"));
    }
    let spatial = &x[1..x.len() - 1];
    let geometry = op.geometry(spatial)?;
    let mut taps = vec![Vec::new(); geometry.output.iter().product()];
    let mut counts = Vec::with_capacity(taps.len());
    let with_padding = matches!(op.kind, PoolKind::Average { count_include_pad: true });
    let kernel: usize = op.kernel.iter().product();
    for (output, taps) in taps.iter_mut().enumerate() {
        let at = position(output, &geometry.output);
        let mut inside = 0;
        for tap in 0..kernel {
            let tap = position(tap, &op.kernel);
            let mut input = Some(0);
            let mut padded = true;
            for axis in 0..spatial.len() {
                let p = at[axis] * op.window.strides[axis] + tap[axis] * op.window.dilations[axis];
                padded &= p < geometry.begin[axis] + spatial[axis] + geometry.end[axis];
                let p = p.checked_sub(geometry.begin[axis]).filter(|p| *p < spatial[axis]);
                input = input.zip(p).map(|(i, p)| i * spatial[axis] + p);
            }
            inside += usize::from(padded);
            taps.extend(input);
        }
        counts.push(if with_padding { inside } else { taps.len() } as f32);
    }
    let (batch, channels, inputs) = (x[0], x[x.len() - 1], spatial.iter().product());
    Ok(Compiled::new(Windows { batch, channels, inputs, taps, kind: kind(op.kind)?, counts }, [0]))
}

/// The coordinates of an element of a row-major tensor.
fn position(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut at = vec![0; dims.len()];
    for (at, dim) in at.iter_mut().zip(dims).rev() {
        *at = index % dim;
        index /= dim;
    }
    at
}

pub(super) fn global_pool(site: &Site<'_>, op: GlobalPool) -> Result<Compiled> {
    let x = site.shape(0)?;
    if op.layout != Layout::ChannelsLast {
        return Err(Error::unsupported("pools are trained with channels last"));
    }
    let inputs: usize = x[1..x.len() - 1].iter().product();
    let (batch, channels) = (x[0], x[x.len() - 1]);
    let taps = vec![(0..inputs).collect()];
    Ok(Compiled::new(Windows { batch, channels, inputs, taps, kind: kind(op.kind)?, counts: vec![inputs as f32] }, [0]))
}

impl Function for Windows {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let Self { channels, inputs, ref taps, .. } = *self;
        y[0].par_chunks_exact_mut(channels).enumerate().for_each(|(i, y)| {
            let image = &x[0][i / taps.len() * inputs * channels..];
            y.fill(if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
            for tap in &taps[i % taps.len()] {
                let x = &image[tap * channels..][..channels];
                match self.kind {
                    Kind::Max => y.iter_mut().zip(x).for_each(|(y, x)| *y = y.max(*x)),
                    Kind::Average => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
                }
            }
            if self.kind == Kind::Average {
                y.iter_mut().for_each(|y| *y /= self.counts[i % taps.len()]);
            }
        });
        Ok(())
    }

    fn backward(&self, _: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let Self { batch, channels, inputs, ref taps, .. } = *self;
        let Some(dx) = &mut dx[0] else { return Ok(()) };
        debug_assert_eq!(dx.len(), batch * inputs * channels);
        dx.par_chunks_exact_mut((inputs * channels).max(1)).enumerate().for_each(|(image, dx)| {
            dx.fill(0.0);
            let mut taken = vec![false; channels];
            for (i, (taps, count)) in taps.iter().zip(&self.counts).enumerate() {
                let at = (image * self.taps.len() + i) * channels;
                let dy = &dy[0][at..][..channels];
                match self.kind {
                    Kind::Average => {
                        for tap in taps {
                            dx[tap * channels..][..channels].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy / count);
                        }
                    }
                    // Of equal elements the first one.
                    Kind::Max => {
                        taken.fill(false);
                        for tap in taps {
                            let x = &x[0][(image * inputs + tap) * channels..][..channels];
                            for c in 0..channels {
                                if !taken[c] && x[c] == y[0][at + c] {
                                    taken[c] = true;
                                    dx[tap * channels + c] += dy[c];
                                }
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }

    fn reads(&self) -> Reads {
        if self.kind == Kind::Max { Reads::BOTH } else { Reads::NOTHING }
    }
}
