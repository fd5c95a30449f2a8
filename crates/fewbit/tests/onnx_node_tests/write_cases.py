"""Writes the ONNX backend's node tests, which the `onnx` package holds as Python code, as files.

    python crates/fewbit/tests/onnx_node_tests/write_cases.py FOLDER
    FEWBIT_ONNX_TESTS=FOLDER cargo test -p fewbit --test onnx_node_tests

Layout, as in the data folders that older releases of the package ship: `FOLDER/test_NAME/model.onnx` with
`test_data_set_N/input_I.pb` and `output_I.pb`, each a TensorProto. Sequences, optionals and maps are written as their
own protos under the same names.
"""

import sys
import warnings
from pathlib import Path

from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests


def to_proto(value, info):
    if hasattr(value, "SerializeToString"):
        return value
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    if kind == "map_type":
        return numpy_helper.from_dict(value, info.name)
    proto = TensorProto()
    proto.CopyFrom(numpy_helper.from_array(value, info.name))
    return proto


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    cases = load_model_tests(kind="node")
    for case in cases:
        at = folder / case.name
        at.mkdir(parents=True, exist_ok=True)
        (at / "model.onnx").write_bytes(case.model.SerializeToString())
        for n, (inputs, outputs) in enumerate(case.data_sets):
            data = at / f"test_data_set_{n}"
            data.mkdir(exist_ok=True)
            for stem, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
                for i, (value, info) in enumerate(zip(values, infos)):
                    (data / f"{stem}_{i}.pb").write_bytes(to_proto(value, info).SerializeToString())
    print(f"{len(cases)} tests in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
