"""Every setting of a server, each with its unit, its default and the reason for it. A leaf: imports nothing of ours.

A field made by `setting` is also a flag of the command and a key of its configuration file (`gradserve_server.settings`).
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")


def setting(default: T, text: str, *, unit: str = "N", served: object = None, off: tuple[str, str] | None = None) -> T:
    """A field that the command offers.

    Args:
        default: Of the field.
        text: What it is, for `--help`.
        unit: What stands for a value there.
        served: The default of the command, where it is another.
        off: The name of a flag that sets None, and what that means.
    """
    value: T = field(default=default, metadata={"text": text, "unit": unit, "served": served, "off": off})
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


@dataclass(frozen=True)
class EngineConfig:
    """How models are run."""

    threads: int = setting(_cores(), "threads that share one run of a model (default: this process's cores, here {default})")
    """More than there are cores slow one another down."""
    device: Literal["cpu", "cuda", "webgpu"] = setting(
        "cpu", "where models run: cuda needs gradserve-server[gpu], webgpu gradserve-server[webgpu]"
    )
    """"cpu"; "cuda" by onnxruntime-gpu, where float32 stays float32 (no TF32); or "webgpu" by onnxruntime-webgpu, on any GPU
    with a driver for Vulkan, Metal or Direct3D 12. Images of the model's size that an ascent changes pixel by pixel stay
    there for all of it (`ascent.resident_canvas`); other ascents send theirs in each step, and get a gradient back."""
    backend: Literal["auto", "training", "portable"] = setting(
        "auto", "who makes the gradients: training where it can and else portable, or only one"
    )
    """"training": onnxruntime-training, verified operators only; "portable": any onnxruntime."""
    straight_through: bool = setting(
        False, "differentiate quantized models as if quantization rounded nothing (default: such gradients are refused)"
    )
    """Whether quantization passes derivatives as if it rounded nothing. Otherwise a gradient through it is refused."""
    model_control_mode: Literal["none", "explicit", "poll"] = setting(
        "none", "when models are loaded: all at the start, when they are asked for, or as the repository changes"
    )
    """The modes and their names are Triton's. "explicit": `load_model` at the start, the others by RPC."""
    load_model: tuple[str, ...] = setting(
        (),
        "with --model-control-mode explicit: a model to load at the start; may be repeated, * is every model",
        unit="NAME",
    )
    """Each is loaded with all the versions that its policy serves."""
    repository_poll_seconds: float = setting(
        15.0, "with --model-control-mode poll: seconds from one look at the repository to the next", unit="S"
    )
    """Triton's. A change is loaded by the second look that sees it, so that no file is loaded while it is written."""
    exit_on_error: bool = setting(
        True, "end if a model cannot be loaded at the start; otherwise the others are served, and the index says why"
    )
    """Triton's: nobody should believe that a server has models which it has not."""
    memory_limit_mib: int | None = setting(
        None, "MiB that weights and plans of all models may take together; a load beyond it is refused", unit="MIB"
    )
    """None: what the machine has. Before a load is refused, plans go that could be made again (`runtime.memory`)."""
    max_model_mib: int = setting(16 * 1024, "largest model file, and tensors of a model together, in MiB", unit="MIB")
    """A file that claims more is refused before anything is allocated."""
    max_nodes: int = setting(250_000, "nodes and tensors of a model; one with more is refused")
    """A few times those of the largest language models; each takes some kB and some microseconds of loading."""
    trial: bool = setting(
        False, "load each model in another process first, which a file that crashes native code takes down", served=True
    )
    """An application trusts the files that it loads into itself; a server's come from others. Costs each load twice, and a
    start of Python: one for all that is loaded at the start (0.8 s, beside the server's own), one for each later load."""
    load_timeout_seconds: float = setting(300.0, "seconds that a model has to load in the trial", unit="S")
    """Models of some GiB take most of a minute on a slow disk."""
    max_load_mib: int = setting(
        _memory_mib(), "memory that a model may take in the trial, in MiB (default: this machine's)", unit="MIB"
    )
    """About 2.2 times the model, and what its values take for a batch of 2."""
    max_plans: int = setting(32, "gradient graphs kept ready for each model; the one unused for longest goes")
    """All share the model's weights, but each holds those of its convolutions' gradients, turned around, and (models below
    256 MiB) matrices as onnxruntime packs them."""
    max_batch: int = setting(8, "samples of different callers that run as one batch; 1: each runs alone")
    """Up to here the time of a sample falls (from 202 to 161 us for the digits network on two cores), beyond it only the
    wait of the others grows. Predictions join only where their model's configuration says so, and as many as it says."""
    max_queue: int = setting(256, "runs that wait for the device at a time; one more is refused")
    """A server's calls and ascents together are fewer, unless it is told to answer more: this bounds the memory of what an
    application of its own throws at an engine."""
    max_queue_per_caller: int = setting(128, "of them, runs of one caller; one more is refused")
    """A caller is a connection to the server, or a `Caller.identity` in process: one cannot take all places."""
    max_steps: int = setting(1_000_000, "steps of one ascent")
    """Hours, even of a small model: more is a mistake."""
    max_images: int = setting(1024, "images of one ascent")
    """All take each step together, and a cancelled ascent ends between two steps."""
    max_ascent_mib: int = setting(1024, "all images of one ascent together, in MiB", unit="MIB")
    """An ascent holds about six arrays of this size; where images stay on a device up to twelve, there."""


@dataclass(frozen=True)
class ServerConfig:
    """How the server listens."""

    host: str = setting("127.0.0.1", "address to bind", unit="ADDRESS")
    """Loopback: nobody else gets in unless told otherwise."""
    port: int = setting(8001, "port to bind; 0 takes a free one", unit="PORT")
    """Triton's gRPC port."""
    metrics_host: str = setting("127.0.0.1", "address for metrics", unit="ADDRESS")
    """Loopback, whatever `host` is: who asks for predictions need not see what others ask."""
    metrics_port: int | None = setting(
        None,
        "port for metrics, http://ADDRESS:PORT/metrics; 0 takes a free one",
        unit="PORT",
        served=8002,
        off=("no_metrics", "serve no metrics"),
    )
    """For Prometheus, by HTTP; None serves none. The command takes Triton's."""
    max_message_mib: int = setting(256, "largest message either way, in MiB", unit="MIB")
    """400 images of 3x224x224 float32."""
    allow_shared_memory: bool = setting(
        False, "clients on this machine may send tensors in system shared memory (Open Inference Protocol)"
    )
    """A client with this right reads and writes, through the server, whatever shared memory the server's user can."""
    max_shared_memory_mib: int = setting(4096, "shared memory that clients may register, all together, in MiB", unit="MIB")
    """Memory that stays taken, although its owner has gone, until it is unregistered."""
    max_ascents: int = setting(32, "ascents at a time; one more is refused")
    """Each keeps a thread, and most of the memory of a batch."""
    max_streams: int = setting(32, "streams of predictions open at a time; one more is refused")
    """Of the Open Inference Protocol. Each keeps a thread."""
    max_calls: int = setting(32, "other calls at a time; more wait")
    """In gRPC's queue."""
    strict_readiness: bool = setting(True, "count as ready only while no model has failed to load")
    """Triton's."""
    max_inputs: int = setting(256, "arrays that one request may bring as inputs")
    """Each costs a look-up and an array, however small; models with more do not exist by accident."""
    max_layers: int = setting(256, "layers, outputs or terms of an objective that one request may name")
    """Each is kept until the answer is made, and another set of them is another graph to make ready."""
    max_connection_age_seconds: float = setting(
        0.0, "a connection is closed after so long, for load balancing; 0: never", unit="S"
    )
    """Clients connect again by themselves, to another server perhaps. Calls that run then have the grace of the next."""
    max_connection_age_grace_seconds: float = setting(
        0.0, "calls on a connection that has come of age have so long to finish; 0: as long as they take", unit="S"
    )
    """At least as long as the longest ascent, which is lost otherwise."""
    max_connection_idle_seconds: float = setting(
        1800.0, "a connection without calls is closed after so long; 0: never", unit="S"
    )
    """It costs memory and a file descriptor, and its client may have gone without a word."""
    tls_certificate: Path | None = setting(None, "PEM file of the certificate and its chain: listen by TLS", unit="FILE")
    """Read again when it changes, as the key and the authorities are."""
    tls_key: Path | None = setting(None, "PEM file of the certificate's private key", unit="FILE")
    """Without a passphrase: nobody is there to type it."""
    tls_client_ca: Path | None = setting(None, "PEM file of who signs clients: they then need a certificate", unit="FILE")
    """Mutual TLS. It says who may connect; tokens say what for."""
    tokens_file: Path | None = setting(None, "file of bearer tokens and what each permits: calls then need one", unit="FILE")
    """Read again when it changes."""
    insecure: bool = setting(
        False, "listen beyond this machine in the clear, where there is no TLS (default: that is refused)"
    )
    """For a network that nobody else is on. Never for tokens."""
    drain_seconds: float = setting(10.0, "seconds that running calls have to finish after SIGTERM", unit="S")
    """Less than the 30 s after which Kubernetes kills. Ascents have most of it (`rpc.drain`)."""
    drain_delay_seconds: float = setting(0.0, "seconds before that in which health says NOT_SERVING already", unit="S")
    """All is served meanwhile. Where load balancers go by health: longer than they take to notice."""
    trace: bool = setting(False, "send OpenTelemetry spans where OTEL_* variables say; needs gradserve-server[tracing]")
    """By OTLP over gRPC. Calls whose clients trace them are traced whatever the rate."""
    trace_rate: int = setting(1, "calls of which one is traced, with --trace")
    """As Triton's `trace_rate`, whose default is 1000: of gradients and ascents there are fewer."""


@dataclass(frozen=True)
class LogConfig:
    """What the command logs, on standard error."""

    log_level: Literal["debug", "info", "warning", "error"] = setting("warning", "how much to log")
    """Only what somebody should look at. From info on, a line for each call."""
    log_format: Literal["text", "json"] = setting("text", "how to write it: for people, or an object of JSON for each line")
    """Both have the same fields."""
