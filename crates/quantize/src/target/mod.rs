//! What runtimes execute in integers: one table per runtime.
//!
//! In: an operator's name. Out: the schemes that the runtime has an integer kernel for, and what that kernel demands of
//! scales. Facts that hold everywhere are [`fewbit_ir::quant_rule`]'s; what the user wants is [`crate::recipe`]'s.
//! There is no code per target: a table is read by the planner and printed by `explain`.
//!
//! To add a target: a file with its table, each deviation with its source, and a line in [`TARGETS`].

mod fewbit;
mod litert;
mod ort_cpu;

use crate::{Error, ErrorKind, Result};

/// A runtime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Operators that it executes in integers, by their names in [`fewbit_ir::Op::name`].
    pub rows: &'static [Row],
    /// How it wants 8-bit activations stored. The integers are planned as signed; the writer shifts them.
    pub activations: Signedness,
    /// Bits of weights that are exact. Less than 8 where 8-bit products saturate.
    pub exact_weight_bits: u8,
}

/// One or several operators of a target's table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Operators that the row is about.
    pub ops: &'static [&'static str],
    /// Pairs of weight and activation bits that it runs in integers; for operators without weights the first counts as any.
    pub bits: &'static [(u8, u8)],
    /// What scales its kernel demands.
    pub scales: Scales,
    /// Which scales its weights may have.
    pub weights: WeightScales,
}

/// How 8-bit activations are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signedness {
    /// int8.
    Signed,
    /// uint8 with the zero point moved by 128; the same real numbers.
    Unsigned,
}

/// What an integer kernel demands of its output's scale. The order is from the freest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scales {
    /// Nothing: it requantizes.
    Free,
    /// Scale and zero point of all inputs and outputs are one.
    SameAsInput,
    /// These numbers, whatever the data, as signed 8-bit integers.
    Fixed {
        /// The scale.
        scale: f32,
        /// The zero point.
        zero_point: i32,
    },
}

/// Which scales the weights of a kernel may have. The order is from the freest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightScales {
    /// One per output channel, or one.
    PerAxis,
    /// One.
    PerTensor,
}

/// Every runtime with a table.
pub const TARGETS: &[Target] = &[ort_cpu::TARGET, litert::TARGET, fewbit::TARGET];

/// The name that stands for all [`TARGETS`] at once.
pub const PORTABLE: &str = "portable";

/// The runtimes that a plan serves: an operator runs in integers only where all of them do.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSet {
    name: &'static str,
    targets: Vec<&'static Target>,
}

/// What a [`TargetSet`] says of an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Support {
    /// All run it in integers, under the strictest of their demands.
    Integer {
        /// The strictest demand on scales.
        scales: Scales,
        /// The strictest demand on weights.
        weights: WeightScales,
        /// The target whose row made the demand on scales.
        because: &'static str,
    },
    /// This target has no integer kernel for it.
    None {
        /// The first such target.
        target: &'static str,
    },
}

impl TargetSet {
    /// All runtimes: the plan that runs alike in every format.
    pub fn portable() -> Self {
        Self { name: PORTABLE, targets: TARGETS.iter().collect() }
    }

    /// The set of that name: `portable`, or one runtime.
    pub fn named(name: &str) -> Result<Self> {
        if name == PORTABLE {
            return Ok(Self::portable());
        }
        if let Some(target) = TARGETS.iter().find(|t| t.name == name) {
            return Ok(Self { name: target.name, targets: vec![target] });
        }
        let names: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
        Err(Error::new(ErrorKind::Recipe, format!("no target '{name}': there are {PORTABLE}, {}", names.join(", "))))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The runtimes in it.
    pub fn targets(&self) -> &[&'static Target] {
        &self.targets
    }

    /// Whether an operator with weights and activations of so many bits runs in integers, and on what terms. Narrower weights
    /// run where wider ones do.
    pub fn support(&self, op: &str, weight_bits: u8, activation_bits: u8) -> Support {
        let mut scales = (Scales::Free, "");
        let mut weights = WeightScales::PerAxis;
        for target in &self.targets {
            let fits = |row: &&Row| row.ops.contains(&op) && row.bits.iter().any(|(w, a)| weight_bits <= *w && activation_bits == *a);
            let Some(row) = target.rows.iter().find(fits) else { return Support::None { target: target.name } };
            if row.scales.strictness() > scales.0.strictness() || scales.1.is_empty() {
                scales = (row.scales, target.name);
            }
            weights = weights.max(row.weights);
        }
        Support::Integer { scales: scales.0, weights, because: scales.1 }
    }
}

impl Scales {
    fn strictness(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::SameAsInput => 1,
            Self::Fixed { .. } => 2,
        }
    }
}

/// The bits of a row that only knows 8-bit weights and activations.
const W8A8: &[(u8, u8)] = &[(8, 8)];

/// A row of operators that requantize.
const fn free(ops: &'static [&'static str]) -> Row {
    Row { ops, bits: W8A8, scales: Scales::Free, weights: WeightScales::PerAxis }
}

/// A row of operators whose inputs and outputs share scale and zero point.
const fn same(ops: &'static [&'static str]) -> Row {
    Row { ops, bits: W8A8, scales: Scales::SameAsInput, weights: WeightScales::PerAxis }
}

/// A row of operators whose output has these numbers.
const fn fixed(ops: &'static [&'static str], scale: f32, zero_point: i32) -> Row {
    Row { ops, bits: W8A8, scales: Scales::Fixed { scale, zero_point }, weights: WeightScales::PerAxis }
}

#[cfg(test)]
mod tests {
    use fewbit_tensor::QuantScheme;

    use super::*;

    #[test]
    fn no_operator_has_two_rows_for_the_same_bits() {
        for target in TARGETS {
            let mut seen = std::collections::BTreeSet::new();
            for row in target.rows {
                for op in row.ops {
                    for bits in row.bits {
                        assert!(seen.insert((op, bits)), "{}: {op} {bits:?}", target.name);
                    }
                }
                if let Scales::Fixed { scale, zero_point } = row.scales {
                    let (low, high) = QuantScheme::activation(8).range();
                    assert!(scale > 0.0 && (low..=high).contains(&zero_point), "{}: {:?}", target.name, row.ops);
                }
            }
        }
    }

    #[test]
    fn portable_is_the_strictest_of_all() {
        let portable = TargetSet::portable();
        for (op, expected) in [
            ("Conv", Some(Scales::Free)),
            ("Add", Some(Scales::Free)),
            ("MaxPool", Some(Scales::SameAsInput)),
            ("Concat", Some(Scales::SameAsInput)),
            ("Sigmoid", Some(Scales::Fixed { scale: 1.0 / 256.0, zero_point: -128 })),
            ("ConvTranspose", None),
            ("HardSwish", None),
            ("NonMaxSuppression", None),
        ] {
            let got = match portable.support(op, 8, 8) {
                Support::Integer { scales, .. } => Some(scales),
                Support::None { .. } => None,
            };
            assert_eq!(got, expected, "{op}");
        }
        assert_eq!(portable.support("Conv", 8, 16), Support::None { target: "ort-cpu" });
    }

    #[test]
    fn names_lead_to_targets() {
        for name in TARGETS.iter().map(|t| t.name).chain([PORTABLE]) {
            assert_eq!(TargetSet::named(name).unwrap().name(), name);
        }
        assert!(TargetSet::named("toaster").unwrap_err().to_string().contains("ort-cpu"));
    }
}
