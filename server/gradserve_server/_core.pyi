"""The compiled part of gradserve_server (csrc/bindings); use it through `gradserve_server.kernels`."""

import numpy as np
import numpy.typing as npt

def simd_targets() -> tuple[str, ...]: ...
def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...

class Ascender:
    def __init__(
        self,
        *,
        sample_shape: tuple[int, int, int],
        layout: str,
        mean: npt.NDArray[np.float32],
        scale: npt.NDArray[np.float32],
        normalization: str,
        optimizer: str,
        beta1: float,
        beta2: float,
        epsilon: float,
        epsilon_hat: bool,
        nesterov: bool,
        momentum_decay: float,
        low: float,
        high: float,
        simd: str | None,
        threads: int | None,
    ) -> None: ...
    def prepare(
        self,
        image: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int32] | None,
        out: npt.NDArray[np.float32],
    ) -> None: ...
    def step(
        self,
        image: npt.NDArray[np.float32],
        gradient: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int32] | None,
        first_moment: npt.NDArray[np.float32] | None,
        second_moment: npt.NDArray[np.float32] | None,
        step_number: int,
        learning_rate: float,
        weight_decay: float,
    ) -> npt.NDArray[np.float64]: ...
    def rule(self, step_number: int, learning_rate: float, weight_decay: float) -> npt.NDArray[np.float32]: ...

class Fourier:
    def __init__(self, *, sizes: tuple[int, ...], simd: str | None, threads: int | None) -> None: ...
    def inverse(
        self,
        parts: npt.NDArray[np.float32],
        scale: npt.NDArray[np.float32],
        image: npt.NDArray[np.float32],
    ) -> None: ...
    def forward(
        self,
        image: npt.NDArray[np.float32],
        scale: npt.NDArray[np.float32],
        parts: npt.NDArray[np.float32],
    ) -> None: ...

def warp(
    source: npt.NDArray[np.float32],
    matrices: npt.NDArray[np.float64],
    border: str,
    fill: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    simd: str | None,
    threads: int | None,
) -> None: ...
def warp_adjoint(
    gradient: npt.NDArray[np.float32],
    matrices: npt.NDArray[np.float64],
    border: str,
    out: npt.NDArray[np.float32],
    simd: str | None,
    threads: int | None,
) -> None: ...
def blur(
    source: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    border: str,
    out: npt.NDArray[np.float32],
    threads: int | None,
) -> None: ...
def blur_adjoint(
    gradient: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    border: str,
    out: npt.NDArray[np.float32],
    threads: int | None,
) -> None: ...
