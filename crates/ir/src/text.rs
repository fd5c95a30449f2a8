//! A text form of graphs, for tests, diffs and messages.
//!
//! One line each for inputs, constants, nodes and outputs:
//!
//! ```text
//! input x: f32[N,4]
//! const w: f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]
//! y: f32[N,2] = MatMul {} (x, w) "dense"
//! z = Unary "Relu" (y)
//! output z
//! ```
//!
//! An operator is its variant's name followed by its attributes as JSON; `_` stands for an omitted input; a type after
//! an output and the node's name in quotes may be left out. Constants are written out up to [`MAX_PRINTED`] elements;
//! larger ones print as `#` and a checksum, which tells them apart but cannot be read back. `random SEED` in place of
//! elements is read as reproducible numbers in [−1, 1).
//!
//! Subgraphs of control-flow nodes are printed indented below their node and cannot be read back.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use fewbit_tensor::{DType, Tensor, element_count};

use crate::{Definition, Dim, Error, ErrorKind, Graph, Node, Op, Result, TensorType, Value, ValueId};

/// Elements up to which a constant is written out.
pub const MAX_PRINTED: usize = 64;

/// Elements up to which `random` makes a constant.
const MAX_RANDOM: usize = 1 << 24;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self, f, "")
    }
}

fn print(graph: &Graph, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
    for input in &graph.inputs {
        writeln!(f, "{indent}input {}", declared(graph.value(*input)))?;
    }
    for (_, value) in graph.values() {
        if let Definition::Constant(tensor) = &value.definition {
            writeln!(f, "{indent}const {} = {}", declared(value), elements(tensor))?;
        }
    }
    let order = graph.topological_order().unwrap_or_else(|_| graph.node_ids());
    for id in order {
        let node = graph.node(id);
        writeln!(f, "{indent}{}", line(graph, node))?;
        let deeper = format!("{indent}    ");
        match &node.op {
            Op::If(op) => {
                print(&op.then_branch, f, &deeper)?;
                print(&op.else_branch, f, &deeper)?;
            }
            Op::Loop(op) => print(&op.body, f, &deeper)?,
            _ => {}
        }
    }
    for output in &graph.outputs {
        writeln!(f, "{indent}output {}", graph.value(*output).name)?;
    }
    Ok(())
}

fn declared(value: &Value) -> String {
    match &value.ty {
        Some(ty) => format!("{}: {ty}", value.name),
        None => value.name.clone(),
    }
}

/// One node as a line of the text form.
pub fn line(graph: &Graph, node: &Node) -> String {
    let outputs: Vec<_> = node.outputs.iter().map(|v| declared(graph.value(*v))).collect();
    let inputs: Vec<_> = node.inputs.iter().map(|v| v.map_or("_", |v| graph.value(v).name.as_str())).collect();
    let mut text = format!("{} = {} ({})", outputs.join(", "), operator(&node.op), inputs.join(", "));
    if !node.name.is_empty() && node.outputs.first().is_none_or(|v| graph.value(*v).name != node.name) {
        let _ = write!(text, " {:?}", node.name);
    }
    text
}

/// The operator's variant and its attributes.
pub fn operator(op: &Op) -> String {
    match serde_json::to_value(op) {
        Ok(serde_json::Value::String(tag)) => tag,
        Ok(serde_json::Value::Object(map)) => {
            map.iter().next().map_or_else(|| op.name().to_owned(), |(tag, attributes)| format!("{tag} {attributes}"))
        }
        _ => op.name().to_owned(),
    }
}

fn elements(tensor: &Tensor) -> String {
    if tensor.len() > MAX_PRINTED {
        // FNV-1a, to tell tensors apart at a glance.
        let hash = tensor.bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        return format!("#{hash:016x}");
    }
    let list: Vec<String> = if tensor.dtype().is_float() {
        tensor.to_f32().iter().map(ToString::to_string).collect()
    } else {
        tensor.to_i64_vec().iter().map(ToString::to_string).collect()
    };
    format!("[{}]", list.join(", "))
}

impl FromStr for Graph {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parser = Parser { graph: Self::new(""), names: BTreeMap::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            parser.line(line).map_err(|e| fail(format!("line {}: {e}: {line}", number + 1)))?;
        }
        Ok(parser.graph)
    }
}

fn fail(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Text, message)
}

struct Parser {
    graph: Graph,
    names: BTreeMap<String, ValueId>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<()> {
        if let Some(rest) = line.strip_prefix("input ") {
            let (name, ty) = parse_declared(rest)?;
            let id = self.graph.add_input(&name, ty);
            return self.define(name, id);
        }
        if let Some(rest) = line.strip_prefix("const ") {
            let (left, right) = rest.split_once('=').ok_or_else(|| fail("a constant needs '='"))?;
            let (name, ty) = parse_declared(left)?;
            let ty = ty.ok_or_else(|| fail("a constant needs a type"))?;
            let id = self.graph.add_constant(&name, parse_elements(&ty, right.trim())?);
            return self.define(name, id);
        }
        if let Some(name) = line.strip_prefix("output ") {
            let id = self.lookup(name.trim())?;
            self.graph.outputs.push(id);
            return Ok(());
        }
        self.node(line)
    }

    fn node(&mut self, line: &str) -> Result<()> {
        let (left, right) = line.split_once(" = ").ok_or_else(|| fail("a node needs ' = '"))?;
        let outputs = split_declared(left).into_iter().map(parse_declared).collect::<Result<Vec<_>>>()?;
        let (op, rest) = parse_operator(right.trim())?;
        let (inputs, name) =
            rest.trim().strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(|| fail("a node's inputs stand in parentheses"))?;
        let inputs = inputs
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(|n| if n == "_" { Ok(None) } else { self.lookup(n).map(Some) })
            .collect::<Result<Vec<_>>>()?;
        let name = match name.trim() {
            "" => outputs.first().map(|(n, _)| n.clone()).unwrap_or_default(),
            quoted => serde_json::from_str(quoted).map_err(|_| fail("a node's name is a quoted string"))?,
        };
        let names: Vec<&str> = outputs.iter().map(|(n, _)| n.as_str()).collect();
        let id = self.graph.add_node(name, op, inputs, &names);
        for (value, (name, ty)) in self.graph.node(id).outputs.clone().into_iter().zip(outputs.clone()) {
            self.graph.value_mut(value).ty = ty;
            self.define(name, value)?;
        }
        Ok(())
    }

    fn define(&mut self, name: String, id: ValueId) -> Result<()> {
        match self.names.insert(name, id) {
            None => Ok(()),
            Some(old) => Err(fail(format!("'{}' is defined twice", self.graph.value(old).name))),
        }
    }

    fn lookup(&self, name: &str) -> Result<ValueId> {
        self.names.get(name).copied().ok_or_else(|| fail(format!("'{name}' is not defined above")))
    }
}

/// Splits at the commas that are not within brackets.
fn split_declared(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn parse_declared(text: &str) -> Result<(String, Option<TensorType>)> {
    match text.rsplit_once(": ") {
        None => Ok((text.trim().to_owned(), None)),
        Some((name, ty)) => Ok((name.trim().to_owned(), Some(parse_type(ty.trim())?))),
    }
}

/// Reads a type such as `f32[N,3,?]`.
pub fn parse_type(text: &str) -> Result<TensorType> {
    let (dtype, dims) = text.strip_suffix(']').and_then(|t| t.split_once('[')).ok_or_else(|| fail(format!("'{text}' is no type")))?;
    let dtype = DType::from_name(dtype).ok_or_else(|| fail(format!("'{dtype}' is no element type")))?;
    let dims = match dims {
        "*" => None,
        "" => Some(Vec::new()),
        dims => Some(
            dims.split(',')
                .map(|d| match d.trim() {
                    "?" => Dim::Unknown,
                    d => d.parse().map_or_else(|_| Dim::Symbol(d.to_owned()), Dim::Known),
                })
                .collect(),
        ),
    };
    Ok(TensorType { dtype, dims })
}

fn parse_operator(text: &str) -> Result<(Op, &str)> {
    let end = text.find([' ', '(']).unwrap_or(text.len());
    let (tag, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let (value, rest) = if rest.starts_with('(') {
        (serde_json::Value::String(tag.to_owned()), rest)
    } else {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        let attributes = stream.next().and_then(std::result::Result::ok).ok_or_else(|| fail("attributes are no JSON"))?;
        let offset = stream.byte_offset();
        (serde_json::Value::Object([(tag.to_owned(), attributes)].into_iter().collect()), &rest[offset..])
    };
    let op = serde_json::from_value(value).map_err(|e| fail(format!("operator {tag}: {e}")))?;
    Ok((op, rest))
}

fn parse_elements(ty: &TensorType, text: &str) -> Result<Tensor> {
    let shape = ty.shape().ok_or_else(|| fail("a constant's dimensions are numbers"))?;
    let length = |e: fewbit_tensor::Error| fail(e.to_string());
    if let Some(seed) = text.strip_prefix("random ") {
        let seed: u64 = seed.trim().parse().map_err(|_| fail("a seed is a number"))?;
        let count = element_count(&shape).filter(|n| *n <= MAX_RANDOM).ok_or_else(|| fail("the constant is too large"))?;
        return Tensor::from_floats(ty.dtype, shape, &pseudo_random(seed, count)).map_err(length);
    }
    let list: Vec<serde_json::Number> = serde_json::from_str(text).map_err(|_| fail("elements are a list of numbers, or 'random SEED'"))?;
    if ty.dtype.is_float() {
        let values: Vec<f32> = list.iter().map(|n| n.as_f64().unwrap_or(f64::NAN) as f32).collect();
        Tensor::from_floats(ty.dtype, shape, &values).map_err(length)
    } else {
        let values = list.iter().map(|n| n.as_i64().ok_or_else(|| fail(format!("{n} is no integer")))).collect::<Result<Vec<_>>>()?;
        Tensor::from_integers(ty.dtype, shape, &values).map_err(length)
    }
}

/// Reproducible numbers in [−1, 1): the high bits of Knuth's MMIX linear congruential generator.
pub fn pseudo_random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"input x: f32[N,4]
const w: f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8.5]
const big: f32[100] = random 3
y: f32[N,2] = MatMul {} (x, w) "dense"
z, m: bool[N,2] = Dropout (y)
c = Unary {"Clamp":{"max":6.0,"min":"-inf"}} (z)
p = Pad {"mode":"Constant"} (c, w, _, y)
output p
"#;

    #[test]
    fn text_round_trips() {
        let graph: Graph = TEXT.parse().unwrap();
        let printed = graph.to_string();
        let (before, after) = TEXT.split_once("random 3").unwrap();
        assert!(printed.starts_with(before), "{printed}");
        assert!(printed.ends_with(after), "{printed}");
    }

    #[test]
    fn errors_name_the_line() {
        for (text, says) in [
            ("input x: q8[1]", "q8"),
            ("y = Relu (x)", "x"),
            ("input x\ny = Nothing (x)", "line 2"),
            ("input x\ninput x", "twice"),
            ("const c: i8[2] = [1, 300]", "300"),
            ("const c: i8[2] = [1]", "bytes"),
            ("const c: f32[9999999,9999999] = random 1", "too large"),
            ("output y", "not defined"),
        ] {
            let error = text.parse::<Graph>().unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
            assert_eq!(error.kind(), ErrorKind::Text);
        }
    }
}
