//! Small models of every family of layers, against what Keras computed (see `make_fixtures.py`).

mod support;

use support::{Records, compare, fixture};

/// Largest difference, relative to the largest output, that rounding explains.
const EXACT: f32 = 1e-5;
/// The same where Keras itself computes in half precision: 10 or 7 bits of mantissa.
const HALF: f32 = 5e-3;
const BRAIN: f32 = 4e-2;

#[test]
fn models_compute_what_keras_computes() {
    let records = Records::open();
    let mut failures = Vec::new();
    for (file, tolerance) in [
        ("activations.keras", EXACT),
        ("activation_layers.keras", EXACT),
        ("convolutions.keras", EXACT),
        ("convolutions_1d.keras", EXACT),
        ("transposed_convolutions.keras", EXACT),
        ("dense.keras", EXACT),
        ("normalizations.keras", EXACT),
        ("pools.keras", EXACT),
        ("paddings.keras", EXACT),
        ("channels_first.keras", EXACT),
        ("merges.keras", EXACT),
        ("shapes.keras", EXACT),
        ("training_only.keras", EXACT),
        ("preprocessing.keras", EXACT),
        ("embedding.keras", EXACT),
        ("functions.keras", EXACT),
        ("sequential.keras", EXACT),
        ("archive.stored.keras", EXACT),
        ("nested.keras", EXACT),
        ("sequential_of_models.keras", EXACT),
        ("named.keras", EXACT),
        ("mixed_float16.keras", HALF),
        ("float16.keras", HALF),
        ("bfloat16.keras", BRAIN),
        ("nested_keras3.h5.gz", EXACT),
        ("nested_keras2.h5.gz", EXACT),
        ("frozen_keras2.h5.gz", EXACT),
        ("sequential_keras2.h5.gz", EXACT),
        ("functions_keras2.h5.gz", EXACT),
        ("nested_tf_keras.keras", EXACT),
    ] {
        if let Err(reason) = check(&records, file, tolerance) {
            failures.push(format!("{file}: {reason}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(records: &Records, file: &str, tolerance: f32) -> Result<(), String> {
    let model = fewbit_keras::read(fixture(file)).map_err(|e| e.to_string())?;
    let name = file.split('.').next().unwrap_or_default();
    let inputs = records.inputs(name);
    let outputs = fewbit_runtime::interpret(&model.graph, &inputs).map_err(|e| e.to_string())?;
    let expected = records.outputs(name);
    assert_eq!(outputs.len(), expected.len(), "{file}");
    assert_eq!(model.signatures[0].outputs.len(), outputs.len(), "{file}");
    let names = model.graph.outputs.iter().map(|v| &model.graph.value(*v).name);
    let wrong: Vec<String> = names
        .zip(outputs.iter().zip(&expected))
        .filter_map(|(name, (got, wanted))| compare(got, wanted, tolerance).err().map(|e| format!("'{name}' {e}")))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
