"""Mean and variance of streams of values, channel by channel, in float64.

Batches are merged as Chan, Golub and LeVeque do (Updating formulae and a pairwise algorithm, 1979): with n = n1 + n2,
d = mean2 - mean1:

    mean = mean1 + d n2 / n        M2 = M2_1 + M2_2 + d^2 n1 n2 / n        variance = M2 / n

The variance is the population's, as ONNX's BatchNormalization in training form has it; torch's running variance is
n / (n - 1) of that.
"""

import numpy as np
import numpy.typing as npt

from gradserve_server.runtime.session import Array

FEW = 8
"""Values of a channel below which its statistics say nothing."""

Float64 = npt.NDArray[np.float64]


class Moments:
    """Of one stream.

    Args:
        like: Of the shape that the moments have: [C], or [C, H, W] where every position has its own.
    """

    def __init__(self, like: Array) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(like.shape)
        self._m2: Float64 = np.zeros(like.shape)

    def add(self, values: Array) -> None:
        """Takes a batch: channels along axis 1, over all other axes; or over axis 0, where every position has its own."""
        axes = tuple(axis for axis in range(values.ndim) if axis != 1) if self.mean.ndim == 1 else (0,)
        wide = values.astype(np.float64)
        count = wide.size // max(1, self.mean.size)
        if not count:
            return
        mean = wide.mean(axes)
        centred = wide - np.expand_dims(mean, axes)
        m2 = np.square(centred).sum(axes)
        total, apart = self.count + count, mean - self.mean
        self._m2 = self._m2 + m2 + np.square(apart) * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def variance(self) -> Float64:
        """Of the population."""
        return self._m2 / max(1, self.count)
