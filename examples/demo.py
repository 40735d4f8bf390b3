"""The main job, end to end: serve, predict, differentiate, ascend, and show that no prediction has moved.

    scripts/demo            # or: python examples/demo.py [--output out/demo]

Starts a server on loopback with the models in `models/`, asks it everything as any client would, writes pictures, and stops
the server. What it claims it asserts: it fails if a prediction changes by one bit.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from digits_data import load
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

import gradserve
from gradserve import Noise, Sgd, Step, images
from gradserve import objectives as O

MODELS = Path(__file__).resolve().parents[1] / "models"
MODEL = "digits_batchnorm"
ASCENT = gradserve.AscentSettings(
    steps=256,
    seed=1,
    start=Noise(0.05),
    optimizer=Sgd(0.02),
    gradient_normalization="std",
    weight_decay=0.01,
    jitter=2,
)
"""Found by looking at contact sheets; examples/train_digits.py says why this network's gradients make digits."""

ZOOM = 5
"""28 pixels are too few to look at."""

console = Console()


@contextmanager
def server() -> Iterator[str]:
    """`gradserve serve` as its own process, on a free port; stopped by SIGTERM, as an operator would."""
    command = [sys.executable, "-m", "gradserve.cli", "serve", str(MODELS), "--port", "0", "--no-metrics"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(line.split()[-1] for line in process.stdout if line.startswith("listening on"))
            yield address
        finally:
            process.terminate()
            code = process.wait(timeout=30)
    console.print(f"server stopped, exit code {code}")
    assert code == 0


def classify(client: gradserve.Client, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
    """Prints how many of the test digits are classified rightly; returns the logits' bytes."""
    logits = client.infer(MODEL, {"image": inputs})["logits"]
    right = int((logits.argmax(1) == labels).sum())
    console.print(f"predicted {len(labels)} test digits it was not trained on: {right} right ({right / len(labels):.1%})")
    return logits.tobytes()


def show_gradients(
    client: gradserve.Client, pixels: NDArray[np.float32], inputs: NDArray[np.float32], labels: NDArray[np.int64], path: Path
) -> None:
    """One digit of each class above the gradient of its own logit."""
    description = client.inspect(MODEL).input("image").image
    digits, gradients = [], []
    for digit in range(10):
        index = int(np.flatnonzero(labels == digit)[0])
        gradient = client.gradient(MODEL, {"image": inputs[index : index + 1]}, O.unit("logits", digit)).gradients["image"]
        digits.append((images.enlarge(images.to_picture(pixels[index], description), ZOOM), f"a {digit}"))
        gradients.append((images.enlarge(images.gradient_picture(gradient[0], description), ZOOM), f"d logit {digit}"))
    images.contact_sheet(digits + gradients, columns=10).save(path)


def ascend_all(address: str) -> list[list[Step]]:
    """An ascent for each class, all ten at once, each on a stream of its own."""
    value = TextColumn("logit {task.fields[value]:6.2f}")
    bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), value, console=console)
    with gradserve.Client(address) as client, bars as progress, ThreadPoolExecutor(10) as pool:

        def ascend(digit: int) -> list[Step]:
            task = progress.add_task(f"ascent for a {digit}", total=ASCENT["steps"], value=0.0)
            steps = []
            for step in client.ascend(MODEL, O.unit("logits", digit), **ASCENT):
                steps.append(step)
                progress.update(task, completed=step.index, value=step.value)
            return steps

        return list(pool.map(ascend, range(10)))


def show_ascents(client: gradserve.Client, runs: list[list[Step]], sheet: Path, plot: Path) -> None:
    """The ten pictures with what the network says of them, and the objective over the steps."""
    description = client.inspect(MODEL).input("image").image
    assert description is not None
    tiles, figure = [], plt.figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="logit", title="Ten ascents at once; jitter shifts each step's picture")
    for digit, run in enumerate(runs):
        image = run[-1].image
        assert image is not None
        logits = client.infer(MODEL, {"image": description.normalize(image)})["logits"][0]
        probability = float(np.exp(logits[digit] - logits.max()) / np.exp(logits - logits.max()).sum())
        tiles.append((images.enlarge(images.to_picture(image[0], description), ZOOM), f"{digit}: {probability:.1%}"))
        axes.plot([step.index for step in run], [step.value for step in run], label=str(digit))
    axes.legend(title="class", ncols=2)
    figure.savefig(plot, dpi=120)
    images.contact_sheet(tiles, columns=5).save(sheet)


def in_training_form(x: float, epsilon: float = 1e-3, momentum: float = 0.9) -> float:
    """What BatchNorm answers for x once a gradient call in training form has moved its statistics towards x."""
    mean, variance = momentum * 0.0 + (1 - momentum) * x, momentum * 1.0 + (1 - momentum) * 0.0
    return (x - mean) / (variance + epsilon) ** 0.5


def scenario_a(client: gradserve.Client) -> None:
    """The gradient that changed the predictions elsewhere: BatchNorm with mean 0 and variance 1, asked before and after."""
    x = {"x": np.array([[0.3], [0.4]], np.float32)}
    table = Table("", "0.3 becomes", "0.4 becomes", title="Scenario A: one BatchNorm, and a gradient in between")
    for moment in ("before the gradient", "after it"):
        first, second = client.infer("scenario_a", x)["y"].ravel()
        table.add_row(f"gradserve, {moment}", f"{first:.5f}", f"{second:.4f}")
        assert (f"{first:.5f}", f"{second:.4f}") == ("0.29985", "0.3998")
        client.gradient("scenario_a", x, O.unit("y", 0))
    polluted = [f"{in_training_form(pixel):.5f}" for pixel in (0.3, 0.4)]
    table.add_row("training form, after it (by its formula)", *polluted, style="dim")
    console.print(table)


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/demo"), help="where the pictures go (default: %(default)s)")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    _, test = load()
    with server() as address, gradserve.Client(address) as client:
        console.print(f"a server listens on {address} with {MODEL}, scenario_a and digits")
        description = client.inspect(MODEL).input("image").image
        assert description is not None
        inputs = description.normalize(test.pixels)
        before = classify(client, inputs, test.labels)
        show_gradients(client, test.pixels, inputs, test.labels, output / "gradients.png")
        runs = ascend_all(address)
        show_ascents(client, runs, output / "classes.png", output / "objective.png")
        scenario_a(client)
        after = client.infer(MODEL, {"image": inputs})["logits"].tobytes()
        assert before == after, "a prediction has changed"
        console.print(f"predictions before and after {sum(len(run) for run in runs)} gradients: the same {len(after)} bytes")
    console.print(f"{time.monotonic() - started:.0f} s; pictures:")
    for name in ("gradients.png", "classes.png", "objective.png"):
        console.print(f"  {output / name}")


if __name__ == "__main__":
    main()
