//! Algorithms that win back accuracy.
//!
//! Each is a pure function of weights and statistics, and at most the operator, that it is given; it knows no graph.
//!
//! To add one: a file with its paper, equations and deviations, and its switch in [`crate::recipe::Recipe`].

mod bias_correction;
mod gptq;
mod scales;
mod windows;

pub use bias_correction::{Contraction, mean_output_error};
pub use gptq::{Moments, Rows};
pub use scales::Levels;
pub(crate) use scales::{Block, BlockLevels, has_block_levels};
pub use windows::LayerRows;
