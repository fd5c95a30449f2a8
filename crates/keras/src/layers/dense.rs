//! Dense layers, and the wrapper that applies one at every step of a sequence.
//!
//! The kernel is `[in, out]`. On a matrix it becomes a `Gemm` with `[out, in]`, as other formats store it; on more
//! dimensions a `MatMul` with the kernel as it is.

use fewbit_ir::op::{Arithmetic, Binary, Gemm, MatMul};
use fewbit_ir::{Clamp, ValueId};

use super::activation::Activation;
use super::transpose::transpose;
use super::{Kind, no_variables, single, trained_if};
use crate::build::Scope;
use crate::config::Inner;
use crate::{Error, Result};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        classes: &["Dense"],
        variables: |a| Ok(trained_if([("kernel", true), ("bias", a.flag("use_bias", true)?)])),
        build: |s, inputs| dense(s, single(inputs)?),
    },
    Kind { classes: &["TimeDistributed"], variables: no_variables, build: |s, inputs| time_distributed(s, single(inputs)?) },
];

/// Layers that do the same to a sequence as they do at each of its steps.
const STEPWISE: [&str; 5] = ["Dense", "Activation", "ReLU", "LeakyReLU", "Dropout"];

fn dense(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let (activation, rest) = Activation::of(s)?.split();
    let bias = if s.has("bias") { Some(s.plain_weight("bias")?) } else { None };
    let y = if s.rank(x)? == 2 {
        let kernel = s.weight("kernel", |s| transpose(&s.variable("kernel")?, &[1, 0]))?;
        let inputs: Vec<ValueId> = [x, kernel].into_iter().chain(bias).collect();
        s.emit(Gemm { trans_b: true, activation, ..Gemm::default() }, &inputs)?
    } else {
        let kernel = s.weight("kernel_matrix", |s| s.variable("kernel"))?;
        match bias {
            None => s.emit(MatMul { activation }, &[x, kernel])?,
            Some(bias) => {
                let product = s.emit(MatMul { activation: Clamp::NONE }, &[x, kernel])?;
                s.emit(Arithmetic { kind: Binary::Add, activation }, &[product, bias])?
            }
        }
    };
    rest.apply(s, y)
}

fn time_distributed(s: &mut Scope<'_, '_>, x: ValueId) -> Result<ValueId> {
    let Inner::Layer(inner) = &s.layer().inner else { return Err(Error::format("wraps no layer")) };
    let kind = super::kind(inner).filter(|_| STEPWISE.contains(&inner.class.as_str()));
    let kind = kind.ok_or_else(|| {
        Error::unsupported(format!("applies a layer of class {} at each step; only {} are supported", inner.class, STEPWISE.join(", ")))
    })?;
    (kind.build)(&mut s.inside(inner), &[x])
}
