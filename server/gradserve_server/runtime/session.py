"""A graph that runs: the only place that imports onnxruntime to run something."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gradserve.errors import BackendMissing, InvalidModel, RunFailed, UnsupportedGradient
from gradserve_server.graph.inference_form.to_float32 import HALVES, needs_float32, to_float32
from gradserve_server.graph.weights import constants, large_constants, serialize_without
from gradserve_server.runtime.device import PROVIDERS, Device, Provider, provider, touching
from gradserve_server.runtime.footprint import footprint
from gradserve_server.runtime.freed_memory import WORTH_GIVING_BACK, GivesBack
from gradserve_server.runtime.operators import add_operators
from gradserve_server.runtime.probe import open_probe, quiet_options
from gradserve_server.runtime.tensors import OnDevice, Tensor, contiguous
from gradserve_server.runtime.wheel import installed_wheel

Array = npt.NDArray[Any]

TINY_BYTES = 4 * 2**20
"""Weights up to which a model's memory matters less than its time. Packed matrices and reused places save a tenth of the
time of the digits, which have 0.5 MB."""

LARGE_BYTES = 256 * 2**20
"""Weights from which a model goes to onnxruntime as a file: handed over in memory, onnxruntime before 1.22 copies them while
it opens the session."""

UNTOUCHED = frozenset({"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"})
"""Operators whose constants all sessions share. onnxruntime's optimizer moves a Transpose through others (Add, Concat, ...)
by transposing the constant beside it in place, under its old name: a shared array would stay as it was, and be misread."""


class Session:
    """An onnxruntime session. Safe to use from many threads at once; it keeps no state between runs.

    A graph of bfloat16 is computed in float32. It takes and gives the types that it declares.

    Args:
        model: The graph.
        threads: Threads that share one run.
        prepack: Whether matrices may be copied into the layout that multiplies fastest. It doubles their memory, and pays
            for small batches. Those of tiny models are copied in any case.
        optimize: Whether onnxruntime may rewrite the graph.
        device: Where it runs.

    Raises:
        InvalidModel: onnxruntime refuses the graph.
        BackendMissing: No onnxruntime, or more than one; or it does not run there.
    """

    def __init__(
        self,
        model: ir.Model,
        threads: int,
        *,
        prepack: bool = True,
        optimize: bool = True,
        device: Device = Device.CPU,
    ) -> None:
        installed_wheel()
        import onnxruntime

        self._device = device
        options = quiet_options()
        options.intra_op_num_threads = threads
        add_operators(options)
        # Threads that go on spinning after a run take the cores from the next session's run, and from the answer's way back.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        _share_memory()
        model, self._halves = _without_bfloat16(model)
        size = sum(tensor.nbytes for _, tensor in constants(model))
        tiny, large = size < TINY_BYTES, size >= LARGE_BYTES
        if not tiny and device is Device.CPU:  # elsewhere neither was measured
            # In the graph's order: what is kept of an activation is made right after it (`graph.tuning.fused.packed`).
            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
            # Without these two each tensor gets its place when it is made, and gives it back after its last reader. Places
            # planned before fit worse, in the same time: at batch 8, MobileNetV2's gradient takes 181 MB without the first
            # instead of 243, Swin-T's 769 without the second instead of 812.
            options.enable_mem_reuse = False
            options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # The arrays in memory themselves; onnxruntime keeps their addresses only.
        self._given = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(contiguous(tensor.numpy()))
            for name, tensor in large_constants(model).items()
            if tensor.dtype in _DTYPES
        }
        options.use_deterministic_compute = device is not Device.CPU  # the same bytes each time; on CPUs they are anyway
        for name, value in self._given.items() if device is Device.CPU else ():
            if all(node.op_type in UNTOUCHED for node, _ in model.graph.initializers[name].uses()):
                options.add_initializer(name, value)
        prepack = prepack or tiny
        if not prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            with touching(device):
                self._session = (_open_file if large else _open_in_memory)(model, options, self._given, PROVIDERS[device])
        except Exception as error:  # onnxruntime's exceptions have no common base
            msg = f"onnxruntime {onnxruntime.__version__} cannot load the graph: {error}"
            raise InvalidModel(msg) from error
        # onnxruntime would turn to the processor, now or in the middle of a run, and say so on standard output only.
        self._session.disable_fallback()
        if (wanted := provider(device)) not in (got := self._session.get_providers()):
            msg = f"device '{device}': expected a session on {wanted}, got one on {', '.join(got)}"
            raise BackendMissing(msg)
        self.footprint = footprint(model, is_packed=prepack)
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]
        self._last = GivesBack() if self.footprint.size >= WORTH_GIVING_BACK else None

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None, *, shrink: bool = False
    ) -> dict[str, Array]:
        """Runs once.

        Args:
            feeds: An array for each input, of its type and shape.
            outputs: Which outputs; all by default.
            shrink: Whether the pool then gives back what nobody uses: after a run whose like will not come again.
        """
        names = list(outputs) if outputs else self.outputs
        if self._halves:
            feeds = {name: _cast(array, np.float32) if name in self._halves else array for name, array in feeds.items()}
        try:
            with touching(self._device):
                arrays = self._session.run(names, dict(feeds), _shrinking() if shrink else None)
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise _broken_off(error) from error
        results = dict(zip(names, arrays, strict=True))
        for name in self._halves.keys() & results.keys() if self._halves else ():
            results[name] = _cast(results[name], self._halves[name])
        return results

    def bind(self, feeds: Mapping[str, Array | Tensor], results: Mapping[str, Array | Tensor]) -> Callable[[], None]:
        """A run that reads and writes the same memory each time, without allocating; on the processor without copying.

        Args:
            feeds: C-contiguous arrays, and tensors; what they hold when the run starts is what it sees.
            results: Writable C-contiguous arrays of the right types and shapes, and tensors.

        Returns:
            A function that runs once. It keeps the memory alive; it must not be called twice at the same time.
        """
        session, device = self._session, self._device
        # Another device has a copy of an array, made when it is bound: without this, a second run would see the first's.
        copied = {} if device is Device.CPU else {name: x for name, x in feeds.items() if not isinstance(x, Tensor)}
        once = {name: x for name, x in feeds.items() if name not in copied}
        with touching(device):
            binding = OnDevice(_binding(session, once, results), device)
        memory = (dict(feeds), dict(results))

        def run() -> None:
            assert memory
            try:
                with touching(device):
                    for name, array in copied.items():
                        binding.value.bind_cpu_input(name, array)
                    session.run_with_iobinding(binding.value)
            except Exception as error:  # as above
                raise _broken_off(error) from error

        return run


def _binding(session: Any, feeds: Mapping[str, Array | Tensor], results: Mapping[str, Array | Tensor]) -> Any:
    binding = session.io_binding()
    for name, x in feeds.items():
        if isinstance(x, Tensor):
            binding.bind_ortvalue_input(name, x.value)
        else:
            binding.bind_cpu_input(name, x)
    for name, x in results.items():
        if isinstance(x, Tensor):
            binding.bind_ortvalue_output(name, x.value)
        else:
            binding.bind_output(name, "cpu", 0, x.dtype.type, x.shape, x.ctypes.data)
    return binding


def _without_bfloat16(model: ir.Model) -> tuple[ir.Model, dict[str, np.dtype[Any]]]:
    """A model that onnxruntime runs, and the inputs and outputs that are in float32 instead of what the model declares."""
    if not needs_float32(model):
        return model, {}
    interface = (*model.graph.inputs, *model.graph.outputs)
    halves = {value.name or "": value.dtype.numpy() for value in interface if value.dtype in HALVES}
    widened = model.clone()
    try:
        to_float32(widened, interface=True)
    except UnsupportedGradient as error:
        msg = f"bfloat16 is computed in float32: {error}"
        raise InvalidModel(msg) from error
    return widened, halves


def _cast(array: Array, dtype: npt.DTypeLike) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):  # a NaN is a NaN, and what is too large is infinite
        return array.astype(dtype)


@cache
def _share_memory() -> None:
    """One pool of memory for all sessions, which grows by what is asked for.

    By default each session doubles its own: ConvNeXt-Tiny's gradient at batch 8 then takes 2.1 GB instead of 1.1, in the
    same time. And by default a free block is used whole, up to twice what was asked for: cut to size, Swin-T's takes 720 MB
    instead of 769.
    """
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    to_size = {"max_mem": 0, "arena_extend_strategy": 1, "max_dead_bytes_per_chunk": mmap.PAGESIZE}
    onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg(to_size))


@cache
def _shrinking() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _open_in_memory(model: ir.Model, options: Any, given: Mapping[str, Any], providers: list[Provider]) -> Any:
    """A session on the serialized graph, to which large constants are handed as they are."""
    import onnxruntime

    options.add_external_initializers(list(given), list(given.values()))
    return onnxruntime.InferenceSession(
        serialize_without(model, given), options, providers, disabled_optimizers=_breaking_optimizers(model)
    )


def _open_file(model: ir.Model, options: Any, _: Mapping[str, Any], providers: list[Provider]) -> Any:
    """A session on a file that is gone once it is open."""
    import onnxruntime

    with TemporaryDirectory(prefix="gradserve-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="weights.bin", alignment=mmap.ALLOCATIONGRANULARITY)
        return onnxruntime.InferenceSession(path, options, providers, disabled_optimizers=_breaking_optimizers(model))


def _breaking_optimizers(model: ir.Model) -> list[str]:
    """Those of onnxruntime that would make of this graph one that it cannot load.

    A Transpose before a MatMul of float64 becomes a FusedMatMul, which version 1.19.2 has on CPUs for float32 only.
    """
    doubles = any(
        node.op_type == "MatMul" and node.outputs[0].dtype is ir.DataType.DOUBLE for node in model.graph.all_nodes()
    )
    return ["MatmulTransposeFusion"] if doubles else []


_DTYPES = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT8}
)


def _broken_off(error: Exception) -> RunFailed:
    return RunFailed(f"the model broke off while it ran: {error}")


@cache
def newest_opset() -> int:
    """The newest version of the default operator set that the installed onnxruntime loads; found by trying."""
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    for opset in range(onnx.defs.onnx_opset_version(), 0, -1):
        try:
            open_probe(node, [1], PROVIDERS[Device.CPU], opset=opset)
        except Exception:
            continue
        return opset
    msg = "onnxruntime: expected one that loads some opset, got one that loads none"
    raise BackendMissing(msg)
