"""What is done to an image after each step (`regularizers=`), beside `weight_decay`: Yosinski et al. 2015, section 3.

    regularizers=[GaussianBlur(0.5, every=4), SmallNorms(50)]

They apply in order, image by image, after the step and its weight decay, and before projection and bounds. "Mean" is the
described one, else 0, and every difference x is from it; g is the gradient of the objective by which the step was made. What
is below a percentile is so strictly, and a percentile lies linearly between two values, as NumPy has it.
"""

from dataclasses import dataclass

__all__ = ["GaussianBlur", "Regularizer", "SmallContributions", "SmallNorms"]


@dataclass(frozen=True)
class GaussianBlur:
    """Each channel is smoothed: high frequencies fade. Beyond its edge an image is mirrored, its last pixel repeated."""

    radius: float
    """The standard deviation, in pixels; the filter ends after four of them."""
    every: int = 1
    """After the first step, and every so many steps from there."""


@dataclass(frozen=True)
class SmallNorms:
    """Pixels become the mean where sqrt(sum over channels of x²) is below this percentile of the image's pixels."""

    percentile: float
    """0 to 100: about that share of the pixels shows nothing."""


@dataclass(frozen=True)
class SmallContributions:
    """Pixels become the mean where |sum over channels of x g| is below this percentile: where that changes little."""

    percentile: float
    """0 to 100: about that share of the pixels shows nothing."""


Regularizer = GaussianBlur | SmallNorms | SmallContributions
