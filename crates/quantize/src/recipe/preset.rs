//! Names that say what they do: `static_wi8_ai8`, `dynamic_wi8`, `weight_only_wi4b32`, `float16`.
//!
//! ```text
//! name    = "float16" | mode "_w" integer block? ("_a" integer)?
//! mode    = "static" | "dynamic" | "weight_only"
//! integer = "i" bits
//! block   = "b" elements
//! ```
//!
//! Activations are for `static` alone, which has to have them. Blocks of weights that meet them are of at most 5 bits, and have zero
//! points: scales of blocks are whole multiples of their channel's, and the products are integers of 8 bits.

use std::fmt;
use std::str::FromStr;

use crate::algorithm::has_block_levels;
use crate::{Error, ErrorKind, Result};

/// How a node is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Config {
    /// Weights and activations are integers, with scales from calibration.
    Static {
        /// Bits of weights.
        weight: WeightConfig,
        /// Bits of activations.
        activation_bits: u8,
    },
    /// Weights are integers; activations become integers while the network runs, with scales of the moment.
    Dynamic {
        /// Bits of weights.
        weight: WeightConfig,
    },
    /// Weights are stored as integers and computed with in float.
    WeightOnly {
        /// Bits of weights.
        weight: WeightConfig,
    },
    /// Weights are stored in half precision and computed with in float.
    Float16,
}

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightConfig {
    /// Bits of an integer: 2 to 8.
    pub bits: u8,
    /// Elements that share a scale along the input channels; `None` for one scale per output channel.
    pub block: Option<usize>,
}

/// Presets worth naming in a help text, with what they are good for.
pub const PRESETS: [(&str, &str); 4] = [
    ("static_wi8_ai8", "everything in 8-bit integers; needs calibration data; smallest and fastest"),
    ("dynamic_wi8", "8-bit weights, activations quantized while running; no calibration data"),
    ("weight_only_wi8", "8-bit weights, computed in float; no calibration data; smaller, not faster"),
    ("float16", "half-precision weights; half the size, hardly any loss"),
];

const WEIGHT_BITS: [u8; 7] = [2, 3, 4, 5, 6, 7, 8];
const ACTIVATION_BITS: [u8; 3] = [4, 8, 16];
/// Blocks are powers of two up to this.
const MAX_BLOCK: usize = 4096;

impl Config {
    /// 8-bit weights and activations.
    pub const STATIC_8: Self = Self::Static { weight: WeightConfig { bits: 8, block: None }, activation_bits: 8 };

    /// How weights are quantized, if to integers.
    pub fn weight(&self) -> Option<WeightConfig> {
        match *self {
            Self::Static { weight, .. } | Self::Dynamic { weight } | Self::WeightOnly { weight } => Some(weight),
            Self::Float16 => None,
        }
    }

    /// The same with weights of so many bits.
    ///
    /// # Errors
    /// If weights cannot have so many bits, or are no integers.
    pub fn with_weight_bits(mut self, bits: u8) -> Result<Self> {
        let fail = |why: String| Err(Error::new(ErrorKind::Recipe, why));
        if !WEIGHT_BITS.contains(&bits) {
            return fail(format!("weights have 2 to 8 bits, not {bits}"));
        }
        match &mut self {
            Self::Static { weight, .. } | Self::Dynamic { weight } | Self::WeightOnly { weight } => weight.bits = bits,
            Self::Float16 => return fail("float16 has no integer weights to narrow".to_owned()),
        }
        self.checked().or_else(fail)
    }

    /// Itself, if there is such a thing.
    fn checked(self) -> std::result::Result<Self, String> {
        match self {
            Self::Static { weight: WeightConfig { bits, block: Some(_) }, .. } if !has_block_levels(bits) => Err(format!(
                "weights of {bits} bits have no blocks where activations are static: products with a block's scale have 8 bits"
            )),
            _ => Ok(self),
        }
    }

    /// The same with activations of so many bits.
    ///
    /// # Errors
    /// If activations cannot have so many bits, or are not quantized ahead.
    pub fn with_activation_bits(mut self, bits: u8) -> Result<Self> {
        let fail = |why: String| Err(Error::new(ErrorKind::Recipe, why));
        if !ACTIVATION_BITS.contains(&bits) {
            return fail(format!("activations have 4, 8 or 16 bits, not {bits}"));
        }
        match &mut self {
            Self::Static { activation_bits, .. } => *activation_bits = bits,
            _ => return fail(format!("{self} has no activations that are quantized ahead: begin with static_wi8_ai8")),
        }
        Ok(self)
    }

    /// Whether scales of activations come from calibration data.
    pub fn needs_calibration(&self) -> bool {
        matches!(self, Self::Static { .. })
    }
}

impl fmt::Display for WeightConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "_wi{}", self.bits)?;
        self.block.map_or(Ok(()), |block| write!(f, "b{block}"))
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { weight, activation_bits } => write!(f, "static{weight}_ai{activation_bits}"),
            Self::Dynamic { weight } => write!(f, "dynamic{weight}"),
            Self::WeightOnly { weight } => write!(f, "weight_only{weight}"),
            Self::Float16 => f.write_str("float16"),
        }
    }
}

impl FromStr for Config {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        parse(name).map_err(|why| {
            let examples: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
            Error::new(ErrorKind::Recipe, format!("no preset '{name}': {why}; examples are {}", examples.join(", ")))
        })
    }
}

fn parse(name: &str) -> std::result::Result<Config, String> {
    if name == "float16" {
        return Ok(Config::Float16);
    }
    let Some((mode, rest)) = name.split_once("_wi") else { return Err("it names no integer weights (_wi8)".to_owned()) };
    let (weight, activation) = match rest.split_once("_ai") {
        Some((weight, activation)) => (weight, Some(activation)),
        None => (rest, None),
    };
    let (bits, block) = match weight.split_once('b') {
        Some((bits, block)) => (bits, Some(block)),
        None => (weight, None),
    };
    let block = block.map(|b| b.parse().ok().filter(|n: &usize| n.is_power_of_two() && (16..=MAX_BLOCK).contains(n)));
    let block = match block {
        Some(None) => return Err(format!("blocks have 16 to {MAX_BLOCK} elements, a power of two")),
        Some(block) => block,
        None => None,
    };
    let among = |text: &str, allowed: &[u8]| text.parse().ok().filter(|b| allowed.contains(b));
    let bits = among(bits, &WEIGHT_BITS).ok_or("weights have 2 to 8 bits")?;
    let weight = WeightConfig { bits, block };
    match (mode, activation) {
        ("static", Some(a)) => {
            let activation_bits = among(a, &ACTIVATION_BITS).ok_or("activations have 4, 8 or 16 bits")?;
            Config::Static { weight, activation_bits }.checked()
        }
        ("static", None) => Err("static quantization needs integer activations (_ai8)".to_owned()),
        ("dynamic", None) => Ok(Config::Dynamic { weight }),
        ("weight_only", None) => Ok(Config::WeightOnly { weight }),
        ("dynamic" | "weight_only", Some(_)) => Err(format!("'{mode}' says nothing of activations")),
        _ => Err(format!("'{mode}' is none of static, dynamic, weight_only")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_written_back() {
        let weight = |bits, block| WeightConfig { bits, block };
        for (name, config) in [
            ("static_wi8_ai8", Config::STATIC_8),
            ("static_wi7_ai8", Config::Static { weight: weight(7, None), activation_bits: 8 }),
            ("static_wi8_ai16", Config::Static { weight: weight(8, None), activation_bits: 16 }),
            ("static_wi4_ai4", Config::Static { weight: weight(4, None), activation_bits: 4 }),
            ("static_wi4b32_ai8", Config::Static { weight: weight(4, Some(32)), activation_bits: 8 }),
            ("dynamic_wi8", Config::Dynamic { weight: weight(8, None) }),
            ("weight_only_wi4b32", Config::WeightOnly { weight: weight(4, Some(32)) }),
            ("float16", Config::Float16),
        ] {
            assert_eq!(name.parse::<Config>().unwrap(), config);
            assert_eq!(config.to_string(), name);
        }
        assert!(PRESETS.iter().all(|(name, _)| name.parse::<Config>().is_ok()));
    }

    #[test]
    fn weights_are_narrowed() {
        assert_eq!(Config::STATIC_8.with_weight_bits(4).unwrap().to_string(), "static_wi4_ai8");
        assert!(Config::STATIC_8.with_weight_bits(9).is_err());
        assert!(Config::Float16.with_weight_bits(4).is_err());
    }

    #[test]
    fn activations_are_narrowed() {
        let narrow = Config::STATIC_8.with_weight_bits(2).and_then(|c| c.with_activation_bits(4)).unwrap();
        assert_eq!(narrow.to_string(), "static_wi2_ai4");
        assert!(Config::STATIC_8.with_activation_bits(5).unwrap_err().to_string().contains("4, 8 or 16"));
        assert!(Config::Float16.with_activation_bits(4).unwrap_err().to_string().contains("float16"));
    }

    #[test]
    fn names_that_mean_nothing_say_why() {
        for (name, says) in [
            ("int8", "_wi8"),
            ("static_wi8", "_ai8"),
            ("static_wi9_ai8", "2 to 8 bits"),
            ("static_wi8_ai5", "4, 8 or 16 bits"),
            ("dynamic_wi8_ai8", "says nothing of activations"),
            ("weight_only_wi4b33", "power of two"),
            ("quick_wi8", "none of static"),
            ("", "_wi8"),
        ] {
            let e = name.parse::<Config>().unwrap_err();
            assert!(e.kind() == ErrorKind::Recipe && e.to_string().contains(says), "{name}: {e}");
        }
    }
}
