"""Terms by their known names, with their published defaults: each function makes an objective of one term."""

import numpy.typing as npt

from gradserve.objectives.algebra import Objective
from gradserve.objectives.terms import (
    L1,
    L2,
    Alignment,
    BlurInputEachStep,
    BoundaryComplexity,
    Caricature,
    Channel,
    ChannelEnergy,
    Cotangent,
    Direction,
    DirectionNeuron,
    Diversity,
    InterpolatedChannel,
    LayerEnergy,
    Matching,
    Neuron,
    Style,
    Term,
    TotalVariation,
    Unit,
    as_array,
)


def _one(term: Term) -> Objective:
    return Objective(((1.0, term),))


def unit(layer: str, index: int) -> Objective:
    """A logit: element `index` of one sample of the layer, in row-major order."""
    return _one(Unit(layer, int(index)))


def neuron(layer: str, channel: int, *position: int) -> Objective:
    """One position of one channel: `neuron("relu3", 4, y, x)`. Without a position: the centre."""
    return _one(Neuron(layer, int(channel), _position(position)))


def channel(layer: str, channel: int, *, axis: int = 1) -> Objective:
    """Mean of one channel. `axis` counts the batch axis: use -1 or 3 for a layer in NHWC."""
    return _one(Channel(layer, int(channel), int(axis)))


def channel_energy(layer: str, channel: int, *, axis: int = 1) -> Objective:
    """Sum of the squares of one channel. `axis` as in `channel`."""
    return _one(ChannelEnergy(layer, int(channel), int(axis)))


def layer(layer: str) -> Objective:
    """Mean of the squares of a whole layer, as in DeepDream."""
    return _one(LayerEnergy(layer))


def cotangent(layer: str, array: npt.ArrayLike) -> Objective:
    """Inner product of the layer with `array`, which has the layer's shape (a batch of 1 serves every sample).

    Its gradient is the vector-Jacobian product with that array.
    """
    return _one(Cotangent(layer, as_array(array)))


def channel_interpolate(layer1: str, channel1: int, layer2: str, channel2: int, *, axis: int = 1) -> Objective:
    """From one channel for the first image of a batch to another for the last, in equal steps (Lucid's).

    Image n of N has (1 - w) mean(channel 1) + w mean(channel 2) with w = n / (N - 1); a single image has w = 0.
    """
    return _one(InterpolatedChannel(layer1, int(channel1), int(axis), falling=True)) + _one(
        InterpolatedChannel(layer2, int(channel2), int(axis))
    )


def direction(layer: str, vector: npt.ArrayLike, cosine_power: float = 0.0, *, axis: int = 1) -> Objective:
    """Mean over positions of dot * max(0.1, cos)^cosine_power, of the channels there and `vector` [C] (Lucid's).

    cos = dot / (|channels| + 1e-4) / (|vector| + 1e-4). Where the channels are all 0, their length has the derivative 0;
    where cos is 0.1 or less, the factor is constant.

    Args:
        layer: Its tensor name.
        vector: [C].
        cosine_power: 0 in Lucid: the plain inner product. Xplique has 2, Captum's AngledNeuronDirection 4.
        axis: Of the channels, as in `channel`.
    """
    return _one(Direction(layer, as_array(vector), float(cosine_power), int(axis)))


def direction_neuron(
    layer: str, vector: npt.ArrayLike, *position: int, cosine_power: float = 0.0, axis: int = 1
) -> Objective:
    """`direction` at one position; without one at the centre, size // 2 (Lucid's)."""
    return _one(DirectionNeuron(layer, as_array(vector), _position(position), float(cosine_power), int(axis)))


def matching(layer: str, array: npt.ArrayLike) -> Objective:
    """-mean((A - array)^2): feature inversion (Mahendran & Vedaldi 2015), 0 where the layer has these activations.

    `array` has the layer's shape (a batch of 1 serves every sample).
    """
    return _one(Matching(layer, as_array(array)))


def style(layer: str, array: npt.ArrayLike, *, axis: int = 1) -> Objective:
    """Minus the style distance E of Gatys et al. 2016, formula 4, to the activations `array`; 0 where they agree.

    E = sum((G - T)^2) / (4 C^2), where G and T are the Gram matrices of the channels, [C, C], divided by the number of
    positions. `array` may have other positions than the layer: those of a picture of another size.

    Args:
        layer: Its tensor name.
        array: Activations [N or 1, C, ...], with the layer's number of axes.
        axis: Of the channels, as in `channel`.
    """
    return _one(Style(layer, as_array(array), int(axis)))


def caricature(layer: str, array: npt.ArrayLike, cosine_power: float = 0.0) -> Objective:
    """dot * max(0.1, cos)^cosine_power, of the whole layer and the activations `array`: what is there, exaggerated.

    cos as in `direction`. (Lucid's recipe divides by the length of the target only, which is no cosine.)

    Args:
        layer: Its tensor name.
        array: Of the layer's shape (a batch of 1 serves every sample).
        cosine_power: 0 in Lucid: the plain inner product.
    """
    return _one(Caricature(layer, as_array(array), float(cosine_power)))


# ---- across the images of a batch: each image's value depends on the others, and gradients are those of their sum -----


def alignment(layer: str, decay: float = 2.0) -> Objective:
    """Neighbouring images of a batch alike: minus their mean squared distance, for neighbours up to the fourth.

    For image n: -1/2 sum over m of mean((A[n] - A[m])^2) / decay^|n - m|. The values of a batch add up to Lucid's number.
    """
    return _one(Alignment(layer, float(decay)))


def diversity(layer: str, *, axis: int = 1) -> Objective:
    """How alike the images of a batch are: subtract it. The mean of the values is Lucid's number.

    For image n: the sum over the others of the cosine of their Gram matrices, whose squared length is at least 1e-10.
    """
    return _one(Diversity(layer, int(axis)))


# ---- penalties on the image itself: subtract them --------------------------------------------------------------------


def l1(constant: float = 0.0) -> Objective:
    """sum(|X - constant|); the derivative is 0 where X is the constant."""
    return _one(L1(constant=float(constant)))


def l2(constant: float = 0.0, epsilon: float = 1e-6) -> Objective:
    """sqrt(epsilon + sum((X - constant)^2)) (Lucid's)."""
    return _one(L2(constant=float(constant), epsilon=float(epsilon)))


def total_variation() -> Objective:
    """Sum of |differences| of neighbours in rows and in columns (TensorFlow's, as in Lucid); derivative 0 where equal."""
    return _one(TotalVariation())


def boundary_complexity(width: int = 20, constant: float = 0.5) -> Objective:
    """What varies near the edge, or is not of one grey: Lucid's `penalize_boundary_complexity` is its negative.

    Within `width` pixels of the edge: sum((blur(X) - X)^2 + 0.8 (X - constant)^2). The blur is over 5 x 5 pixels, which
    weigh 1, and 1/2 at their edge; beyond the image there is nothing.
    """
    return _one(BoundaryComplexity(width=int(width), constant=float(constant)))


def blur_input_each_step() -> Objective:
    """sum((X - blur(X))^2) / 2 with blur(X) held fixed (Nguyen et al. 2015, as in Lucid).

    A step of plain ascent on -k times this is X <- (1 - k) X + k blur(X). The blur is over 3 x 3 pixels: 1 in the middle,
    1/2 around it; beyond the image there is nothing.
    """
    return _one(BlurInputEachStep())


def _position(position: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(p) for p in position)
