"""Settings and reports of a gradient ascent: the same for a server and for an `Engine` in process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from gradserve.checkpoints import Checkpoint
from gradserve.optimizers import Optimizer
from gradserve.parameterizations import Alpha, Parameterization, Shared
from gradserve.projections import Projection
from gradserve.regularizers import Regularizer
from gradserve.stopping import Keep, StopAt
from gradserve.transforms import Transform

__all__ = ["AscentSettings", "GradientNormalization", "Noise", "Step", "StopReason"]


class GradientNormalization(StrEnum):
    """How a gradient is scaled, image by image, before the optimizer sees it. A gradient of all zeros stays zero."""

    NONE = "none"
    """As it is."""
    STD = "std"
    """Divided by its standard deviation (of the population; its mean is not subtracted)."""
    RMS = "rms"
    """Divided by its root mean square."""
    L2 = "l2"
    """Divided by its Euclidean length."""
    MEAN_ABS = "mean_abs"
    """Divided by its mean absolute value (DeepDream)."""
    SIGN = "sign"
    """Its sign; 0 at 0 (FGSM)."""
    MIN_MAX = "min_max"
    """Rescaled to [0, 1]; all equal gives 0."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise around the middle of the bounds, or around 0 where there are none."""

    standard_deviation: float = 0.01


class StopReason(StrEnum):
    """Why an ascent ended."""

    FINISHED = "finished"
    """All steps done."""
    REACHED = "reached"
    """Every image has reached `stop_at`."""
    DEAD = "dead"
    """All steps done, and the model never sent any image a gradient but zero: the picture is the start, or what penalties
    made of it, not what the objective asks for. Another start, or `redirect_relu_steps`, may find one."""
    NON_FINITE = "non_finite"
    """A value or a gradient became NaN or infinite; that image is the last finite one."""
    INTERRUPTED = "interrupted"
    """The server shuts down; the checkpoint says where another can go on."""


@dataclass(frozen=True, eq=False)
class Step:
    """Where an ascent stands; all of it is about the image after `index` updates."""

    index: int
    """Updates made so far: 0 for the start."""
    values: npt.NDArray[np.float64]
    """The objective for each image, [count]. Under jitter it is that of the shifted image, but after the last step. NaN if
    the ascent was interrupted before the model saw the image."""
    gradient_norms: npt.NDArray[np.float64]
    """Euclidean length of the gradient for each image, before normalization, [count]."""
    image: npt.NDArray[np.float32] | None = None
    """The images, [count, ...] like the model input; when asked for, and always with the last report."""
    stop_reason: StopReason | None = None
    """Set in the last report only."""
    checkpoint: Checkpoint | None = None
    """Where `resume` can go on; when asked for, and always when interrupted (unless it is larger than a message may be)."""

    reached: npt.NDArray[np.bool_] | None = None
    """Which images have reached `stop_at`, [count]; None without it."""
    measured: npt.NDArray[np.float64] | None = None
    """What `stop_at` measured of each image last, [count]; None before, and without it."""
    dead: npt.NDArray[np.bool_] | None = None
    """To which images the model never sent a gradient but zero, in any step, [count]; penalties, which move an image that
    is dead to the model, do not count. In the last report only, and not where the ascent was interrupted."""
    image_indices: npt.NDArray[np.int64] | None = None
    """The updates that each image in `image` has, [count]; values and norms are about those. Only in a last report that
    delivers the best ones (`keep`); otherwise all have `index`."""

    alpha: npt.NDArray[np.float32] | None = None
    """How opaque each pixel of `image` is, 0 to 1, [count, H, W] or with as many sizes as it has; with `alpha`."""

    @property
    def value(self) -> float:
        """Mean of `values`: the objective itself, for one image."""
        return float(self.values.mean())

    @property
    def gradient_norm(self) -> float:
        """Mean of `gradient_norms`."""
        return float(self.gradient_norms.mean())


class AscentSettings(TypedDict, total=False):
    """Keyword arguments of `ascend`; every one has a default. Images are in the model's described pixel range.

    Where the model describes no range, an image is the model input itself.
    """

    version: str
    """Of the model; the latest if empty (default)."""
    input: str
    """The input to change; by default the only float input."""
    inputs: Mapping[str, npt.ArrayLike]
    """Fixed values for every other input of the model."""
    steps: int
    """Updates to make (256)."""
    seed: int
    """Same seed, same bytes (0)."""
    count: int
    """Images made at once, each from its own stream of random numbers (1)."""
    shape: Sequence[int]
    """Size of one image without its batch axis, where the model leaves it open."""
    start: float | Noise | npt.NDArray[Any]
    """A constant, noise (`Noise(0.01)` of the range's width), or an image [shape] or [count, shape]."""
    optimizer: Optimizer
    """`Adam(0.05)` by default."""
    gradient_normalization: GradientNormalization | str
    """"none" by default."""
    weight_decay: float
    """After each step this share of the distance to the described mean (else 0) is taken away: 0 to 1 (0)."""
    regularizers: Sequence[Regularizer]
    """What is done to each image after that: blurs, and pixels that go back to the mean (`gradserve.regularizers`; none)."""
    jitter: int
    """Largest random shift, each way, along every axis, with wrap-around (0)."""
    bounds: tuple[npt.ArrayLike, npt.ArrayLike] | None
    """Values are kept within these; the described range by default. Numbers, or arrays that broadcast to one image: so each
    channel or feature may have its own. Infinite means free."""
    projection: Projection | None
    """Each step brings the image back into this ball around its start (`gradserve.projections`; none)."""
    parameterization: Parameterization
    """What changes: `Pixels()`, the image itself, by default (`gradserve.parameterizations`)."""
    shared: Sequence[Shared]
    """Numbers that the images of the batch have in common, added to those that each one has for itself
    (`gradserve.parameterizations.Shared`; none)."""
    alpha: Alpha | None
    """A transparent image, whose alpha is in `Step.alpha` (`gradserve.parameterizations.Alpha`; none)."""
    transforms: Sequence[Transform]
    """What happens to an image on its way to the model in each step but the last (`gradserve.transforms`; none)."""
    resample_each: bool
    """Whether each transform samples anew, as in Lucid; else affine ones next to each other are sampled once (False)."""
    image_size: tuple[int, int]
    """Rows and columns of the image that is made; it is resized to the model's input (the model's own size)."""
    stop_at: StopAt | None
    """When an image is done (`gradserve.stopping`; never): it stays as it is, and once all are done the ascent ends."""
    keep: Keep | str
    """Which image the last report delivers: the "last" one (default), or the "best" so far."""
    redirect_relu_steps: int
    """In so many first steps a ReLU or Clip that blocks the whole gradient of a sample passes back all of it but what would
    push further out (0). It takes a second plan. Lucid's test, `global_step > 16`, leaves 17."""
    report_every: int
    """A report every so many steps, and always the first and the last (1)."""
    image_every: int
    """An image every so many steps; 0 means only with the last report (0)."""
    resume: Checkpoint | None
    """Goes on from here. All other settings must be as they were, but for `steps` and the three `..._every`."""
    checkpoint_every: int
    """A checkpoint every so many steps, and with the last report; 0 means only where a server interrupts the ascent (0)."""
