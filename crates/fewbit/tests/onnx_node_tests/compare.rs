//! When an output counts as the expected one.

use fewbit_tensor::{DType, Tensor};

/// The tolerance of ONNX's own test runner, relative and absolute.
const TOLERANCE: (f64, f64) = (1e-3, 1e-7);

/// Two units in the last place, where they are coarser: numpy, which made the expected outputs, rounds 16-bit floats after
/// every step, and a whole operator here is rounded once.
const BF16_TOLERANCE: f64 = 2.0 / 128.0;
const F16_TOLERANCE: f64 = 2.0 / 1024.0;

/// Fails unless both have one type and shape, equal integers and floats within the tolerance.
pub(crate) fn expect_close(got: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!("{}{:?}, not {}{:?}", got.dtype(), got.shape(), expected.dtype(), expected.shape()));
    }
    if !got.dtype().is_float() {
        let pairs = got.to_i64_vec().into_iter().zip(expected.to_i64_vec());
        return first_difference(pairs.map(|(g, e)| (g == e, g.to_string(), e.to_string())));
    }
    let relative = match got.dtype() {
        DType::BF16 => BF16_TOLERANCE,
        DType::F16 => F16_TOLERANCE,
        _ => TOLERANCE.0,
    };
    let close = |g: f64, e: f64| g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= TOLERANCE.1 + relative * e.abs();
    let pairs = got.to_f64_vec().into_iter().zip(expected.to_f64_vec());
    first_difference(pairs.map(|(g, e)| (close(g, e), g.to_string(), e.to_string())))
}

fn first_difference(pairs: impl Iterator<Item = (bool, String, String)>) -> Result<(), String> {
    let mut different = pairs.enumerate().filter(|(_, (same, ..))| !same);
    let Some((i, (_, got, expected))) = different.next() else { return Ok(()) };
    Err(format!("element {i} is {got}, not {expected}; {} more differ", different.count()))
}
