//! Functions of one or two elements over slices.

mod binary;
pub(crate) mod math;
mod unary;

pub use binary::{Binary, Operand, binary, binary_in_place, binary_outer};
pub(crate) use binary::{Side, expect_operands};
pub use unary::{Unary, unary, unary_in_place};
