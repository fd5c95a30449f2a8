//! Control flow. Graphs within a node take what is outside as explicit inputs here, and by its name in ONNX.

use fewbit_ir::Op;
use fewbit_ir::op::{If, Loop};

use crate::read::{Mapped, NodeIn};
use crate::write::{NodeOut, attributes};
use crate::{Error, Result};

pub(super) fn read_if(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let protos = [n.attributes.graph("then_branch")?, n.attributes.graph("else_branch")?];
    let ([then_branch, else_branch], _) = n.read_graphs(protos)?;
    for (graph, name) in [(&then_branch, "then_branch"), (&else_branch, "else_branch")] {
        check_outputs(graph.outputs.len(), n.proto.output.len(), name)?;
    }
    Ok(Op::If(Box::new(If { then_branch, else_branch })).into())
}

fn check_outputs(graph: usize, node: usize, name: &str) -> Result<()> {
    if graph == node {
        return Ok(());
    }
    Err(Error::malformed(format!("its {name} gives {graph} values where {node} are wanted")))
}

pub(super) fn write_if<'g>(n: &mut NodeOut<'_, 'g>, op: &'g If) -> Result<()> {
    let then_branch = n.graph(&op.then_branch, 1)?;
    let else_branch = n.graph(&op.else_branch, 1)?;
    let inputs = n.inputs_up_to(1)?;
    let outputs = n.all_outputs();
    n.emit_node("If", inputs, outputs, attributes().graph("then_branch", then_branch).graph("else_branch", else_branch));
    Ok(())
}

pub(super) fn read_loop(n: &mut NodeIn<'_, '_, '_>) -> Result<Mapped> {
    let proto = n.attributes.graph("body")?;
    // Trip count and condition may be left out, also at the end.
    while n.inputs.len() < 2 {
        n.inputs.push(None);
    }
    let carried = n.inputs.len().saturating_sub(2);
    if proto.input.len() != n.inputs.len() {
        return Err(Error::malformed(format!("its body takes {} values where {} are given", proto.input.len(), n.inputs.len())));
    }
    if proto.output.len() < carried.saturating_add(1) {
        return Err(Error::malformed(format!("its body gives {} values, fewer than it carries on", proto.output.len())));
    }
    check_outputs(proto.output.len().saturating_sub(1), n.proto.output.len(), "body")?;
    let ([body], captures) = n.read_graphs([proto])?;
    Ok(Op::Loop(Box::new(Loop { body, captures })).into())
}

pub(super) fn write_loop<'g>(n: &mut NodeOut<'_, 'g>, op: &'g Loop) -> Result<()> {
    let own = n.node.inputs.len().checked_sub(op.captures);
    let own = own.ok_or_else(|| Error::write(format!("captures {} values, more than it has inputs", op.captures)))?;
    let body = n.graph(&op.body, own)?;
    let mut inputs = n.inputs_up_to(own)?;
    // Trip count and condition must be there, if empty.
    inputs.resize(inputs.len().max(2), String::new());
    let outputs = n.all_outputs();
    n.emit_node("Loop", inputs, outputs, attributes().graph("body", body));
    Ok(())
}
