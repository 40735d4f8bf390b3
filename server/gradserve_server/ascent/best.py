"""The best image so far, of each: what `keep="best"` delivers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Best:
    """Images, each with its value, the length of its gradient, and the report that was about it.

    Args:
        start: Those before the first step, [count, C, H, W].
    """

    def __init__(self, start: Float32) -> None:
        self.images = start.copy()
        self.values = np.full(len(start), -np.inf)
        self.norms = np.zeros(len(start))
        self.indices = np.zeros(len(start), np.int64)

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """All of it by name, to be read and written."""
        return {"images": self.images, "values": self.values, "norms": self.norms, "indices": self.indices}

    def better(self, values: npt.NDArray[Any]) -> Mask:
        """Where values are larger than those so far: the first of equal ones stays. NaN and infinity are never better."""
        mask: Mask = np.isfinite(values) & (values > self.values)
        return mask

    def take(self, which: Mask, images: Float32, values: npt.NDArray[Any], index: int) -> None:
        """Remembers some images."""
        self.images[which], self.values[which], self.indices[which] = images[which], values[which], index
