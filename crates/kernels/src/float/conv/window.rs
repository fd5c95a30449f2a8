//! Which input positions a window reads: of a convolution, or of one phase of a transposed convolution.

use super::Conv2dDims;

/// The taps of a window along one axis.
///
/// Tap `i` of `count` has kernel position `first + i * step` and reads, for output position `o`, the input position
/// `o * stride + before + i * dilation`. Positions are computed modulo 2⁶⁴, so that those before the input are huge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taps {
    pub(crate) count: usize,
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) stride: usize,
    pub(crate) before: usize,
    pub(crate) dilation: usize,
}

impl Taps {
    /// The input position of tap `i` at output position `o`.
    #[inline(always)]
    pub(crate) fn at(self, o: usize, i: usize) -> usize {
        (o * self.stride).wrapping_add(self.before).wrapping_add(i.wrapping_mul(self.dilation))
    }

    /// The kernel position of tap `i`.
    #[inline(always)]
    pub(crate) fn kernel(self, i: usize) -> usize {
        self.first + i * self.step
    }
}

/// Windows over an input, for a grid of outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) in_h: usize,
    pub(crate) in_w: usize,
    pub(crate) in_c: usize,
    pub(crate) out_h: usize,
    pub(crate) out_w: usize,
    pub(crate) vertical: Taps,
    pub(crate) horizontal: Taps,
    /// Kernel width: the kernel positions of a row.
    pub(crate) width: usize,
}

impl Window {
    /// Of a convolution.
    pub(crate) fn of_convolution(dims: &Conv2dDims) -> Self {
        let taps = |axis: usize, pad: usize| Taps {
            count: dims.kernel[axis],
            first: 0,
            step: 1,
            stride: dims.stride[axis],
            before: pad.wrapping_neg(),
            dilation: dims.dilation[axis],
        };
        let &Conv2dDims { in_h, in_w, in_c, out_h, out_w, kernel, .. } = dims;
        let (vertical, horizontal) = (taps(0, dims.pad_top), taps(1, dims.pad_left));
        Self { in_h, in_w, in_c, out_h, out_w, vertical, horizontal, width: kernel[1] }
    }

    /// Of the outputs `phase`, `phase + stride`, … (down and across) of a transposed convolution.
    pub(crate) fn of_phase(dims: &Conv2dDims, phase: [usize; 2]) -> Self {
        let outputs = |axis: usize, size: usize| size.saturating_sub(phase[axis]).div_ceil(dims.stride[axis]);
        let &Conv2dDims { in_h, in_w, in_c, kernel, .. } = dims;
        Self {
            in_h,
            in_w,
            in_c,
            out_h: outputs(0, dims.out_h),
            out_w: outputs(1, dims.out_w),
            vertical: phase_taps(kernel[0], dims.stride[0], dims.dilation[0], phase[0] + dims.pad_top),
            horizontal: phase_taps(kernel[1], dims.stride[1], dims.dilation[1], phase[1] + dims.pad_left),
            width: kernel[1],
        }
    }

    /// The kernel position of the only tap, if every output reads the one input at its own position.
    pub(crate) fn pointwise(&self) -> Option<usize> {
        let single = |taps: Taps| taps.count == 1 && taps.stride == 1 && taps.before == 0;
        let same = [self.in_h, self.in_w] == [self.out_h, self.out_w];
        (same && single(self.vertical) && single(self.horizontal)).then(|| self.vertical.first * self.width + self.horizontal.first)
    }
}

/// The taps `k` that connect the output `start + stride * t - pad` to an input: those for which `start - k * dilation`,
/// which is `stride` times the input position minus `t`, is a multiple of `stride`.
fn phase_taps(kernel: usize, stride: usize, dilation: usize, start: usize) -> Taps {
    let hits = |&k: &usize| (start as u128 + k as u128 * (stride - dilation % stride) as u128).is_multiple_of(stride as u128);
    let Some(first) = (0..kernel).find(hits) else {
        return Taps { count: 0, first: 0, step: 1, stride: 1, before: 0, dilation: 0 };
    };
    let common = gcd(stride, dilation);
    let step = stride / common;
    let before = (start as isize - (first * dilation) as isize).div_euclid(stride as isize);
    Taps {
        count: (kernel - first).div_ceil(step),
        first,
        step,
        stride: 1,
        before: before as usize,
        dilation: (dilation / common).wrapping_neg(),
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_find_every_connection_once() {
        for (kernel, stride, dilation, pad) in
            [(2, 2, 1, 0), (3, 2, 1, 1), (4, 2, 1, 1), (5, 3, 2, 4), (3, 4, 1, 0), (4, 4, 2, 3), (1, 1, 1, 0)]
        {
            let (input, output) = (5_usize, 30_usize);
            let mut found = Vec::new();
            for phase in 0..stride {
                let taps = phase_taps(kernel, stride, dilation, phase + pad);
                for (t, o) in (phase..output).step_by(stride).enumerate() {
                    for i in 0..taps.count {
                        if taps.at(t, i) < input {
                            found.push((o, taps.at(t, i), taps.kernel(i)));
                        }
                    }
                }
            }
            let mut expect = Vec::new();
            for o in 0..output {
                for i in 0..input {
                    expect.extend((0..kernel).filter(|k| o + pad == i * stride + k * dilation).map(|k| (o, i, k)));
                }
            }
            found.sort_unstable();
            expect.sort_unstable();
            assert_eq!(found, expect, "kernel {kernel}, stride {stride}, dilation {dilation}, padding {pad}");
        }
    }
}
