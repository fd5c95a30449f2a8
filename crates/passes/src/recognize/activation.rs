//! Recognizes activation functions.
//!
//! | found | becomes |
//! |---|---|
//! | `Clip` with known bounds, `max(x, c)`, `min(x, c)` | bounds ([`Unary::Clamp`]) |
//! | `clamp(x + 3, 0, 6) / 6` and `· 1/6` | hard sigmoid |
//! | `x · hard_sigmoid(x)`, `x · clamp(x + 3, 0, 6) / 6` | hard swish |
//! | `x · sigmoid(a · x)` | swish |
//! | `x / 2 · (1 + erf(x / √2))` | GELU |
//! | `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))` | GELU by tanh |
//!
//! Bounds are exact; the others differ from the spelled-out form by float rounding, and by the digits to which the file
//! spells its constants (accepted up to a relative 10⁻⁴).

use fewbit_ir::op::{Binary, Clamp, Unary, Variadic};
use fewbit_ir::{Graph, Node, NodeId, Op, TensorType, ValueId};

use crate::matching::{binary, by_scalar, close, scalar, with_scalar};
use crate::{Notes, Result};

/// A pattern: the function that a node's output is of another value, if it is.
type Pattern = fn(&Graph, &Node) -> Option<(Unary, ValueId)>;

const PATTERNS: &[Pattern] = &[clip, min_max, hard_sigmoid, hard_swish, swish, gelu];

/// See the module.
pub fn recognize_activations(graph: &mut Graph, notes: &mut Notes) -> Result<()> {
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let Some((unary, x)) = PATTERNS.iter().find_map(|pattern| pattern(graph, node)) else { continue };
        if widens(graph, x, node.outputs[0]) {
            continue;
        }
        notes.applied(&node.name.clone());
        replace(graph, id, unary, x);
    }
    Ok(())
}

/// Whether a result has more axes than what it is computed of, by those of a constant of one element.
fn widens(graph: &Graph, x: ValueId, result: ValueId) -> bool {
    let rank = |v: ValueId| graph.value(v).ty.as_ref().and_then(TensorType::rank);
    rank(result).is_some_and(|r| rank(x).is_none_or(|x| r > x))
}

fn replace(graph: &mut Graph, id: NodeId, unary: Unary, x: ValueId) {
    let node = graph.node_mut(id);
    node.op = unary.into();
    node.inputs = vec![Some(x)];
}

fn clip(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    if !matches!(node.op, Op::Clip) {
        return None;
    }
    let x = node.input(0)?;
    let bound = |index, missing| node.input(index).map_or(Some(missing), |v| scalar(graph, v));
    let float = graph.dtype(x).is_some_and(fewbit_tensor::DType::is_float);
    let clamp = Clamp { min: bound(1, f32::NEG_INFINITY)?, max: bound(2, f32::INFINITY)? };
    float.then_some((clamped(clamp), x))
}

fn min_max(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    let Op::Variadic(op) = node.op else { return None };
    if node.inputs.len() != 2 || !graph.dtype(node.outputs[0]).is_some_and(fewbit_tensor::DType::is_float) {
        return None;
    }
    let (x, bound) = with_scalar(graph, node)?;
    let clamp = match op {
        Variadic::Min => Clamp { max: bound, ..Clamp::NONE },
        Variadic::Max => Clamp { min: bound, ..Clamp::NONE },
        Variadic::Sum | Variadic::Mean => return None,
    };
    Some((clamped(clamp), x))
}

fn clamped(clamp: Clamp) -> Unary {
    if clamp == Clamp::RELU { Unary::Relu } else { Unary::Clamp(clamp) }
}

fn unary(graph: &Graph, value: ValueId) -> Option<(Unary, ValueId)> {
    let node = graph.node(graph.producer(value)?);
    match node.op {
        Op::Unary(op) => Some((op, node.input(0)?)),
        _ => None,
    }
}

fn is(node: &Node, kind: Binary) -> bool {
    matches!(&node.op, Op::Binary(op) if op.kind == kind && op.activation.is_none())
}

/// The value scaled by a constant, by multiplication or division.
fn scaled(graph: &Graph, node: &Node) -> Option<(ValueId, f32)> {
    if is(node, Binary::Mul) {
        with_scalar(graph, node)
    } else if is(node, Binary::Div) {
        by_scalar(graph, node).map(|(x, s)| (x, 1.0 / s))
    } else {
        None
    }
}

/// `x` of `clamp(x + 3, 0, 6)`.
fn relu6_of_shifted(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let (Unary::Clamp(Clamp::RELU6), inner) = unary(graph, value)? else { return None };
    match with_scalar(graph, binary(graph, inner, Binary::Add)?)? {
        (x, 3.0) => Some(x),
        _ => None,
    }
}

fn hard_sigmoid(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    let (clamped, factor) = scaled(graph, node)?;
    let x = relu6_of_shifted(graph, clamped)?;
    close(factor, 1.0 / 6.0).then_some((Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x))
}

fn hard_swish(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    // x · hard_sigmoid(x), or (x · clamp(x + 3, 0, 6)) / 6.
    if is(node, Binary::Mul) {
        let (a, b) = (node.input(0)?, node.input(1)?);
        for (x, gate) in [(a, b), (b, a)] {
            if let Some((Unary::HardSigmoid { alpha, beta }, inner)) = unary(graph, gate)
                && inner == x
                && close(alpha, 1.0 / 6.0)
                && beta == 0.5
            {
                return Some((Unary::HardSwish, x));
            }
        }
    }
    let (product, factor) = scaled(graph, node)?;
    let product = binary(graph, product, Binary::Mul)?;
    let (a, b) = (product.input(0)?, product.input(1)?);
    let x = [(a, b), (b, a)].into_iter().find_map(|(x, gate)| relu6_of_shifted(graph, gate).filter(|inner| *inner == x))?;
    close(factor, 1.0 / 6.0).then_some((Unary::HardSwish, x))
}

fn swish(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    if !is(node, Binary::Mul) {
        return None;
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let (Unary::Sigmoid, inner) = unary(graph, gate)? else { return None };
        if inner == x {
            return Some((Unary::Swish { alpha: 1.0 }, x));
        }
        let (base, alpha) = scaled(graph, graph.node(graph.producer(inner)?))?;
        (base == x).then_some((Unary::Swish { alpha }, x))
    })
}

/// The factors of a product of up to three values, nested either way, constants multiplied out.
fn factors(graph: &Graph, node: &Node) -> Option<(Vec<ValueId>, f32)> {
    if !is(node, Binary::Mul) {
        return None;
    }
    let (mut values, mut constant) = (Vec::new(), 1.0);
    for input in [node.input(0)?, node.input(1)?] {
        if let Some(s) = scalar(graph, input) {
            constant *= s;
            continue;
        }
        match graph.producer(input).map(|p| graph.node(p)).and_then(|n| scaled(graph, n)) {
            Some((x, s)) => {
                values.push(x);
                constant *= s;
            }
            None => match binary(graph, input, Binary::Mul) {
                Some(inner) if values.len() < 2 => values.extend([inner.input(0)?, inner.input(1)?]),
                _ => values.push(input),
            },
        }
    }
    Some((values, constant))
}

fn gelu(graph: &Graph, node: &Node) -> Option<(Unary, ValueId)> {
    let (values, constant) = factors(graph, node)?;
    let [a, b] = values[..] else { return None };
    if !close(constant, 0.5) {
        return None;
    }
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let (inner, 1.0) = with_scalar(graph, binary(graph, gate, Binary::Add)?)? else { return None };
        match unary(graph, inner)? {
            (Unary::Erf, argument) => {
                let (base, factor) = scaled(graph, graph.node(graph.producer(argument)?))?;
                (base == x && close(factor, std::f32::consts::FRAC_1_SQRT_2)).then_some((Unary::Gelu { tanh: false }, x))
            }
            (Unary::Tanh, argument) => is_tanh_polynomial(graph, argument, x).then_some((Unary::Gelu { tanh: true }, x)),
            _ => None,
        }
    })
}

/// Whether a value is `√(2/π) · (x + 0.044715 x³)`, multiplied out or not.
fn is_tanh_polynomial(graph: &Graph, value: ValueId, x: ValueId) -> bool {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    let Some([constant, linear, square, cubic]) = polynomial(graph, value, x, MAX_DEPTH) else { return false };
    constant == 0.0 && square == 0.0 && close(linear, SQRT_2_OVER_PI) && close(cubic, SQRT_2_OVER_PI * CUBIC)
}

/// Nodes between a polynomial and its variable.
const MAX_DEPTH: usize = 8;

/// The coefficients of the polynomial of at most third degree in `x` that a value is, from the constant on.
fn polynomial(graph: &Graph, value: ValueId, x: ValueId, depth: usize) -> Option<[f32; 4]> {
    if value == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(constant) = scalar(graph, value) {
        return Some([constant, 0.0, 0.0, 0.0]);
    }
    let depth = depth.checked_sub(1)?;
    let node = graph.node(graph.producer(value)?);
    let of = |index: usize| polynomial(graph, node.input(index)?, x, depth);
    match &node.op {
        Op::Unary(Unary::Square) => of(0).and_then(|p| product(p, p)),
        Op::Binary(op) if op.activation.is_none() => match op.kind {
            Binary::Add => Some(sum(of(0)?, of(1)?)),
            Binary::Mul => product(of(0)?, of(1)?),
            Binary::Div => by_scalar(graph, node).and_then(|(_, s)| product(of(0)?, [1.0 / s, 0.0, 0.0, 0.0])),
            Binary::Pow => match by_scalar(graph, node)? {
                (_, 2.0) => of(0).and_then(|p| product(p, p)),
                (_, 3.0) => of(0).and_then(|p| product(product(p, p)?, p)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn sum(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// The product, if its degree is at most 3.
fn product(a: [f32; 4], b: [f32; 4]) -> Option<[f32; 4]> {
    let mut result = [0.0; 4];
    for (i, a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
        for (j, b) in b.iter().enumerate().filter(|(_, b)| **b != 0.0) {
            *result.get_mut(i + j)? += a * b;
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::recognize_activations;
    use crate::check::{check, unchanged};

    fn becomes(body: &str, op: &str, tolerance: f32) {
        let constants = "const three: f32[] = [3]\nconst zero: f32[] = [0]\nconst six: f32[] = [6]\nconst half: f32[] = [0.5]
            const one: f32[] = [1]\nconst rsqrt2: f32[] = [0.70710677]\nconst c: f32[] = [0.044715]\nconst k: f32[] = [0.7978846]";
        check(
            recognize_activations,
            &format!("input x: f32[40]\n{constants}\n{body}\noutput z"),
            &[&format!("z = Unary {op} (x)")],
            tolerance,
        );
    }

    #[test]
    fn bounds() {
        becomes("z = Clip (x, zero, six)", r#"{"Clamp":{"max":6.0,"min":0.0}}"#, 0.0);
        becomes("z = Clip (x, zero)", r#""Relu""#, 0.0);
        becomes("z = Variadic \"Max\" (zero, x)", r#""Relu""#, 0.0);
    }

    #[test]
    fn hard_functions() {
        let gate = "a = Binary {\"kind\":\"Add\"} (x, three)\nb = Clip (a, zero, six)";
        becomes(
            &format!("{gate}\nz = Binary {{\"kind\":\"Div\"}} (b, six)"),
            r#"{"HardSigmoid":{"alpha":0.1666666716337204,"beta":0.5}}"#,
            1e-6,
        );
        let swish = r#""HardSwish""#;
        becomes(&format!("{gate}\nm = Binary {{\"kind\":\"Mul\"}} (x, b)\nz = Binary {{\"kind\":\"Div\"}} (m, six)"), swish, 1e-6);
        becomes(&format!("{gate}\nm = Binary {{\"kind\":\"Div\"}} (b, six)\nz = Binary {{\"kind\":\"Mul\"}} (m, x)"), swish, 1e-6);
    }

    #[test]
    fn smooth_functions() {
        becomes("s = Unary \"Sigmoid\" (x)\nz = Binary {\"kind\":\"Mul\"} (s, x)", r#"{"Swish":{"alpha":1.0}}"#, 1e-6);
        let tail = "o = Binary {\"kind\":\"Add\"} (e, one)\nm = Binary {\"kind\":\"Mul\"} (x, o)\nz = Binary {\"kind\":\"Mul\"} (m, half)";
        becomes(&format!("r = Binary {{\"kind\":\"Mul\"}} (x, rsqrt2)\ne = Unary \"Erf\" (r)\n{tail}"), r#"{"Gelu":{"tanh":false}}"#, 1e-5);
        let cube = "p = Binary {\"kind\":\"Pow\"} (x, three)\nq = Binary {\"kind\":\"Mul\"} (c, p)\nr = Binary {\"kind\":\"Add\"} (x, q)";
        becomes(
            &format!("{cube}\nt = Binary {{\"kind\":\"Mul\"}} (k, r)\ne = Unary \"Tanh\" (t)\n{tail}"),
            r#"{"Gelu":{"tanh":true}}"#,
            1e-5,
        );
        let multiplied_out = "q = Binary {\"kind\":\"Mul\"} (c, x)\np = Binary {\"kind\":\"Mul\"} (x, q)
            u = Binary {\"kind\":\"Mul\"} (p, x)\nr = Binary {\"kind\":\"Add\"} (u, x)";
        let inside =
            "o = Binary {\"kind\":\"Add\"} (e, one)\nm = Binary {\"kind\":\"Mul\"} (half, o)\nz = Binary {\"kind\":\"Mul\"} (m, x)";
        becomes(
            &format!("{multiplied_out}\nt = Binary {{\"kind\":\"Mul\"}} (k, r)\ne = Unary \"Tanh\" (t)\n{inside}"),
            r#"{"Gelu":{"tanh":true}}"#,
            1e-5,
        );
        let quadratic = "s = Binary {\"kind\":\"Mul\"} (x, x)\nq = Binary {\"kind\":\"Mul\"} (c, s)\nr = Binary {\"kind\":\"Add\"} (q, one)
            u = Binary {\"kind\":\"Mul\"} (x, k)\nt = Binary {\"kind\":\"Mul\"} (u, r)";
        becomes(&format!("{quadratic}\ne = Unary \"Tanh\" (t)\n{tail}"), r#"{"Gelu":{"tanh":true}}"#, 1e-5);
    }

    #[test]
    fn not_where_a_constant_adds_an_axis() {
        unchanged(recognize_activations, "input x: f32[4]\nconst zero: f32[1,1] = [0]\nz = Variadic \"Max\" (x, zero)\noutput z");
    }
}
