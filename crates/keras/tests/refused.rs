//! What is refused, with the layer's name and the way out; and damaged files, which are errors but never panics.

mod support;

use std::io::{Cursor, Read, Write};

use bytes::Bytes;
use fewbit_keras::ErrorKind;
use serde_json::{Value, json};
use support::fixture;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The fixture with one place of its configuration replaced.
fn edited(name: &str, pointer: &str, value: &Value) -> Bytes {
    let mut source = ZipArchive::new(Cursor::new(fixture(name))).unwrap();
    let mut target = ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..source.len() {
        let mut member = source.by_index(i).unwrap();
        let mut contents = Vec::new();
        member.read_to_end(&mut contents).unwrap();
        let name = member.name().unwrap().into_owned();
        if name == "config.json" {
            let mut config: Value = serde_json::from_slice(&contents).unwrap();
            *config.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value.clone();
            contents = serde_json::to_vec(&config).unwrap();
        }
        target.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        target.write_all(&contents).unwrap();
    }
    target.finish().unwrap().into_inner().into()
}

#[test]
fn what_is_not_understood_is_named() {
    use ErrorKind::{Format, Unsupported};
    for (pointer, value, kind, reasons) in [
        ("/class_name", json!("Ours"), Unsupported, ["class Ours", "keras.Model(inputs, outputs)"]),
        ("/config/layers/1/class_name", json!("Lambda"), Unsupported, ["'conv2d' (Lambda)", "never executed"]),
        ("/config/layers/1/class_name", json!("LSTM"), Unsupported, ["'conv2d' (LSTM)", "recurrent"]),
        ("/config/layers/1/class_name", json!("Conv3D"), Unsupported, ["'conv2d' (Conv3D)", "export the model"]),
        ("/config/layers/1/module", json!("ours.layers"), Unsupported, ["class of 'ours.layers'", "never executed"]),
        ("/config/layers/1/registered_name", json!("Ours>Conv2D"), Unsupported, ["class of 'Ours'", "never executed"]),
        ("/config/layers/1/config/activation", json!("ours"), Unsupported, ["'conv2d' (Conv2D)", "activation 'ours'"]),
        (
            "/config/layers/1/config/activation",
            json!({"module": "ours", "class_name": "function", "config": "f", "registered_name": "f"}),
            Unsupported,
            ["'conv2d' (Conv2D)", "never executed"],
        ),
        ("/config/layers/1/config/padding", json!("circular"), Format, ["'conv2d' (Conv2D)", "'circular'"]),
        ("/config/layers/1/config/strides", json!([0, 1]), Format, ["'strides' is [0,1]", "1 to"]),
        ("/config/layers/1/config/strides", json!(1e300), Format, ["'strides'", "1 to"]),
        ("/config/layers/1/config/groups", json!(3), Format, ["'conv2d' (Conv2D)", "Conv"]),
        ("/config/layers/1/config/data_format", json!("sideways"), Format, ["'conv2d'", "'sideways'"]),
        ("/config/layers/4/config/use_bias", json!(false), Format, ["needs 1 variables (kernel)", "stores 2"]),
        ("/config/layers/4/config/name", json!("conv2d"), Format, ["two layers", "'conv2d'"]),
        ("/config/layers/0/config/batch_shape", json!(null), Unsupported, ["input shape", "keras.Input"]),
        ("/config/layers/0/config/batch_shape", json!([null, -8, 8, 1]), Format, ["'input_layer'", "-8"]),
        ("/config/layers/0/config/batch_shape", json!([null, 8]), Format, ["'conv2d' (Conv2D)", "2 dimensions"]),
        ("/config/layers/0/config/dtype", json!("string"), Unsupported, ["'input_layer' (InputLayer)", "string"]),
        ("/config/layers/0/config/sparse", json!(true), Unsupported, ["'input_layer' (InputLayer)", "dense"]),
        ("/config/layers", json!([]), Format, ["'sequential'", "no layer"]),
        ("/config", json!(7), Format, ["layers", "list"]),
    ] {
        let error = fewbit_keras::read(edited("sequential.keras", pointer, &value)).expect_err(pointer);
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{pointer} {value}: {message}");
        assert!(reasons.iter().all(|reason| message.contains(reason)), "{pointer} {value}: {message}");
    }
}

#[test]
fn calls_that_are_not_understood_are_named() {
    let tensor = |layer: &str| json!({"class_name": "__keras_tensor__", "config": {"keras_history": [layer, 0, 0]}});
    for (inbound, reason) in [
        (json!([{"args": [tensor("scaled")], "kwargs": {"mask": tensor("x")}}]), "with a tensor as 'mask'"),
        (json!([{"args": [3.0], "kwargs": {}}]), "on a constant"),
        (json!([{"args": [tensor("nobody")], "kwargs": {}}]), "no layer 'nobody'"),
        (json!([{"args": [tensor("a_linear")], "kwargs": {}}]), "cycle"),
        (json!([{"args": [[tensor("x"), tensor("x")]], "kwargs": {}}]), "2 tensors"),
        (json!([]), "never computed"),
        (json!([[1]]), "no notation"),
    ] {
        let error = fewbit_keras::read(edited("activations.keras", "/config/layers/2/inbound_nodes", &inbound)).expect_err(reason);
        assert!(error.to_string().contains(reason), "{inbound}: {error}");
    }
}

#[test]
fn layers_that_would_train_at_inference_are_refused() {
    let dropout = "/config/layers/3/inbound_nodes/0/kwargs/training";
    let error = fewbit_keras::read(edited("training_only.keras", dropout, &json!(true))).unwrap_err().to_string();
    assert!(error.contains("'dropout' (Dropout)") && error.contains("training=True"), "{error}");
}

/// Every prefix of a small file, and many files with a few bytes changed.
#[test]
fn damaged_files_are_errors() {
    for name in ["archive.stored.keras", "sequential_keras2.h5.gz"] {
        let whole = fixture(name);
        for cut in (0..whole.len()).step_by(97) {
            assert!(fewbit_keras::read(whole.slice(..cut)).is_err(), "{name} cut at {cut}");
        }
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..500 {
            let mut bytes = whole.to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = [0, 1, 0x7F, 0xFF, u8::try_from(random(256)).unwrap()][random(5)];
            }
            // Either is right; what counts is that it comes back.
            let _ = fewbit_keras::read(bytes.into());
        }
    }
}
