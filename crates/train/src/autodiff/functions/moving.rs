//! Whatever only moves, copies or drops elements.
//!
//! Where every element of the result comes from is found by evaluating the operator once on the elements' numbers; forwards the
//! elements follow that map, backwards their gradients are added along it. Where indices are computed by the network, the map is
//! made anew in each pass.

use fewbit_ir::Op;
use fewbit_ir::op::{Gather, Pad, PadMode};
use fewbit_kernels::Isa;
use fewbit_runtime::evaluate;
use fewbit_tensor::Tensor;
use rayon::prelude::*;

use super::{Compiled, Operand, Site};
use crate::autodiff::{Function, Reads};
use crate::slices::zip;
use crate::{Error, Result};

/// The elements as they are.
#[derive(Debug)]
pub(super) struct Copied;

impl Function for Copied {
    fn forward(&self, isa: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        zip(isa, y[0], x[0], |y, x| *y = x);
        for mask in y.iter_mut().skip(1) {
            mask.fill(1.0);
        }
        Ok(())
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], _: &[&[f32]], _: &mut [Option<&mut [f32]>]) -> Result<()> {
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn in_place(&self) -> bool {
        true
    }
}

/// What is in a result but in no operand: padding.
const NOWHERE: u32 = u32::MAX;

/// Elements of several operands, numbered through, in other places.
#[derive(Debug)]
struct Moved {
    /// Elements of each operand.
    lens: Vec<usize>,
    /// By output: from which element each comes.
    maps: Vec<Vec<u32>>,
    /// What padding holds.
    fill: f32,
    /// Whether no element goes to two places, so that gradients are moved and not added.
    shared: bool,
}

pub(super) fn moving(site: &Site<'_>) -> Result<Compiled> {
    if let Op::Gather(op) = site.op
        && site.input(1)?.constant.is_none()
    {
        return looked_up(site, *op);
    }
    let fill = match site.op {
        Op::Pad(Pad { mode: PadMode::Constant, .. }) if site.has(2) => {
            let value = site.input(2)?.constant.as_ref().ok_or_else(|| Error::unsupported("its padding is computed"))?;
            value.to_f32().first().copied().unwrap_or(0.0)
        }
        _ => 0.0,
    };
    // Concatenation moves all its inputs, everything else the first.
    let moved: Vec<usize> = if matches!(site.op, Op::Concat(_)) { (0..site.inputs.len()).collect() } else { vec![0] };
    let mut inputs: Vec<Option<Tensor>> = Vec::new();
    let (mut lens, mut first) = (Vec::new(), 1_i64);
    for (i, input) in site.inputs.iter().enumerate() {
        inputs.push(match input {
            None => None,
            Some(operand) if moved.contains(&i) => {
                let len: usize = operand.shape.iter().product();
                let numbers: Vec<i64> = (first..first + len as i64).collect();
                first += len as i64;
                lens.push(len);
                Some(Tensor::from_vec(operand.shape.clone(), numbers)?)
            }
            // Padding is told by zero, which is no element's number.
            Some(_) if i == 2 && matches!(site.op, Op::Pad(_)) => Some(Tensor::scalar(0_i64)),
            Some(Operand { constant: Some(tensor), .. }) => Some(tensor.clone()),
            Some(_) => return Err(Error::unsupported(format!("input {i} is computed, so nothing can be planned"))),
        });
    }
    if first >= i64::from(u32::MAX) {
        return Err(Error::unsupported("it moves more than 2³² elements"));
    }
    let results = evaluate(site.op, &inputs, site.outputs.len())?;
    let number = |n: i64| if n <= 0 { NOWHERE } else { (n - 1) as u32 };
    let maps: Vec<Vec<u32>> = results.iter().map(|t| t.to_i64_vec().into_iter().map(number).collect()).collect();
    let mut seen = vec![false; first as usize];
    let mut shared = false;
    for &from in maps.iter().flatten().filter(|m| **m != NOWHERE) {
        shared |= std::mem::replace(&mut seen[from as usize], true);
    }
    Ok(Compiled::new(Moved { lens, maps, fill, shared }, moved))
}

impl Function for Moved {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        let find = |from: u32| {
            if from == NOWHERE {
                return self.fill;
            }
            let mut at = from as usize;
            for (x, len) in x.iter().zip(&self.lens) {
                match at.checked_sub(*len) {
                    Some(rest) => at = rest,
                    None => return x[at],
                }
            }
            self.fill
        };
        for (y, map) in y.iter_mut().zip(&self.maps) {
            y.par_iter_mut().with_min_len(4096).zip(map).for_each(|(y, from)| *y = find(*from));
        }
        Ok(())
    }

    fn backward(&self, _: Isa, _: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        let mut first = 0;
        for (dx, len) in dx.iter_mut().zip(&self.lens) {
            if let Some(dx) = dx {
                dx.fill(0.0);
                for (dy, map) in dy.iter().zip(&self.maps) {
                    for (d, from) in dy.iter().zip(map) {
                        if let Some(to) = (*from as usize).checked_sub(first).and_then(|at| dx.get_mut(at)) {
                            if self.shared { *to += d } else { *to = *d }
                        }
                    }
                }
            }
            first += len;
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}

/// Rows of a table by computed indices: embeddings.
#[derive(Debug)]
struct LookedUp {
    outer: usize,
    rows: usize,
    row: usize,
}

fn looked_up(site: &Site<'_>, op: Gather) -> Result<Compiled> {
    let table = site.shape(0)?;
    let axis = fewbit_ir::axis::resolve_axis(op.axis, table.len())?;
    let (outer, row) = (table[..axis].iter().product(), table[axis + 1..].iter().product());
    Ok(Compiled::new(LookedUp { outer, rows: table[axis], row }, [0, 1]))
}

impl LookedUp {
    /// `f(element of the result, element of the table)` for the beginning of each row.
    fn each(&self, indices: &[f32], mut f: impl FnMut(usize, usize)) -> Result<()> {
        for (i, outer) in (0..self.outer).enumerate() {
            for (j, index) in indices.iter().enumerate() {
                let rows = self.rows as f32;
                let index = if *index < 0.0 { index + rows } else { *index };
                if !(0.0..rows).contains(&index) {
                    return Err(Error::new(crate::ErrorKind::Input, format!("index {index} is outside of {} rows", self.rows)));
                }
                f((i * indices.len() + j) * self.row, (outer * self.rows + index as usize) * self.row);
            }
        }
        Ok(())
    }
}

impl Function for LookedUp {
    fn forward(&self, _: Isa, x: &[&[f32]], y: &mut [&mut [f32]]) -> Result<()> {
        self.each(x[1], |to, from| y[0][to..][..self.row].copy_from_slice(&x[0][from..][..self.row]))
    }

    fn backward(&self, _: Isa, x: &[&[f32]], _: &[&[f32]], dy: &[&[f32]], dx: &mut [Option<&mut [f32]>]) -> Result<()> {
        if let Some(indices) = &mut dx[1] {
            indices.fill(0.0);
        }
        let Some(dx) = &mut dx[0] else { return Ok(()) };
        dx.fill(0.0);
        self.each(x[1], |from, to| dx[to..][..self.row].iter_mut().zip(&dy[0][from..]).for_each(|(sum, d)| *sum += d))
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }
}
