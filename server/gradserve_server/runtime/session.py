"""A graph that runs: the only place that imports onnxruntime to run something."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gradserve.errors import BackendMissing, InvalidModel, RunFailed
from gradserve_server.graph.load import MAX_IR_VERSION
from gradserve_server.runtime.wheel import installed_wheel

Array = npt.NDArray[Any]


class Session:
    """An onnxruntime session. Safe to use from many threads at once; it keeps no state between runs.

    Args:
        model: The graph.
        threads: Threads that share one run.

    Raises:
        InvalidModel: onnxruntime refuses the graph.
        BackendMissing: No onnxruntime, or more than one.
    """

    def __init__(self, model: ir.Model, threads: int) -> None:
        installed_wheel()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong comes back as an exception
        try:
            self._session = onnxruntime.InferenceSession(
                ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base
            msg = f"onnxruntime {onnxruntime.__version__} cannot load the graph: {error}"
            raise InvalidModel(msg) from error
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Runs once.

        Args:
            feeds: An array for each input, of its type and shape.
            outputs: Which outputs; all by default.
        """
        names = list(outputs) if outputs else self.outputs
        with _run_failures():
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def bind(self, feeds: Mapping[str, Array], results: Mapping[str, Array]) -> Callable[[], None]:
        """A run that reads and writes the same buffers each time, without allocating or copying.

        Args:
            feeds: C-contiguous arrays; what they hold when the run starts is what it sees.
            results: Writable C-contiguous arrays of the right types and shapes.

        Returns:
            A function that runs once. It keeps the buffers alive; it must not be called twice at the same time.
        """
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, array in results.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        buffers = (dict(feeds), dict(results))
        session = self._session

        def run() -> None:
            assert buffers
            with _run_failures():
                session.run_with_iobinding(binding)

        return run


@contextmanager
def _run_failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no common base
        msg = f"the model broke off while it ran: {error}"
        raise RunFailed(msg) from error


def contiguous(array: npt.ArrayLike) -> Array:
    """The array as onnxruntime takes it: C-contiguous, in this machine's byte order; a copy only if it must be."""
    array = np.asarray(array)
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


@cache
def newest_opset() -> int:
    """The newest version of the default operator set that the installed onnxruntime loads; found by trying."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for opset in range(onnx.defs.onnx_opset_version(), 0, -1):
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([], "probe", [value], [value])
        model = onnx.helper.make_model(graph, ir_version=MAX_IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", opset)])
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:
            continue
        return opset
    msg = "onnxruntime: expected one that loads some opset, got one that loads none"
    raise BackendMissing(msg)
