"""The digits every example, the demo and the tests use: scikit-learn's 8x8 scans as 28x28 grey images.

Needs numpy, pillow and scikit-learn (the `demo` extra); no torch.
"""

from typing import NamedTuple

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import train_test_split

IMAGE_SIZE = 28
SCALE = 3
MARGIN = (IMAGE_SIZE - 8 * SCALE) // 2

SPLIT_SEED = 0
TEST_FRACTION = 0.2


class Digits(NamedTuple):
    """Pixels in [0, 1], shape [N, 1, 28, 28], float32, and their labels 0..9, shape [N], int64."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]


def upsample(scan: NDArray[np.float64]) -> NDArray[np.float32]:
    """Enlarges one 8x8 scan (0..16) three times, bicubic, and centres it in a black 28x28 image (0..1).

    The margin of two pixels leaves room for an ascent to shift the picture by as much.
    """
    enlarged = Image.fromarray((scan / 16).astype(np.float32)).resize((8 * SCALE, 8 * SCALE), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(enlarged), MARGIN).clip(0, 1)


def load() -> tuple[Digits, Digits]:
    """Returns the training set and the test set: a fixed split, stratified by label."""
    scans = sklearn.datasets.load_digits()
    pixels = np.stack([upsample(scan) for scan in scans.images])[:, np.newaxis]
    labels = scans.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_FRACTION, random_state=SPLIT_SEED, stratify=labels)
    return Digits(pixels[train], labels[train]), Digits(pixels[test], labels[test])
