"""Predictions that must not change by one bit, whatever else a server goes through."""

import threading
from typing import Self

import numpy as np
from support import golden, oip
from tritonclient.grpc import InferenceServerClient

import gradserve

PAUSE = 0.02
"""Seconds between two rounds of predictions: enough of them, and room for the others."""

X = golden.digits()
Y = np.array([[0.3], [0.4]], np.float32)

PREDICTIONS = {
    "digits": ("digits", {"image": X}, "logits"),
    "one digit": ("digits", {"image": X[:1]}, "logits"),
    "digits_batchnorm": ("digits_batchnorm", {"image": X}, "logits"),
    "scenario_a": ("scenario_a", {"x": Y}, "y"),
}
"""By name: the model, its inputs, its output."""


class Purity:
    """Predicts now, and all the time while the context is open; the same bytes must come each time, by either protocol.

    Args:
        address: Of the server.
    """

    def __init__(self, address: str) -> None:
        self._ours = gradserve.Client(address, timeout=60)
        self._triton = InferenceServerClient(address)
        self._expected = self._predict()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._keep_predicting)
        self.rounds = 0
        """How often the predictions were compared."""

    def check(self) -> None:
        """Makes sure that no prediction has changed, and that none changes now."""
        if self._error is not None:
            raise self._error
        self._compare()

    def close(self) -> None:
        """Lets go of the connections. A context does so by itself."""
        self._ours.close()
        self._triton.close()

    def _compare(self) -> None:
        got = self._predict()
        changed = [name for name in got if got[name] != self._expected[name]]
        assert not changed, f"the bytes of predictions have changed: {changed}"
        self.rounds += 1

    def _predict(self) -> dict[str, bytes]:
        got = {}
        for name, (model, inputs, output) in PREDICTIONS.items():
            got[name] = self._ours.infer(model, inputs)[output].tobytes()
            answer = self._triton.infer(model, [oip.infer_input(*item) for item in inputs.items()])
            got[f"{name}, Triton's way"] = answer.as_numpy(output).tobytes()
        return got

    def _keep_predicting(self) -> None:
        try:
            while not self._over.wait(PAUSE):
                self._compare()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.close()
        if self._error is not None:
            raise self._error
