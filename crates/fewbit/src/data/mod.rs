//! Samples for calibration, validation, running and comparing.
//!
//! In: what the user named (a folder of images, an image, `.npy`, `.npz`, IDX, `.csv`, or several `input=file`), what the
//! network declares of its inputs ([`InputSpec`]), and how images become numbers ([`Preprocess`]).
//! Out: a [`DataSource`] that any number of threads asks for its samples by index; a [`Sample`] holds every input
//! of the network with a leading dimension of 1, and a label where there is one.
//!
//! Memory does not grow with the samples: images are decoded when asked for, arrays are read by position in their
//! file. What stays in memory per sample is a path or a label; only tables (CSV) are held whole.
//!
//! What these modules must not know: graphs, models, quantization. A quantized input (real values, quantized by
//! scale and zero point) is described as the float that it stands for; who runs the network quantizes.
//!
//! To add a kind of data: a file beside `array.rs` and `folder.rs`, one variant of `Column` in `source.rs` and one
//! row in `argument.rs`.

mod argument;
mod array;
mod augment;
mod decode;
mod folder;
mod idx;
mod image_plan;
mod labels;
mod layout;
mod npy;
mod npz;
mod pixel_array;
mod preprocess;
#[cfg(test)]
mod real_files;
mod resample;
mod settings;
mod shard;
mod source;
mod spec;
mod store;
mod table;
#[cfg(test)]
mod testing;

pub use argument::DataArg;
pub use augment::Augmentation;
pub use layout::Layout;
pub use preprocess::Preprocess;
pub use settings::{ChannelOrder, PerChannel, Resize, Scale, Size};
pub use shard::Shard;
pub use source::{DataOptions, DataSource, Sample};
pub use spec::InputSpec;
