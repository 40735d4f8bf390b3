"""The loops in gradserve: in process, and through a server on loopback."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from turns import Ready

import gradserve
from gradserve import objectives as O
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

from .loops import CASES, UNIT


def steps(path: Path, image: NDArray[np.float32], case: str, loop: str, *, served: bool) -> Ready:
    """An ascent from an image [1, C, H, W]; its report is the gradient of the logit there."""
    engine = Engine(path)
    server = Server(engine, ServerConfig(port=0)) if served else None
    verbs = gradserve.Client(server.address) if server is not None else engine
    settings = CASES[case].settings(loop)

    def run(count: int, _alive: object = server) -> float:
        # From the report on the start to the last one: a stream left open would run on during the others' turns.
        ascent = verbs.ascend(path.stem, O.unit("logits", UNIT), steps=count, report_every=32, start=image, **settings)
        next(ascent)
        started = time.perf_counter()
        for _ in ascent:
            pass
        return time.perf_counter() - started

    return run, lambda: engine.gradient(path.stem, {"image": image}, O.unit("logits", UNIT)).gradients["image"]
