"""The forms in which an objective depends on its layer, and the inputs of a graph that each needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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

INPUTS: Mapping[Form, Mapping[str, int]] = {
    Form.LINEAR: {},
    Form.QUADRATIC: {},
    Form.DIRECTION: {"vector": 3, "power": 2},
    Form.CARICATURE: {"target": 2, "power": 2},
    Form.MATCHING: {"target": 2},
    Form.STYLE: {"target": 3, "share": 3},
    Form.ALIGNMENT: {"decay": 1},
    Form.DIVERSITY: {},
}
"""What a form needs beside W, with its number of axes. Axis 0 has one entry for each sample, or one for all."""

WEIGHTS_RANK: Mapping[Form, int | None] = {
    **dict.fromkeys(Form, 1),
    Form.LINEAR: None,
    Form.QUADRATIC: None,
    Form.DIRECTION: 2,
}
"""The number of axes of W; None for the layer's, each of the layer's size or 1."""


@dataclass(frozen=True, order=True)
class Head:
    """One layer and one form: what a graph is built for."""

    layer: str
    form: Form
    axis: int = 1
    """Of the channels, in forms that know channels; may be negative."""
    number: int = 0
    """Among the heads that are alike but for this."""

    @property
    def weights_name(self) -> str:
        """The graph input that holds W."""
        apart = f"/{self.axis}/{self.number}" if self.form not in ADDED else ""
        return f"objective/{self.form}/{self.layer}{apart}"

    def input_name(self, what: str) -> str:
        """The graph input that holds something else (`INPUTS`)."""
        return f"{self.weights_name}/{what}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """All of them."""
        return (self.weights_name, *map(self.input_name, INPUTS[self.form]))

    @property
    def across(self) -> bool:
        """Whether the samples of a batch see one another."""
        return self.form in ACROSS
