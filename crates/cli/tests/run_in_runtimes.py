"""Runs an ONNX or TFLite file on the first array of an .npz, sample by sample; prints its answers as JSON.

usage: run_in_runtimes.py MODEL INPUTS.npz
For ONNX also the operators that ONNX Runtime is left with after its own optimization.
"""
import json
import os
import sys
import tempfile

import numpy as np

model, inputs = sys.argv[1:]
archive = np.load(inputs)
samples = archive[archive.files[0]].astype(np.float32)
operators = []
if model.endswith(".onnx"):
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    name = session.get_inputs()[0].name
    answers = [session.run(None, {name: x[None]})[0] for x in samples]
else:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for x in samples:
        interpreter.set_tensor(source["index"], x[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(result["index"]))
print(json.dumps({"operators": operators, "answers": np.concatenate(answers).tolist()}))
