//! The gradient of the weights of a convolution.

use super::depthwise::depthwise_weight_gradient;
use super::product::transposed_product;
use crate::Isa;
use crate::error::{Result, elements, expect_len};
use crate::float::conv::Conv2dDims;
use crate::float::conv::window::Window;
use crate::threads::for_each_chunk;

/// Floats of the windows that are laid out at a time.
const ROOM: usize = 4 << 20;

/// The gradient of weights `[out_c, in_c / groups, kernel height, kernel width]` from the convolution's input and the gradient of
/// its output.
///
/// # Errors
/// If a slice's length contradicts `dims`.
pub fn conv2d_weight_gradient(isa: Isa, dims: &Conv2dDims, input: &[f32], gradient: &[f32], output: &mut [f32]) -> Result<()> {
    dims.check()?;
    let [height, width] = dims.kernel;
    let (in_group, out_group) = (dims.in_c / dims.groups, dims.out_c / dims.groups);
    expect_len("input of a convolution", input.len(), dims.input_len()?)?;
    expect_len("gradient of a convolution's output", gradient.len(), dims.output_len()?)?;
    expect_len("gradient of weights", output.len(), elements("weights", &[dims.out_c, in_group, height, width])?)?;
    if output.is_empty() || gradient.is_empty() {
        output.fill(0.0);
        return Ok(());
    }
    if dims.groups == dims.in_c && dims.groups == dims.out_c {
        depthwise_weight_gradient(isa, dims, input, gradient, output);
        return Ok(());
    }
    let window = Window::of_convolution(dims);
    let pixels = dims.batch * dims.out_h * dims.out_w;
    if window.pointwise().is_some() && dims.groups == 1 {
        return transposed_product(pixels, dims.out_c, dims.in_c, gradient, input, output);
    }
    // [out_group, taps, in_group] of a group, summed over blocks of pixels.
    let row = height * width * in_group;
    let block = (ROOM / row).clamp(1, pixels);
    let mut windows = vec![0.0; block * row];
    let mut part = vec![0.0; out_group * row];
    let mut sums = vec![0.0; out_group * row];
    let mut outputs = Vec::new();
    for group in 0..dims.groups {
        sums.fill(0.0);
        for first in (0..pixels).step_by(block) {
            let count = block.min(pixels - first);
            let windows = &mut windows[..count * row];
            lay_out(dims, &window, group, first, input, windows);
            let gradient = &gradient[first * dims.out_c..(first + count) * dims.out_c];
            let gradient = if dims.groups == 1 {
                gradient
            } else {
                outputs.clear();
                outputs.extend(gradient.chunks_exact(dims.out_c).flat_map(|pixel| &pixel[group * out_group..][..out_group]));
                &outputs[..]
            };
            transposed_product(count, out_group, row, gradient, windows, &mut part)?;
            sums.iter_mut().zip(&part).for_each(|(sum, x)| *sum += x);
        }
        let taps = height * width;
        for (o, output) in output[group * out_group * row..][..out_group * row].chunks_exact_mut(row).enumerate() {
            for (i, output) in output.chunks_exact_mut(taps).enumerate() {
                for (tap, output) in output.iter_mut().enumerate() {
                    *output = sums[o * row + tap * in_group + i];
                }
            }
        }
    }
    Ok(())
}

/// The windows of some pixels of a group, one row each, its taps one after another, zeros on padding.
fn lay_out(dims: &Conv2dDims, window: &Window, group: usize, first: usize, input: &[f32], windows: &mut [f32]) {
    let [height, width] = dims.kernel;
    let in_group = dims.in_c / dims.groups;
    let row = height * width * in_group;
    let operations = windows.len();
    for_each_chunk(windows, 256 * row, operations, |chunk, windows| {
        for (i, to) in windows.chunks_exact_mut(row).enumerate() {
            let pixel = first + chunk * 256 + i;
            let (x, y) = (pixel % dims.out_w, pixel / dims.out_w % dims.out_h);
            let image = pixel / dims.out_w / dims.out_h;
            for (tap, to) in to.chunks_exact_mut(in_group).enumerate() {
                let (y, x) = (window.vertical.at(y, tap / width), window.horizontal.at(x, tap % width));
                if y < dims.in_h && x < dims.in_w {
                    let at = ((image * dims.in_h + y) * dims.in_w + x) * dims.in_c + group * in_group;
                    to.copy_from_slice(&input[at..][..in_group]);
                } else {
                    to.fill(0.0);
                }
            }
        }
    });
}
