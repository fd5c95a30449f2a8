//! Samples of a data source as a training takes them.

use fewbit_train::{Error, ErrorKind, Example, Examples, Result};

use fewbit_tensor::Tensor;

use crate::data::{Augmentation, DataSource, Layout};

/// A data source to learn from.
pub struct TrainingData<'a> {
    source: &'a DataSource,
    augmentation: Augmentation,
    distilled: bool,
}

impl<'a> TrainingData<'a> {
    /// The samples as they are.
    pub fn new(source: &'a DataSource) -> Self {
        Self { source, augmentation: Augmentation::default(), distilled: false }
    }

    /// The samples changed at random, whenever they are taken anew.
    #[must_use]
    pub fn augmented(self, augmentation: Augmentation) -> Self {
        Self { augmentation, ..self }
    }

    /// The samples without their classes, which a distillation does not look at.
    #[must_use]
    pub fn distilled(self, distilled: bool) -> Self {
        Self { distilled, ..self }
    }

    /// A sample, changed at random on its own.
    fn changed(&self, index: usize, seed: u64) -> Result<Example> {
        let fail = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Data, e.to_string());
        let sample = self.source.sample(index).map_err(|e| fail(&e))?;
        let class = match sample.label {
            Some(label) if !self.distilled => {
                let class = usize::try_from(label);
                Some(class.map_err(|_| fail(&format!("{}: label {label} is no class", sample.origin)))?)
            }
            _ => None,
        };
        let inputs = sample.inputs.iter().map(|(_, tensor)| self.input(tensor, seed)).collect::<crate::Result<_>>();
        Ok(Example { inputs: inputs.map_err(|e| fail(&format!("{}: {e}", sample.origin)))?, class })
    }

    /// An input as it is, or changed at random if it is an image.
    fn input(&self, tensor: &Tensor, seed: u64) -> crate::Result<Vec<f32>> {
        if (Augmentation { mix: None, ..self.augmentation.clone() }).is_none() {
            return Ok(tensor.to_f32().into_owned());
        }
        // Images have few channels, which stand first or last.
        let last = matches!(tensor.shape(), [_, first, .., last] if last < first);
        let layout = if last { Layout::ChannelsLast } else { Layout::ChannelsFirst };
        Ok(self.augmentation.apply(tensor, layout, seed)?.to_f32().into_owned())
    }
}

impl Examples for TrainingData<'_> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, index: usize, seed: u64) -> Result<Example> {
        let fail = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Data, e.to_string());
        let mut example = self.changed(index, seed)?;
        let Some((other, part)) = self.augmentation.other(self.len(), seed) else { return Ok(example) };
        if example.class.is_some() {
            return Err(fail(&"mixed samples have no class: leave `mix` out, or distill"));
        }
        let other = self.changed(other, seed.wrapping_add(1))?;
        for (to, from) in example.inputs.iter_mut().zip(&other.inputs) {
            if to.len() != from.len() {
                return Err(fail(&"samples of different sizes cannot be mixed: leave `mix` out"));
            }
            to.iter_mut().zip(from).for_each(|(to, from)| *to += (from - *to) * part);
        }
        Ok(example)
    }
}
