"""What the export asks of a framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve_server.export.settings import Input

__all__ = ["Array", "Evaluation", "Exportable"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """A network on a batch."""

    outputs: Mapping[str, Array]
    gradients: Mapping[str, Mapping[str, Array]]
    """By output and input: J^T v with the output's cotangent v. Without those that do not depend on one another."""


class Exportable(Protocol):
    """A network, made and loaded, in inference form."""

    @property
    def framework(self) -> str:
        """Its name, for people."""
        ...

    @property
    def exporter(self) -> str:
        """What writes the file."""
        ...

    @property
    def inputs(self) -> Sequence[Input]:
        """Named, with the shapes to export."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """Their names."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """What each index of the first output means; empty where the network does not say."""
        ...

    @property
    def notes(self) -> list[str]:
        """Sentences for the report, to which others are added."""
        ...

    def draw(self, random: np.random.Generator, samples: int) -> dict[str, Array] | None:
        """Inputs like those that it was made for, if it knows; float64."""
        ...

    def compare_forms(self, feeds: Mapping[str, Array]) -> str:
        """A sentence on what its training form would have predicted; "" where it has none."""
        ...

    def write(self, path: Path, opset: int, *, fixed_batch: bool) -> None:
        """Writes the file, in float32.

        Raises:
            InvalidModel: The framework cannot express it.
        """
        ...

    def evaluate(self, feeds: Mapping[str, Array], cotangents: Mapping[str, Array], *, double: bool) -> Evaluation:
        """Outputs, and the gradients of those that have a cotangent.

        Args:
            feeds: By input.
            cotangents: By output.
            double: In float64. There is no way back: nothing is written or evaluated in float32 afterwards.
        """
        ...
