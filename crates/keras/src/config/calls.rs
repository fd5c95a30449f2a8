//! What a layer is called with, in the notations of both eras.
//!
//! | era | notation of a call |
//! |---|---|
//! | Keras 3 | `{"args": […], "kwargs": {…}}`, tensors as `{"class_name": "__keras_tensor__", "config": {"keras_history": [layer, node, tensor]}}` |
//! | Keras 2 | `[[layer, node, tensor, kwargs], …]`, or one such entry; tensors in `kwargs` as `[layer, node, tensor]` |

use serde_json::{Map, Value};

use super::{Argument, Call, Port, count};
use crate::{Error, Result};

/// Marks a value that is no tensor where Keras 2 would have a tensor.
const CONSTANT: &str = "_CONSTANT_VALUE";

/// The calls of a layer, from its `inbound_nodes`.
pub(super) fn read(inbound_nodes: Option<&Value>) -> Result<Vec<Call<Port>>> {
    match inbound_nodes {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(nodes)) => nodes.iter().map(call).collect(),
        Some(_) => Err(malformed()),
    }
}

/// Whether the notation is that of Keras 2, which counts calls of models from one.
pub(super) fn is_legacy(inbound_nodes: Option<&Value>) -> bool {
    inbound_nodes.and_then(Value::as_array).is_some_and(|nodes| nodes.iter().any(Value::is_array))
}

/// A `[layer, node, tensor]` triple, with or without something behind.
pub(super) fn port(value: &Value) -> Option<Port> {
    let [layer, node, tensor, ..] = value.as_array()?.as_slice() else { return None };
    Some(Port { layer: layer.as_str()?.to_owned(), node: count(node)?, tensor: count(tensor)? })
}

fn call(node: &Value) -> Result<Call<Port>> {
    match node {
        Value::Object(map) if map.contains_key("args") => Ok(Call { args: modern_args(map)?, kwargs: modern_kwargs(map)? }),
        Value::Array(entries) if entries.first().is_some_and(Value::is_string) => legacy(&[node]),
        Value::Array(entries) => legacy(&entries.iter().collect::<Vec<_>>()),
        Value::Object(map) => legacy(&sorted(map).map(|(_, entry)| entry).collect::<Vec<_>>()),
        _ => Err(malformed()),
    }
}

fn modern_args(node: &Map<String, Value>) -> Result<Vec<Argument<Port>>> {
    node.get("args").and_then(Value::as_array).ok_or_else(malformed)?.iter().map(modern).collect()
}

fn modern_kwargs(node: &Map<String, Value>) -> Result<Vec<(String, Argument<Port>)>> {
    let Some(Value::Object(kwargs)) = node.get("kwargs") else { return Ok(Vec::new()) };
    sorted(kwargs).map(|(name, value)| Ok((name.clone(), modern(value)?))).collect()
}

fn modern(value: &Value) -> Result<Argument<Port>> {
    let class = value.get("class_name").and_then(Value::as_str);
    match (class, value) {
        (Some("__keras_tensor__"), _) => {
            let history = value.get("config").and_then(|c| c.get("keras_history")).and_then(port);
            history.map(Argument::Tensor).ok_or_else(malformed)
        }
        (Some("__tuple__"), _) => modern(value.get("items").ok_or_else(malformed)?),
        (None, Value::Array(items)) => Ok(Argument::Many(items.iter().map(modern).collect::<Result<_>>()?)),
        // Keras flattens a dictionary in the order of its keys.
        (None, Value::Object(map)) => Ok(Argument::Many(sorted(map).map(|(_, item)| modern(item)).collect::<Result<_>>()?)),
        _ => Ok(Argument::Literal(value.clone())),
    }
}

fn legacy(entries: &[&Value]) -> Result<Call<Port>> {
    let mut tensors = Vec::new();
    let mut kwargs = Vec::new();
    for entry in entries {
        let parts = entry.as_array().ok_or_else(malformed)?;
        tensors.push(match parts.as_slice() {
            [Value::String(name), _, value, ..] if name == CONSTANT => Argument::Literal(value.clone()),
            _ => Argument::Tensor(port(entry).ok_or_else(malformed)?),
        });
        if let (true, Some(Value::Object(map))) = (kwargs.is_empty(), parts.get(3)) {
            kwargs = sorted(map).map(|(name, value)| (name.clone(), legacy_argument(value))).collect();
        }
    }
    let first = if tensors.len() == 1 { tensors.pop() } else { Some(Argument::Many(tensors)) };
    Ok(Call { args: first.into_iter().collect(), kwargs })
}

fn legacy_argument(value: &Value) -> Argument<Port> {
    match (port(value), value) {
        (Some(port), _) => Argument::Tensor(port),
        (None, Value::Array(items)) if items.iter().any(|item| port(item).is_some()) => {
            Argument::Many(items.iter().map(legacy_argument).collect())
        }
        _ => Argument::Literal(value.clone()),
    }
}

/// A dictionary's entries in the order of their keys.
pub(super) fn sorted(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter()
}

fn malformed() -> Error {
    Error::format("'inbound_nodes' is in no notation that Keras writes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_notations_give_the_same_calls() {
        let tensor = |name: &str| json!({"class_name": "__keras_tensor__", "config": {"shape": [null, 4], "keras_history": [name, 0, 0]}});
        for (nodes, tensors, kwargs) in [
            (json!([{"args": [tensor("a")], "kwargs": {"mask": null}}]), vec!["a"], 1),
            (json!([{"args": [[tensor("a"), tensor("b")]], "kwargs": {}}]), vec!["a", "b"], 0),
            (json!([{"args": [{"class_name": "__tuple__", "items": [tensor("a"), tensor("b")]}], "kwargs": {}}]), vec!["a", "b"], 0),
            (json!([{"args": [{"y": tensor("a"), "x": tensor("b")}], "kwargs": {}}]), vec!["b", "a"], 0),
            (json!([[["a", 0, 0, {}]]]), vec!["a"], 0),
            (json!([["a", 0, 0, {"y": ["b", 0, 0], "name": null}]]), vec!["a", "b"], 2),
            (json!([[["a", 0, 0, {}], ["b", 0, 0, {}]]]), vec!["a", "b"], 0),
            (json!([[["a", 0, 0, {}], ["_CONSTANT_VALUE", -1, 2.5, {}]]]), vec!["a"], 0),
        ] {
            let calls = read(Some(&nodes)).unwrap();
            let names: Vec<_> = calls[0].tensors().into_iter().map(|p| p.layer.as_str()).collect();
            assert_eq!((names, calls[0].kwargs.len()), (tensors, kwargs), "{nodes}");
        }
    }

    #[test]
    fn other_notations_are_refused() {
        for nodes in [json!("x"), json!([1]), json!([[1]]), json!([[["a", -1, 0, {}]]]), json!([{"args": 1}]), json!([[["a", 0]]])] {
            assert!(read(Some(&nodes)).is_err(), "{nodes}");
        }
    }
}
