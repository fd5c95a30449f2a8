//! Reductions over axes.

use fewbit_ir::axis::resolve_axes;
use fewbit_ir::op::{Reduce, ReduceKind};
use fewbit_kernels::Isa;

use super::{Compiled, Site};
use crate::Result;
use crate::autodiff::{Function, Reads};

#[derive(Debug)]
struct Reduction {
    kind: ReduceKind,
    /// By element of the input: the element of the output that it goes into.
    into: Vec<u32>,
    /// Elements that go into one.
    count: usize,
}

pub(super) fn reduce(site: &Site<'_>, op: Reduce) -> Result<Compiled> {
    let x = site.shape(0)?;
    let axes = if site.has(1) { site.integers(1)? } else { Vec::new() };
    if axes.is_empty() && op.noop_with_empty_axes {
        return Ok(Compiled::new(super::moving::Copied, [0]));
    }
    let axes = if axes.is_empty() { (0..x.len()).collect() } else { resolve_axes(&axes, x.len())? };
    let mut strides = vec![0; x.len()];
    let mut stride = 1;
    for axis in (0..x.len()).rev().filter(|a| !axes.contains(a)) {
        strides[axis] = stride;
        stride *= x[axis];
    }
    let mut into = vec![0_u32];
    for (size, stride) in x.iter().zip(&strides) {
        into = into.iter().flat_map(|base| (0..*size).map(move |i| base + (i * stride) as u32)).collect();
    }
    let count = axes.iter().map(|a| x[*a]).product();
    Ok(Compiled::new(Reduction { kind: op.kind, into, count }, [0]))
}

impl Reduction {
    /// The sums of `f(x)` into each output.
    fn sums(&self, x: &[f32], len: usize, f: impl Fn(f64, usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; len];
        for (x, to) in x.iter().zip(&self.into) {
            sums[*to as usize] += f(f64::from(*x), *to as usize);
        }
        sums
    }

    fn extremes(&self, x: &[f32], len: usize, better: impl Fn(f64, f64) -> bool) -> Vec<f64> {
        let mut best = vec![f64::NAN; len];
        for (x, to) in x.iter().zip(&self.into) {
            let best = &mut best[*to as usize];
            if best.is_nan() || better(f64::from(*x), *best) {
                *best = f64::from(*x);
            }
        }
        best
    }
}

impl Function for Reduction {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let (x, len) = (x[0], y[0].len());
        let n = self.count as f64;
        let map = |values: Vec<f64>, f: fn(f64) -> f64| values.into_iter().map(f).collect::<Vec<f64>>();
        let results = match self.kind {
            ReduceKind::Sum => self.sums(x, len, |x, _| x),
            ReduceKind::Mean => self.sums(x, len, |x, _| x / n),
            ReduceKind::Max => self.extremes(x, len, |a, b| a > b),
            ReduceKind::Min => self.extremes(x, len, |a, b| a < b),
            ReduceKind::L1 => self.sums(x, len, |x, _| x.abs()),
            ReduceKind::L2 => map(self.sums(x, len, |x, _| x * x), f64::sqrt),
            ReduceKind::SumSquare => self.sums(x, len, |x, _| x * x),
            ReduceKind::LogSum => map(self.sums(x, len, |x, _| x), f64::ln),
            ReduceKind::LogSumExp => {
                let top = self.extremes(x, len, |a, b| a > b);
                let sums = self.sums(x, len, |x, to| (x - top[to]).exp());
                sums.into_iter().zip(top).map(|(s, t)| s.ln() + t).collect()
            }
            ReduceKind::Prod => {
                let mut products = vec![1.0; len];
                x.iter().zip(&self.into).for_each(|(x, to)| products[*to as usize] *= f64::from(*x));
                products
            }
        };
        y[0].iter_mut().zip(results).for_each(|(y, r)| *y = r as f32);
        Ok(())
    }

    fn backward(&self, _: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let Some(dx) = &mut dx[0] else { return Ok(()) };
        let n = self.count as f64;
        // Of equal extremes the first one.
        let mut taken = vec![false; y[0].len()];
        // A product without one factor, where that factor may be zero.
        let (mut zeros, mut others) = (vec![0_usize; y[0].len()], vec![1.0_f64; y[0].len()]);
        let sums = if self.kind == ReduceKind::LogSum { self.sums(x[0], y[0].len(), |x, _| x) } else { Vec::new() };
        if self.kind == ReduceKind::Prod {
            for (x, to) in x[0].iter().zip(&self.into) {
                if *x == 0.0 { zeros[*to as usize] += 1 } else { others[*to as usize] *= f64::from(*x) }
            }
        }
        for ((dx, x), to) in dx.iter_mut().zip(x[0]).zip(&self.into) {
            let to = *to as usize;
            let (x, y, d) = (f64::from(*x), f64::from(y[0][to]), f64::from(dy[0][to]));
            let slope = match self.kind {
                ReduceKind::Sum => 1.0,
                ReduceKind::Mean => 1.0 / n,
                ReduceKind::Max | ReduceKind::Min if x == y => f64::from(u8::from(!std::mem::replace(&mut taken[to], true))),
                ReduceKind::Max | ReduceKind::Min => 0.0,
                ReduceKind::L1 => x.signum(),
                ReduceKind::L2 => {
                    if y == 0.0 {
                        0.0
                    } else {
                        x / y
                    }
                }
                ReduceKind::SumSquare => 2.0 * x,
                ReduceKind::LogSum => 1.0 / sums[to],
                ReduceKind::LogSumExp => (x - y).exp(),
                ReduceKind::Prod => match (zeros[to], x == 0.0) {
                    (0, _) => others[to] / x,
                    (1, true) => others[to],
                    _ => 0.0,
                },
            };
            *dx = (d * slope) as f32;
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::BOTH
    }
}
