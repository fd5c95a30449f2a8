//! Elements repeated along rows.

use crate::Isa;
use crate::error::{Error, Result};

/// Row `i` of `output` is `values[i]`, over and over.
///
/// # Errors
/// If the output's elements do not divide into as many rows as there are values.
pub fn repeat_along_rows(isa: Isa, values: &[f32], output: &mut [f32]) -> Result<()> {
    let Some(row) = output.len().checked_div(values.len()).filter(|row| row * values.len() == output.len()) else {
        return Err(Error::dims(format!("repetition: {} elements are no rows of {} values", output.len(), values.len())));
    };
    isa.run(
        #[inline(always)]
        || output.chunks_exact_mut(row.max(1)).zip(values).for_each(|(row, value)| row.fill(*value)),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length() {
        for (rows, row) in [(1, 1), (3, 5), (7, 64), (2, 0), (4, 257)] {
            let values: Vec<f32> = (0..rows).map(|i| i as f32 + 0.5).collect();
            let expect: Vec<f32> = values.iter().flat_map(|value| std::iter::repeat_n(*value, row)).collect();
            for &isa in Isa::supported() {
                let mut output = vec![0.0; rows * row];
                repeat_along_rows(isa, &values, &mut output).unwrap();
                assert_eq!(output, expect, "{rows} rows of {row}, {}", isa.name());
            }
        }
        assert!(repeat_along_rows(Isa::best(), &[1.0; 3], &mut [0.0; 7]).is_err());
        assert!(repeat_along_rows(Isa::best(), &[], &mut [0.0; 7]).is_err());
    }
}
