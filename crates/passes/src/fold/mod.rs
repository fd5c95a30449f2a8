//! Passes that compute ahead of time what does not depend on the network's input.

mod affine;
mod batch_norm;
mod channels;
mod constants;
mod gathered;
mod padding;
mod shapes;

pub use affine::fold_affine;
pub use batch_norm::fold_batch_norm;
pub use constants::fold_constants;
pub use gathered::fold_gathered;
pub use padding::fold_padding;
pub use shapes::fold_shapes;
