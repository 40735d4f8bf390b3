"""Repositories that tests change while they are served: models that tell by their answer which file they are of."""

from pathlib import Path

import numpy as np
from support.onnx_models import build, save

from gradserve_server import Engine, EngineConfig


def scaling(factor: float, size: int = 2):
    """y = factor x, of [N, size]."""
    weights = {"w": np.eye(size, dtype=np.float32) * np.float32(factor)}
    return build("y = MatMul(x, w)", inputs=f"float[N,{size}] x", outputs=f"float[N,{size}] y", weights=weights)


def put(root: Path, name: str, factor: float, *, version: int = 1, size: int = 2, config: str | None = None) -> Path:
    """Writes a model; one that is there is replaced."""
    save(scaling(factor, size), root / name / str(version) / "model.onnx")
    if config is not None:
        (root / name / "config.pbtxt").write_text(config)
    return root


def spoil(root: Path, name: str, version: int = 1) -> None:
    """Makes a file that is no model."""
    (root / name / str(version) / "model.onnx").write_bytes(b"no model")


def answer(engine, name: str, version: str = "") -> float:
    """The factor of whoever answers: an engine or a client."""
    return float(engine.infer(name, {"x": np.ones((1, 2), np.float32)}, version=version)["y"][0, 0])


def states(verbs) -> list[tuple[str, str, str]]:
    """Name, version and state of everything."""
    return [(status.name, status.version, str(status.state)) for status in verbs.models()]


def explicit(root: Path, *load: str, **settings) -> Engine:
    """An engine that loads on request."""
    return Engine(root, config=EngineConfig(model_control_mode="explicit", load_model=load, **settings))
