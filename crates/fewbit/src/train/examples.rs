//! Samples of a data source as a training takes them.

use fewbit_train::{Error, ErrorKind, Example, Examples, Result};

use crate::data::DataSource;

/// A data source to learn from.
pub struct TrainingData<'a> {
    source: &'a DataSource,
}

impl<'a> TrainingData<'a> {
    /// The samples as they are.
    pub fn new(source: &'a DataSource) -> Self {
        Self { source }
    }
}

impl Examples for TrainingData<'_> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, index: usize, _seed: u64) -> Result<Example> {
        let fail = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Data, e.to_string());
        let sample = self.source.sample(index).map_err(|e| fail(&e))?;
        let class = match sample.label {
            None => None,
            Some(label) => {
                let class = usize::try_from(label);
                Some(class.map_err(|_| fail(&format!("{}: label {label} is no class", sample.origin)))?)
            }
        };
        let inputs = sample.inputs.iter().map(|(_, tensor)| tensor.to_f32().into_owned()).collect();
        Ok(Example { inputs, class })
    }
}
