"""Writes the smallest model whose predictions a gradient must not change: one BatchNormalization node.

    python examples/make_scenario_a.py [--models models]

Its input (0.3, 0.4) gives (0.29985, 0.3998) in inference form. A gradient computed in training form moves the
running mean and variance once, and the same input then gives (0.284447, 0.379263).
"""

import argparse
from pathlib import Path

import onnx
from onnx import TensorProto, helper

CONFIG = """\
name: "scenario_a"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 1 ] } ]
"""


def scenario_a() -> onnx.ModelProto:
    """BatchNorm of one channel as initialized: gain 1, offset 0, mean 0, variance 1."""
    statistics = {"gain": 1.0, "offset": 0.0, "mean": 0.0, "variance": 1.0}
    node = helper.make_node("BatchNormalization", ["x", *statistics], ["y"], name="batchnorm", epsilon=1e-3, momentum=0.9)
    graph = helper.make_graph(
        [node],
        "scenario_a",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in statistics.items()],
    )
    model = helper.make_model(graph, producer_name="gradserve", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Writes the model and its configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--models", type=Path, default=root / "models", help="model repository to write into")
    folder = parser.parse_args().models / "scenario_a"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(scenario_a(), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)


if __name__ == "__main__":
    main()
