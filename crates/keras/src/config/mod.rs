//! The configuration of a model, as data: networks of layers and of what they are called on.
//!
//! In: the JSON of either era. Out: a [`Network`] in one form. Keras 3 writes calls as `args` and `kwargs` with
//! `__keras_tensor__` inside, Keras 2 as lists of `[layer, node, tensor, kwargs]`; a sequential model becomes the
//! functional one that it stands for. It knows no layer in particular, no weights, and no graph.

mod attributes;
mod calls;
mod network;

use serde_json::Value;

pub(crate) use attributes::{Attributes, count, float};
pub(crate) use network::read;

/// A functional or sequential model.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) layers: Vec<Layer>,
    pub(crate) inputs: Vec<Port>,
    /// The outputs, with the key of each if they were given as a dictionary.
    pub(crate) outputs: Vec<(Option<String>, Port)>,
}

/// One layer, and every call of it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) origin: Origin,
    pub(crate) attributes: Attributes,
    /// Its variables in the order in which the file stores them; found by [`crate::weights::bind`].
    pub(crate) variables: Vec<Variable>,
    pub(crate) inner: Inner,
    pub(crate) calls: Vec<Call<Port>>,
    /// JSON values that describe it, nested layers left out: what one application may cost.
    pub(crate) size: usize,
}

/// Whose class a layer is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A layer of Keras.
    Layer,
    /// A function of `keras.ops`, which stands in the list of layers but is none.
    Operation,
    /// Somebody else's class, of this module.
    Foreign(String),
}

/// What a layer is made of.
#[derive(Debug)]
pub(crate) enum Inner {
    Nothing,
    /// A model used as a layer.
    Network(Box<Network>),
    /// The layer that a wrapper applies.
    Layer(Box<Layer>),
}

/// A variable of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    /// Its role, such as `kernel`.
    pub(crate) name: &'static str,
    /// Whether it is trained; Keras 2 stores those first.
    pub(crate) trainable: bool,
    /// Path of its dataset.
    pub(crate) path: String,
}

/// The output of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) layer: String,
    /// Which call of the layer.
    pub(crate) node: usize,
    /// Which of its outputs.
    pub(crate) tensor: usize,
}

/// What a layer is called with.
#[derive(Clone, Debug)]
pub(crate) struct Call<T> {
    pub(crate) args: Vec<Argument<T>>,
    pub(crate) kwargs: Vec<(String, Argument<T>)>,
}

/// One argument.
#[derive(Clone, Debug)]
pub(crate) enum Argument<T> {
    Tensor(T),
    Many(Vec<Argument<T>>),
    Literal(Value),
}

impl<T> Argument<T> {
    /// The tensors in it, in order.
    pub(crate) fn tensors<'a>(&'a self, into: &mut Vec<&'a T>) {
        match self {
            Self::Tensor(t) => into.push(t),
            Self::Many(items) => items.iter().for_each(|item| item.tensors(into)),
            Self::Literal(_) => {}
        }
    }

    fn try_map<U, E>(&self, f: &impl Fn(&T) -> Result<U, E>) -> Result<Argument<U>, E> {
        Ok(match self {
            Self::Tensor(t) => Argument::Tensor(f(t)?),
            Self::Many(items) => Argument::Many(items.iter().map(|item| item.try_map(f)).collect::<Result<_, E>>()?),
            Self::Literal(value) => Argument::Literal(value.clone()),
        })
    }
}

impl<T> Call<T> {
    /// Every tensor of the call, in order.
    pub(crate) fn tensors(&self) -> Vec<&T> {
        let mut tensors = Vec::new();
        self.args.iter().chain(self.kwargs.iter().map(|(_, a)| a)).for_each(|a| a.tensors(&mut tensors));
        tensors
    }

    /// The same call with other tensors.
    pub(crate) fn try_map<U, E>(&self, f: impl Fn(&T) -> Result<U, E>) -> Result<Call<U>, E> {
        let args = self.args.iter().map(|a| a.try_map(&f)).collect::<Result<_, E>>()?;
        let kwargs = self.kwargs.iter().map(|(k, a)| Ok((k.clone(), a.try_map(&f)?))).collect::<Result<_, E>>()?;
        Ok(Call { args, kwargs })
    }
}
