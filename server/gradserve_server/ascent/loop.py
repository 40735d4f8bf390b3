"""The loop: a generator that calls the kernels and one gradient function."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from gradserve import Step, StopReason
from gradserve.errors import CallCancelled
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.kernels import Ascender, Layout

Float32 = npt.NDArray[np.float32]


def ascend(
    spec: AscentSpec,
    run: Callable[[], None],
    batch: Float32,
    values: Float32,
    gradient: Float32,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Makes the objective grow, step by step.

    Report k is about the image after k updates. So `steps` updates take `steps` + 1 runs of the model, and the last report,
    whose image is never jittered, has the value of the very picture that it delivers.

    A step whose gradient is NaN or infinite leaves that image as it is; once every image has met one, the run ends.

    Args:
        spec: What to do.
        run: Reads `batch`, writes `values` and `gradient`; raises CallCancelled where it had to wait, and `should_stop` said
            yes before its turn came.
        batch: The model's input, [N, ...].
        values: The objective, [N].
        gradient: d values[n] / d batch[n].
        should_stop: Asked before each step; once it says yes, the generator ends without another report.

    Yields:
        The start, every `report_every` steps, and the end.
    """
    pixels = spec.pixels
    low, high = spec.bounds
    ascender = Ascender(
        pixels.planar_shape,
        rule=spec.optimizer,
        mean=pixels.mean,
        scale=pixels.scale,
        layout=Layout(pixels.layout),
        normalization=spec.gradient_normalization,
        weight_decay=spec.weight_decay,
        low=low,
        high=high,
    )
    state = ascender.new_state(spec.count)
    image = spec.start.copy()
    model_batch, model_gradient = pixels.buffer(batch), pixels.buffer(gradient)
    jitter = spec.offsets()
    finite = np.ones(spec.count, np.bool_)
    for index in range(spec.steps + 1):
        if should_stop():
            return
        last = index == spec.steps
        offsets = None if last else next(jitter)
        ascender.prepare(image, offsets, model_batch)
        try:
            run()
        except CallCancelled:  # `should_stop` said yes while the run waited for its turn
            return
        wanted = spec.image_every and index % spec.image_every == 0
        picture = pixels.from_planar(image) if wanted or last else None
        if last:
            norms = _norms(pixels.to_planar(gradient), pixels.scale)
        else:
            norms = ascender.step(image, model_gradient, offsets, state)
        finite &= np.isfinite(norms) & np.isfinite(values)
        stopped = not finite.any()
        if stopped and picture is None:
            picture = pixels.from_planar(image)
        if last or stopped or index % spec.report_every == 0 or wanted:
            reason = None
            if last or stopped:
                reason = StopReason.FINISHED if finite.all() else StopReason.NON_FINITE
            yield Step(index, values.astype(np.float64), norms, picture, reason)
        if stopped:
            return


def _norms(gradient: Float32, scale: Float32) -> npt.NDArray[np.float64]:
    """The length of the pixel gradient of each image, as `Ascender.step` returns it."""
    pixel_gradient = gradient.astype(np.float64) * np.float64(scale).reshape(-1, 1, 1)
    norms: npt.NDArray[np.float64] = np.sqrt(np.square(pixel_gradient).sum(axis=(1, 2, 3)))
    return norms
