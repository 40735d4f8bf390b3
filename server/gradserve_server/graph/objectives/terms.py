"""The terms of an objective, sorted by what reads them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from gradserve.errors import InvalidObjective
from gradserve.numbers import Linear, Schedule
from gradserve.objectives import Objective, Penalty, Scaled, terms_of


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of an objective, each with the layer's name as the graph has it."""

    everything: tuple[Scaled, ...]

    @classmethod
    def of(cls, objective: Objective, resolve: Callable[[str], str]) -> "Terms":
        """Those of an objective.

        Args:
            objective: As a caller wrote it.
            resolve: From a layer's name as a caller writes it to the graph's.

        Raises:
            InvalidObjective: It has no term on a layer, or one that asks for nothing.
            UnknownLayer: Raised by `resolve`.
        """
        terms = terms_of(objective)
        if all(isinstance(term, Penalty) for _, term in terms):
            msg = "objective: expected at least one term on a layer beside those of the image, got none"
            raise InvalidObjective(msg)
        return cls(
            tuple(
                (scale, term if isinstance(term, Penalty) else replace(term, layer=resolve(term.layer)))
                for scale, term in terms
            )
        )

    @cached_property
    def of_layers(self) -> tuple[Scaled, ...]:
        """Those that the graph of a model computes."""
        return tuple((scale, term) for scale, term in self.everything if not isinstance(term, Penalty))

    @cached_property
    def penalties(self) -> tuple[tuple[Schedule, Penalty], ...]:
        """Those of the image."""
        return tuple((scale, term) for scale, term in self.everything if isinstance(term, Penalty))

    @property
    def layers(self) -> list[str]:
        """The layer of each of the former."""
        return [term.layer for _, term in self.of_layers]

    def check_constant(self) -> None:
        """Makes sure that no scale changes: only an ascent has steps.

        Raises:
            InvalidObjective: One does.
        """
        for scale, term in self.everything:
            if isinstance(scale, Linear):
                msg = f"objective, {type(term).__name__}: expected a scale that is a number outside an ascent, got {scale}"
                raise InvalidObjective(msg)

    def check_graph(self, what: str) -> None:
        """Makes sure that a graph alone computes it.

        Raises:
            InvalidObjective: A scale changes, or a term is of the image.
        """
        self.check_constant()
        for _, term in self.penalties:
            msg = f"objective, {type(term).__name__}: expected terms on layers only in {what}, got one of the image"
            raise InvalidObjective(msg)
