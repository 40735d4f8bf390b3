"""Networks exported by torch, optimized by onnxruntime, loaded here: the gradient is that of torch in float64.

Optimized files hold operators that no exporter writes, and lose what onnxruntime thinks nobody needs.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.autodiff.rules import MICROSOFT
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import load
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.session import Session

torch = pytest.importorskip("torch", reason="float64 oracle")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch

# ---- networks --------------------------------------------------------------------------------------------------------


class ConvNet(nn.Module):
    """Convolution, BatchNorm, ReLU and ReLU6, SiLU, a sum around a block, and a linear head."""

    shape = (3, 9, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.LeakyReLU(0.1))
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.last = nn.Sequential(nn.Conv2d(8, 12, 3), nn.Sigmoid(), nn.Conv2d(12, 12, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 5))

    def forward(self, x):
        """Logits."""
        x = self.stem(x)
        x = torch.relu(x + self.wide(self.deep(x)))
        return self.head(self.last(x).mean((2, 3)))


class Encoder(nn.Module):
    """torch's own encoder layer, with LayerNorm and GELU."""

    shape = (6, 16)

    def __init__(self, *, norm_first: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=norm_first)
            for _ in range(2)
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        """Logits."""
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class BertLayer(nn.Module):
    """Attention as in BERT: a matrix each for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def split(self, x):
        """[B, S, N H] -> [B, N, S, H]."""
        return x.view(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        """One layer."""
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1]) + mask
        mixed = torch.matmul(scores.softmax(-1), value).permute(0, 2, 1, 3).contiguous()
        x = self.norms[0](self.dense(mixed.view(mixed.shape[0], mixed.shape[1], -1)) + x)
        return self.norms[1](self.outer(nn.functional.gelu(self.inner(x))) + x)


class Bert(nn.Module):
    """Layers as in BERT over vectors that are there already: there is no gradient with respect to words."""

    shape = (6, 16)

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.layers = nn.ModuleList(BertLayer(16, 2) for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        """Logits."""
        mask = torch.zeros(1, 1, 1, 6, dtype=x.dtype)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(torch.tanh(x[:, 0]))


NETWORKS = {
    "convolution": ConvNet,
    "encoder": Encoder,
    "encoder, norm first": lambda: Encoder(norm_first=True),
    "bert": Bert,
}


def network(name: str) -> nn.Module:
    """With weights and statistics that a trained one could have."""
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return made.eval()


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[..., tuple[nn.Module, Path]]:
    """A network and its file by one of torch's two exporters, for a batch of any size; each made once."""

    @cache
    def export(name: str, *, dynamo: bool) -> tuple[nn.Module, Path]:
        model, path = network(name), tmp_path_factory.mktemp("exported") / "model.onnx"
        example = torch.randn(2, *model.shape)
        by_name = {"dynamic_axes": {"x": {0: "N"}, "y": {0: "N"}}}
        batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if dynamo else by_name
        names = {"input_names": ["x"], "output_names": ["y"], "opset_version": 18}
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator of torch, which neither exporter knows
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    model, (example,), str(path), dynamo=dynamo, external_data=False, verbose=False, **names, **batch
                )
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        return model.double(), path

    return export


def optimized(path: Path, level: str, into: Path) -> Path:
    """By onnxruntime, as it would run it at this level."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    options.optimized_model_filepath = str(into)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return into


def fused(path: Path, into: Path) -> Path:
    """By onnxruntime's optimizer of transformers, written in Python."""
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = optimizer.optimize_model(str(path), model_type="bert", num_heads=2, hidden_size=16, opt_level=0)
    made.save_model_to_file(str(into))
    return into


def agrees(path: Path, model: nn.Module) -> set[str]:
    """Checks the gradient of a random combination of the logits. Returns the operators of onnxruntime's own."""
    served = to_inference_form(load(path).model).model
    check(served, ["x"], ["y"], PortableJudge(served, opset_of(served)))
    gradient = build_vjp(served, ["x"])
    random = np.random.default_rng(1)
    x, cotangent = random.normal(size=(3, *model.shape)), random.normal(size=(3, 5))
    given = {"x": x.astype(np.float32), cotangent_name("y"): cotangent.astype(np.float32)}
    got = Session(gradient, 1).run(given)
    leaf = torch.tensor(x.astype(np.float32).astype(np.float64), requires_grad=True)
    y = model(leaf)
    (expected,) = torch.autograd.grad(y, leaf, torch.tensor(cotangent.astype(np.float32).astype(np.float64)))
    assert relative_error(got["y"], y.detach().numpy()) <= TOLERANCE["float32 network"]
    assert relative_error(got[gradient_name("x")], expected.numpy()) <= TOLERANCE["float32 network"]
    return {node.op_type for node in served.graph if node.domain == MICROSOFT}


EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
FUSIONS = {"FusedConv", "BiasGelu", "Gelu", "SkipLayerNormalization", "FusedMatMul"}


@EXPORTERS
@pytest.mark.parametrize("name", NETWORKS)
def test_as_exported(name, dynamo, exported):
    model, path = exported(name, dynamo=dynamo)
    assert agrees(path, model) == set()


@EXPORTERS
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("level", ["basic", "extended"])
def test_optimized_by_the_runtime(name, level, dynamo, exported, tmp_path):
    model, path = exported(name, dynamo=dynamo)
    own = agrees(optimized(path, level, tmp_path / "optimized.onnx"), model)
    assert level == "basic" or own & FUSIONS


@EXPORTERS
@pytest.mark.parametrize("name", ["encoder", "encoder, norm first", "bert"])
def test_optimized_for_transformers(name, dynamo, exported, tmp_path):
    model, path = exported(name, dynamo=dynamo)
    own = agrees(fused(path, tmp_path / "fused.onnx"), model)
    assert own
