"""What the zoo knows of one architecture, and the table of all of them."""

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from .libraries import prepare_imports
from .probe import Probed
from .randomize import randomize

BATCH = 6
Build = Callable[[], nn.Module]
Draw = Callable[[int, torch.Generator], dict[str, Tensor]]
Predict = Callable[[nn.Module, dict[str, Tensor]], Tensor]

_TABLE: dict[str, "Architecture"] = {}


@dataclass(frozen=True)
class Variant:
    """One size of an architecture.

    Attributes:
        build: Makes the network with its library's initialization.
        draw: Draws inputs of a batch size: float32, or int64 for tokens. Its keys are the names of the exported inputs.
    """

    build: Build
    draw: Draw


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: Its name in the table.
        family: The family that the issue asks for, e.g. "ResNet".
        reduced: Few layers, narrow, small inputs: with every kind of operator of the family, for the quick suite.
        full: The published size, where it is easy to have.
        predict: Calls the network and picks its logits.
        middle: Path of the module whose output is the target of the random cotangent; samples along axis 0.
        wrt: What to differentiate with respect to: the name of an input, or "embedding".
        embedding: Path of the embedding module whose output is that "embedding".
        fails: Exporters that fail, or export something else, with the reason: keyed "torchscript", "dynamo", or with the
            opset, "dynamo-23".
        fixed_batch: Exporters whose file keeps the batch size of its example, with the reason; keyed as `fails`.
    """

    name: str
    family: str
    reduced: Variant
    predict: Predict
    middle: str
    full: Variant | None = None
    wrt: str = "image"
    embedding: str | None = None
    fails: Mapping[str, str] = field(default_factory=dict)
    fixed_batch: Mapping[str, str] = field(default_factory=dict)

    def module(self, seed: int = 0, *, full: bool = False) -> Probed:
        """Builds the network, draws all its parameters and statistics anew, and wraps it: float32, eval mode."""
        seed = self._mix(seed)
        variant = self._variant(full=full)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # Some initializers draw non-parameter buffers, which randomize leaves alone.
            network = variant.build().float().eval()
        inputs = variant.draw(BATCH if full else 2 * BATCH, torch.Generator().manual_seed(seed + 1))
        randomize(network, partial(self.predict, network, inputs), seed)
        return Probed(network, self.predict, tuple(inputs), middle=self.middle, embedding=self.embedding).eval()

    def inputs(self, batch: int = BATCH, seed: int = 0, *, full: bool = False) -> dict[str, Tensor]:
        """Draws inputs, in the order of the module's arguments."""
        return self._variant(full=full).draw(batch, torch.Generator().manual_seed(self._mix(seed) + 2))

    def why(self, known: Mapping[str, str], exporter: str, opset: int) -> str | None:
        """Looks up what is known (`fails` or `fixed_batch`) of an exporter at an opset."""
        return known.get(f"{exporter}-{opset}", known.get(exporter))

    def _variant(self, *, full: bool) -> Variant:
        if not full:
            return self.reduced
        if self.full is None:
            message = f"{self.name} has no full-size variant"
            raise ValueError(message)
        return self.full

    def _mix(self, seed: int) -> int:
        return zlib.crc32(f"{self.name}/{seed}".encode())


def register(architecture: Architecture) -> None:
    """Adds an architecture to the table."""
    if architecture.name in _TABLE:
        message = f"{architecture.name} is registered twice"
        raise ValueError(message)
    _TABLE[architecture.name] = architecture


def load_table() -> Mapping[str, Architecture]:
    """Imports every file of `architectures/`, which register themselves; returns the table, by name."""
    prepare_imports()
    package = importlib.import_module(".architectures", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_TABLE)
