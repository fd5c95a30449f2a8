//! Functions of one integer by a table: to integers, or to floats with a dequantization in front.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vbmi;

use crate::Isa;
use crate::error::{Result, expect_len};
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Vbmi;
use crate::threads::for_each_chunk;

/// Elements per piece of work that one thread takes.
const CHUNK: usize = 16_384;

/// `output[i] = table[input[i]]`: any function of one quantized element.
///
/// # Errors
/// If lengths differ.
pub fn lookup_u8(isa: Isa, table: &[u8; 256], input: &[u8], output: &mut [u8]) -> Result<()> {
    expect_len("output of a table", output.len(), input.len())?;
    let operations = output.len();
    for_each_chunk(output, CHUNK, operations, |i, output| {
        let input = &input[i * CHUNK..][..output.len()];
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = isa.avx512().and_then(Vbmi::beside) {
            return vbmi::bytes(token, table, input, output);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = isa.avx2() {
            return avx2::bytes(token, table, input, output);
        }
        isa.run(
            #[inline(always)]
            || output.iter_mut().zip(input).for_each(|(y, &x)| *y = table[usize::from(x)]),
        );
    });
    Ok(())
}

/// `output[i] = table[input[i]]`: the same, to floats.
///
/// # Errors
/// If lengths differ.
pub fn lookup_f32(_: Isa, table: &[f32; 256], input: &[u8], output: &mut [f32]) -> Result<()> {
    expect_len("output of a table", output.len(), input.len())?;
    let operations = output.len();
    for_each_chunk(output, CHUNK, operations, |i, output| {
        let input = &input[i * CHUNK..][..output.len()];
        // Plain loads: instructions that gather are slower.
        output.iter_mut().zip(input).for_each(|(y, &q)| *y = table[usize::from(q)]);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_thread_counts, bytes};

    #[test]
    fn any_function_of_any_byte() {
        let table: [f32; 256] = std::array::from_fn(|q| (q as f32 - 100.5).sin());
        let bytes_of: [u8; 256] = std::array::from_fn(|q| (q * q / 7 + 3 * q) as u8);
        for len in [0, 1, 31, 300, CHUNK + 7, 300_000] {
            let input = bytes(len as u64, len);
            let expect: Vec<f32> = input.iter().map(|q| table[usize::from(*q)]).collect();
            let expect_bytes: Vec<u8> = input.iter().map(|q| bytes_of[usize::from(*q)]).collect();
            at_thread_counts(|threads| {
                for &isa in Isa::supported() {
                    let mut output = vec![0.0; len];
                    lookup_f32(isa, &table, &input, &mut output).unwrap();
                    assert_eq!(output, expect, "{len} on {} with {threads} threads", isa.name());
                    let mut output = vec![0; len];
                    lookup_u8(isa, &bytes_of, &input, &mut output).unwrap();
                    assert_eq!(output, expect_bytes, "{len} bytes on {} with {threads} threads", isa.name());
                }
            });
        }
        assert!(lookup_u8(Isa::best(), &bytes_of, &[0; 3], &mut [0; 4]).is_err());
        assert!(lookup_f32(Isa::best(), &table, &[0; 3], &mut [0.0; 4]).is_err());
    }
}
