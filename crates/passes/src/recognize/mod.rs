//! Passes that find one operator where a file has spelled it out in several.

mod activation;
mod embedding;
mod layer_norm;

pub use activation::recognize_activations;
pub use embedding::recognize_embedding;
pub use layer_norm::recognize_layer_norm;
