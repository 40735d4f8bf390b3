"""The canvas of images that stay on a device for the whole ascent. What comes to this side in a step is a few numbers.

Each run is three: the graph before the model, the model, and the graph after it (`graph.stepping`), which writes the next
state beside the one that it reads. So a step that is taken only says that the other state is now the one; and the last run,
after which none is taken, has changed nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.optimizers import AdamW
from gradserve_server.ascent.canvas import Float32, Float64, Mask, Rolls, StartingImage, around
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.graph import stepping
from gradserve_server.graph.stepping import CENTRE, HELD, HIGH, IMAGE, LARGEST, LENGTH, LOW, NEW, OLD, StepForm
from gradserve_server.kernels import AscentState
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.exchange import Exchange
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.tensors import Tensor, place

_NAMES = {IMAGE: "image", stepping.FIRST: "optimizer: first_moment", stepping.SECOND: "optimizer: second_moment"}
"""What checkpoints call the parts of the state; those of ascents on the processor call them so, too."""

MAX_FORMS = 8
"""Kinds of steps whose graphs are kept ready. On a GPU each of the three keeps the memory that its largest run took."""


class ResidentCanvas:
    """An image as large as the model's input, rolled at most; without penalties."""

    penalty: Float64 | None = None

    def __init__(self, spec: AscentSpec, device: Device) -> None:
        self._spec, self._device = spec, device
        self._form, self._start = _form(spec), StartingImage(spec)
        self._before, self._after, self._merge = _sessions(self._form, device)
        self._rule = around(spec).rule
        self._rolls = Rolls(spec)
        self.optimizer = AscentState()
        pixels = self._start.pixels
        first = {IMAGE: pixels} | {name: np.zeros_like(pixels) for name in self._form.state[1:]}
        # The one that a step reads, the one that it writes, and where images may be held, one to put them together in.
        many = 2 if spec.stop_at is None else 3
        self._states = [{name: place(array, device) for name, array in first.items()} for _ in range(many)]
        self._now, self._next, self._spare = 0, 1, 2
        self._shown: Tensor | None = None
        """Another image, to be shown instead of the one that changes."""
        self._picture: Float32 | None = None  # until a step changes it
        self._runs: dict[Any, Callable[[], None]] = {}
        # What a step reads from this side, and writes here.
        count = spec.count
        self._unmoved = np.zeros((count, 2), np.int32)
        self._rolled, self._rolled_back = (
            stepping.places(self._unmoved, self._form.planar_shape) if self._form.rolls else {} for _ in range(2)
        )
        self._numbers = np.zeros(stepping.RULE_SIZE, np.float32)
        self._norms = {name: np.zeros(count, np.float32) for name in (LARGEST, LENGTH)}
        self._confined_by = {name: place(array, device) for name, array in self._confining().items()}
        model_input = np.zeros((count, *spec.pixels.model_shape), np.float32)
        self._batch, self._gradient = place(model_input, device), place(model_input, device)

    @property
    def exchange(self) -> Exchange:
        """See `Canvas`.

        It holds the canvas. So the canvas does not hold it: memory of the device is let go when an ascent ends, not when
        Python next looks for cycles.
        """
        return Exchange(self._batch, self._gradient, self._device, self._run_before, self._run_after)

    def show(self, index: int, *, plain: bool) -> None:
        """See `Canvas`."""
        self._shown = None
        self._roll(None if plain else self._rolls.at(index))
        steps = self.optimizer.steps
        self._numbers[:] = self._rule(steps, self._spec.learning_rate(steps))

    def show_picture(self, picture: Float32) -> None:
        """See `Canvas`."""
        self._shown = place(picture, self._device)
        self._roll(None)

    def seen(self) -> Float32:
        """See `Canvas`."""
        self._run_before()
        return self._batch.numpy()

    def step(self, held: Mask | None) -> Float64:
        """See `Canvas`."""
        if held is not None:
            self._hold(held)
        self._now, self._next = self._next, self._now
        self.optimizer.steps += 1
        self._picture = None
        return self.norms()

    def norms(self) -> Float64:
        """See `Canvas`."""
        return self._norms[LARGEST].astype(np.float64) * self._norms[LENGTH]

    def moved(self, norms: Float64) -> Mask:
        """See `Canvas`."""
        return norms > 0

    def unseen(self) -> None:
        """See `Canvas`."""
        self._norms[LARGEST].fill(np.nan)

    def picture(self) -> Float32:
        """See `Canvas`."""
        if self._picture is None:
            self._picture = self._states[self._now][IMAGE].numpy()
        return self._picture

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `Canvas`."""
        return {_NAMES[name]: tensor.numpy() for name, tensor in self._states[self._now].items()}

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """See `Canvas`."""
        state = next(key for key, known in _NAMES.items() if known == name)
        self._states[self._now][state] = place(array, self._device)
        self._runs.clear()
        self._picture = None

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """See `Canvas`."""
        return self._start.fits(array) if name == _NAMES[IMAGE] else ""

    def _roll(self, offsets: npt.NDArray[np.int32] | None) -> None:
        if not self._form.rolls:
            return
        by = self._unmoved if offsets is None else offsets
        for kept, sign in ((self._rolled, 1), (self._rolled_back, -1)):
            for name, at in stepping.places(sign * by, self._form.planar_shape).items():
                kept[name][:] = at

    def _confining(self) -> dict[str, Float32]:
        low, high = (np.broadcast_to(np.float32(bound), self._form.planar_shape) for bound in self._spec.bounds)
        every = {LOW: low, HIGH: high, CENTRE: self._spec.start}
        return {name: every[name] for name in self._form.confined_by}

    def _run_before(self) -> None:
        def show(image: Tensor) -> Callable[[], None]:
            return self._before.bind({IMAGE: image, **self._rolled}, {stepping.BATCH: self._batch})

        if self._shown is not None:
            show(self._shown)()
        else:
            self._once("before", self._now, lambda: show(self._states[self._now][IMAGE]))

    def _run_after(self) -> None:
        def bind() -> Callable[[], None]:
            now, then = self._states[self._now], self._states[self._next]
            feeds: dict[str, npt.NDArray[Any] | Tensor] = {stepping.GRADIENT: self._gradient, stepping.RULE: self._numbers}
            feeds |= {**now, **self._rolled_back, **self._confined_by}
            return self._after.bind(feeds, {**self._norms, **{f"{NEW}{name}": tensor for name, tensor in then.items()}})

        self._once("after", (self._now, self._next), bind)

    def _hold(self, held: Mask) -> None:
        """Puts the old state of some images into the next one."""
        old, new, kept = (self._states[which] for which in (self._now, self._next, self._spare))
        feeds = {f"{which}{name}": state[name] for which, state in ((OLD, old), (NEW, new)) for name in state}
        self._merge.bind({HELD: np.ascontiguousarray(held.reshape(-1, 1, 1, 1)), **feeds}, kept)()
        self._next, self._spare = self._spare, self._next

    def _once(self, what: str, where: object, bind: Callable[[], Callable[[], None]]) -> None:
        """Runs a graph between two states, bound the first time only."""
        run = self._runs.get((what, where))
        if run is None:
            run = self._runs[what, where] = bind()
        run()


def _form(spec: AscentSpec) -> StepForm:
    low, high = spec.bounds
    has_arrays = isinstance(low, np.ndarray) or isinstance(high, np.ndarray)
    decays = spec.weight_decay > 0 or (isinstance(spec.optimizer, AdamW) and spec.optimizer.weight_decay > 0)
    return StepForm(
        planar_shape=spec.pixels.planar_shape,
        model_shape=spec.pixels.model_shape,
        layout=spec.pixels.layout,
        mean=tuple(spec.pixels.mean.reshape(-1).tolist()),
        scale=tuple(spec.pixels.scale.reshape(-1).tolist()),
        optimizer=type(spec.optimizer),
        normalization=spec.gradient_normalization,
        rolls=spec.jitter > 0,
        decays=decays,
        bounds=None if has_arrays else (float(low), float(high)),
        projection=None if spec.projection is None else type(spec.projection),
        radius=0.0 if spec.projection is None else float(spec.projection.radius),
    )


@lru_cache(MAX_FORMS)
def _sessions(form: StepForm, device: Device) -> tuple[Session, Session, Session]:
    """They hold nothing of any model, nor of any ascent."""
    return (
        Session(stepping.before(form), 1, device=device),
        Session(stepping.after(form), 1, device=device),
        Session(stepping.merge(form), 1, device=device),
    )
