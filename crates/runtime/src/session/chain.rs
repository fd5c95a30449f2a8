//! Functions of single elements one after the other, computed a block at a time: what lies between them stays in the
//! first-level cache, and only the last result is written to memory.
//!
//! In: steps of which each computes an element from the elements at the same place, see [`super::fuse`]. Out: one kernel.
//! Each block is given to the same kernels as the whole would be, so the results have the same bits.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use fewbit_kernels as kernels;
use fewbit_kernels::{Clamp, Isa, Operand};

use super::broadcast::Side;
use super::integer::{Scaled, Width, quantize};
use super::kernel::{Operands, Target, kernel_error};
use crate::Result;

/// Elements of a block: some such blocks of floats fit the first-level cache.
const BLOCK: usize = 2048;

/// The shortest rows over which kernels lay an operand out themselves.
const ROW: usize = 128;

/// Elements that a thread takes at once, about.
const PIECE: usize = 8 * BLOCK;

/// The most blocks that a chain holds, on the stack.
const HELD: usize = 8;

/// The most operands from outside.
const INPUTS: usize = 8;

/// A block. Its size is no power of two, so that the same places of two blocks do not look like one to the processor.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block([f32; BLOCK + 16]);

/// One function after the other.
#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    /// Operands that are laid out over short rows.
    laid_out: Vec<LaidOut>,
    /// What the inputs are.
    inputs: Vec<Input>,
    /// Elements of a block: whole rows, where they are no longer.
    block: usize,
    /// Elements of a row, or of a block if there are no rows.
    row: usize,
    /// Blocks that are held at once.
    held: usize,
}

/// An operand over rows that are shorter than [`ROW`].
#[derive(Clone, Copy, Debug)]
struct LaidOut {
    input: usize,
    side: Side,
    /// The block that holds it.
    place: usize,
}

/// What an operand from outside holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Input {
    Floats,
    Bytes,
    Words,
}

/// What a link computes.
#[derive(Clone, Debug)]
pub(super) enum Function {
    Unary(kernels::Unary),
    Binary {
        op: kernels::Binary,
        clamp: Clamp,
    },
    Dequantize(Scaled),
    Lookup(Arc<[f32; 256]>),
    /// The last one.
    Quantize(Scaled),
}

/// One function with its operands.
#[derive(Debug)]
struct Link {
    function: Function,
    operands: Vec<Source>,
    /// The block that takes the result; that of the last link goes to the output.
    to: usize,
}

/// Where an operand of a link comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// A block that is held.
    Held(usize),
    /// The same elements of an input.
    Full(usize),
    /// A row of an input.
    Row(usize),
    /// The elements of an input for rows.
    Column(usize),
    /// The only element of an input.
    Scalar(usize),
    /// The products of a row of an input and the elements of another for rows.
    Outer(usize, usize),
}

/// An operand as a chain is described with: the result of an earlier link, or an input and how it repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Given {
    Link(usize),
    Input(usize, Side),
    /// The products of a row and a column, of two inputs: Flax's layer normalization has them.
    Outer(usize, usize),
}

/// Links without those that only multiply a row by a column, where the one that reads them can do that itself.
fn with_outer_products(described: &[(Function, Vec<Given>)]) -> Vec<(Function, Vec<Given>)> {
    let mut links = described.to_vec();
    let mut at = 0;
    while at < links.len() {
        let outer = match &links[at] {
            (Function::Binary { op: kernels::Binary::Mul, clamp: Clamp::NONE }, given) => match given[..] {
                [Given::Input(row, Side::Row(_)), Given::Input(column, Side::Column(_))]
                | [Given::Input(column, Side::Column(_)), Given::Input(row, Side::Row(_))] => Some(Given::Outer(row, column)),
                _ => None,
            },
            _ => None,
        };
        let uses = links.iter().flat_map(|(_, given)| given).filter(|g| **g == Given::Link(at)).count();
        let reader = links.iter().position(|(_, given)| given.contains(&Given::Link(at))).filter(|_| uses == 1);
        let reads = outer.zip(reader).and_then(|(outer, reader)| {
            let (Function::Binary { op, .. }, given) = &links[reader] else { return None };
            let commutes = matches!(op, kernels::Binary::Add | kernels::Binary::Mul);
            let other = match given[..] {
                [other, Given::Link(link)] if link == at => other,
                [Given::Link(link), other] if link == at && commutes => other,
                _ => return None,
            };
            matches!(other, Given::Link(_) | Given::Input(_, Side::Full)).then_some((reader, vec![other, outer]))
        });
        let Some((reader, given)) = reads else {
            at += 1;
            continue;
        };
        links[reader].1 = given;
        links.remove(at);
        for g in links.iter_mut().flat_map(|(_, given)| given) {
            if let Given::Link(link) = g
                && *link > at
            {
                *link -= 1;
            }
        }
    }
    links
}

/// An operand from outside during a run.
enum Outside<'a> {
    Floats(Cow<'a, [f32]>),
    Bytes(&'a [u8]),
    Words(&'a [i16]),
    Nothing,
}

impl Chain {
    /// A chain over `count` inputs; `None` if it holds more than it may. The rows of all operands have the same length.
    pub(super) fn new(described: &[(Function, Vec<Given>)], count: usize) -> Option<Self> {
        let mut inputs = vec![Input::Floats; count];
        let row = described.iter().flat_map(|(_, given)| given).find_map(|g| match g {
            Given::Input(_, side) => side.row(),
            Given::Link(_) | Given::Outer(..) => None,
        });
        let short = row.filter(|len| (1..ROW).contains(len));
        let described = &if short.is_none() { with_outer_products(described) } else { described.to_vec() };
        let last_use = |link: usize| described.iter().rposition(|(_, given)| given.contains(&Given::Link(link)));
        let mut places: Vec<Option<usize>> = Vec::new();
        let mut laid_out: Vec<LaidOut> = Vec::new();
        let mut links: Vec<Link> = Vec::with_capacity(described.len());
        let take = |places: &mut Vec<Option<usize>>, until: usize| match places.iter().position(Option::is_none) {
            Some(free) => {
                places[free] = Some(until);
                free
            }
            None => {
                places.push(Some(until));
                places.len() - 1
            }
        };
        // Before all links, of which none may write where these lie.
        for g in described.iter().flat_map(|(_, given)| given).filter(|_| short.is_some()) {
            if let Given::Input(input, side @ (Side::Row(_) | Side::Column(_))) = *g
                && laid_out.iter().all(|o| o.input != input)
            {
                laid_out.push(LaidOut { input, side, place: take(&mut places, usize::MAX) });
            }
        }
        for (at, (function, given)) in described.iter().enumerate() {
            let mut operands = Vec::with_capacity(given.len());
            for g in given {
                operands.push(match *g {
                    Given::Link(link) => Source::Held(links.get(link)?.to),
                    Given::Outer(row, column) => Source::Outer(row, column),
                    Given::Input(i, Side::Full) => {
                        match function {
                            Function::Dequantize(Scaled { width: Width::Word, .. }) => *inputs.get_mut(i)? = Input::Words,
                            Function::Dequantize(_) | Function::Lookup(_) => *inputs.get_mut(i)? = Input::Bytes,
                            Function::Unary(_) | Function::Binary { .. } | Function::Quantize(_) => {}
                        }
                        Source::Full(i)
                    }
                    Given::Input(i, Side::Scalar) => Source::Scalar(i),
                    Given::Input(i, Side::Row(_)) if short.is_none() => Source::Row(i),
                    Given::Input(i, Side::Column(_)) if short.is_none() => Source::Column(i),
                    Given::Input(input, _) => Source::Held(laid_out.iter().find(|o| o.input == input)?.place),
                });
            }
            let to = last_use(at).map_or(usize::MAX, |until| take(&mut places, until));
            links.push(Link { function: function.clone(), operands, to });
            // Only now, so that no link writes where it reads.
            places.iter_mut().filter(|p| **p == Some(at)).for_each(|p| *p = None);
        }
        let block = row.filter(|len| (1..=BLOCK).contains(len)).map_or(BLOCK, |len| BLOCK / len * len);
        let row = row.unwrap_or(block);
        (places.len() <= HELD && count <= INPUTS && !links.is_empty()).then_some(Self {
            links,
            laid_out,
            inputs,
            block,
            row,
            held: places.len(),
        })
    }

    /// Fills `output` from the inputs.
    pub(super) fn run(&self, isa: Isa, inputs: &impl Operands, output: Target<'_>) -> Result<()> {
        let mut outside = [const { Outside::Nothing }; INPUTS];
        for (i, (outside, input)) in outside.iter_mut().zip(&self.inputs).enumerate() {
            *outside = match input {
                Input::Floats => Outside::Floats(inputs.floats(i)?),
                Input::Bytes => Outside::Bytes(inputs.bytes(i)?),
                Input::Words => Outside::Words(inputs.words(i)?),
            };
        }
        match self.held {
            0..=2 => self.pieces::<2>(isa, &outside, output),
            3..=4 => self.pieces::<4>(isa, &outside, output),
            _ => self.pieces::<HELD>(isa, &outside, output),
        }
    }

    /// Shares the work among threads; `N` blocks are held.
    fn pieces<const N: usize>(&self, isa: Isa, inputs: &[Outside<'_>; INPUTS], output: Target<'_>) -> Result<()> {
        // Blocks are cleared once for a piece.
        let alone = rayon::current_num_threads() == 1;
        let piece = if alone { output.len } else { PIECE.next_multiple_of(self.row.max(self.block)) };
        let operations = output.len.saturating_mul(self.links.len());
        let failed = OnceLock::new();
        let note = |done: kernels::Result<()>| done.unwrap_or_else(|e| drop(failed.set(kernel_error(&e))));
        match self.links.last().map(|link| &link.function) {
            Some(Function::Quantize(Scaled { width: Width::Byte, .. })) => {
                kernels::for_each_chunk(output.bytes(), piece, operations, |i, output| {
                    note(self.piece::<N>(isa, inputs, i * piece, Written::Bytes(output)));
                });
            }
            Some(Function::Quantize(Scaled { width: Width::Word, .. })) => {
                kernels::for_each_chunk(output.words(), piece, operations, |i, output| {
                    note(self.piece::<N>(isa, inputs, i * piece, Written::Words(output)));
                });
            }
            _ => {
                kernels::for_each_chunk(output.floats(), piece, operations, |i, output| {
                    note(self.piece::<N>(isa, inputs, i * piece, Written::Floats(output)));
                });
            }
        }
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Fills a part of the output that begins with a row.
    fn piece<const N: usize>(
        &self,
        isa: Isa,
        inputs: &[Outside<'_>; INPUTS],
        first: usize,
        mut output: Written<'_>,
    ) -> kernels::Result<()> {
        let mut held = [Block([0.0; BLOCK + 16]); N];
        self.lay_out(isa, inputs, first, true, &mut held)?;
        let Some((last, links)) = self.links.split_last() else { return Ok(()) };
        let len = output.len();
        let mut at = 0;
        while at < len {
            // Of a row that is longer than a block, no more than what is left of it.
            let left = if self.row > self.block { self.row - at % self.row } else { self.block };
            let n = self.block.min(left).min(len - at);
            if at > 0 {
                self.lay_out(isa, inputs, first + at, false, &mut held)?;
            }
            let place = Place { inputs, at: first + at, n, row: self.row };
            for link in links {
                let (before, rest) = held.split_at_mut(link.to);
                let Some((to, after)) = rest.split_first_mut() else { return Ok(()) };
                View { before, after, place }.compute(isa, link, &mut to.0[..n])?;
            }
            let view = View { before: &held, after: &[], place };
            match (&mut output, &last.function) {
                (Written::Bytes(output), Function::Quantize(to)) => {
                    quantize(isa, *to, view.floats(last.operands[0]), &mut output[at..][..n])?;
                }
                (Written::Words(output), Function::Quantize(to)) => {
                    quantize(isa, *to, view.floats(last.operands[0]), &mut output[at..][..n])?;
                }
                (Written::Bytes(_) | Written::Words(_), _) => {}
                (Written::Floats(output), _) => view.compute(isa, last, &mut output[at..][..n])?,
            }
            at += n;
        }
        Ok(())
    }
}

impl Chain {
    /// Lays operands out over the rows of the block that begins with element `at`: those that are different in each block, and
    /// at `first` all.
    fn lay_out(&self, isa: Isa, inputs: &[Outside<'_>; INPUTS], at: usize, first: bool, held: &mut [Block]) -> kernels::Result<()> {
        for &LaidOut { input, side, place } in &self.laid_out {
            let (values, block) = (inputs[input].floats(), &mut held[place].0[..self.block]);
            match side {
                Side::Row(len) if first => block.chunks_exact_mut(len).for_each(|row| row.copy_from_slice(&values[..len])),
                Side::Column(len) => {
                    let values = &values[at / len..];
                    let rows = (block.len() / len).min(values.len());
                    kernels::repeat_along_rows(isa, &values[..rows], &mut block[..rows * len])?;
                }
                Side::Row(_) | Side::Full | Side::Scalar => {}
            }
        }
        Ok(())
    }
}

/// What the last link writes.
enum Written<'a> {
    Floats(&'a mut [f32]),
    Bytes(&'a mut [u8]),
    Words(&'a mut [i16]),
}

impl Written<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(output) => output.len(),
            Self::Bytes(output) => output.len(),
            Self::Words(output) => output.len(),
        }
    }
}

impl Outside<'_> {
    fn floats(&self) -> &[f32] {
        match self {
            Self::Floats(floats) => floats,
            Self::Bytes(_) | Self::Words(_) | Self::Nothing => &[],
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Floats(_) | Self::Words(_) | Self::Nothing => &[],
        }
    }

    fn words(&self) -> &[i16] {
        match self {
            Self::Words(words) => words,
            Self::Floats(_) | Self::Bytes(_) | Self::Nothing => &[],
        }
    }
}

/// The `n` elements from `at` on.
#[derive(Clone, Copy)]
struct Place<'a> {
    inputs: &'a [Outside<'a>; INPUTS],
    at: usize,
    n: usize,
    row: usize,
}

/// What a link reads.
struct View<'a> {
    /// The blocks before the one that is written, and those after it.
    before: &'a [Block],
    after: &'a [Block],
    place: Place<'a>,
}

impl View<'_> {
    fn compute(&self, isa: Isa, link: &Link, output: &mut [f32]) -> kernels::Result<()> {
        let Place { inputs, at, n, .. } = self.place;
        let bytes = |source| match source {
            Source::Full(input) => &inputs[input].bytes()[at..][..n],
            Source::Held(_) | Source::Row(_) | Source::Column(_) | Source::Scalar(_) | Source::Outer(..) => &[],
        };
        match (&link.function, &link.operands[..]) {
            (Function::Unary(op), &[x]) => kernels::unary(isa, *op, self.floats(x), output),
            (Function::Binary { op, clamp }, &[a, Source::Outer(row, column)]) => {
                kernels::binary_outer(isa, *op, self.floats(a), self.row(row), self.column(column), *clamp, output)
            }
            (Function::Binary { op, clamp }, &[a, b]) => kernels::binary(isa, *op, self.operand(a), self.operand(b), *clamp, output),
            (Function::Dequantize(from), &[x]) => match (from.width, x) {
                (Width::Word, Source::Full(input)) => {
                    kernels::dequantize(isa, &from.affine(&[i32::from(from.zero_point)]), &inputs[input].words()[at..][..n], output)
                }
                _ => kernels::dequantize(isa, &from.affine(&[i32::from(from.zero_point)]), bytes(x), output),
            },
            (Function::Lookup(table), &[x]) => kernels::lookup_f32(isa, table, bytes(x), output),
            _ => Ok(()),
        }
    }

    fn operand(&self, source: Source) -> Operand<'_> {
        match source {
            Source::Scalar(input) => Operand::Scalar(self.place.inputs[input].floats()[0]),
            Source::Row(input) => Operand::Trailing(self.row(input)),
            Source::Column(input) => Operand::Leading(self.column(input)),
            Source::Held(_) | Source::Full(_) | Source::Outer(..) => Operand::Full(self.floats(source)),
        }
    }

    /// What of an input's row meets these elements.
    fn row(&self, input: usize) -> &[f32] {
        let Place { inputs, at, n, row } = self.place;
        &inputs[input].floats()[at % row..][..n.min(row)]
    }

    /// The elements of an input for the rows of these elements.
    fn column(&self, input: usize) -> &[f32] {
        let Place { inputs, at, n, row } = self.place;
        &inputs[input].floats()[at / row..][..n.div_ceil(row)]
    }

    fn floats(&self, source: Source) -> &[f32] {
        let Place { inputs, at, n, .. } = self.place;
        match source {
            Source::Held(place) => match self.before.get(place) {
                Some(block) => &block.0[..n],
                None => &self.after[place - self.before.len() - 1].0[..n],
            },
            Source::Full(input) => &inputs[input].floats()[at..][..n],
            Source::Row(_) | Source::Column(_) | Source::Scalar(_) | Source::Outer(..) => &[],
        }
    }
}
