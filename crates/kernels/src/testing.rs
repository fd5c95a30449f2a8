//! What the tests of all families share.

use crate::Operand;

/// Reproducible floats in [-1, 1), with a zero now and then.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|i| if i % 17 == 5 { 0.0 } else { next() }).collect()
}

/// Runs `test` inside pools of 1, 2 and 3 threads; on the only thread where there are no others.
pub(crate) fn at_thread_counts(test: impl Fn(usize) + Sync) {
    if cfg!(target_family = "wasm") {
        return test(rayon::current_num_threads());
    }
    for threads in 1..=3 {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| test(threads));
    }
}

/// Reproducible bytes, with the extremes now and then.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let extremes = [0, 255, 128, 127];
    random(seed, len).iter().enumerate().map(|(i, x)| if i % 13 == 4 { extremes[i % 4] } else { (x * 128.0 + 128.0) as u8 }).collect()
}

/// Reproducible 16-bit integers, with the extremes now and then.
pub(crate) fn words(seed: u64, len: usize) -> Vec<i16> {
    let extremes = [i16::MIN, i16::MAX, 0, -1];
    bytes(seed, 2 * len)
        .as_chunks()
        .0
        .iter()
        .enumerate()
        .map(|(i, &pair)| if i % 13 == 4 { extremes[i % 4] } else { i16::from_le_bytes(pair) })
        .collect()
}

/// Lengths of outputs and of their rows.
pub(crate) const ROWS: [[usize; 2]; 7] = [[1, 1], [7, 7], [33, 11], [91, 91], [100_000, 100], [100_001, 1], [70_000, 35_000]];

/// The ways in which operands are laid over an output of `len` elements in rows of `row`; single ones are `scalars`.
pub(crate) fn operands<T>([a, b]: [&[T]; 2], [len, row]: [usize; 2], scalars: [T; 3]) -> [[Operand<'_, T>; 2]; 6] {
    let [one, left, right] = scalars;
    [
        [Operand::Full(&a[..len]), Operand::Full(&b[..len])],
        [Operand::Full(&a[..len]), Operand::Trailing(&b[..row])],
        [Operand::Trailing(&a[..row]), Operand::Full(&b[..len])],
        [Operand::Full(&a[..len]), Operand::Leading(&b[..len / row])],
        [Operand::Full(&a[..len]), Operand::Scalar(one)],
        [Operand::Scalar(left), Operand::Scalar(right)],
    ]
}

/// What an operand has for element `i` of an output in rows of `row`.
pub(crate) fn element<T: Copy>(operand: Operand<T>, row: usize, i: usize) -> T {
    match operand {
        Operand::Full(values) => values[i],
        Operand::Trailing(values) => values[i % row],
        Operand::Leading(values) => values[i / row],
        Operand::Scalar(value) => value,
    }
}
