"""Every kind of term, and its published formula in torch: the oracle of `tests/unit/test_objective_*`.

A formula takes the activations by layer (float64, on a graph) and gives one value per sample. It is written as the
publication writes it, loops included, and shares nothing with the code that is tested.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradserve import objectives as O

SAMPLES = 3
SHAPE = (3, 6, 5)
"""Of one image."""
CHANNELS = 4

BODY = """
h = Conv<pads = [1, 1, 1, 1]>(x, w)
t = Tanh(h)
r = Relu(h)
last = Transpose<perm = [0, 2, 3, 1]>(t)
pooled = GlobalAveragePool(t)
y = Flatten(pooled)
"""
"""Layers: `t` is [N, 4, 6, 5]; `r` too, with zeros at some positions; `last` has its channels last; `y` is [N, 4]."""

_random = np.random.default_rng(7)
WEIGHTS = {"w": _random.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32) / 3}
IMAGES = _random.uniform(0.05, 0.95, size=(SAMPLES, *SHAPE)).astype(np.float32)
VECTOR = _random.normal(size=CHANNELS).astype(np.float32)
LIKE_T = _random.normal(size=(1, CHANNELS, *SHAPE[1:])).astype(np.float32)
EACH = _random.normal(size=(SAMPLES, CHANNELS, *SHAPE[1:])).astype(np.float32)
OTHER_SIZE = _random.normal(size=(1, CHANNELS, 4, 3)).astype(np.float32)


def activations(torch: Any, x: Any) -> dict[str, Any]:
    """The layers of the model, from images [N, 3, 6, 5] in float64."""
    h = torch.nn.functional.conv2d(x, torch.tensor(WEIGHTS["w"], dtype=torch.float64), padding=1)
    t = torch.tanh(h)
    return {"h": h, "t": t, "r": torch.relu(h), "last": t.permute(0, 2, 3, 1), "y": t.mean((2, 3)), "x": x}


@dataclass(frozen=True, eq=False)
class Case:
    """An objective of one term (or two, of one constructor), and its formula."""

    name: str
    objective: O.Objective
    formula: Callable[[Any, Mapping[str, Any]], Any]
    """From torch and the activations."""


def _lucid_direction(torch: Any, x: Any, vector: Any, power: float) -> Any:
    """Lucid's `_dot_cossim` for one sample: x is [..., C]; the length of what is all 0 has no derivative there."""
    dot = (x * vector).sum(-1)
    squares = (x * x).sum(-1)
    length = torch.where(squares > 0, torch.where(squares > 0, squares, torch.ones_like(squares)).sqrt(), 0.0)
    cosine = dot / (1e-4 + length) / (1e-4 + vector.norm())
    return (dot * torch.clamp(cosine, min=0.1) ** power).mean()


def _direction(layer: str, power: float) -> Callable[..., Any]:
    def formula(torch: Any, acts: Mapping[str, Any]) -> Any:
        channels_last = acts[layer] if layer == "last" else acts[layer].movedim(1, -1)
        return torch.stack([_lucid_direction(torch, one, torch.tensor(VECTOR).double(), power) for one in channels_last])

    return formula


def _direction_neuron(layer: str, power: float, position: tuple[int, int]) -> Callable[..., Any]:
    def formula(torch: Any, acts: Mapping[str, Any]) -> Any:
        channels_last = acts[layer] if layer == "last" else acts[layer].movedim(1, -1)
        vector = torch.tensor(VECTOR).double()
        return torch.stack([_lucid_direction(torch, one[position], vector, power) for one in channels_last])

    return formula


def _caricature(power: float, target: Any) -> Callable[..., Any]:
    def formula(torch: Any, acts: Mapping[str, Any]) -> Any:
        targets = np.broadcast_to(target, EACH.shape)
        return torch.stack(
            [
                _lucid_direction(torch, one.flatten(), torch.tensor(other.copy()).double().flatten(), power)
                for one, other in zip(acts["t"], targets, strict=True)
            ]
        )

    return formula


def _gram(one: Any) -> Any:
    """Gatys et al.: of features [C, ...], divided by the number of positions."""
    features = one.flatten(1)
    return features @ features.T / features.shape[1]


def _style(torch: Any, acts: Mapping[str, Any]) -> Any:
    target = _gram(torch.tensor(OTHER_SIZE[0]).double())
    return -torch.stack([((_gram(one) - target) ** 2).sum() / (4 * CHANNELS**2) for one in acts["t"]])


def _style_last(torch: Any, acts: Mapping[str, Any]) -> Any:
    return _style(torch, {"t": acts["last"].movedim(-1, 1)})


def _alignment(decay: float) -> Callable[..., Any]:
    """Lucid's sum over pairs; half of each pair's part is that of either image."""

    def formula(torch: Any, acts: Mapping[str, Any]) -> Any:
        layer = acts["t"]
        values = [torch.zeros((), dtype=torch.float64) for _ in layer]
        for distance in (1, 2, 3, 4):
            for i in range(len(layer) - distance):
                part = ((layer[i] - layer[i + distance]) ** 2).mean() / decay ** float(distance)
                values[i] = values[i] - part / 2
                values[i + distance] = values[i + distance] - part / 2
        return torch.stack(values)

    return formula


def _diversity(torch: Any, acts: Mapping[str, Any]) -> Any:
    grams = []
    for one in acts["t"]:
        features = one.flatten(1)
        gram = features @ features.T
        grams.append(gram / torch.clamp((gram**2).sum(), min=1e-10).sqrt())
    return torch.stack(
        [
            sum(((a * b).sum() for j, b in enumerate(grams) if j != i), start=torch.zeros((), dtype=torch.float64))
            for i, a in enumerate(grams)
        ]
    )


def _interpolate(torch: Any, acts: Mapping[str, Any]) -> Any:
    count = len(acts["t"])
    shares = [n / float(count - 1) if count > 1 else 0.0 for n in range(count)]
    return torch.stack(
        [(1 - share) * acts["t"][n, 1].mean() + share * acts["r"][n, 2].mean() for n, share in enumerate(shares)]
    )


def blurred(torch: Any, image: Any, width: int) -> Any:
    """Lucid's `_tf_blur` of an image [C, H, W]."""
    kernel = torch.full((1, 1, width, width), 0.5, dtype=torch.float64)
    kernel[:, :, 1:-1, 1:-1] = 1.0
    convolve = lambda planes: torch.nn.functional.conv2d(planes[:, None], kernel, padding=width // 2)[:, 0]  # noqa: E731
    return convolve(image) / convolve(torch.ones_like(image))


def _total_variation(torch: Any, acts: Mapping[str, Any]) -> Any:  # noqa: ARG001
    x = acts["x"]
    return (x[:, :, 1:] - x[:, :, :-1]).abs().sum((1, 2, 3)) + (x[..., 1:] - x[..., :-1]).abs().sum((1, 2, 3))


def _boundary(width: int, constant: float) -> Callable[..., Any]:
    def formula(torch: Any, acts: Mapping[str, Any]) -> Any:
        values = []
        for image in acts["x"]:
            mask = torch.ones_like(image)
            mask[:, width:-width, width:-width] = 0
            differences = (blurred(torch, image, 5) - image) ** 2 + 0.8 * (image - constant) ** 2
            values.append((differences * mask).sum())
        return torch.stack(values)

    return formula


def _blur_each_step(torch: Any, acts: Mapping[str, Any]) -> Any:
    return torch.stack([0.5 * ((image - blurred(torch, image, 3).detach()) ** 2).sum() for image in acts["x"]])


def _cotangent(torch: Any, acts: Mapping[str, Any]) -> Any:
    return (acts["t"] * torch.tensor(EACH).double()).sum((1, 2, 3))


def _matching(target: Any) -> Callable[..., Any]:
    return lambda torch, acts: -((acts["t"] - torch.tensor(target).double()) ** 2).mean((1, 2, 3))


OF_LAYERS = (
    Case("unit", O.unit("y", 2), lambda _, a: a["y"][:, 2]),
    Case("neuron", O.neuron("t", 1, 2, 3), lambda _, a: a["t"][:, 1, 2, 3]),
    Case("neuron in the centre", O.neuron("t", 1), lambda _, a: a["t"][:, 1, 3, 2]),
    Case("channel", O.channel("t", 1), lambda _, a: a["t"][:, 1].mean((1, 2))),
    Case("channel, last", O.channel("last", 1, axis=-1), lambda _, a: a["last"][..., 1].mean((1, 2))),
    Case("channel_energy", O.channel_energy("t", 1), lambda _, a: (a["t"][:, 1] ** 2).sum((1, 2))),
    Case("layer", O.layer("t"), lambda _, a: (a["t"] ** 2).mean((1, 2, 3))),
    Case("cotangent", O.cotangent("t", EACH), _cotangent),
    Case("direction", O.direction("t", VECTOR), _direction("t", 0)),
    Case("direction, last", O.direction("last", VECTOR, axis=3), _direction("last", 0)),
    Case("direction, power 2", O.direction("t", VECTOR, 2), _direction("t", 2)),
    Case("direction, power 0.5, zeros", O.direction("r", VECTOR, cosine_power=0.5), _direction("r", 0.5)),
    Case("direction, power 4, last", O.direction("last", VECTOR, 4, axis=-1), _direction("last", 4)),
    Case("direction, power 2, of a vector", O.direction("y", VECTOR, 2), _direction("y", 2)),
    Case("direction_neuron", O.direction_neuron("t", VECTOR, 2, 3), _direction_neuron("t", 0, (2, 3))),
    Case("direction_neuron, centre", O.direction_neuron("t", VECTOR), _direction_neuron("t", 0, (3, 2))),
    Case(
        "direction_neuron, power", O.direction_neuron("t", VECTOR, 1, 4, cosine_power=2), _direction_neuron("t", 2, (1, 4))
    ),
    Case(
        "direction_neuron, last",
        O.direction_neuron("last", VECTOR, 2, 3, axis=-1),
        _direction_neuron("last", 0, (2, 3)),
    ),
    Case(
        "direction_neuron, power, last",
        O.direction_neuron("last", VECTOR, 2, 3, cosine_power=1, axis=-1),
        _direction_neuron("last", 1, (2, 3)),
    ),
    Case("matching", O.matching("t", LIKE_T), _matching(LIKE_T)),
    Case("matching, one each", O.matching("t", EACH), _matching(EACH)),
    Case("style", O.style("t", OTHER_SIZE), _style),
    Case("style, last", O.style("last", OTHER_SIZE.transpose(0, 2, 3, 1), axis=-1), _style_last),
    Case("caricature", O.caricature("t", LIKE_T), _caricature(0, LIKE_T)),
    Case("caricature, power 2", O.caricature("t", LIKE_T, 2), _caricature(2, LIKE_T)),
    Case("caricature, power 1, one each", O.caricature("t", EACH, cosine_power=1), _caricature(1, EACH)),
    Case("channel_interpolate", O.channel_interpolate("t", 1, "r", 2), _interpolate),
    Case("alignment", O.alignment("t"), _alignment(2.0)),
    Case("alignment, decay 3", O.alignment("t", 3), _alignment(3.0)),
    Case("diversity", O.diversity("t"), _diversity),
    Case("diversity, last", O.diversity("last", axis=-1), _diversity),
)
OF_THE_IMAGE = (
    Case("l1", O.l1(0.4), lambda _, a: (a["x"] - 0.4).abs().sum((1, 2, 3))),
    Case("l2", O.l2(), lambda _, a: (1e-6 + (a["x"] ** 2).sum((1, 2, 3))).sqrt()),
    Case("l2, another", O.l2(0.5, epsilon=1e-2), lambda _, a: (1e-2 + ((a["x"] - 0.5) ** 2).sum((1, 2, 3))).sqrt()),
    Case("total_variation", O.total_variation(), _total_variation),
    Case("boundary_complexity", O.boundary_complexity(1), _boundary(1, 0.5)),
    Case("boundary_complexity, 2", O.boundary_complexity(2, 0.3), _boundary(2, 0.3)),
    Case("boundary_complexity, all", O.boundary_complexity(), _boundary(20, 0.5)),
    Case("blur_input_each_step", O.blur_input_each_step(), _blur_each_step),
)
CASES = OF_LAYERS + OF_THE_IMAGE


def kinds(base: type[O.Term] = O.Term) -> set[type[O.Term]]:
    """Every kind of term there is."""
    found: set[type[O.Term]] = set()
    for kind in base.__subclasses__():
        found |= kinds(kind) or {kind}
    return found
