"""VGG-16 (Simonyan & Zisserman 2014, configuration D) as ONNX, full size, seeded random weights: for mechanics and speed.

    python examples/make_vgg16.py models/vgg16      # 528 MiB
    gradserve ascend models/vgg16 --objective logits:144 --start mean --optimizer adam --learning-rate 1 --steps 2000 \\
        -o pelican.png
    gradserve grid models/vgg16 --objective-kind channel_energy --steps 300 --learning-rate 1 -o grid.png

With weights of your own, put your file at models/vgg16/1/model.onnx; its pixels are described in config.pbtxt (caffe: BGR,
0 to 255, the mean taken away), which this writes too.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

BLOCKS = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}
"""Convolutions and channels of each block."""
CLASSES = 1000
CONFIG = """\
parameters { key: "gradserve.input.image.preprocessing" value { string_value: "caffe" } }
"""


def vgg16(seed: int, *, width: float = 1.0, hidden: int = 4096) -> onnx.ModelProto:
    """The network, with weights as He et al. 2015 draw them, so that signals keep their size.

    Args:
        seed: Of the weights.
        width: What the channels are multiplied by.
        hidden: Units of the two layers before the last.
    """
    numbers = np.random.default_rng(seed)
    nodes, weights = [], []

    def weighted(op: str, value: str, name: str, shape: tuple[int, ...], **attributes: object) -> str:
        inputs = int(np.prod(shape[1:]))
        kernel = numbers.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / inputs))
        weights.append(numpy_helper.from_array(kernel, f"{name}.weight"))
        # Without them an image of zeros has no gradient: every ReLU would stand at its kink.
        bias = numbers.standard_normal(shape[0], np.float32) * np.float32(0.1)
        weights.append(numpy_helper.from_array(bias, f"{name}.bias"))
        nodes.append(helper.make_node(op, [value, f"{name}.weight", f"{name}.bias"], [name], **attributes))
        return name

    def plain(op: str, value: str, name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, [value], [name], **attributes))
        return name

    value, channels = "image", 3
    for block, (convolutions, filters) in BLOCKS.items():
        for number in range(1, convolutions + 1):
            shape = (round(filters * width), channels, 3, 3)
            value = weighted("Conv", value, f"conv{block}_{number}", shape, pads=[1, 1, 1, 1])
            value, channels = plain("Relu", value, f"relu{block}_{number}"), shape[0]
        value = plain("MaxPool", value, f"pool{block}", kernel_shape=[2, 2], strides=[2, 2])
    value = plain("Flatten", value, "features")
    value = plain("Relu", weighted("Gemm", value, "fc6", (hidden, channels * 7 * 7), transB=1), "relu6")
    value = plain("Relu", weighted("Gemm", value, "fc7", (hidden, hidden), transB=1), "relu7")
    value = weighted("Gemm", value, "logits", (CLASSES, hidden), transB=1)
    plain("Softmax", value, "probabilities")
    graph = helper.make_graph(
        nodes,
        "vgg16",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def main() -> None:
    """Writes the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where: FOLDER/1/model.onnx and FOLDER/config.pbtxt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    (options.folder / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(vgg16(options.seed), options.folder / "1" / "model.onnx")
    (options.folder / "config.pbtxt").write_text(CONFIG)
    print(f"wrote {options.folder}/1/model.onnx")


if __name__ == "__main__":
    main()
