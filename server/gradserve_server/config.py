"""Every setting of a server, each with its unit, its default and the reason for it. A leaf: imports nothing of ours."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineConfig:
    """How models are run."""

    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    """Threads that share one run of a model: the cores this process may use."""
    device: str = "cpu"
    """Where models run: "cpu", or "cuda" by onnxruntime-gpu, where float32 stays float32 (no TF32). An ascent's own
    arithmetic stays on the processor: an image goes to the GPU and its gradient comes back in each step."""
    backend: str = "auto"
    """Who makes the gradients: "training" (onnxruntime-training, verified operators only), "portable" (any onnxruntime), or
    "auto": the first where it can, else the second."""
    straight_through: bool = False
    """Whether quantization passes derivatives as if it rounded nothing. Otherwise a gradient through it is refused."""
    max_plans: int = 32
    """Graphs kept ready for each model; the one unused for longest goes. All share the model's weights, but each holds
    those of its convolutions' gradients, turned around, and (models below 256 MiB) matrices as onnxruntime packs them."""
    max_batch: int = 8
    """Samples of different callers that run as one batch; 1 turns batching off. Up to here the time of a sample falls (from
    202 to 161 us for the digits network on two cores), beyond it only the wait of the others grows."""
    max_queue: int = 256
    """Runs that wait for the device; one more is refused. A server's calls and ascents together are fewer, unless it is told
    to answer more: this bounds the memory of what an application of its own throws at an engine."""


@dataclass(frozen=True)
class ServerConfig:
    """How the server listens."""

    host: str = "127.0.0.1"
    """Loopback: nobody else gets in unless told otherwise."""
    port: int = 8001
    """Triton's gRPC port; 0 takes a free one."""
    metrics_host: str = "127.0.0.1"
    """Loopback, whatever `host` is: who asks for predictions need not see what others ask."""
    metrics_port: int | None = None
    """For Prometheus, by HTTP; 0 takes a free one, None serves none. The command takes Triton's, 8002."""
    max_message_bytes: int = 256 * 1024 * 1024
    """Both ways: 400 images of 3x224x224 float32."""
    max_ascents: int = 32
    """At once; one more is refused. Each keeps a thread, and most of the memory of a batch."""
    max_streams: int = 32
    """Streams of predictions (the Open Inference Protocol) open at once; one more is refused. Each keeps a thread."""
    max_calls: int = 32
    """Other calls answered at once; more wait in gRPC's queue."""
    drain_seconds: float = 10.0
    """After SIGTERM, running calls have this long to finish."""
