//! What the user wants: an ordered list of rules, of which the last that matches a node wins.
//!
//! In: a preset's name, or the text of a recipe file. Out: for each node of a graph, the configuration it should get, or
//! that it is to be left alone, and which rule said so. What a runtime can do is [`crate::target`]'s business; the
//! planner brings the two together.

mod file;
mod preset;
mod scope;

use fewbit_ir::{Graph, NodeId};

pub use preset::{Config, PRESETS, WeightConfig};
pub use scope::Scope;

use crate::range::RangeMethod;
use crate::{Error, ErrorKind, Result};

/// An ordered list of rules over a base configuration.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What it is called in messages: a preset's name or that of the file.
    pub name: String,
    /// How every node is quantized that no rule speaks of.
    pub base: Config,
    /// How ranges of activations follow from statistics.
    pub range: RangeMethod,
    /// Whether biases make up for the mean error of quantized weights.
    pub bias_correction: bool,
    /// Whether what computes an output is quantized although 8 bits are coarse for it: for integer interfaces.
    pub integer_outputs: bool,
    /// Exceptions; later ones win.
    pub rules: Vec<Rule>,
}

/// An exception for some nodes.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The nodes.
    pub scope: Scope,
    /// What becomes of them.
    pub action: Action,
    /// Another rule for ranges of the activations that these nodes compute.
    pub range: Option<RangeMethod>,
}

/// What a rule does with its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leaves them in float.
    Skip,
    /// Quantizes them like this.
    Use(Config),
    /// Nothing: the rule is about ranges alone.
    Keep,
}

/// What a recipe says of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// How to quantize it; `None` to leave it in float.
    pub config: Option<Config>,
    /// The rule that decided `config`, counted from 0; `None` for the base.
    pub rule: Option<usize>,
    /// How the ranges of its outputs follow.
    pub range: RangeMethod,
    /// Whether it is quantized even where 8 bits are coarse for what it computes.
    pub coarse: bool,
}

/// The range rule of presets: outliers are clipped more readily than the mean squared error would.
///
/// Static int8 against the float network on data that was not calibrated on, by exponent of the error:
///
/// | network | 1.5 | 1.6 | 1.75 | 2 |
/// |---|---|---|---|---|
/// | MobileNetV2 | 18.7 dB, 90.7 % | 18.5 dB, 90.3 % | 18.1 dB, 88.7 % | – |
/// | PP-OCRv4 recognition | 95.4 % | 91.0 % | 94.9 % | – |
/// | PP-OCRv4 detection | 12.9 dB | 14.9 dB | 15.7 dB | 12.3 dB |
/// | PP-OCRv4 orientation | 100 % | 100 % | 97.9 % | – |
/// | Magika | 93.3 % | 98.0 % | 97.3 % | – |
/// | ResNet-8 | 98.0 % | 98.0 % | 98.2 % | – |
///
/// The differences between neighbours are mostly chance; 1.6 is the one that is nowhere bad.
pub const DEFAULT_RANGE: RangeMethod = RangeMethod::Mse { exponent: 1.6 };

impl Recipe {
    /// The recipe of a preset's name.
    pub fn preset(name: &str) -> Result<Self> {
        Ok(Self::of(name.parse()?))
    }

    /// Every node quantized like this.
    pub fn of(base: Config) -> Self {
        Self { name: base.to_string(), base, range: DEFAULT_RANGE, bias_correction: true, integer_outputs: false, rules: Vec::new() }
    }

    /// Gives the weights of nodes that no rule speaks of so many bits; a preset gets the name that says so.
    ///
    /// # Errors
    /// If weights cannot have so many bits, or are no integers.
    pub fn narrow_weights(&mut self, bits: u8) -> Result<()> {
        self.rebase(self.base.with_weight_bits(bits)?);
        Ok(())
    }

    /// Gives the activations of nodes that no rule speaks of so many bits; a preset gets the name that says so.
    ///
    /// # Errors
    /// If activations cannot have so many bits, or are not quantized ahead.
    pub fn narrow_activations(&mut self, bits: u8) -> Result<()> {
        self.rebase(self.base.with_activation_bits(bits)?);
        Ok(())
    }

    fn rebase(&mut self, base: Config) {
        if self.name == self.base.to_string() {
            self.name = base.to_string();
        }
        self.base = base;
    }

    /// The recipe that the text of a TOML file describes; `name` is for messages.
    pub fn from_toml(name: &str, text: &str) -> Result<Self> {
        file::parse(name, text).map_err(|e| e.at(format!("recipe {name}")))
    }

    /// What the recipe says of every node of a graph, by [`NodeId::index`].
    ///
    /// # Errors
    /// If a rule's scope matches no node at all: most likely it is misspelled.
    pub fn verdicts(&self, graph: &Graph) -> Result<Vec<Option<Verdict>>> {
        let mut verdicts = vec![None; graph.node_capacity()];
        for (id, node) in graph.nodes() {
            let coarse = self.integer_outputs && node.outputs.iter().any(|v| graph.is_output(*v));
            verdicts[id.index()] = Some(Verdict { config: Some(self.base), rule: None, range: self.range, coarse });
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let nodes = rule.scope.nodes(graph)?;
            if nodes.is_empty() {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    format!("rule {} ({}) matches no node: names and operators are those that 'inspect' lists", index + 1, rule.scope),
                )
                .at(format!("recipe {}", self.name)));
            }
            for id in nodes {
                if let Some(verdict) = &mut verdicts[id.index()] {
                    rule.apply(index, verdict);
                }
            }
        }
        Ok(verdicts)
    }

    /// A rule, for messages.
    pub fn describe_rule(&self, rule: Option<usize>) -> String {
        match rule.and_then(|i| Some((i, self.rules.get(i)?))) {
            Some((i, rule)) => format!("rule {} ({}) of recipe {}", i + 1, rule.scope, self.name),
            None => format!("recipe {}", self.name),
        }
    }
}

impl Rule {
    fn apply(&self, index: usize, verdict: &mut Verdict) {
        match self.action {
            Action::Skip => (verdict.config, verdict.rule) = (None, Some(index)),
            Action::Use(config) => (verdict.config, verdict.rule, verdict.coarse) = (Some(config), Some(index), true),
            Action::Keep => {}
        }
        if let Some(range) = self.range {
            verdict.range = range;
        }
    }
}

/// Names a node for messages: its own name, or that of its first output.
pub fn node_name(graph: &Graph, id: NodeId) -> &str {
    let node = graph.node(id);
    match node.outputs.first() {
        Some(output) if node.name.is_empty() => &graph.value(*output).name,
        _ => &node.name,
    }
}
