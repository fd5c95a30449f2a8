"""Compares what fewbit made of a folder's layers with ONNX Runtime or LiteRT, integer by integer.

usage: compare.py FOLDER EXTENSION
Layer N is N.onnx or N.tflite, its inputs are the bytes N.in0, N.in1, fewbit's answer N.out.
"""
import os
import sys

import numpy as np

folder, extension = sys.argv[1:]
names = open(os.path.join(folder, "names.txt")).read().splitlines()


def onnx(path, read):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without this, x86 processors that lack VNNI saturate sums of pairs.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    feeds = {p.name: read(i).view(types[p.type]).reshape(p.shape) for i, p in enumerate(session.get_inputs())}
    return session.run(None, feeds)[0]


def tflite(path, read):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    for i, p in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(p["index"], read(i).view(p["dtype"]).reshape(p["shape"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


run = {"onnx": onnx, "tflite": tflite}[extension]
worst, differing, total = 0, 0, 0
for n, name in enumerate(names):
    stem = os.path.join(folder, str(n))
    theirs = run(f"{stem}.{extension}", lambda i: np.fromfile(f"{stem}.in{i}", np.uint8))
    ours = np.fromfile(f"{stem}.out", np.uint8).view(theirs.dtype)
    steps = np.abs(ours.astype(int) - theirs.reshape(-1).astype(int))
    worst, differing, total = max(worst, steps.max()), differing + np.count_nonzero(steps), total + steps.size
    print(f"{name[:60]:60} {steps.size:9} elements, {100 * np.mean(steps > 0):8.4f} % differ, by at most {steps.max()}")
print(f"{len(names)} distinct layers: {differing} of {total} elements differ ({100 * differing / total:.5f} %), by at most {worst}")
sys.exit(int(worst > 1))
