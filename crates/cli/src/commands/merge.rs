//! `fewbit merge`: statistics of several runs as those of one.

use std::path::PathBuf;

use clap::Args;
use fewbit::network::read_statistics;
use fewbit::write_file::{check_output, write_file};

use crate::Outcome;
use crate::flags::OverwriteFlags;

/// Merges statistics of several calibrations; the result is that of one calibration over all their samples
#[derive(Args)]
#[command(after_help = "Example:\n  fewbit merge s1.stats s2.stats -o all.stats")]
pub(crate) struct Arguments {
    /// Statistics files of the same network
    #[arg(required = true)]
    statistics: Vec<PathBuf>,
    /// Statistics file to write
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    overwrite: OverwriteFlags,
}

pub(crate) fn run(a: &Arguments) -> fewbit::Result<Outcome> {
    check_output(&a.output, a.overwrite.existing())?;
    let merged = read_statistics(&a.statistics)?;
    write_file(&a.output, &merged.to_bytes(), a.overwrite.existing())?;
    println!("{}: {} samples of {} files", a.output.display(), merged.samples(), a.statistics.len());
    Ok(Outcome::Done)
}
