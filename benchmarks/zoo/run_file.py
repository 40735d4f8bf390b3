"""Runs an ONNX file in the onnxruntime of whatever Python this is (without torch) and compares its outputs.

    python benchmarks/zoo/run_file.py model.onnx batches.npz

`batches.npz` holds "<batch>/in/<name>" and "<batch>/out/<name>". Prints JSON: batch -> output -> relative L2 error, or the
error message of a batch size that does not run.
"""

import json
import sys

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


def relative_error(got: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Returns the relative L2 error."""
    if got.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm((got - expected).ravel()) / np.linalg.norm(expected.ravel()))


def compare(model: str, batches: str) -> dict[str, dict[str, float] | str]:
    """Runs a file on every batch; returns the errors by output, or the message of what went wrong."""
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # The file is what is judged: a fusion of onnxruntime 1.19 breaks LeViT as dynamo exports it.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    names = [value.name for value in session.get_outputs()]
    found: dict[str, dict[str, float] | str] = {}
    with np.load(batches) as data:
        for batch in sorted({key.split("/")[0] for key in data}, key=int):
            try:
                outputs = session.run(names, {name: data[f"{batch}/in/{name}"] for name in inputs})
            except Exception as error:
                found[batch] = str(error)[:300]
                continue
            got = dict(zip(names, outputs, strict=True))
            found[batch] = {name: relative_error(got[name], data[f"{batch}/out/{name}"]) for name in names}
    return found


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], sys.argv[2])))
