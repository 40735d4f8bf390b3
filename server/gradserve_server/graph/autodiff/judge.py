"""What each backend can differentiate: asked node by node, before anything is built.

A link of a node is one of its inputs or, after those, one of the values that its subgraphs read from outside.
"""

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.rules import Expansion, ProvenZero, Rule, lookup
from gradserve_server.graph.autodiff.site import Site, captured
from gradserve_server.graph.values import describe, is_float


class Judge(Protocol):
    """What one backend says of nodes."""

    backend: str
    """Its name, in errors."""

    def flows(self, node: ir.Node, live: Sequence[int]) -> list[int]:
        """Those of these links that the outputs depend on other than in jumps."""

    def problems(self, node: ir.Node, live: Sequence[int]) -> list[str]:
        """Why the node has no gradient with a derivative flowing through these links; empty if it has."""


def links(node: ir.Node) -> list[ir.Value | None]:
    """What the node reads: inputs, then captured values."""
    return [*node.inputs, *captured(node)]


def flows(site: Site, live: Sequence[int]) -> list[int]:
    """Those of these links that are not proven zero by the table."""
    state = lookup(site.node, site.opset)
    if isinstance(state, ProvenZero) or (isinstance(state, Rule) and state.is_zero is not None and state.is_zero(site)):
        return []
    zero = state.zero if isinstance(state, (Rule, Expansion)) else frozenset()
    return [index for index in live if index not in zero]


class PortableJudge:
    """Of the reverse walk over our own table."""

    backend = "portable"

    def __init__(self, model: ir.Model, opset: int) -> None:
        self._opset = opset
        self._emitter = Emitter(model.graph, opset, "")  # emits nothing: a Site wants one

    def flows(self, node: ir.Node, live: Sequence[int]) -> list[int]:
        """See `Judge`."""
        return flows(Site(self._emitter, node), live)

    def problems(self, node: ir.Node, live: Sequence[int]) -> list[str]:
        """See `Judge`."""
        name, state = describe(node, self._opset), lookup(node, self._opset)
        if not isinstance(state, (Rule, Expansion)):
            return [f"{name}: {state.reason}"]
        site = Site(self._emitter, node)
        return [f"{name}: {reason}" for refuse in state.refuse if (reason := refuse(site)) is not None]


def floats(values: Sequence[ir.Value | None]) -> list[int]:
    """Indices of the values that have a derivative, or whose type is not known."""
    return [i for i, value in enumerate(values) if value is not None and (value.dtype is None or is_float(value))]
