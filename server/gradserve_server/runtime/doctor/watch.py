"""The values of tensors inside a graph, for any feeds."""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from gradserve_server.graph.subgraph import cut
from gradserve_server.runtime.session import Array, Session


class Watch:
    """Runs a graph up to some tensors.

    Args:
        model: The graph.
        names: Of tensors; inputs may be among them.
        threads: Of a run.
    """

    def __init__(self, model: ir.Model, names: Iterable[str], threads: int) -> None:
        inputs = {value.name for value in model.graph.inputs}
        computed = [name for name in dict.fromkeys(names) if name not in inputs]
        self._session = Session(cut(model, computed), threads) if computed else None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Their values, and the feeds."""
        if self._session is None:
            return dict(feeds)
        return {**feeds, **self._session.run({name: feeds[name] for name in self._session.inputs})}
