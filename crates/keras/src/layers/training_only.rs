//! Layers that do nothing at inference. They stay as identities, so that their names can be asked for.

use fewbit_ir::Op;

use super::{Kind, no_variables, single};

pub(super) const KINDS: &[Kind] = &[Kind {
    classes: &[
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "AlphaDropout",
        "GaussianDropout",
        "GaussianNoise",
        "ActivityRegularization",
        "Identity",
        "RandomBrightness",
        "RandomContrast",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
    ],
    variables: no_variables,
    build: |s, inputs| s.emit(Op::Identity, &[single(inputs)?]),
}];
