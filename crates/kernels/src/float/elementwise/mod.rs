//! Functions of one or two elements over slices.

mod binary;
pub(crate) mod math;
mod unary;

pub(crate) use binary::expect_operand;
pub use binary::{Binary, Operand, binary, binary_in_place};
pub use unary::{Unary, unary, unary_in_place};
