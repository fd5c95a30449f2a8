//! Functions of several elements, with broadcasting.

use fewbit_ir::op::{Binary, Variadic};
use fewbit_kernels::Isa;
use rayon::prelude::*;

use super::{Compiled, Site};
use crate::autodiff::{Function, Reads};
use crate::slices::{CHUNK, zip, zip3};
use crate::{Error, Result};

/// How the elements of an operand are repeated over a result: dimensions of the result, neighbours merged where the operand
/// repeats or advances in both.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeat {
    /// Size of each dimension, and whether the operand advances along it.
    dims: Vec<(usize, bool)>,
}

impl Repeat {
    pub(super) fn new(operand: &[usize], result: &[usize]) -> Self {
        let missing = result.len().saturating_sub(operand.len());
        let mut dims: Vec<(usize, bool)> = Vec::new();
        for (i, &size) in result.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let advances = i >= missing && operand[i - missing] != 1;
            match dims.last_mut() {
                Some((last, same)) if *same == advances => *last *= size,
                _ => dims.push((size, advances)),
            }
        }
        Self { dims }
    }

    /// Whether the operand has an element for each of the result.
    fn is_whole(&self) -> bool {
        self.dims.iter().all(|d| d.1)
    }

    /// Calls `f(first element of the result, its count, first element of the operand, whether the operand advances)` for runs.
    fn runs(&self, mut f: impl FnMut(usize, usize, usize, bool)) {
        let Some((&(inner, advances), outer)) = self.dims.split_last() else { return f(0, 1, 0, true) };
        let count: usize = outer.iter().map(|d| d.0).product();
        let mut strides = vec![0; outer.len()];
        let mut stride = if advances { inner } else { 1 };
        for (to, dim) in strides.iter_mut().zip(outer).rev() {
            *to = if dim.1 { stride } else { 0 };
            stride *= if dim.1 { dim.0 } else { 1 };
        }
        let mut at = vec![0; outer.len()];
        for run in 0..count {
            let operand: usize = at.iter().zip(&strides).map(|(a, s)| a * s).sum();
            f(run * inner, inner, operand, advances);
            for (a, dim) in at.iter_mut().zip(outer).rev() {
                *a += 1;
                if *a < dim.0 {
                    break;
                }
                *a = 0;
            }
        }
    }

    /// An operand laid out as the result, borrowed if it is so already.
    fn expand<'a>(&self, operand: &'a [f32], len: usize) -> std::borrow::Cow<'a, [f32]> {
        if self.is_whole() {
            return operand.into();
        }
        let mut all = vec![0.0; len];
        self.runs(|first, count, from, advances| {
            if advances {
                all[first..first + count].copy_from_slice(&operand[from..from + count]);
            } else {
                all[first..first + count].fill(operand[from]);
            }
        });
        all.into()
    }

    /// The sums over all that repeats an element.
    fn sum(&self, isa: Isa, all: &[f32], operand: &mut [f32]) {
        if self.is_whole() {
            operand.copy_from_slice(all);
            return;
        }
        // The common case is a row that is repeated over all rows.
        if let [(_, false), (columns, true)] = self.dims[..] {
            operand.copy_from_slice(&super::convolution::column_sums(isa, all, columns));
            return;
        }
        operand.fill(0.0);
        self.runs(|first, count, to, advances| {
            let run = &all[first..first + count];
            if advances {
                operand[to..to + count].iter_mut().zip(run).for_each(|(sum, x)| *sum += x);
            } else {
                operand[to] += run.iter().map(|&x| f64::from(x)).sum::<f64>() as f32;
            }
        });
    }
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Of(Binary),
    /// The second element is the slope of the first where that is negative.
    Slope,
}

#[derive(Debug)]
struct Elementwise {
    kind: Kind,
    repeat: [Repeat; 2],
}

pub(super) fn binary(site: &Site<'_>, kind: Binary) -> Result<Compiled> {
    if !matches!(kind, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Pow | Binary::SquaredDifference | Binary::Mod { .. })
    {
        return Err(Error::unsupported("it has no gradient: its result is no real number"));
    }
    elementwise(site, Kind::Of(kind))
}

pub(super) fn prelu(site: &Site<'_>) -> Result<Compiled> {
    elementwise(site, Kind::Slope)
}

fn elementwise(site: &Site<'_>, kind: Kind) -> Result<Compiled> {
    let y = site.output()?;
    let repeat = [Repeat::new(site.shape(0)?, y), Repeat::new(site.shape(1)?, y)];
    Ok(Compiled::new(Elementwise { kind, repeat }, [0, 1]))
}

/// `f(a, b)` for every element.
fn map(isa: Isa, a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    zip3(isa, y, a, b, |y, a, b| *y = f(a, b));
}

impl Elementwise {
    fn is_linear(&self) -> bool {
        matches!(self.kind, Kind::Of(Binary::Add | Binary::Sub))
    }

    fn apply(&self, isa: Isa, a: &[f32], b: &[f32], y: &mut [f32]) {
        match self.kind {
            Kind::Slope => map(isa, a, b, y, |a, b| if a < 0.0 { a * b } else { a }),
            Kind::Of(Binary::Add) => map(isa, a, b, y, |a, b| a + b),
            Kind::Of(Binary::Sub) => map(isa, a, b, y, |a, b| a - b),
            Kind::Of(Binary::Mul) => map(isa, a, b, y, |a, b| a * b),
            Kind::Of(Binary::Div) => map(isa, a, b, y, |a, b| a / b),
            Kind::Of(Binary::Pow) => map(isa, a, b, y, f32::powf),
            Kind::Of(Binary::Mod { fmod }) => map(isa, a, b, y, |a, b| {
                let r = a % b;
                if !fmod && r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }),
            Kind::Of(_) => map(isa, a, b, y, |a, b| (a - b) * (a - b)),
        }
    }

    /// The derivative by the first or the second operand, at `a` and `b`.
    fn derivative(&self, operand: usize) -> fn(f32, f32) -> f32 {
        let kind = match self.kind {
            Kind::Of(kind) => kind,
            Kind::Slope if operand == 0 => return |a, b| if a < 0.0 { b } else { 1.0 },
            Kind::Slope => return |a, _| a.min(0.0),
        };
        match (kind, operand) {
            (Binary::Sub, 1) => |_, _| -1.0,
            (Binary::Mul, 0) => |_, b| b,
            (Binary::Mul, 1) => |a, _| a,
            (Binary::Div, 0) => |_, b| 1.0 / b,
            (Binary::Div, 1) => |a, b| -a / (b * b),
            (Binary::Pow, 0) => |a, b| if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) },
            (Binary::Pow, 1) => |a, b| if a > 0.0 { a.powf(b) * a.ln() } else { 0.0 },
            (Binary::Mod { fmod: false }, 1) => |a, b| -(a / b).floor(),
            (Binary::Mod { fmod: true }, 1) => |a, b| -(a / b).trunc(),
            (Binary::SquaredDifference, 0) => |a, b| 2.0 * (a - b),
            (Binary::SquaredDifference, 1) => |a, b| 2.0 * (b - a),
            _ => |_, _| 1.0,
        }
    }
}

impl Function for Elementwise {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let len = y[0].len();
        let [a, b] = [0, 1].map(|i| self.repeat[i].expand(x[i], len));
        self.apply(isa, &a, &b, y[0]);
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let linear = self.is_linear();
        let operands = (!linear).then(|| [0, 1].map(|i| self.repeat[i].expand(x[i], dy[0].len())));
        for (i, to) in dx.iter_mut().enumerate() {
            let Some(to) = to else { continue };
            let Some([a, b]) = &operands else {
                self.repeat[i].sum(isa, dy[0], to);
                if (self.kind, i) == (Kind::Of(Binary::Sub), 1) {
                    to.iter_mut().for_each(|x| *x = -*x);
                }
                continue;
            };
            let f = self.derivative(i);
            let mut all = dy[0].to_vec();
            all.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(|((d, a), b)| {
                d.iter_mut().zip(a).zip(b).for_each(|((d, a), b)| *d *= f(*a, *b));
            });
            self.repeat[i].sum(isa, &all, to);
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        if self.is_linear() { Reads::NOTHING } else { Reads::INPUTS }
    }
}

/// The second operand where the first is not zero, else the third.
#[derive(Debug)]
struct Select {
    repeat: [Repeat; 3],
}

pub(super) fn select(site: &Site<'_>) -> Result<Compiled> {
    let y = site.output()?;
    let repeat = [Repeat::new(site.shape(0)?, y), Repeat::new(site.shape(1)?, y), Repeat::new(site.shape(2)?, y)];
    Ok(Compiled::new(Select { repeat }, [0, 1, 2]))
}

impl Function for Select {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let len = y[0].len();
        let [condition, a, b] = [0, 1, 2].map(|i| self.repeat[i].expand(x[i], len));
        y[0].copy_from_slice(&b);
        zip3(isa, y[0], &condition, &a, |y, condition, a| *y = if condition == 0.0 { *y } else { a });
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let condition = self.repeat[0].expand(x[0], dy[0].len());
        if let Some(of_condition) = &mut dx[0] {
            of_condition.fill(0.0);
        }
        for (i, taken) in [(1, true), (2, false)] {
            let Some(to) = &mut dx[i] else { continue };
            let mut all = dy[0].to_vec();
            zip(isa, &mut all, &condition, |d, condition| *d = if (condition != 0.0) == taken { *d } else { 0.0 });
            self.repeat[i].sum(isa, &all, to);
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}

/// A sum, mean, minimum or maximum of any number of operands.
#[derive(Debug)]
struct Many {
    op: Variadic,
    repeat: Vec<Repeat>,
}

pub(super) fn variadic(site: &Site<'_>, op: Variadic) -> Result<Compiled> {
    let y = site.output()?;
    let repeat = (0..site.inputs.len()).map(|i| Ok(Repeat::new(site.shape(i)?, y))).collect::<Result<Vec<_>>>()?;
    let operands: Vec<usize> = (0..repeat.len()).collect();
    Ok(Compiled::new(Many { op, repeat }, operands))
}

impl Function for Many {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let len = y[0].len();
        for (i, x) in x.iter().enumerate() {
            let x = self.repeat[i].expand(x, len);
            match self.op {
                _ if i == 0 => y[0].copy_from_slice(&x),
                Variadic::Sum | Variadic::Mean => zip(isa, y[0], &x, |y, x| *y += x),
                Variadic::Min => zip(isa, y[0], &x, |y, x| *y = y.min(x)),
                Variadic::Max => zip(isa, y[0], &x, |y, x| *y = y.max(x)),
            }
        }
        if self.op == Variadic::Mean {
            let n = x.len() as f32;
            y[0].iter_mut().for_each(|y| *y /= n);
        }
        Ok(())
    }

    fn backward(&self, isa: Isa, x: &[&[f32]], y: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let n = x.len() as f32;
        // Of equal extremes the first one gets the gradient.
        let mut left = dy[0].to_vec();
        for (i, to) in dx.iter_mut().enumerate() {
            let mut all = left.clone();
            match self.op {
                Variadic::Sum => {}
                Variadic::Mean => all.iter_mut().for_each(|d| *d /= n),
                Variadic::Min | Variadic::Max => {
                    let x = self.repeat[i].expand(x[i], all.len());
                    zip3(isa, &mut all, &x, y[0], |d, x, y| *d = if x == y { *d } else { 0.0 });
                    zip3(isa, &mut left, &x, y[0], |d, x, y| *d = if x == y { 0.0 } else { *d });
                }
            }
            if let Some(to) = to {
                self.repeat[i].sum(isa, &all, to);
            }
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::BOTH
    }
}
