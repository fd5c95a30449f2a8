//! Flags that several commands share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use fewbit::data::{ChannelOrder, DataArg, DataOptions, PerChannel, Preprocess, Resize, Scale, Shard, Size};
use fewbit::quantize::plan::QuantPlan;
use fewbit::quantize::range::RangeMethod;
use fewbit::quantize::target::Signedness;
use fewbit::quantize::{Recipe, TargetSet};
use fewbit::write_file::Existing;
use fewbit::{Arithmetic, Error, Network, Result};

/// A network and how it is run.
#[derive(Args)]
pub(crate) struct NetworkFlags {
    /// Fixes the shape of an input, such as x=1,3,48,320; may be given for several inputs
    #[arg(long, value_name = "NAME=N,…", value_parser = parse_shape)]
    pub(crate) input_shape: Vec<(String, Vec<usize>)>,
    /// Threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl NetworkFlags {
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
}

fn parse_shape(text: &str) -> std::result::Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once('=').ok_or_else(|| format!("`{text}` is not NAME=N,N,…, as in x=1,3,48,320"))?;
    let dims = shape.split(',').map(|n| n.trim().parse::<usize>().ok().filter(|n| *n > 0)).collect::<Option<Vec<_>>>();
    dims.map(|dims| (name.to_owned(), dims)).ok_or_else(|| format!("`{shape}` is no list of positive numbers, as in 1,3,48,320"))
}

/// How a quantized network is computed.
#[derive(Args)]
pub(crate) struct ArithmeticFlags {
    /// What is computed in integers: what the file quantizes; also, by its own range, what meets integer weights; nothing
    #[arg(long, value_enum, default_value_t = ArithmeticFlag::Integer)]
    arithmetic: ArithmeticFlag,
}

#[derive(Clone, Copy, ValueEnum)]
enum ArithmeticFlag {
    Integer,
    Dynamic,
    Float,
}

impl ArithmeticFlags {
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        match self.arithmetic {
            ArithmeticFlag::Integer => Arithmetic::Integer,
            ArithmeticFlag::Dynamic => Arithmetic::Dynamic,
            ArithmeticFlag::Float => Arithmetic::Float,
        }
    }
}

/// How images become numbers.
#[derive(Args)]
#[command(next_help_heading = "Images")]
pub(crate) struct PreprocessFlags {
    /// TOML file with the settings below; flags go before it
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Resizes: 256 for the shorter side, 320x48 for width and height
    #[arg(long)]
    resize: Option<Resize>,
    /// Then cuts out the centre: 224 or 320x48
    #[arg(long)]
    crop: Option<Size>,
    /// Factor of pixels from 0 to 255 [default: 1/255]
    #[arg(long)]
    scale: Option<Scale>,
    /// Subtracted after scaling: one number or three [default: 0]
    #[arg(long, allow_hyphen_values = true)]
    mean: Option<PerChannel>,
    /// Divides after that: one number or three [default: 1]
    #[arg(long)]
    std: Option<PerChannel>,
    /// Order of colours: rgb or bgr [default: rgb]
    #[arg(long)]
    channels: Option<ChannelOrder>,
}

impl PreprocessFlags {
    pub(crate) fn settings(&self) -> Result<Preprocess> {
        let flags = Preprocess {
            resize: self.resize,
            crop: self.crop,
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            channels: self.channels,
            layout: None,
        };
        match &self.preprocess {
            Some(path) => Ok(flags.or(Preprocess::read(path)?)),
            None => Ok(flags),
        }
    }

    pub(crate) fn options(&self, limit: Option<usize>, shard: Option<Shard>) -> Result<DataOptions> {
        Ok(DataOptions { preprocess: self.settings()?, limit, shard })
    }
}

/// Parses data arguments: `DIR`, `FILE` or `INPUT=FILE`.
pub(crate) fn data_args(texts: &[String]) -> Result<Vec<DataArg>> {
    texts.iter().map(|t| DataArg::parse(t)).collect()
}

/// What becomes of each node.
#[derive(Args)]
#[command(next_help_heading = "Quantization")]
pub(crate) struct RecipeFlags {
    /// static_wi8_ai8, dynamic_wi8, weight_only_wi8 or float16 [default: static_wi8_ai8 with data, dynamic_wi8 without]
    #[arg(long, value_name = "NAME", conflicts_with = "recipe")]
    preset: Option<String>,
    /// TOML file with a preset and rules for some nodes; later rules win
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Runtimes that the network is for: portable (all of them), ort-cpu, litert or fewbit
    #[arg(long, default_value = "portable")]
    target: String,
    /// Narrows integer weights to 2 to 7 bits; integer kernels take them as bytes of a narrower range. Where they have 4 or
    /// fewer, the first and the last layer keep 8
    #[arg(long, value_name = "N")]
    weight_bits: Option<u8>,
    /// Gives static activations 4 or 16 bits, for --target fewbit; inputs and scores keep 8
    #[arg(long, value_name = "N")]
    activation_bits: Option<u8>,
    /// How ranges follow from statistics: mse, minmax, percentile or entropy; a number may follow, as in percentile:99.9
    #[arg(long, value_parser = from_text::<RangeMethod>)]
    range: Option<RangeMethod>,
}

fn from_text<T: FromStr<Err = fewbit::quantize::Error>>(text: &str) -> std::result::Result<T, String> {
    text.parse().map_err(|e: fewbit::quantize::Error| e.to_string())
}

impl RecipeFlags {
    /// The recipe; without one, `default`.
    pub(crate) fn recipe(&self, default: &str) -> Result<Recipe> {
        let fail = |e: fewbit::quantize::Error| Error::settings(e.to_string());
        let mut recipe = match (&self.preset, &self.recipe) {
            (Some(name), _) => Recipe::preset(name).map_err(fail)?,
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::settings(format!("cannot read {}: {e}", path.display())))?;
                Recipe::from_toml(&path.display().to_string(), &text).map_err(fail)?
            }
            (None, None) => Recipe::preset(default).map_err(fail)?,
        };
        if let Some(bits) = self.weight_bits {
            recipe.narrow_weights(bits).map_err(fail)?;
        }
        if let Some(bits) = self.activation_bits {
            recipe.narrow_activations(bits).map_err(fail)?;
        }
        if let Some(range) = self.range {
            recipe.range = range;
        }
        Ok(recipe)
    }

    pub(crate) fn targets(&self) -> Result<TargetSet> {
        TargetSet::named(&self.target).map_err(|e| Error::settings(e.to_string()))
    }

    /// Whether a runtime among the targets wants uint8 activations.
    pub(crate) fn wants_unsigned_activations(&self) -> Result<bool> {
        Ok(self.targets()?.targets().iter().any(|t| t.activations == Signedness::Unsigned))
    }

    /// The plan for a network, with outputs in integers whatever the recipe says, if asked for.
    pub(crate) fn plan(&self, network: &Network, default: &str, integer_outputs: bool) -> Result<QuantPlan> {
        let mut recipe = self.recipe(default)?;
        recipe.integer_outputs |= integer_outputs;
        network.plan(&recipe, &self.targets()?)
    }
}

/// What happens where an output exists.
#[derive(Args)]
pub(crate) struct OverwriteFlags {
    /// Replaces an output that exists
    #[arg(long)]
    force: bool,
}

impl OverwriteFlags {
    pub(crate) fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }
}
