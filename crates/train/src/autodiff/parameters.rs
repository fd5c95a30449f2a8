//! The numbers that training changes, and those that it keeps beside them.

/// Which parameter, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterId(pub(crate) u32);

impl ParameterId {
    /// Its place among the parameters.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a parameter is for: optimizers and reports treat them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Factors of activations; weight decay is for these.
    Weight,
    /// What is added.
    Bias,
    /// Scale and shift of a normalization, slopes of activation functions.
    Affine,
    /// Running mean or variance of a batch normalization; moved by batches, not by gradients.
    Statistic,
    /// The natural logarithm of a quantizer's scale.
    LogScale,
    /// A quantizer's zero point, rounded where it is used.
    ZeroPoint,
}

/// A tensor of such numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The name of the value in the graph, or one of its quantizer.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
    /// What it is for.
    pub role: Role,
    /// Whether gradients change it.
    pub trained: bool,
}

/// All parameters of a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    list: Vec<Parameter>,
}

impl Parameters {
    /// Adds one.
    pub fn add(&mut self, parameter: Parameter) -> ParameterId {
        self.list.push(parameter);
        ParameterId(u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One of them.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.list[id.index()]
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut Parameter {
        &mut self.list[id.index()]
    }

    /// All with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.list.iter().enumerate().map(|(i, p)| (ParameterId(i as u32), p))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Parameter)> {
        self.list.iter_mut().enumerate().map(|(i, p)| (ParameterId(i as u32), p))
    }
}
