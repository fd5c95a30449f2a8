//! A network's answers to data: all outputs of all samples.

use std::io::{Cursor, Write};

use fewbit_runtime::session::Workspace;
use fewbit_tensor::{DType, Tensor};
use zip::write::SimpleFileOptions;

use crate::data::DataSource;
use crate::executable::Executable;
use crate::parallel::{Progress, for_each_sample};
use crate::{Error, Result};

/// What a network answered. It grows with the samples, for it is what the user asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Where each sample is from.
    pub origins: Vec<String>,
    /// For each sample its outputs.
    pub tensors: Vec<Vec<Tensor>>,
}

/// Runs all samples.
pub fn run_samples(executable: &Executable, data: &DataSource, threads: usize, progress: &dyn Progress) -> Result<Answers> {
    progress.begin("run", data.len());
    let state = || (Workspace::new(), Vec::new());
    let states = for_each_sample(data.len(), threads, progress, state, |(workspace, answers), i| {
        let sample = data.sample(i)?;
        let outputs = executable.run(workspace, &sample)?;
        answers.push((i, sample.origin, outputs));
        Ok(())
    })?;
    progress.end();
    let mut all: Vec<_> = states.into_iter().flat_map(|(_, answers)| answers).collect();
    all.sort_by_key(|(i, ..)| *i);
    let (origins, tensors) = all.into_iter().map(|(_, origin, outputs)| (origin, outputs)).unzip();
    Ok(Answers { outputs: executable.output_names().map(str::to_owned).collect(), origins, tensors })
}

impl Answers {
    /// The `n` largest elements of the first output of sample `i`, with their places along its last axis; of several
    /// rows, the first counts.
    pub fn top(&self, i: usize, n: usize) -> Vec<(usize, f32)> {
        let Some(first) = self.tensors.get(i).and_then(|outputs| outputs.first()) else { return Vec::new() };
        let classes = first.shape().last().copied().unwrap_or(1);
        let values = first.to_f32();
        let mut row: Vec<(usize, f32)> = values.iter().take(classes).copied().enumerate().collect();
        row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        row.truncate(n);
        row
    }

    /// An uncompressed `.npz` with an array per output, samples stacked along the first axis.
    ///
    /// # Errors
    /// If an output has another shape for some samples: such outputs cannot be stacked.
    pub fn to_npz(&self) -> Result<Vec<u8>> {
        let fail = |e: &dyn std::fmt::Display| Error::write(format!("cannot make an .npz: {e}"));
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
        for (o, name) in self.outputs.iter().enumerate() {
            let column: Vec<&Tensor> = self.tensors.iter().filter_map(|outputs| outputs.get(o)).collect();
            let Some(first) = column.first() else { continue };
            if column.iter().any(|t| t.shape() != first.shape() || t.dtype() != first.dtype()) {
                return Err(Error::data(format!("output '{name}' has several shapes: run samples of one size at a time")));
            }
            let mut shape = first.shape().to_vec();
            match shape.first_mut() {
                Some(batch) => *batch *= column.len(),
                None => shape.push(column.len()),
            }
            archive.start_file(format!("{}.npy", name.replace('/', "_")), options).map_err(|e| fail(&e))?;
            archive.write_all(&npy_header(first.dtype(), &shape)?).map_err(|e| fail(&e))?;
            for tensor in column {
                archive.write_all(tensor.bytes()).map_err(|e| fail(&e))?;
            }
        }
        Ok(archive.finish().map_err(|e| fail(&e))?.into_inner())
    }
}

/// Bytes of a `.npy` file before its dictionary.
const NPY_PREFIX: usize = 10;

/// The header of a `.npy` file of version 1.0 (NEP 1), padded to 64 bytes.
fn npy_header(dtype: DType, shape: &[usize]) -> Result<Vec<u8>> {
    let descr = match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::F64 => "<f8",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I16 => "<i2",
        DType::I8 => "|i1",
        DType::U64 => "<u8",
        DType::U32 => "<u4",
        DType::U16 => "<u2",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        DType::BF16 | DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            return Err(Error::write(format!("numpy has no type for outputs of {dtype}")));
        }
    };
    let sizes = shape.iter().fold(String::new(), |text, n| text + &n.to_string() + ",");
    let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let padding = 63 - (NPY_PREFIX + dict.len()) % 64;
    dict.extend(std::iter::repeat_n(' ', padding));
    dict.push('\n');
    let len = u16::try_from(dict.len()).map_err(|_| Error::write("an output has too many dimensions for numpy"))?;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(len.to_le_bytes());
    header.extend(dict.as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let row = |values: [f32; 3]| vec![Tensor::from_vec([1, 3], values.to_vec()).unwrap()];
        Answers {
            outputs: vec!["a/y".into()],
            origins: vec!["0".into(), "1".into()],
            tensors: vec![row([0.5, 2.0, 2.0]), row([-1.0, -3.0, -2.0])],
        }
    }

    #[test]
    fn the_largest_come_first_and_equal_ones_by_place() {
        assert_eq!(answers().top(0, 2), [(1, 2.0), (2, 2.0)]);
        assert_eq!(answers().top(1, 9).iter().map(|t| t.0).collect::<Vec<_>>(), [0, 2, 1]);
        assert!(answers().top(7, 1).is_empty());
    }

    #[test]
    fn samples_are_stacked_and_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.npz");
        std::fs::write(&path, answers().to_npz().unwrap()).unwrap();
        let spec = crate::data::InputSpec::new("a_y", DType::F32, vec![None, Some(3)]);
        let data = DataSource::open(&[crate::data::DataArg::new(path)], &[spec], &crate::data::DataOptions::default()).unwrap();
        assert_eq!(data.len(), 2);
        assert_eq!(&*data.sample(1).unwrap().inputs[0].1.to_f32(), [-1.0, -3.0, -2.0]);
        let mut uneven = answers();
        uneven.tensors[1] = vec![Tensor::vector(vec![1.0_f32])];
        assert!(uneven.to_npz().unwrap_err().to_string().contains("several shapes"));
    }
}
