"""The C++ kernels of an ascent, checked.

`ascender` is what is fused around the model, `resampling` what transforms need, `fourier` what spectra need.

All work on float32, C-contiguous, planar `[N, C, H, W]`. Results are bit-identical for every SIMD target and every number of
threads, and the samples of a batch do not see one another. An argument that does not fit is a ValueError or TypeError.
"""

from gradserve_server._core import num_threads, set_num_threads, simd_targets
from gradserve_server.kernels.ascender import Ascender, AscentState, Layout
from gradserve_server.kernels.fourier import Fourier
from gradserve_server.kernels.resampling import Border, blur, blur_adjoint, warp, warp_adjoint

__all__ = [
    "Ascender",
    "AscentState",
    "Border",
    "Fourier",
    "Layout",
    "blur",
    "blur_adjoint",
    "num_threads",
    "set_num_threads",
    "simd_targets",
    "warp",
    "warp_adjoint",
]
