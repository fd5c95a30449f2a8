//! Small networks as text, with random weights: to be trained from nothing.
//!
//! One layer per line; `#` begins a comment.
//!
//! | line | layer |
//! |---|---|
//! | `input 784`, `input 1x28x28` | the first line: sizes of one sample, channels before height and width |
//! | `dense 100` | a matrix product with bias; maps are flattened before it |
//! | `conv 16 3x3 stride 2` | a convolution with bias, padded so that stride 1 keeps the size; `stride` may be left out |
//! | `depthwise 3x3 stride 2` | a convolution of each channel by itself |
//! | `batch-norm` | batch normalization; what is before it needs no bias, and has none |
//! | `relu`, `relu6`, `sigmoid`, `tanh`, `hard-swish`, `gelu` | activation functions |
//! | `max-pool 2x2`, `average-pool 2x2` | pools whose stride is their size |
//! | `global-average-pool` | the mean of each map |
//! | `flatten` | maps as one row |
//! | `mark NAME`, `add NAME` | remembers a value, and adds it: a residual connection |
//!
//! Weights are normal with variance `2 / inputs` (He et al., 2015), biases zero.

use std::collections::BTreeMap;

use fewbit_ir::op::{BatchNormalization, Binary, Conv, Flatten, Gemm, GlobalPool, Padding, Pool, PoolKind, Unary, Window};
use fewbit_ir::{Clamp, Dim, Graph, Op, TensorType, ValueId, infer};
use fewbit_tensor::{DType, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, ErrorKind, Result};

/// Elements that a tensor of a description may have.
const MAX_ELEMENTS: usize = 1 << 28;

/// Layers that a description may have.
const MAX_LAYERS: usize = 10_000;

/// Builds the network that a text describes.
///
/// # Errors
/// If a line is not understood or does not fit what is before it; the error names the line.
pub fn describe(text: &str, seed: u64) -> Result<Graph> {
    let mut builder = Builder {
        graph: Graph::new("net"),
        random: ChaCha8Rng::seed_from_u64(seed),
        value: None,
        shape: Vec::new(),
        marks: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    let lines: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>()))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    if lines.len() > MAX_LAYERS {
        return Err(fail(format!("{} layers are more than {MAX_LAYERS}", lines.len())));
    }
    for (i, (number, words)) in lines.iter().enumerate() {
        // A bias before a batch normalization would be taken away again.
        let normalized = lines.get(i + 1).is_some_and(|(_, next)| next[0] == "batch-norm");
        builder.layer(words, !normalized).map_err(|e| e.at(format!("line {number}, `{}`", words.join(" "))))?;
    }
    let Some(value) = builder.value else { return Err(fail("the first line says what goes in, as in `input 1x28x28`")) };
    builder.graph.outputs.push(value);
    infer::infer(&mut builder.graph)?;
    Ok(builder.graph)
}

fn fail(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Setting, what)
}

struct Builder {
    graph: Graph,
    random: ChaCha8Rng,
    value: Option<ValueId>,
    /// Of one sample, channels first.
    shape: Vec<usize>,
    marks: BTreeMap<String, (ValueId, Vec<usize>)>,
    counts: BTreeMap<&'static str, usize>,
}

impl Builder {
    fn layer(&mut self, words: &[&str], bias: bool) -> Result<()> {
        match words {
            ["input", sizes] => return self.input(&sizes_of(sizes)?),
            _ if self.value.is_none() => return Err(fail("the first line is `input SIZES`")),
            ["dense", n] => self.dense(number(n)?, bias)?,
            ["conv", n, kernel, rest @ ..] => self.conv(number(n)?, &pair(kernel)?, stride(rest)?, false, bias)?,
            ["depthwise", kernel, rest @ ..] => self.conv(self.maps()?[0], &pair(kernel)?, stride(rest)?, true, bias)?,
            ["batch-norm"] => self.batch_norm(),
            ["relu"] => self.unary("relu", Unary::Relu),
            ["relu6"] => self.unary("relu6", Unary::Clamp(Clamp::RELU6)),
            ["sigmoid"] => self.unary("sigmoid", Unary::Sigmoid),
            ["tanh"] => self.unary("tanh", Unary::Tanh),
            ["hard-swish"] => self.unary("hard_swish", Unary::HardSwish),
            ["gelu"] => self.unary("gelu", Unary::Gelu { tanh: false }),
            ["max-pool", kernel] => self.pool("max_pool", PoolKind::Max { column_major_indices: false }, &pair(kernel)?)?,
            ["average-pool", kernel] => self.pool("average_pool", PoolKind::Average { count_include_pad: false }, &pair(kernel)?)?,
            ["global-average-pool"] => {
                let [c, ..] = self.maps()?;
                let kind = PoolKind::Average { count_include_pad: false };
                self.apply(
                    "global_average_pool",
                    Op::GlobalPool(GlobalPool { kind, layout: fewbit_ir::Layout::ChannelsFirst }),
                    Vec::new(),
                );
                self.shape = vec![c, 1, 1];
            }
            ["flatten"] => self.flatten(),
            ["mark", name] => {
                let value = self.value.ok_or_else(|| fail("there is nothing to mark"))?;
                self.marks.insert((*name).to_owned(), (value, self.shape.clone()));
            }
            ["add", name] => {
                let (value, shape) = self.marks.get(*name).cloned().ok_or_else(|| fail(format!("nothing is marked `{name}`")))?;
                if shape != self.shape {
                    return Err(fail(format!("`{name}` has {shape:?} elements, what is added to it {:?}", self.shape)));
                }
                self.apply("add", Binary::Add.into(), vec![value]);
            }
            _ => {
                return Err(fail(
                    "it is no layer; layers are dense, conv, depthwise, batch-norm, relu, relu6, sigmoid, tanh, hard-swish, gelu, max-pool, \
                     average-pool, global-average-pool, flatten, mark and add",
                ));
            }
        }
        Ok(())
    }

    fn input(&mut self, sizes: &[usize]) -> Result<()> {
        if self.value.is_some() {
            return Err(fail("there is one input"));
        }
        let dims = std::iter::once(Dim::Symbol("N".into())).chain(sizes.iter().map(|n| Dim::Known(*n))).collect();
        let ty = TensorType { dims: Some(dims), ..TensorType::fixed(DType::F32, &[]) };
        self.value = Some(self.graph.add_input("input", Some(ty)));
        self.shape = sizes.to_vec();
        Ok(())
    }

    /// Channels, height and width.
    fn maps(&self) -> Result<[usize; 3]> {
        <[usize; 3]>::try_from(&self.shape[..])
            .map_err(|_| fail(format!("it works on maps as of `input 1x28x28`, here are {:?}", self.shape)))
    }

    fn name(&mut self, stem: &'static str) -> String {
        let count = self.counts.entry(stem).or_default();
        *count += 1;
        format!("{stem}_{count}")
    }

    /// Applies an operator to the value so far and others.
    fn apply(&mut self, stem: &'static str, op: Op, others: Vec<ValueId>) {
        let name = self.name(stem);
        let inputs: Vec<ValueId> = self.value.into_iter().chain(others).collect();
        self.value = Some(self.graph.apply(&name, op, &inputs));
    }

    fn unary(&mut self, stem: &'static str, op: Unary) {
        self.apply(stem, op.into(), Vec::new());
    }

    fn flatten(&mut self) {
        if self.shape.len() > 1 {
            self.apply("flatten", Flatten { axis: 1 }.into(), Vec::new());
            self.shape = vec![self.shape.iter().product()];
        }
    }

    fn weight(&mut self, name: &str, shape: &[usize], inputs: usize) -> Result<ValueId> {
        let len = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MAX_ELEMENTS);
        let len = len.ok_or_else(|| fail(format!("weights of {shape:?} are more than {MAX_ELEMENTS} numbers")))?;
        let deviation = (2.0 / inputs as f64).sqrt();
        let values: Vec<f32> = (0..len).map(|_| (self.normal() * deviation) as f32).collect();
        Ok(self.graph.add_constant(name, Tensor::from_vec(shape, values)?))
    }

    /// A standard normal number (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.random.random(), self.random.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }

    fn dense(&mut self, outputs: usize, bias: bool) -> Result<()> {
        self.flatten();
        let inputs = self.shape[0];
        let name = format!("dense_{}", self.counts.get("dense").map_or(1, |n| n + 1));
        let mut others = vec![self.weight(&format!("{name}/w"), &[outputs, inputs], inputs)?];
        if bias {
            others.push(self.graph.add_constant(format!("{name}/b"), Tensor::vector(vec![0.0_f32; outputs])));
        }
        self.apply("dense", Gemm { trans_b: true, ..Gemm::default() }.into(), others);
        self.shape = vec![outputs];
        Ok(())
    }

    fn conv(&mut self, outputs: usize, kernel: &[usize; 2], stride: usize, depthwise: bool, bias: bool) -> Result<()> {
        let [channels, height, width] = self.maps()?;
        let stem = if depthwise { "depthwise" } else { "conv" };
        let name = format!("{stem}_{}", self.counts.get(stem).map_or(1, |n| n + 1));
        let (groups, per_group) = if depthwise { (channels, 1) } else { (1, channels) };
        let fan = per_group.saturating_mul(kernel[0]).saturating_mul(kernel[1]);
        let mut others = vec![self.weight(&format!("{name}/w"), &[outputs, per_group, kernel[0], kernel[1]], fan)?];
        if bias {
            others.push(self.graph.add_constant(format!("{name}/b"), Tensor::vector(vec![0.0_f32; outputs])));
        }
        let pads: Vec<usize> = kernel.iter().map(|k| k / 2).collect();
        let window = Window {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            padding: Padding::Explicit { begin: pads.clone(), end: kernel.iter().map(|k| (k - 1) / 2).collect() },
        };
        let geometry = window.geometry(&[height, width], kernel)?;
        let op = Conv { window, groups, layout: fewbit_ir::Layout::ChannelsFirst, activation: Clamp::NONE };
        self.apply(stem, op.into(), others);
        self.shape = vec![outputs, geometry.output[0], geometry.output[1]];
        Ok(())
    }

    fn batch_norm(&mut self) {
        let channels = self.shape[0];
        let name = format!("batch_norm_{}", self.counts.get("batch_norm").map_or(1, |n| n + 1));
        let mut others = Vec::new();
        for (what, value) in [("scale", 1.0_f32), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)] {
            others.push(self.graph.add_constant(format!("{name}_{what}"), Tensor::vector(vec![value; channels])));
        }
        self.apply("batch_norm", BatchNormalization { epsilon: 1e-3, axis: 1 }.into(), others);
    }

    fn pool(&mut self, stem: &'static str, kind: PoolKind, kernel: &[usize; 2]) -> Result<()> {
        let [channels, height, width] = self.maps()?;
        let window = Window { strides: kernel.to_vec(), dilations: vec![1; 2], padding: Padding::Valid };
        let pool = Pool { kind, kernel: kernel.to_vec(), window, ceil_mode: false, layout: fewbit_ir::Layout::ChannelsFirst };
        let geometry = pool.geometry(&[height, width])?;
        self.shape = vec![channels, geometry.output[0], geometry.output[1]];
        self.apply(stem, pool.into(), Vec::new());
        Ok(())
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse().ok().filter(|n| (1..=MAX_ELEMENTS).contains(n)).ok_or_else(|| fail(format!("`{text}` is no size")))
}

fn sizes_of(text: &str) -> Result<Vec<usize>> {
    let sizes = text.split('x').map(number).collect::<Result<Vec<_>>>()?;
    if sizes.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).is_none_or(|n| n > MAX_ELEMENTS) {
        return Err(fail(format!("{text} is more than {MAX_ELEMENTS} numbers")));
    }
    Ok(sizes)
}

fn pair(text: &str) -> Result<[usize; 2]> {
    <[usize; 2]>::try_from(sizes_of(text)?).map_err(|_| fail(format!("`{text}` is no HEIGHTxWIDTH")))
}

fn stride(words: &[&str]) -> Result<usize> {
    match words {
        [] => Ok(1),
        ["stride", n] => number(n),
        _ => Err(fail("what follows the kernel is `stride N`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_each_other() {
        let text = "input 1x28x28 # a picture\nconv 8 3x3 stride 2\nbatch-norm\nrelu\nmark a\ndepthwise 3x3\nbatch-norm\nrelu6\nadd a\n\
                    max-pool 2x2\nglobal-average-pool\ndense 10\n";
        let graph = describe(text, 1).unwrap();
        let ops: Vec<&str> = graph.nodes().map(|(_, n)| n.op.name()).collect();
        assert_eq!(
            ops,
            [
                "Conv",
                "BatchNormalization",
                "Relu",
                "Conv",
                "BatchNormalization",
                "Clip",
                "Add",
                "MaxPool",
                "GlobalAveragePool",
                "Flatten",
                "Gemm"
            ]
        );
        assert!(graph.find_value("conv_1/b").is_none() && graph.find_value("dense_1/b").is_some());
        assert_eq!(describe(text, 1).unwrap(), graph);
        assert_ne!(describe(text, 2).unwrap(), graph);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_line() {
        for (text, part) in [
            ("", "first line"),
            ("dense 10", "line 1"),
            ("input 4\nconv 8 3x3", "line 2, `conv 8 3x3`: it works on maps"),
            ("input 4\nfoo 8", "layers are dense"),
            ("input 0", "`0` is no size"),
            ("input 4\ndense many", "`many`"),
            ("input 4\nadd a", "nothing is marked `a`"),
            ("input 4\nmark a\ndense 5\nadd a", "[4]"),
            ("input 1x9x9\nconv 8 3x3 strides 2", "`stride N`"),
            ("input 1x2x2\nmax-pool 3x3", "line 2"),
            ("input 99999x99999", "more than"),
            ("input 268435456\ndense 268435456", "more than"),
        ] {
            let message = describe(text, 0).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
