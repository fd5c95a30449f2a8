//! From the network to the graph.
//!
//! In: a bound [`Network`] and the weights file. Out: a [`Graph`]. Models inside of models are inlined; a layer that is
//! applied several times gives as many nodes that share its constants. What a layer becomes is not here but in the
//! table of [`crate::layers`].
//!
//! Names: the result of a layer is called as the layer is, `block/conv` inside of a model `block`; later applications
//! of the same layer get a number, `block:1/conv`. What comes before the result has the operator's name behind a
//! slash, `dense/MatMul`; constants have their role, `dense/kernel`.

mod scope;

use std::collections::{BTreeMap, BTreeSet};

use fewbit_ir::{Dim, Graph, TensorType, ValueId};
use fewbit_tensor::DType;
use serde_json::Value;

pub(crate) use self::scope::Scope;
use crate::config::{Call, Inner, Layer, Network, Port, count};
use crate::hdf5::File;
use crate::{Error, Result, layers};

/// Applications of layers in the whole graph: models that call models that call models grow exponentially.
const MAX_APPLICATIONS: usize = 1 << 16;
/// JSON values of the layers that are applied, each counted as often as its layer is applied.
const MAX_WORK: usize = 1 << 24;
/// Dimensions of a value.
const MAX_RANK: usize = 16;

/// Which functions go by a name: Keras 3 changed the meaning of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Keras 1 and 2, standalone or in TensorFlow, also as `tf_keras`.
    Keras2,
    /// Keras 3.
    Keras3,
}

/// A graph under construction.
pub(crate) struct Builder<'f> {
    graph: Graph,
    weights: &'f File,
    dialect: Dialect,
    /// The constants of each layer by their names, to be shared by its applications.
    constants: BTreeMap<String, ValueId>,
    /// The names that are taken, each with the number that comes next behind it.
    taken: BTreeMap<String, usize>,
    applications: usize,
    work: usize,
}

/// Builds the graph of the whole model.
pub(crate) fn build(network: &Network, weights: &File, dialect: Dialect) -> Result<Graph> {
    let mut builder = Builder {
        graph: Graph::new(network.name.clone()),
        weights,
        dialect,
        constants: BTreeMap::new(),
        taken: BTreeMap::new(),
        applications: 0,
        work: 0,
    };
    let inputs = network.inputs.iter().map(|port| builder.input(network, port)).collect::<Result<Vec<_>>>()?;
    let outputs = builder.network(network, &Place::default(), &inputs)?;
    builder.graph.outputs = outputs;
    Ok(builder.graph)
}

/// Where in the model something is.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The path of names of models, each with a slash behind.
    path: String,
    /// The same with the numbers of applications.
    scope: String,
}

impl Builder<'_> {
    /// Adds an input of the graph for an input layer.
    fn input(&mut self, network: &Network, port: &Port) -> Result<ValueId> {
        let layer = network.layers.iter().find(|layer| layer.name == port.layer && layer.class == "InputLayer");
        let layer = layer.ok_or_else(|| Error::format(format!("input '{}' is no InputLayer of the model", port.layer)))?;
        let ty = input_type(layer).map_err(|e| e.at(format!("layer '{}' (InputLayer)", layer.name)))?;
        let name = self.unique(&layer.name);
        Ok(self.graph.add_input(name, Some(ty)))
    }

    /// Adds the layers of a network in an order in which each follows what it depends on; returns the outputs.
    fn network(&mut self, network: &Network, place: &Place, arguments: &[ValueId]) -> Result<Vec<ValueId>> {
        let at = |e: Error| if place.path.is_empty() { e } else { e.at(format!("model '{}'", network.name)) };
        let mut schedule = Schedule::new(network).map_err(at)?;
        if arguments.len() != network.inputs.len() {
            let message = format!("is called on {} tensors, but has {} inputs", arguments.len(), network.inputs.len());
            return Err(at(Error::format(message)));
        }
        for (port, value) in network.inputs.iter().zip(arguments) {
            schedule.provide(&port.layer, 0, vec![*value]);
        }
        while let Some((layer, index, call)) = schedule.next() {
            self.spend(layer)?;
            let call = call.try_map(|port| schedule.value(port)).map_err(at)?;
            let outputs = self.layer(layer, index, place, &call).map_err(at)?;
            schedule.provide(&layer.name, index, outputs);
        }
        network.outputs.iter().map(|(_, port)| schedule.value(port)).collect::<Result<_>>().map_err(at)
    }

    /// Pays for one application.
    fn spend(&mut self, layer: &Layer) -> Result<()> {
        self.applications += 1;
        self.work = self.work.saturating_add(layer.size);
        if self.applications > MAX_APPLICATIONS || self.work > MAX_WORK {
            return Err(Error::limit(format!(
                "layers are applied more than {MAX_APPLICATIONS} times, or too large for as often as they are"
            )));
        }
        Ok(())
    }

    /// Applies one layer.
    fn layer(&mut self, layer: &Layer, index: usize, place: &Place, call: &Call<ValueId>) -> Result<Vec<ValueId>> {
        let mut scope = format!("{}{}", place.scope, layer.name);
        if index > 0 {
            scope = format!("{scope}:{index}");
        }
        let path = format!("{}{}", place.path, layer.name);
        if let Inner::Network(inner) = &layer.inner {
            let arguments: Vec<ValueId> = call.tensors().into_iter().copied().collect();
            let inside = Place { path: format!("{path}/"), scope: format!("{scope}/") };
            return self.network(inner, &inside, &arguments);
        }
        let first_node = self.graph.node_capacity();
        let mut s = Scope::new(self, layer, &path, &scope);
        let result = layers::apply(&mut s, call).map_err(|e| e.at(format!("layer '{}' ({})", layer.name, layer.class)))?;
        self.name_result(result, first_node, &scope);
        Ok(vec![result])
    }

    /// Gives the result of a layer the layer's name, if the layer computed it.
    fn name_result(&mut self, result: ValueId, first_node: usize, scope: &str) {
        let Some(node) = self.graph.producer(result).filter(|node| node.index() >= first_node) else { return };
        let name = self.unique(scope);
        self.taken.remove(&self.graph.value(result).name);
        self.graph.value_mut(result).name.clone_from(&name);
        self.graph.node_mut(node).name = name;
    }

    /// A name that is not taken: the stem, or the stem with a number.
    fn unique(&mut self, stem: &str) -> String {
        let Some(next) = self.taken.get(stem) else {
            self.taken.insert(stem.to_owned(), 1);
            return stem.to_owned();
        };
        let free = (*next..=next + self.taken.len()).map(|n| (n, format!("{stem}_{n}"))).find(|(_, name)| !self.taken.contains_key(name));
        let (n, name) = free.unwrap_or_default();
        self.taken.insert(stem.to_owned(), n + 1);
        self.taken.insert(name.clone(), 1);
        name
    }
}

fn input_type(layer: &Layer) -> Result<TensorType> {
    let a = &layer.attributes;
    for key in ["sparse", "ragged"] {
        if a.flag(key, false)? {
            return Err(Error::unsupported(format!("takes {key} tensors; use dense ones")));
        }
    }
    let shape = a
        .get("batch_shape")
        .or_else(|| a.get("batch_input_shape"))
        .and_then(Value::as_array)
        .ok_or_else(|| Error::unsupported("has no input shape; call the model on data, or give it a keras.Input, before saving it"))?;
    if shape.len() > MAX_RANK {
        return Err(Error::limit(format!("has {} dimensions, more than {MAX_RANK}", shape.len())));
    }
    let dim = |(axis, value): (usize, &Value)| match (axis, value) {
        (0, Value::Null) => Ok(Dim::Symbol("batch".to_owned())),
        (_, Value::Null) => Ok(Dim::Unknown),
        _ => count(value).map(Dim::Known).ok_or_else(|| Error::format(format!("has the dimension {value}"))),
    };
    let dims = shape.iter().enumerate().map(dim).collect::<Result<_>>()?;
    let dtype = match a.text("dtype").unwrap_or("float32") {
        // Half-precision models compute in single precision here.
        "float32" | "float16" | "bfloat16" => DType::F32,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        other => return Err(Error::unsupported(format!("takes {other}; only float32, integers and bool are read"))),
    };
    Ok(TensorType { dtype, dims: Some(dims) })
}

/// Calls of a network in order of dependence; ties go by the order of the configuration.
struct Schedule<'n> {
    network: &'n Network,
    index: BTreeMap<&'n str, usize>,
    /// The outputs of each call so far, by layer and call.
    values: BTreeMap<(usize, usize), Vec<ValueId>>,
    /// How many calls each call waits for.
    missing: BTreeMap<(usize, usize), usize>,
    waiting: BTreeMap<(usize, usize), Vec<(usize, usize)>>,
    ready: BTreeSet<(usize, usize)>,
}

impl<'n> Schedule<'n> {
    fn new(network: &'n Network) -> Result<Self> {
        let mut index = BTreeMap::new();
        for (i, layer) in network.layers.iter().enumerate() {
            if index.insert(layer.name.as_str(), i).is_some() {
                return Err(Error::format(format!("two layers are called '{}'", layer.name)));
            }
        }
        let mut schedule =
            Self { network, index, values: BTreeMap::new(), missing: BTreeMap::new(), waiting: BTreeMap::new(), ready: BTreeSet::new() };
        for (i, layer) in network.layers.iter().enumerate() {
            for (n, call) in layer.calls.iter().enumerate() {
                let needs = call.tensors().into_iter().map(|port| schedule.call(port)).collect::<Result<BTreeSet<_>>>()?;
                schedule.missing.insert((i, n), needs.len());
                for need in &needs {
                    schedule.waiting.entry(*need).or_default().push((i, n));
                }
                if needs.is_empty() {
                    schedule.ready.insert((i, n));
                }
            }
        }
        Ok(schedule)
    }

    fn call(&self, port: &Port) -> Result<(usize, usize)> {
        let layer = self.index.get(port.layer.as_str());
        layer.map(|layer| (*layer, port.node)).ok_or_else(|| Error::format(format!("there is no layer '{}'", port.layer)))
    }

    /// Says what a call returned.
    fn provide(&mut self, layer: &str, node: usize, outputs: Vec<ValueId>) {
        let Some(call) = self.index.get(layer).map(|layer| (*layer, node)) else { return };
        if self.values.insert(call, outputs).is_some() {
            return;
        }
        for waiting in self.waiting.remove(&call).unwrap_or_default() {
            if let Some(missing) = self.missing.get_mut(&waiting) {
                *missing -= 1;
                if *missing == 0 {
                    self.ready.insert(waiting);
                }
            }
        }
    }

    /// The next call whose arguments are there.
    fn next(&mut self) -> Option<(&'n Layer, usize, &'n Call<Port>)> {
        let (layer, index) = self.ready.pop_first()?;
        let layer = self.network.layers.get(layer)?;
        Some((layer, index, layer.calls.get(index)?))
    }

    fn value(&self, port: &Port) -> Result<ValueId> {
        let outputs = self.values.get(&self.call(port)?);
        outputs.and_then(|values| values.get(port.tensor)).copied().ok_or_else(|| {
            Error::format(format!(
                "output {} of call {} of layer '{}' is never computed: the layers form a cycle, or an input is missing",
                port.tensor, port.node, port.layer
            ))
        })
    }
}
