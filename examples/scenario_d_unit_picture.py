"""Scenario D: why does this unit's picture look like the same thing to every network?

    python examples/scenario_d_unit_picture.py [--channel 4] [--output out]

Maximizes the mean of one channel of a layer of the shape network (gradient divided by its standard deviation, steps of
0.1 of the pixel range's half, 100 steps, from even noise), asks the network and its independently trained judge what the
picture is, and looks for the reason: the means of all channels of that layer for generated pictures of every class, the
distances within and between classes, the picture's own, and a map of them all (t-SNE). Needs the `demo` extra.
"""

import argparse
from pathlib import Path

import numpy as np
import shapes_data
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.manifold import TSNE

import gradserve
from gradserve import ImageDescription, Sgd
from gradserve import objectives as O
from gradserve_server import Engine

EXAMPLES = Path(__file__).resolve().parent
MODEL, JUDGE = "shapes", "shapes_judge"
LAYER = "relu5"
"""40 channels on 12x12 positions."""
PER_CLASS = 20
CONTRAST = 127.5
"""How much more of it the picture in the original had when it was judged: made within [-1, 1], shown as [-127.5, 127.5]."""

Pixels = NDArray[np.float32]


def described(engine: Engine, model: str) -> ImageDescription:
    """What the pixels of a model are."""
    description = engine.inspect(model).input("image").image
    assert description is not None
    return description


def picture(engine: Engine, layer: str, channel: int) -> Pixels:
    """What makes the channel's mean large, [1, 3, 48, 48] in [0, 1]."""
    start = np.random.default_rng(0).random((3, shapes_data.IMAGE_SIZE, shapes_data.IMAGE_SIZE), np.float32)
    settings = gradserve.AscentSettings(
        steps=100, start=start, optimizer=Sgd(0.05), gradient_normalization="std", image_every=0
    )
    *_, last = engine.ascend(MODEL, O.channel(layer, channel), **settings)
    print(f"mean of channel {channel} of {layer} after {last.index} steps: {last.value:.3f}")
    assert last.image is not None
    return last.image


def probabilities(engine: Engine, model: str, pixels: Pixels) -> NDArray[np.float64]:
    """[N, classes]."""
    logits = engine.infer(model, {"image": described(engine, model).normalize(pixels)})["logits"].astype(np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def channel_means(engine: Engine, layer: str, pixels: Pixels) -> NDArray[np.float64]:
    """The mean of each channel of the layer, [N, C]."""
    x = described(engine, MODEL).normalize(pixels)
    return np.asarray(engine.activations(MODEL, {"image": x}, [layer])[layer].mean((2, 3), dtype=np.float64))


def judged(engine: Engine, made: Pixels) -> Table:
    """What both networks call the picture, and the same picture with the contrast that it was never made for."""
    table = Table(title="What the picture is called")
    for heading in ("", "by the network", "by its judge"):
        table.add_column(heading)
    too_much = (made - 0.5) * np.float32(CONTRAST) + np.float32(0.5)
    for what, pixels in (("as it was made", made), (f"with {CONTRAST:g} times its contrast", too_much)):
        verdicts = []
        for model in (MODEL, JUDGE):
            told = probabilities(engine, model, pixels)[0]
            verdicts.append(f"{shapes_data.LABELS[int(told.argmax())]} {told.max():.3f}")
        table.add_row(what, *verdicts)
    return table


def distances(means: NDArray[np.float64], labels: NDArray[np.int64], own: NDArray[np.float64]) -> Table:
    """L2 distances of channel means: within classes, between them, and from the picture."""
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    same = labels[:, None] == labels[None]
    others = ~np.eye(len(labels), dtype=bool)
    from_picture = np.linalg.norm(means - own, axis=1)
    nearest = shapes_data.LABELS[int(labels[from_picture.argmin()])]
    table = Table(title="L2 distances of channel means")
    for heading in ("", "median", "largest"):
        table.add_column(heading, justify="right" if heading else "left")
    for what, values in (
        ("within a class", apart[same & others]),
        ("between classes", apart[~same]),
        (f"from the picture (nearest: {nearest}, {from_picture.min():.2f})", from_picture),
    ):
        table.add_row(what, f"{np.median(values):.2f}", f"{values.max():.2f}")
    return table


def draw(means: NDArray[np.float64], labels: NDArray[np.int64], own: NDArray[np.float64], made: Pixels, path: Path) -> None:
    """The picture, and the map."""
    points = TSNE(random_state=0, init="pca", perplexity=15).fit_transform(np.vstack([means, own]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), width_ratios=(2, 3), layout="constrained")
    left.imshow(made[0].transpose(1, 2, 0))
    left.set_axis_off()
    left.set_title("the picture")
    for label, name in enumerate(shapes_data.LABELS):
        chosen = points[:-1][labels == label]
        right.scatter(*chosen.T, s=16, color=plt.cm.tab20(label), label=name)
    right.scatter(*points[-1:].T, s=160, marker="*", color="black", label="the picture")
    right.legend(fontsize=8, ncols=2, bbox_to_anchor=(1, 1), loc="upper left")
    right.set_title("t-SNE of the channel means")
    right.set_xticks([])
    right.set_yticks([])
    figure.savefig(path, dpi=110)


def main() -> None:
    """Makes, judges, measures and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channel", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder of the picture (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=100)
    with Engine(EXAMPLES / "models") as engine:
        made = picture(engine, LAYER, options.channel)
        console.print(judged(engine, made))
        shown = shapes_data.generate(PER_CLASS * len(shapes_data.LABELS), seed=7)
        means, own = channel_means(engine, LAYER, shown.pixels), channel_means(engine, LAYER, made)
        console.print(distances(means, shown.labels, own))
        path = options.output / "scenario_d.png"
        draw(means, shown.labels, own, made, path)
    console.print(path)


if __name__ == "__main__":
    main()
