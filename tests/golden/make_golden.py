"""Writes `digits.npz`: values and input gradients of every objective, by float64 autograd.

    python tests/golden/make_golden.py

An oracle that shares nothing with what it judges: it reads the initializers of
`models/digits_batchnorm/1/model.onnx` and evaluates that graph in torch, in float64, with BatchNorm's formula
written out; no onnxruntime, no folding. Needs the `torch` and `demo` extras. The tests read only the result.

Arrays in the file:
    image: [4, 1, 28, 28] float32, four test digits, normalized; `label` their classes; `logits` [4, 10].
    cases: JSON list of {prefix, kind, layer, ...arguments}; an argument that is an array is the name of one.
    <prefix>/value: [4]; <prefix>/gradient: [4, 1, 28, 28], with respect to `image`.
"""

# ruff: noqa: T201 (a script that reports what it wrote)
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import digits_data  # noqa: E402

MODEL = ROOT / "models" / "digits_batchnorm"
CLASSES = (0, 3, 7, 8)
LAYERS = ("relu1", "relu6")  # 24 maps of 28x28, the first; 48 maps of 7x7, inside the last block


def operator(node: onnx.NodeProto) -> Callable[..., Tensor]:
    """The formula of a node of the digit network, in torch."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def convolution(x: Tensor, weight: Tensor) -> Tensor:
        top, left, bottom, right = attributes["pads"]
        padded = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(padded, weight, stride=attributes["strides"])

    def batch_normalization(x: Tensor, gain: Tensor, offset: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        gain, offset, mean, var = (t.view(-1, 1, 1) for t in (gain, offset, mean, var))
        return gain * (x - mean) / torch.sqrt(var + attributes["epsilon"]) + offset

    def gemm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x @ (weight.T if attributes.get("transB") else weight) + bias

    def average_pool(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, attributes["kernel_shape"], attributes["strides"])

    return {
        "Add": torch.add,
        "AveragePool": average_pool,
        "BatchNormalization": batch_normalization,
        "Conv": convolution,
        "Gemm": gemm,
        "Relu": functional.relu,
        "Reshape": lambda x, _shape: x.flatten(1),
    }[node.op_type]


def evaluate(graph: onnx.GraphProto, image: Tensor) -> dict[str, Tensor]:
    """Every tensor of the graph, in float64."""
    tensors = {
        initializer.name: torch.from_numpy(numpy_helper.to_array(initializer).astype(np.float64))
        for initializer in graph.initializer
    }
    tensors["image"] = image
    for node in graph.node:
        tensors[node.output[0]] = operator(node)(*(tensors[name] for name in node.input))
    return tensors


def distance_from_kink(graph: onnx.GraphProto, image: Tensor) -> Tensor:
    """How near a sample comes to a kink of the network: the least absolute input of any ReLU."""
    tensors = evaluate(graph, image)
    nearest = [tensors[node.input[0]].flatten(1).abs().amin(dim=1) for node in graph.node if node.op_type == "Relu"]
    return torch.stack(nearest).amin(dim=0)


def chosen_digits(graph: onnx.GraphProto) -> tuple[np.ndarray, np.ndarray]:
    """One normalized test digit of each of CLASSES: the one farthest from any kink.

    There float32 and float64 take the same side of every ReLU, so that the gradients can be compared.
    """
    config = (MODEL / "config.pbtxt").read_text()
    mean, std = (
        np.float32(re.search(rf'input\.image\.{name}".*string_value: "([\d.]+)"', config).group(1))
        for name in ("mean", "std")
    )
    _, test = digits_data.load()
    images = (test.pixels - mean) / std
    distance = distance_from_kink(graph, torch.from_numpy(images.astype(np.float64))).numpy()
    chosen = [max(np.flatnonzero(test.labels == label), key=lambda index: distance[index]) for label in CLASSES]
    print("least distance from a kink:", distance[chosen].min())
    return images[chosen], test.labels[chosen]


def most_active(activation: Tensor) -> tuple[int, int, int]:
    """Channel, y and x of the neuron whose least activation over the samples is greatest."""
    index = np.unravel_index(int(activation.amin(dim=0).argmax()), activation.shape[1:])
    channel, y, x = map(int, index)
    return channel, y, x


def main() -> None:
    """Evaluates each case and writes the file."""
    graph = onnx.load(MODEL / "1" / "model.onnx").graph
    generator = np.random.default_rng(0)
    image, label = chosen_digits(graph)
    x = torch.from_numpy(image.astype(np.float64)).requires_grad_()
    tensors = evaluate(graph, x)
    logits = tensors["logits"]
    arrays = {"image": image, "label": label, "logits": logits.detach().numpy()}
    cases = []

    def add(value: Tensor, kind: str, layer: str, **arguments: int | float | np.ndarray) -> None:
        prefix = f"{layer}/{kind}"
        case = {"prefix": prefix, "kind": kind, "layer": layer}
        for name, argument in arguments.items():
            if isinstance(argument, np.ndarray):
                case[name] = f"{prefix}/{name}"
                arrays[case[name]] = argument
            else:
                case[name] = argument
        cases.append(case)
        (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        arrays[f"{prefix}/value"] = value.detach().numpy()
        arrays[f"{prefix}/gradient"] = gradient.numpy()
        norms = gradient.flatten(1).norm(dim=1)
        if norms.min() < 1e-6:
            message = f"{prefix}: a gradient is zero"
            raise SystemExit(message)
        print(f"{prefix:24} values {value.detach().numpy().round(4)}  gradient norms {norms.numpy().round(4)}")

    def integers(shape: tuple[int, ...]) -> np.ndarray:
        """Exact in any float type, and small when compressed."""
        return generator.integers(-4, 5, shape).astype(np.float32)

    add(logits[:, 7], "unit", "logits", index=7)
    cotangent = integers(tuple(logits.shape))
    add((logits * torch.from_numpy(cotangent)).sum(dim=1), "cotangent", "logits", array=cotangent)
    for layer in LAYERS:
        activation = tensors[layer]
        channel, row, column = most_active(activation)
        maps = activation[:, channel]
        add(maps[:, row, column], "neuron", layer, channel=channel, y=row, x=column)
        add(maps.mean(dim=(1, 2)), "channel", layer, channel=channel)
        add(maps.square().sum(dim=(1, 2)), "channel_energy", layer, channel=channel)
        add(activation.square().mean(dim=(1, 2, 3)), "layer", layer)
        vector = integers((activation.shape[1],))
        along = torch.einsum("nchw,c->nhw", activation, torch.from_numpy(vector).double())
        add(along.mean(dim=(1, 2)), "direction", layer, vector=vector, cosine_power=0)
        cotangent = integers(tuple(activation.shape))
        weighted = activation * torch.from_numpy(cotangent)
        add(weighted.sum(dim=(1, 2, 3)), "cotangent", layer, array=cotangent)

    path = Path(__file__).parent / "digits.npz"
    np.savez_compressed(path, cases=np.array(json.dumps(cases)), **arrays)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {len(cases)} cases")


if __name__ == "__main__":
    main()
