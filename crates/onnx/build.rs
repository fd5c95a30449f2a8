//! Compiles `proto/onnx.proto` to Rust without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let files = protox::compile(["onnx.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    // `Bytes` slices of the input: tensors are not copied while the file is decoded.
    config.bytes(["."]);
    config.compile_fds(files)?;
    Ok(())
}
