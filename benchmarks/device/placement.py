"""Where the nodes of a gradient's graph run, as onnxruntime's profiler saw them."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from speed.suite import SUITE

from .tasks import GRADIENT, Task

COPIES = frozenset({"MemcpyFromHost", "MemcpyToHost"})


def placement(path: Path, name: str, device: Literal["cpu", "cuda"], threads: int) -> dict[str, Any]:
    """Nodes of one gradient by provider, the operators that are not on the device, and the copies between the two.

    Every session that the engine opens in this process is profiled, so it is called in a process of its own.
    """
    import onnxruntime

    from .ours import OBJECTIVE, open_engine

    opened: list[Any] = []
    plain = onnxruntime.InferenceSession

    class Profiled(plain):  # type: ignore[misc, valid-type]
        """Is profiled from its first run on."""

        def __init__(self, model: Any, sess_options: Any, *arguments: Any, **settings: Any) -> None:
            sess_options.enable_profiling = True
            sess_options.profile_file_prefix = str(Path(folder) / str(len(opened)))
            super().__init__(model, sess_options, *arguments, **settings)
            opened.append(self)

    with tempfile.TemporaryDirectory() as folder:
        onnxruntime.InferenceSession = Profiled
        try:
            engine = open_engine(path, device, threads)
            for session in opened:
                session.end_profiling()
            opened.clear()
            subject = SUITE[name]
            engine.gradient(path.stem, {subject.input: Task(GRADIENT, 1).inputs(subject)}, OBJECTIVE)
        finally:
            onnxruntime.InferenceSession = plain
        # The last that the plan opened: what came before it was tried, and not taken.
        events = json.loads(Path(opened[-1].end_profiling()).read_text())
        for session in opened[:-1]:
            session.end_profiling()
    return _counted(events, "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider")


def _counted(events: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    nodes = {
        event["name"]: (event["args"]["provider"], event["args"]["op_name"])
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    computing = [(provider, operator) for provider, operator in nodes.values() if operator not in COPIES]
    return {
        "nodes": dict(Counter(provider for provider, _ in computing)),
        "elsewhere": dict(Counter(operator for provider, operator in computing if provider != wanted)),
        "copies": len(nodes) - len(computing),
    }
