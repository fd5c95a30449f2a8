//! Networks from their configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Argument, Attributes, Call, Inner, Layer, Network, Origin, Port, calls};
use crate::{Error, Result};

/// Models inside of models, and wrapped layers.
const MAX_NESTING: usize = 16;
/// Layers of one model, those of nested models not counted.
const MAX_LAYERS: usize = 1 << 15;

/// Reads the whole model: `{"class_name": …, "config": …}`.
pub(crate) fn read(config: &Value) -> Result<Network> {
    let entry = Entry::new(config)?;
    let network = entry.network(MAX_NESTING)?;
    network.ok_or_else(|| {
        Error::unsupported(format!(
            "the model is of class {}, which is defined in Python code; rebuild it with keras.Sequential or \
             keras.Model(inputs, outputs) (a functional model), copy the weights, and save that",
            entry.class
        ))
    })
}

/// `{"class_name": …, "module": …, "registered_name": …, "config": …}`, of a layer or a model.
struct Entry<'a> {
    whole: &'a Map<String, Value>,
    class: &'a str,
    config: &'a Value,
}

impl<'a> Entry<'a> {
    fn new(value: &'a Value) -> Result<Self> {
        let malformed = || Error::format("a layer of the configuration has no 'class_name' and 'config'");
        let whole = value.as_object().ok_or_else(malformed)?;
        let class = whole.get("class_name").and_then(Value::as_str).ok_or_else(malformed)?;
        Ok(Self { whole, class, config: whole.get("config").ok_or_else(malformed)? })
    }

    fn origin(&self) -> Origin {
        const OURS: [&str; 5] = ["keras", "tf_keras", "tensorflow", "builtins", "tensorflow_core"];
        let module = self.whole.get("module").and_then(Value::as_str).unwrap_or("keras");
        let registered = self.whole.get("registered_name").and_then(Value::as_str).unwrap_or_default();
        let package = module.split('.').next().unwrap_or_default();
        // Built-in classes are registered under their own name or not at all, others as `package>name`.
        match registered.split_once('>') {
            Some((other, _)) if other != "keras" => Origin::Foreign(other.to_owned()),
            _ if !OURS.contains(&package) => Origin::Foreign(module.to_owned()),
            _ if module.contains(".ops") => Origin::Operation,
            _ => Origin::Layer,
        }
    }

    /// The network, if this is a model whose layers are all in its configuration.
    fn network(&self, depth: usize) -> Result<Option<Network>> {
        if self.origin() != Origin::Layer {
            return Ok(None);
        }
        let depth = depth.checked_sub(1).ok_or_else(|| Error::limit(format!("models are nested more than {MAX_NESTING} deep")))?;
        match self.class {
            "Sequential" => sequential(self.config, depth).map(Some),
            "Functional" | "Model" if self.config.get("layers").is_some() => functional(self.config, depth).map(Some),
            _ => Ok(None),
        }
    }

    fn layer(&self, depth: usize) -> Result<Layer> {
        let own_name = self.config.get("name").and_then(Value::as_str);
        let name = self.whole.get("name").and_then(Value::as_str).or(own_name).unwrap_or_default().to_owned();
        let at = |e: Error| e.at(format!("layer '{name}' ({})", self.class));
        if name.is_empty() {
            return Err(Error::format(format!("a layer of class {} has no name", self.class)));
        }
        let inner = match self.network(depth).map_err(at)? {
            Some(network) => Inner::Network(Box::new(network)),
            None => match self.config.get("layer") {
                Some(wrapped) => {
                    let depth = depth.checked_sub(1).ok_or_else(|| at(Error::limit("is nested too deeply")))?;
                    Inner::Layer(Box::new(Entry::new(wrapped).map_err(at)?.layer(depth)?))
                }
                None => Inner::Nothing,
            },
        };
        let attributes = match (&inner, self.config) {
            (Inner::Nothing, Value::Object(map)) => Attributes::new(map.clone()),
            _ => Attributes::default(),
        };
        let inbound_nodes = self.whole.get("inbound_nodes");
        let calls = calls::read(inbound_nodes).map_err(at)?;
        let size = match inner {
            Inner::Network(_) => inbound_nodes.map_or(1, values),
            _ => values(self.config) + inbound_nodes.map_or(0, values),
        };
        let (class, origin) = (self.class.to_owned(), self.origin());
        Ok(Layer { name, class, origin, attributes, variables: Vec::new(), inner, calls, size })
    }
}

/// The number of values in a JSON value.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    }
}

fn functional(config: &Value, depth: usize) -> Result<Network> {
    let name = config.get("name").and_then(Value::as_str).unwrap_or("model").to_owned();
    let entries = layer_list(config.get("layers"))?;
    let mut layers = Vec::with_capacity(entries.len());
    let mut legacy = false;
    for value in entries {
        let entry = Entry::new(value)?;
        legacy |= calls::is_legacy(entry.whole.get("inbound_nodes"));
        layers.push(entry.layer(depth)?);
    }
    let ports = |key: &str| {
        let mut found = Vec::new();
        collect_ports(config.get(key).unwrap_or(&Value::Null), None, &mut found);
        if found.is_empty() { Err(Error::format(format!("model '{name}' has no '{key}'"))) } else { Ok(found) }
    };
    let inputs = ports("input_layers")?.into_iter().map(|(_, port)| port).collect();
    let mut network = Network { inputs, outputs: ports("output_layers")?, name: name.clone(), layers };
    count_calls_from_zero(&mut network, legacy);
    Ok(network)
}

fn layer_list(layers: Option<&Value>) -> Result<&[Value]> {
    let layers = layers.and_then(Value::as_array).ok_or_else(|| Error::format("a model's configuration has no list of 'layers'"))?;
    if layers.len() > MAX_LAYERS {
        return Err(Error::limit(format!("a model has {} layers, more than {MAX_LAYERS}", layers.len())));
    }
    Ok(layers)
}

/// A triple, or lists and dictionaries of them; a dictionary in the order of its keys.
fn collect_ports(value: &Value, key: Option<&str>, into: &mut Vec<(Option<String>, Port)>) {
    match (calls::port(value), value) {
        (Some(port), _) => into.push((key.map(str::to_owned), port)),
        (None, Value::Array(items)) => items.iter().for_each(|item| collect_ports(item, None, into)),
        (None, Value::Object(map)) => calls::sorted(map).for_each(|(key, item)| collect_ports(item, Some(key), into)),
        _ => {}
    }
}

/// A model counts its own making as call 0, so that its calls count from 1: everywhere in files of Keras 2, and in the
/// list of outputs in those of Keras 3. (A sequential model does so in Keras 2 if its input was declared.)
fn count_calls_from_zero(network: &mut Network, legacy: bool) {
    let models = network.layers.iter().filter_map(|layer| match &layer.inner {
        Inner::Network(_) => Some((layer.name.clone(), layer.class != "Sequential")),
        _ => None,
    });
    let models: BTreeMap<String, bool> = models.collect();
    if models.is_empty() {
        return;
    }
    let mut first_call: BTreeMap<String, usize> = BTreeMap::new();
    if legacy {
        // Every call that a file keeps is used, so the smallest number in use is that of the first call.
        let calls = network.layers.iter().flat_map(|layer| &layer.calls);
        let used = calls.flat_map(Call::tensors).chain(network.outputs.iter().map(|(_, port)| port));
        for port in used.filter(|port| models.contains_key(&port.layer)) {
            let first = first_call.entry(port.layer.clone()).or_insert(port.node);
            *first = port.node.min(*first);
        }
        for call in network.layers.iter_mut().flat_map(|layer| &mut layer.calls) {
            let shifted = call.try_map(|port| Ok::<_, std::convert::Infallible>(shift(port, first_call.get(&port.layer))));
            let Ok(shifted) = shifted;
            *call = shifted;
        }
    } else {
        first_call.extend(models.into_iter().filter(|(_, functional)| *functional).map(|(name, _)| (name, 1)));
    }
    for (_, port) in &mut network.outputs {
        *port = shift(port, first_call.get(&port.layer));
    }
}

fn shift(port: &Port, first: Option<&usize>) -> Port {
    Port { node: port.node.saturating_sub(first.copied().unwrap_or(0)), ..port.clone() }
}

/// A sequential model as the functional one that it stands for.
fn sequential(config: &Value, depth: usize) -> Result<Network> {
    // Keras before 2.2 wrote the list of layers alone.
    let entries = layer_list(if config.is_array() { Some(config) } else { config.get("layers") })?;
    let name = config.get("name").and_then(Value::as_str).unwrap_or("sequential").to_owned();
    let mut layers = entries.iter().map(|value| Entry::new(value)?.layer(depth)).collect::<Result<Vec<_>>>()?;
    let first = layers.first().ok_or_else(|| Error::format(format!("model '{name}' has no layer")))?;
    if first.class != "InputLayer" {
        let shape = config.get("build_input_shape").filter(|v| !v.is_null()).or_else(|| first.attributes.get("batch_input_shape"));
        let mut attributes = Attributes::default();
        if let Some(shape) = shape {
            attributes.insert("batch_shape", shape.clone());
        } else if let Inner::Network(inner) = &first.inner
            && let Some(input) = inner.layers.iter().find(|layer| layer.class == "InputLayer")
        {
            attributes = input.attributes.clone();
        }
        let name = format!("{}_input", first.name);
        let (class, origin) = ("InputLayer".to_owned(), Origin::Layer);
        let input = Layer { name, class, origin, attributes, variables: Vec::new(), inner: Inner::Nothing, calls: Vec::new(), size: 1 };
        layers.insert(0, input);
    }
    let mut previous: Option<Port> = None;
    for layer in &mut layers {
        layer.calls = previous.iter().map(|port| Call { args: vec![Argument::Tensor(port.clone())], kwargs: Vec::new() }).collect();
        previous = Some(Port { layer: layer.name.clone(), node: 0, tensor: 0 });
    }
    let input = layers.first().map(|layer| Port { layer: layer.name.clone(), node: 0, tensor: 0 });
    let outputs = previous.into_iter().map(|port| (None, port)).collect();
    Ok(Network { name, inputs: input.into_iter().collect(), outputs, layers })
}
