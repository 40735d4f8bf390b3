"""The served form of a model, and what both forms predict without onnxruntime's own rewriting."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from support.onnx_models import random
from support.tolerances import TOLERANCE

from gradserve_server.graph.inference_form import InferenceForm, to_inference_form

IMAGE, ROWS, ANY = "float[2,4,6,5] x", "float[2,4] x", "float[] y"
W, B = random(6, 4, 3, 3), random(6)
EPSILON = "BatchNormalization<epsilon = 0.5>(h, gain, offset, mean, variance)"


def rewrite(model: onnx.ModelProto) -> tuple[InferenceForm, onnx.ModelProto]:
    """The served form, which must be valid ONNX with the outputs of the original, by name and order."""
    source = ir.from_proto(model)
    form = to_inference_form(source)
    assert spelled(ir.to_proto(source)) == spelled(model), "the source was changed"
    served = ir.to_proto(form.model)
    onnx.checker.check_model(served, full_check=True)
    for side in ("input", "output"):
        assert [v.name for v in getattr(served.graph, side)] == [v.name for v in getattr(model.graph, side)]
    return form, served


def spelled(model: onnx.ModelProto) -> list[tuple]:
    graph = model.graph
    nodes = [(node.op_type, list(node.input), list(node.output), [a.name for a in node.attribute]) for node in graph.node]
    return [*nodes, *sorted((t.name, onnx.numpy_helper.to_array(t).tobytes()) for t in graph.initializer)]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, feeds
    )


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    sizes = {v.name: [d.dim_value or 2 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    dtypes = {v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
    return {name: random(*shape, seed=7, dtype=dtypes[name].name) for name, shape in sizes.items()}


def assert_same_predictions(served: onnx.ModelProto, original: onnx.ModelProto) -> None:
    feeds = feeds_of(original)
    for got, expected in zip(run(served, feeds), run(original, feeds), strict=True):
        assert_close(got, expected)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype
    atol = float(np.abs(expected).max()) * TOLERANCE[f"rewritten {expected.dtype}"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def by_hand(x: np.ndarray, parameters: dict[str, np.ndarray]) -> np.ndarray:
    rank = x.ndim - 1
    gain, offset, mean, variance = (
        p.reshape(*p.shape, *[1] * (rank - p.ndim)) for p in (parameters[k] for k in ("gain", "offset", "mean", "variance"))
    )
    return (x - mean) / np.sqrt(variance + np.float32(1e-5)) * gain + offset
