"""The forms in which an objective depends on its layer, and the inputs of a graph that each needs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

VALUE = "objective/value"
"""The output of an objective: [N]."""


class Form(StrEnum):
    """How an objective depends on its layer A, with weights W. f_n is its value for sample n."""

    LINEAR = "linear"
    """f_n = sum(W[n] * A[n])."""
    QUADRATIC = "quadratic"
    """f_n = sum(W[n] * A[n]^2)."""
    DIRECTION = "direction"
    """f_n = sum over positions of W[n, position] * dot * max(0.1, cos)^power, of the channels there and `vector`."""
    CARICATURE = "caricature"
    """f_n = W[n] * dot * max(0.1, cos)^power, of A[n] as a whole and `target`."""
    MATCHING = "matching"
    """f_n = W[n] * sum((A[n] - target)^2)."""
    STYLE = "style"
    """f_n = W[n] * sum((share * Gram(A[n]) - target)^2)."""
    ALIGNMENT = "alignment"
    """f_n = W[n] * sum over neighbours m, up to the fourth, of sum((A[n] - A[m])^2) / decay^|n - m|."""
    DIVERSITY = "diversity"
    """f_n = W[n] * sum over m != n of cos(Gram(A[n]), Gram(A[m]))."""


ADDED = frozenset({Form.LINEAR, Form.QUADRATIC})
"""Forms whose terms on one layer are one head: their weights add. Each term in another form has a head of its own."""

ACROSS = frozenset({Form.ALIGNMENT, Form.DIVERSITY})
"""Forms in which the samples of a batch see one another."""

WEIGHTS = "weights"
"""W among the inputs of a form."""

Sizes = tuple[int | None, ...]
"""None: told by the layer, or by the request."""

INPUTS: Mapping[Form, Mapping[str, Sizes]] = {
    Form.LINEAR: {},
    Form.QUADRATIC: {},
    Form.DIRECTION: {WEIGHTS: (None,), "vector": (None, 1), "power": (1,)},
    Form.CARICATURE: {WEIGHTS: (), "target": (None,), "power": (1,)},
    Form.MATCHING: {WEIGHTS: (), "target": (None,)},
    Form.STYLE: {WEIGHTS: (), "target": (None, None), "share": (1, 1)},
    Form.ALIGNMENT: {WEIGHTS: (), "decay": ()},
    Form.DIVERSITY: {WEIGHTS: ()},
}
"""What a form needs, with its sizes after axis 0, which has one entry for each sample or one for all. Linear and quadratic W
have the layer's axes, each of the layer's size or 1."""


class Head(NamedTuple):
    """One layer and one form: what a graph is built for."""

    layer: str
    form: Form
    axis: int = 1
    """Of the channels, in forms that know channels; may be negative."""
    number: int = 0
    """Among the heads that are alike but for this."""

    @property
    def name(self) -> str:
        """Begins the names of its inputs."""
        apart = f"/{self.axis}/{self.number}" if self.form not in ADDED else ""
        return f"objective/{self.form}/{self.layer}{apart}"

    def input_name(self, what: str) -> str:
        """The graph input that holds something (`INPUTS`)."""
        return self.name if self.form in ADDED else f"{self.name}/{what}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(map(self.input_name, INPUTS[self.form] or (WEIGHTS,)))

    @property
    def across(self) -> bool:
        """Whether the samples of a batch see one another."""
        return self.form in ACROSS
