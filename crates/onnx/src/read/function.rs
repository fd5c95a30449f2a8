//! Calls of model-local functions, written out where they are called.

use fewbit_ir::{Graph, Op, ValueId};

use super::{Attribute, Attributes, Frame, Reader, Scope};
use crate::error::Within;
use crate::limits::{MAX_CALLS, MAX_FUNCTION_DEPTH};
use crate::opset::{MAX_OPSET, MIN_OPSET};
use crate::proto::{FunctionProto, NodeProto, normalized_domain};
use crate::{Error, Result};

impl<'m> Reader<'m> {
    /// Puts the nodes of a function in place of a call of it.
    pub(super) fn inline(
        &mut self,
        function: &'m FunctionProto,
        call: &'m NodeProto,
        attributes: &Attributes<'m>,
        inputs: &[Option<ValueId>],
        graph: &mut Graph,
        scope: &mut Scope<'m, '_>,
    ) -> Result<()> {
        self.calls = self.calls.saturating_add(1);
        if self.calls > MAX_CALLS {
            return Err(Error::limit(format!("more than {MAX_CALLS} calls of functions")));
        }
        let frame = frame_of_call(function, call, attributes, scope)?;
        let mut body = Scope::new(&frame, scope.depth);
        body.declare_types(&function.value_info)?;
        for (i, name) in function.input.iter().enumerate() {
            let value = inputs.get(i).copied().flatten();
            body.define(name, value)?;
            if let Some(value) = value
                && let Some(what) = scope.foreign.get(&value)
            {
                body.foreign.insert(value, what);
            }
        }
        // What the call names keeps that name.
        let results: Vec<(&'m str, &'m str)> = function
            .output
            .iter()
            .zip(&call.output)
            .map(|(inside, outside)| (inside.as_str(), outside.as_str()))
            .filter(|(_, outside)| !outside.is_empty())
            .collect();
        for (inside, outside) in &results {
            let name = scope.name_in_graph(outside, &mut self.names);
            body.renamed.insert(inside, name);
        }
        for node in &function.node {
            self.read_node(node, graph, &mut body).within(|| node.label()).within(|| format!("in function '{}'", function.name()))?;
        }
        for (inside, outside) in results {
            let found = body.find(inside).within(|| format!("output of function '{}'", function.name()))?;
            let mut value =
                found.ok_or_else(|| Error::malformed(format!("function '{}' gives an input that is left out", function.name())))?;
            let name = body.renamed.get(inside).cloned().unwrap_or_default();
            if graph.value(value).name != name {
                // The function passes one of its inputs on.
                self.count_node()?;
                let identity = graph.add_node("", Op::Identity, vec![Some(value)], &[&name]);
                value = graph.node(identity).outputs.first().copied().unwrap_or(value);
            }
            scope.define(outside, Some(value))?;
            match body.foreign.get(&value) {
                Some(what) => {
                    scope.foreign.insert(value, what);
                }
                None => scope.apply_type(graph, outside, value),
            }
        }
        Ok(())
    }
}

fn frame_of_call<'m>(
    function: &'m FunctionProto,
    call: &'m NodeProto,
    attributes: &Attributes<'m>,
    scope: &Scope<'m, '_>,
) -> Result<Frame<'m>> {
    let depth = scope.frame.depth.saturating_add(1);
    if depth > MAX_FUNCTION_DEPTH {
        return Err(Error::limit(format!("functions call functions more than {MAX_FUNCTION_DEPTH} deep, or themselves")));
    }
    let named = |name: &str| attributes.all().iter().any(|a| a.name == name);
    let defaults = function.attribute_proto.iter().filter(|d| !named(d.name())).map(|proto| Attribute { name: proto.name(), proto });
    let attributes = attributes.all().iter().copied().chain(defaults).collect();
    // What it does not import itself is as for its caller.
    let mut opsets = scope.frame.opsets.clone();
    opsets.extend(function.opset_import.iter().map(|o| (normalized_domain(o.domain()), o.version())));
    if let Some(opset) = opsets.get("").filter(|o| !(MIN_OPSET..=MAX_OPSET).contains(*o)) {
        return Err(Error::unsupported(format!(
            "function '{}' uses opset {opset}; fewbit reads {MIN_OPSET} to {MAX_OPSET}",
            function.name()
        )));
    }
    let stem = match call.name() {
        "" => call.output.iter().find(|o| !o.is_empty()).map_or(function.name(), String::as_str),
        name => name,
    };
    let prefix = if scope.frame.prefix.is_empty() { stem.to_owned() } else { format!("{}/{stem}", scope.frame.prefix) };
    Ok(Frame { opsets, attributes, prefix, depth })
}
