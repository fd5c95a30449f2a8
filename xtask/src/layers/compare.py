"""Compares what fewbit made of a folder's layers with ONNX Runtime or LiteRT, integer by integer.

usage: compare.py FOLDER EXTENSION
Layer N is N.onnx or N.tflite, its inputs are the bytes N.in0, N.in1, fewbit's answer N.out. Line N of names.txt says whether fewbit
computes all of it in `integers` or some of it in `floats`, and its name.
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
    types = {f"tensor({t})": t for t in ("uint8", "int8", "uint16", "int16")}
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
found = {"integers": [], "floats": []}
for n, line in enumerate(names):
    arithmetic, name = line.split(" ", 1)
    stem = os.path.join(folder, str(n))
    theirs = run(f"{stem}.{extension}", lambda i: np.fromfile(f"{stem}.in{i}", np.uint8))
    ours = np.fromfile(f"{stem}.out", np.uint8).view(theirs.dtype)
    steps = np.abs(ours.astype(int) - theirs.reshape(-1).astype(int))
    found[arithmetic].append((steps.max(), np.count_nonzero(steps), steps.size))
    print(f"{name[:60]:60} {steps.size:9} elements, {100 * np.mean(steps > 0):8.4f} % differ, by at most {steps.max()}, in {arithmetic}")
for arithmetic, layers in found.items():
    if layers:
        most, differing, total = zip(*layers)
        share = 100 * sum(differing) / sum(total)
        print(f"{len(layers)} distinct layers in {arithmetic}: {sum(differing)} of {sum(total)} elements differ ({share:.5f} %), by at most {max(most)}")
sys.exit(int(max((most for most, _, _ in found["integers"]), default=0) > 1))
