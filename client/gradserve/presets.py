"""Settings of ascents as others have published them: `client.ascend(..., **presets.lucid(224))`.

Attacks start from images that are given, and step by the sign or the direction of the gradient alone:

    client.ascend("digits", -1 * O.unit("logits", 7), start=images, count=len(images), **presets.pgd())      # away from 7
    client.ascend("digits", O.unit("logits", 3), start=images, count=len(images), **presets.pgd())           # targeted at 3

So raising the cross-entropy of a class, and lowering the softmax of its unit, are the same steps (one gradient is the other
times a positive number); lowering its logit alone is not. Radii and steps are in units of the image: multiply them by the
width of its range where that is not 1.
"""

from gradserve.ascents import AscentSettings, GradientNormalization, Noise
from gradserve.errors import InvalidParameter
from gradserve.optimizers import Adam, Sgd
from gradserve.parameterizations import IMAGENET_COLOURS, Fourier
from gradserve.projections import L2Ball, LInfBall
from gradserve.regularizers import GaussianBlur, Regularizer, SmallNorms
from gradserve.transforms import LUCID, Crop

__all__ = ["fgsm", "lucid", "pgd", "pgd_l2", "yosinski"]


def lucid(height: int, width: int | None = None, channels: int = 3) -> AscentSettings:
    """Lucid's feature visualization (optvis/render.py, optvis/transform.py): spectrum, colours, transforms, Adam.

    One thing differs: each image of a batch draws its own transforms.

    Args:
        height: Of the model's input.
        width: Of the model's input; by default the same.
        channels: Of the model's input; only three are mixed as the colours of photographs are.
    """
    return {
        "parameterization": Fourier() if channels == len(IMAGENET_COLOURS) else Fourier(colours=()),
        "start": Noise(0.01),
        # The last one makes the result as large as the model's input, as Lucid's recipes do.
        "transforms": (*LUCID, Crop(height, width or height, fill=0.0)),
        "resample_each": True,
        "optimizer": Adam(0.05, epsilon_hat=True),
        # Its gradient override is on by default, and off once `global_step > 16`.
        "redirect_relu_steps": 17,
        "steps": 512,
    }


def fgsm(radius: float = 8 / 255) -> AscentSettings:
    """The fast gradient sign method: one step (Goodfellow et al. 2015; the default is torchattacks').

    Args:
        radius: Of the step.
    """
    return {**pgd(radius, radius, 1), "projection": LInfBall(radius)}


def pgd(radius: float = 8 / 255, step: float = 2 / 255, steps: int = 10, *, random_start: bool = True) -> AscentSettings:
    """Projected gradient descent in the L-infinity ball (Madry et al. 2018), by steps of the gradient's sign.

    The defaults are torchattacks' `PGD`. Foolbox's `LinfPGD` has `step=radius / 30` and 40 steps; its and ART's radius for
    MNIST is 0.3.

    Args:
        radius: Of the ball.
        step: Of one step.
        steps: How many.
        random_start: Whether to begin anywhere in the ball.
    """
    return {
        "projection": LInfBall(radius, random_start),
        "gradient_normalization": GradientNormalization.SIGN,
        "optimizer": Sgd(step),
        "steps": steps,
    }


def pgd_l2(radius: float = 1.0, step: float = 0.2, steps: int = 10, *, random_start: bool = True) -> AscentSettings:
    """The same in the L2 ball, by steps of the gradient's direction.

    The defaults are torchattacks' `PGDL2`. Foolbox's `L2PGD` has `step=radius / 40` and 50 steps.

    Args:
        radius: Of the ball.
        step: Length of one step.
        steps: How many.
        random_start: Whether to begin anywhere in the ball; all of it alike, as in foolbox (torchattacks' length is even).
    """
    return {
        "projection": L2Ball(radius, random_start),
        "gradient_normalization": GradientNormalization.L2,
        "optimizer": Sgd(step),
        "steps": steps,
    }


_YOSINSKI: dict[int, tuple[float, tuple[Regularizer, ...], int]] = {
    2: (0.3, (SmallNorms(20),), 750),
    3: (0.0001, (GaussianBlur(1.0, 4),), 1000),
}
"""Rows of Table 1: decay, what else is done after each step, iterations."""


def yosinski(row: int = 3, width: float = 255.0) -> AscentSettings:
    """Regularized optimization (Yosinski et al. 2015, Table 1): pixels by plain steps, decayed, blurred, made sparse.

    Row 2 shows high frequencies, 3 low ones; most pictures of the paper are by row 3. The rate is that of their toolbox, 100
    for pixels from 0 to 255: it is made for networks as theirs, and a small one may need more. The first image is noise
    around the middle of the bounds, as strong as theirs, which is around the mean; and pixels stay within the bounds, where
    theirs are free. Rows 1 and 4 are not offered: the toolbox chooses their rate anew for each step.

    Args:
        row: Of the table, 2 or 3.
        width: Of the range of pixels. Their rate is scaled so that the steps are the same in a narrower one.

    Raises:
        InvalidParameter: There is no such row.
    """
    if row not in _YOSINSKI:
        msg = f"row: expected one of {', '.join(map(str, _YOSINSKI))}, got {row!r}"
        raise InvalidParameter(msg)
    decay, regularizers, steps = _YOSINSKI[row]
    return {
        "start": Noise(10 / 255),
        "optimizer": Sgd(100 * (width / 255) ** 2),
        "weight_decay": decay,
        "regularizers": regularizers,
        "steps": steps,
    }
