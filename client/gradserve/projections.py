"""Where an image must stay: near its start, as adversarial examples do (`projection=`).

After each step the image is brought back into the ball, then into its bounds: so it lies in both. Radii are in the units of
the image, which is the described pixel range: 8/255 where pixels lie between 0 and 1 is 8 where they lie between 0 and 255.
"""

from dataclasses import dataclass

__all__ = ["L2Ball", "LInfBall", "Projection"]


@dataclass(frozen=True)
class LInfBall:
    """No value changes by more than the radius; each that would is cut off there."""

    radius: float
    random_start: bool = False
    """Whether the first image is drawn from the ball, all of it alike (Madry et al. 2018), and then cut off at its bounds;
    otherwise it is the start itself."""


@dataclass(frozen=True)
class L2Ball:
    """The change of the whole image has at most the radius as its Euclidean length; a longer one is shortened to it."""

    radius: float
    random_start: bool = False
    """As in `LInfBall`; the length of what is drawn is radius u^(1/d), u even over [0, 1), for d values."""


Projection = LInfBall | L2Ball
