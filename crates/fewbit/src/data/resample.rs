//! Resizing 8-bit images: bilinear with antialiasing, in the arithmetic of Pillow's `resize(size, Image.BILINEAR)`.
//!
//! A target pixel is the mean of the source pixels under a triangle that is as wide as the pixel's own footprint
//! (never narrower than two source pixels), columns first, then rows, each pass rounded to 8 bits. Weights are fixed
//! point of 22 bits, so the result is the same on every machine. It equals Pillow's bit for bit, except that Pillow 13
//! begins with the rows for some sizes, which moves some pixels by 1 of 255. The passes are plain loops: a general
//! resizer is generic over pixel types, and was most of what this crate compiled.

/// Bits after the point: 8-bit values, 22 bits, and two to spare for sums that exceed 1 by rounding.
const BITS: u32 = 32 - 8 - 2;

/// What one target pixel takes: source pixels from `first`, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Taps of every target pixel of a line of `from` pixels that becomes `to` pixels long.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    let of = |i: usize| {
        let centre = (i as f64 + 0.5) * step;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let triangle = |x: usize| (1.0 - ((x as f64 - centre + 0.5) * (1.0 / reach)).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(triangle).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| (w / sum * f64::from(1 << BITS) + 0.5) as i32;
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(of).collect()
}

/// Resizes rows of `CHANNELS` interleaved bytes from width × height to another width × height.
pub(super) fn bilinear<const CHANNELS: usize>(data: Vec<u8>, from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let data = if from.0 == to.0 { data } else { columns::<CHANNELS>(&data, from.0, to.0) };
    if from.1 == to.1 { data } else { rows(&data, to.0 * CHANNELS, from.1, to.1) }
}

/// Resizes each row from `from` to `to` pixels.
fn columns<const CHANNELS: usize>(data: &[u8], from: usize, to: usize) -> Vec<u8> {
    let taps = taps(from, to);
    let mut out = Vec::with_capacity(data.len() / from * to);
    for row in data.as_chunks::<CHANNELS>().0.chunks(from) {
        for Taps { first, weights } in &taps {
            let mut sums = [1 << (BITS - 1); CHANNELS];
            for (pixel, weight) in row[*first..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.map(rounded));
        }
    }
    out
}

/// Resizes an image of `width` bytes per row from `from` to `to` rows.
fn rows(data: &[u8], width: usize, from: usize, to: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * to);
    let mut sums = vec![0; width];
    for Taps { first, weights } in taps(from, to) {
        sums.fill(1 << (BITS - 1));
        for (row, weight) in data[first * width..].chunks(width).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        out.extend(sums.iter().copied().map(rounded));
    }
    out
}

/// The value before the point, the half already added.
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_pillow() {
        let ramp = |n: usize| (0..n).map(|i| (i * 37 % 251) as u8).collect::<Vec<u8>>();
        for (from, to, expect) in [
            ((5, 3), (2, 2), vec![81, 90, 155, 115]),
            (
                (7, 10),
                (8, 5),
                vec![
                    6, 36, 68, 101, 133, 166, 198, 228, 20, 50, 82, 115, 147, 180, 206, 211, 36, 66, 98, 131, 163, 196, 187, 38, 52, 82,
                    114, 147, 179, 212, 197, 23, 66, 96, 128, 161, 193, 192, 124, 37,
                ],
            ),
            ((4, 4), (3, 3), vec![55, 100, 92, 108, 153, 109, 160, 116, 73]),
            ((3, 2), (5, 4), vec![0, 15, 37, 59, 74, 28, 43, 65, 87, 102, 83, 98, 120, 142, 157, 111, 126, 148, 170, 185]),
            ((9, 1), (4, 1), vec![31, 106, 172, 65]),
            ((1, 6), (1, 4), vec![14, 66, 119, 171]),
            ((6, 5), (6, 2), vec![142, 76, 56, 82, 119, 156, 164, 190, 170, 104, 61, 98]),
        ] {
            assert_eq!(bilinear::<1>(ramp(from.0 * from.1), from, to), expect, "{from:?} {to:?}");
        }
        let colour = bilinear::<3>(ramp(7 * 5 * 3), (7, 5), (3, 2));
        assert_eq!(colour, [104, 102, 134, 146, 103, 120, 145, 143, 106, 115, 150, 109, 114, 132, 125, 127, 113, 125]);
    }

    #[test]
    fn weights_add_up_and_stay_inside() {
        for from in [1, 2, 3, 7, 224, 1_000] {
            for to in [1, 2, 3, 8, 224, 999] {
                for tap in taps(from, to) {
                    let sum: i32 = tap.weights.iter().sum();
                    assert!((sum - (1 << BITS)).abs() < 1 << 12, "{from} {to}");
                    assert!(!tap.weights.is_empty() && tap.first + tap.weights.len() <= from);
                }
            }
        }
    }

    #[test]
    fn a_plain_image_stays_plain() {
        for value in [0, 1, 128, 255] {
            assert!(bilinear::<3>(vec![value; 30 * 20 * 3], (30, 20), (11, 37)).iter().all(|v| *v == value));
        }
    }
}
