//! What the tests of all families share.

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
