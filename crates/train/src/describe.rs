//! Small networks with random weights, to be trained from nothing: built layer by layer with [`Layers`], or described as text.
//!
//! In a text there is one layer per line; `#` begins a comment.
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
use fewbit_ir::{Clamp, Dim, Graph, NodeId, Op, TensorType, ValueId, infer};
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
    let lines: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>()))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    if lines.len() > MAX_LAYERS {
        return Err(fail(format!("{} layers are more than {MAX_LAYERS}", lines.len())));
    }
    let mut lines = lines.into_iter();
    let Some((number, words)) = lines.next() else { return Err(fail("the first line says what goes in, as in `input 1x28x28`")) };
    let at = |number: usize, words: &[&str]| format!("line {number}, `{}`", words.join(" "));
    let ["input", sizes] = words[..] else { return Err(fail("the first line is `input SIZES`").at(at(number, &words))) };
    let mut layers = sizes_of(sizes).and_then(|sizes| Layers::new(&sizes, seed)).map_err(|e| e.at(at(number, &words)))?;
    for (number, words) in lines {
        add(&mut layers, &words).map_err(|e| e.at(at(number, &words)))?;
    }
    layers.finish()
}

/// The layer that a line describes.
fn add(layers: &mut Layers, words: &[&str]) -> Result<()> {
    match words {
        ["input", _] => return Err(fail("there is one input")),
        ["dense", n] => layers.dense(number(n)?)?,
        ["conv", n, kernel, rest @ ..] => layers.conv(number(n)?, pair(kernel)?, stride(rest)?)?,
        ["depthwise", kernel, rest @ ..] => layers.depthwise(pair(kernel)?, stride(rest)?)?,
        ["batch-norm"] => layers.batch_norm(),
        ["relu"] => layers.relu(),
        ["relu6"] => layers.unary("relu6", Unary::Clamp(Clamp::RELU6)),
        ["sigmoid"] => layers.unary("sigmoid", Unary::Sigmoid),
        ["tanh"] => layers.unary("tanh", Unary::Tanh),
        ["hard-swish"] => layers.unary("hard_swish", Unary::HardSwish),
        ["gelu"] => layers.unary("gelu", Unary::Gelu { tanh: false }),
        ["max-pool", kernel] => layers.max_pool(pair(kernel)?)?,
        ["average-pool", kernel] => layers.average_pool(pair(kernel)?)?,
        ["global-average-pool"] => layers.global_average_pool()?,
        ["flatten"] => layers.flatten(),
        ["mark", name] => layers.mark(name),
        ["add", name] => layers.add(name)?,
        _ => {
            return Err(fail(
                "it is no layer; layers are dense, conv, depthwise, batch-norm, relu, relu6, sigmoid, tanh, hard-swish, gelu, max-pool, \
                 average-pool, global-average-pool, flatten, mark and add",
            ));
        }
    };
    Ok(())
}

fn fail(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Setting, what)
}

/// A network in the making: each layer follows the one before.
///
/// ```
/// use fewbit_train::describe::Layers;
///
/// # fn main() -> fewbit_train::Result<()> {
/// let mut layers = Layers::new(&[1, 28, 28], 0)?;
/// layers.conv(16, [3, 3], 2)?.batch_norm().relu().depthwise([3, 3], 1)?.batch_norm().relu();
/// layers.global_average_pool()?.dense(10)?;
/// assert_eq!(layers.finish()?.nodes().count(), 9);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Layers {
    graph: Graph,
    random: ChaCha8Rng,
    value: ValueId,
    /// Of one sample, channels first.
    shape: Vec<usize>,
    marks: BTreeMap<String, (ValueId, Vec<usize>)>,
    counts: BTreeMap<&'static str, usize>,
    /// The last layer, if it has weights and no bias yet: one before a batch normalization would be taken away again.
    unbiased: Option<(NodeId, String, usize)>,
}

impl Layers {
    /// What goes in: the sizes of one sample, channels before height and width. Weights follow from the seed.
    ///
    /// # Errors
    /// If a size is zero or all are too many numbers.
    pub fn new(sizes: &[usize], seed: u64) -> Result<Self> {
        let len = sizes.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).filter(|n| (1..=MAX_ELEMENTS).contains(n));
        if len.is_none() || sizes.is_empty() {
            return Err(fail(format!("{sizes:?} are not the sizes of 1 to {MAX_ELEMENTS} numbers")));
        }
        let mut graph = Graph::new("net");
        let dims = std::iter::once(Dim::Symbol("N".into())).chain(sizes.iter().map(|n| Dim::Known(*n))).collect();
        let ty = TensorType { dims: Some(dims), ..TensorType::fixed(DType::F32, &[]) };
        let value = graph.add_input("input", Some(ty));
        let random = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self { graph, random, value, shape: sizes.to_vec(), marks: BTreeMap::new(), counts: BTreeMap::new(), unbiased: None })
    }

    /// The network as far as it was built.
    ///
    /// # Errors
    /// If its types do not follow.
    pub fn finish(mut self) -> Result<Graph> {
        self.add_bias();
        self.graph.outputs.push(self.value);
        infer::infer(&mut self.graph)?;
        Ok(self.graph)
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
    fn apply(&mut self, stem: &'static str, op: Op, others: Vec<ValueId>) -> &mut Self {
        self.add_bias();
        let name = self.name(stem);
        let inputs: Vec<ValueId> = std::iter::once(self.value).chain(others).collect();
        self.value = self.graph.apply(&name, op, &inputs);
        self
    }

    /// Gives the last layer the bias that it lacks.
    fn add_bias(&mut self) {
        if let Some((node, name, channels)) = self.unbiased.take() {
            let bias = self.graph.add_constant(name, Tensor::vector(vec![0.0_f32; channels]));
            self.graph.node_mut(node).inputs.push(Some(bias));
        }
    }

    /// Remembers the last layer, which has weights.
    fn biased(&mut self, name: &str, channels: usize) -> &mut Self {
        self.unbiased = self.graph.producer(self.value).map(|node| (node, format!("{name}/b"), channels));
        self
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self) -> &mut Self {
        self.unary("relu", Unary::Relu)
    }

    /// A function of each element, whose nodes are named after `stem`.
    pub fn unary(&mut self, stem: &'static str, op: Unary) -> &mut Self {
        self.apply(stem, op.into(), Vec::new())
    }

    /// Maps as one row.
    pub fn flatten(&mut self) -> &mut Self {
        if self.shape.len() > 1 {
            self.apply("flatten", Flatten { axis: 1 }.into(), Vec::new());
            self.shape = vec![self.shape.iter().product()];
        }
        self
    }

    /// Remembers the value so far under a name.
    pub fn mark(&mut self, name: &str) -> &mut Self {
        self.marks.insert(name.to_owned(), (self.value, self.shape.clone()));
        self
    }

    /// Adds the value that a name was given to: a residual connection.
    ///
    /// # Errors
    /// If there is none, or it has another shape.
    pub fn add(&mut self, name: &str) -> Result<&mut Self> {
        let (value, shape) = self.marks.get(name).cloned().ok_or_else(|| fail(format!("nothing is marked `{name}`")))?;
        if shape != self.shape {
            return Err(fail(format!("`{name}` has {shape:?} elements, what is added to it {:?}", self.shape)));
        }
        Ok(self.apply("add", Binary::Add.into(), vec![value]))
    }

    /// The mean of each map.
    ///
    /// # Errors
    /// If there are no maps.
    pub fn global_average_pool(&mut self) -> Result<&mut Self> {
        let [c, ..] = self.maps()?;
        let kind = PoolKind::Average { count_include_pad: false };
        let op = Op::GlobalPool(GlobalPool { kind, layout: fewbit_ir::Layout::ChannelsFirst });
        self.shape = vec![c, 1, 1];
        Ok(self.apply("global_average_pool", op, Vec::new()))
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

    /// A matrix product with bias; maps are flattened before it.
    ///
    /// # Errors
    /// If there would be too many weights.
    pub fn dense(&mut self, outputs: usize) -> Result<&mut Self> {
        self.flatten();
        let inputs = self.shape[0];
        let name = format!("dense_{}", self.counts.get("dense").map_or(1, |n| n + 1));
        let weight = self.weight(&format!("{name}/w"), &[outputs, inputs], inputs)?;
        self.apply("dense", Gemm { trans_b: true, ..Gemm::default() }.into(), vec![weight]);
        self.shape = vec![outputs];
        Ok(self.biased(&name, outputs))
    }

    /// A convolution with bias, padded so that stride 1 keeps the size.
    ///
    /// # Errors
    /// If there are no maps or there would be too many weights.
    pub fn conv(&mut self, outputs: usize, kernel: [usize; 2], stride: usize) -> Result<&mut Self> {
        let [channels, ..] = self.maps()?;
        self.convolution("conv", [outputs, channels, 1], kernel, stride)
    }

    /// A convolution of each channel by itself, likewise.
    ///
    /// # Errors
    /// If there are no maps.
    pub fn depthwise(&mut self, kernel: [usize; 2], stride: usize) -> Result<&mut Self> {
        let [channels, ..] = self.maps()?;
        self.convolution("depthwise", [channels, 1, channels], kernel, stride)
    }

    fn convolution(
        &mut self,
        stem: &'static str,
        [outputs, per_group, groups]: [usize; 3],
        kernel: [usize; 2],
        stride: usize,
    ) -> Result<&mut Self> {
        let [_, height, width] = self.maps()?;
        let name = format!("{stem}_{}", self.counts.get(stem).map_or(1, |n| n + 1));
        let fan = per_group.saturating_mul(kernel[0]).saturating_mul(kernel[1]);
        let pads = |of: fn(usize) -> usize| kernel.iter().map(|k| of(*k)).collect::<Vec<usize>>();
        let padding = Padding::Explicit { begin: pads(|k| k / 2), end: pads(|k| k.saturating_sub(1) / 2) };
        let window = Window { strides: vec![stride; 2], dilations: vec![1; 2], padding };
        let geometry = window.geometry(&[height, width], &kernel)?;
        let weight = self.weight(&format!("{name}/w"), &[outputs, per_group, kernel[0], kernel[1]], fan)?;
        let op = Conv { window, groups, layout: fewbit_ir::Layout::ChannelsFirst, activation: Clamp::NONE };
        self.apply(stem, op.into(), vec![weight]);
        self.shape = vec![outputs, geometry.output[0], geometry.output[1]];
        Ok(self.biased(&name, outputs))
    }

    /// Batch normalization; what is before it needs no bias, and has none.
    pub fn batch_norm(&mut self) -> &mut Self {
        self.unbiased = None;
        let channels = self.shape[0];
        let name = format!("batch_norm_{}", self.counts.get("batch_norm").map_or(1, |n| n + 1));
        let mut others = Vec::new();
        for (what, value) in [("scale", 1.0_f32), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)] {
            others.push(self.graph.add_constant(format!("{name}_{what}"), Tensor::vector(vec![value; channels])));
        }
        self.apply("batch_norm", BatchNormalization { epsilon: 1e-3, axis: 1 }.into(), others)
    }

    /// The largest element of each window; windows lie side by side.
    ///
    /// # Errors
    /// If there are no maps, or they are smaller than a window.
    pub fn max_pool(&mut self, kernel: [usize; 2]) -> Result<&mut Self> {
        self.pool("max_pool", PoolKind::Max { column_major_indices: false }, kernel)
    }

    /// The mean of each window, likewise.
    ///
    /// # Errors
    /// As [`max_pool`](Self::max_pool).
    pub fn average_pool(&mut self, kernel: [usize; 2]) -> Result<&mut Self> {
        self.pool("average_pool", PoolKind::Average { count_include_pad: false }, kernel)
    }

    fn pool(&mut self, stem: &'static str, kind: PoolKind, kernel: [usize; 2]) -> Result<&mut Self> {
        let [channels, height, width] = self.maps()?;
        let window = Window { strides: kernel.to_vec(), dilations: vec![1; 2], padding: Padding::Valid };
        let pool = Pool { kind, kernel: kernel.to_vec(), window, ceil_mode: false, layout: fewbit_ir::Layout::ChannelsFirst };
        let geometry = pool.geometry(&[height, width])?;
        self.shape = vec![channels, geometry.output[0], geometry.output[1]];
        Ok(self.apply(stem, pool.into(), Vec::new()))
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
            ("input 4\ninput 4", "line 2, `input 4`: there is one input"),
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
