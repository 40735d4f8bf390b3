"""Scenario A: the gradient that changed the predictions.

    python examples/scenario_a_polluted.py [--output out]

In PyTorch, an input gradient of a network that was left in training form moves the running statistics of its BatchNorms.
First the smallest case: one BatchNorm, two numbers. Then the digit network: twenty steps of

    image <- rescale(image + 0.1 rescale(gradient))          (rescale: min and max to 0 and 1)

from noise towards one class, and after each step how many test digits the original network still knows. gradserve takes
the same steps on the file of the same weights. Needs the `demo` and `torch` extras; half a minute.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import digits_data
import numpy as np
import onnx
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from train_digits import DigitNetwork

from gradserve import objectives as O
from gradserve_server import Engine

MODELS = Path(__file__).resolve().parents[1] / "models"
MODEL = "digits_batchnorm"
CLASS, STEPS, RATE = 3, 20, 0.1
SMALLEST = np.array([[0.3], [0.4]], np.float32)

Pixels = NDArray[np.float32]


def smallest_in_torch() -> NDArray[np.float32]:
    """What a BatchNorm as initialized says of (0.3, 0.4) after one gradient in training form.

    The image comes twice, because PyTorch refuses a batch of one value; its statistics are the same: mean x, variance 0.
    """
    norm = torch.nn.BatchNorm1d(2, eps=1e-3, momentum=0.1)
    image = torch.from_numpy(SMALLEST.T)
    twice = image.repeat(2, 1).requires_grad_()
    norm(twice).sum().backward()
    return norm.eval()(image).detach().numpy().ravel()


def rescale(x: Pixels) -> Pixels:
    """From 0 to 1."""
    return (x - x.min()) / (x.max() - x.min())


def in_torch() -> DigitNetwork:
    """The network of the file, in PyTorch."""
    initializers = onnx.load(MODELS / MODEL / "1/model.onnx").graph.initializer
    tensors = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in initializers}
    network = DigitNetwork()
    missing, _ = network.load_state_dict(tensors, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return network.eval()


def climb(gradient: Callable[[Pixels], Pixels], accuracy: Callable[[], float], start: Pixels) -> list[float]:
    """Twenty steps by a gradient, and the accuracy of the network before, and after each."""
    image, known = start, [accuracy()]
    for _ in range(STEPS):
        image = rescale(image + RATE * rescale(gradient(image)))
        known.append(accuracy())
    return known


def main() -> None:
    """Asks both, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the picture (default: %(default)s)")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    _, test = digits_data.load()
    start = np.random.default_rng(0).random((1, *test.pixels.shape[1:]), np.float32)
    network = in_torch()
    with Engine(MODELS) as engine:
        image = engine.inspect(MODEL).input("image").image
        assert image is not None
        x = image.normalize(test.pixels)

        def ours(pixels: Pixels) -> Pixels:
            return engine.gradient(MODEL, {"image": image.normalize(pixels)}, O.unit("logits", CLASS)).gradients["image"]

        def theirs(pixels: Pixels) -> Pixels:
            given = torch.from_numpy(image.normalize(pixels)).requires_grad_()
            network.train()  # as it was left
            network(given)[0, CLASS].backward()
            assert given.grad is not None
            return given.grad.numpy()

        def our_accuracy() -> float:
            return float((engine.infer(MODEL, {"image": x})["logits"].argmax(1) == test.labels).mean())

        def their_accuracy() -> float:
            with torch.no_grad():
                return float((network.eval()(torch.from_numpy(x)).argmax(1).numpy() == test.labels).mean())

        before = engine.infer(MODEL, {"image": x})["logits"].tobytes()
        known = {
            "gradserve": climb(ours, our_accuracy, start),
            "PyTorch, left in training form": climb(theirs, their_accuracy, start),
        }
        assert engine.infer(MODEL, {"image": x})["logits"].tobytes() == before, "a prediction has changed"
        first = engine.infer("scenario_a", {"x": SMALLEST})["y"]
        engine.gradient("scenario_a", {"x": SMALLEST}, O.unit("y", 0))
        again = engine.infer("scenario_a", {"x": SMALLEST})["y"]
        assert first.tobytes() == again.tobytes(), "a prediction has changed"
    report(known, again.ravel())
    draw(known, output / "scenario_a.png")
    print(output / "scenario_a.png")


def report(known: dict[str, list[float]], ours: NDArray[np.float32]) -> None:
    """Both cases as a table."""
    table = Table(title="After gradients")
    for heading in ("", "0.3 becomes", "0.4 becomes", f"test digits known, after {STEPS} steps"):
        table.add_column(heading)
    for (name, shares), (first, second) in zip(known.items(), (ours, smallest_in_torch()), strict=True):
        table.add_row(name, f"{first:.6f}", f"{second:.6f}", f"{shares[0]:.1%} -> {shares[-1]:.1%}")
    Console(width=110).print(table)


def draw(known: dict[str, list[float]], path: Path) -> None:
    """The accuracy over the steps."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, shares in known.items():
        axes.plot(range(STEPS + 1), shares, marker="o", markersize=3, label=name)
    axes.set(
        xlabel="gradients asked for", ylabel="test digits known", ylim=(0, 1.03), title="The same weights, the same steps"
    )
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
