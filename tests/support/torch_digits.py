"""The digits model in torch and float64, node by node from its file: an oracle that shares nothing with the server."""

from collections.abc import Callable

import onnx
from support.paths import MODELS

DIGITS = MODELS / "digits" / "1" / "model.onnx"


def forward(torch, image, layers, relu: Callable | None = None):
    """The values of layers, by name.

    Args:
        torch: The module.
        image: [N, 1, 28, 28], as the model takes it: normalized.
        layers: Which.
        relu: What takes the place of torch's.
    """
    graph = onnx.load(DIGITS).graph
    values = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    values = {name: value.double() if value.is_floating_point() else value for name, value in values.items()}
    values["image"] = image
    operators = {
        "Conv": lambda a, x, w, b: torch.nn.functional.conv2d(x, w, b, a["strides"], a["pads"][:2]),
        "Relu": lambda _, x: (relu or torch.relu)(x),
        "AveragePool": lambda a, x: torch.nn.functional.avg_pool2d(x, a["kernel_shape"], a["strides"]),
        "Add": lambda _, x, y: x + y,
        "Reshape": lambda _, x, shape: x.reshape([-1, *shape.tolist()[1:]]),
        "Gemm": lambda _, x, w, b: x @ w.T + b,
    }
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = operators[node.op_type](attributes, *[values[name] for name in node.input])
    return {name: values[name] for name in layers}


def normalized(pixels):
    """Pixels as the model takes them (models/digits/config.pbtxt)."""
    return (pixels - 0.2268) / 0.33


def gradient(torch, pixels, score: Callable, relu: Callable | None = None, layer: str = "logits"):
    """The value of a score of each image, and its gradient with respect to the pixels, in float64.

    Args:
        torch: The module.
        pixels: [N, 1, 28, 28] in [0, 1].
        score: From the layer [N, ...] to [N].
        relu: What takes the place of torch's.
        layer: Which.
    """
    x = torch.tensor(pixels, dtype=torch.float64, requires_grad=True)
    values = score(forward(torch, normalized(x), [layer], relu)[layer])
    values.sum().backward()
    return values.detach().numpy(), x.grad.numpy()
