"""Ascents from their first report to their last: `Run` remembers one, `run_all` runs several side by side.

    run = Run("logits:7", O.unit("logits", 7), tensor=description.input("image"))
    for step in client.ascend("digits", run.objective):
        run.take(step)
    run.picture().save("seven.png")

In a notebook, a run shows itself.
"""

import io
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from gradserve import images
from gradserve.ascents import AscentSettings, Step
from gradserve.descriptions import ImageDescription, ModelDescription, TensorDescription
from gradserve.errors import CallError
from gradserve.objectives import Objective, Unit

__all__ = ["Ascends", "Run", "label_of", "run_all"]

_MOST = 10_000
"""Reports that a run remembers: beyond, every other one goes."""

_FAREWELL_SECONDS = 5.0
"""How long a cancelled ascent has to notice."""


class Ascends(Protocol):
    """`gradserve.Client` or `gradserve_server.Engine`."""

    def ascend(self, model: str, objective: Objective, **settings: Unpack[AscentSettings]) -> Iterator[Step]:
        """Changes an input step by step so that the objective grows."""
        ...


@dataclass(eq=False)
class Run:
    """An ascent, as far as it has come."""

    name: str
    """Its objective, in words."""
    objective: Objective
    tensor: TensorDescription | None = None
    """The input that changes; None: its pixels are not described."""
    settings: AscentSettings = field(default_factory=AscentSettings)
    """Of the ascent."""
    label: str = ""
    """What the objective stands for, where the model has words for it: see `label_of`."""
    line: str = ""
    """Runs with the same word here stand in one line of a contact sheet."""
    first: Step | None = None
    last: Step | None = None
    history: list[Step] = field(default_factory=list)
    """The reports, without their images and checkpoints: all of them, or of very many an even choice."""
    is_film: bool = False
    """Whether every report that has images is kept, or the latest only."""
    frames: list[Step] = field(default_factory=list)
    """The reports that have images and are kept."""
    as_picture: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """What the objective is of the images once they are picture files, [count], by the ending of the file."""
    began: float = 0.0
    ended: float = 0.0
    _reports: int = 0
    _stride: int = 1

    @property
    def description(self) -> ImageDescription | None:
        """Of its pixels."""
        return self.tensor.image if self.tensor is not None else None

    @property
    def count(self) -> int:
        """Images that it makes at once."""
        return 0 if self.last is None else len(self.last.values)

    @property
    def pixels(self) -> npt.NDArray[np.float32]:
        """The latest, [count, ...] like the model input.

        Raises:
            ValueError: No report has had any yet.
        """
        if not self.frames:
            msg = f"run {self.name}: expected a report with images, got none yet"
            raise ValueError(msg)
        latest: Any = self.frames[-1].image
        return np.asarray(latest)

    @property
    def alpha(self) -> npt.NDArray[np.float32] | None:
        """How opaque the latest pixels are (`Step.alpha`); None: all of them."""
        return self.frames[-1].alpha if self.frames else None

    @property
    def title(self) -> str:
        """Its name, and what that stands for."""
        return f"{self.name} ({self.label})" if self.label else self.name

    @property
    def steps_per_second(self) -> float:
        """Updates by time, so far."""
        if self.first is None or self.last is None or self.ended <= self.began:
            return 0.0
        return (self.last.index - self.first.index) / (self.ended - self.began)

    def take(self, step: Step) -> None:
        """Remembers a report."""
        self.first = self.first or step
        self.last = step
        self.ended = time.perf_counter()
        self.began = self.began or self.ended
        self._remember(replace(step, image=None, alpha=None, checkpoint=None))
        if step.image is not None:
            del self.frames[: 0 if self.is_film else None]
            self.frames.append(step)

    def _remember(self, step: Step) -> None:
        """Keeps every `_stride`th report, and the latest."""
        if self._reports and (self._reports - 1) % self._stride:
            self.history.pop()  # it was only the latest
        self.history.append(step)
        self._reports += 1
        if len(self.history) > _MOST:
            self.history[:] = [*self.history[:-1:2], self.history[-1]]
            self._stride *= 2

    def picture(self, index: int = 0) -> images.Picture:
        """One of the latest images, as a picture of its own size. See `images.to_picture`."""
        alpha = None if self.alpha is None else self.alpha[index]
        return images.to_picture(self.pixels[index], self.description, alpha=alpha)

    def is_dead(self, index: int) -> bool:
        """Whether one of its images never had a gradient but zero, in any step (`Step.dead`)."""
        dead = None if self.last is None else self.last.dead
        return dead is not None and bool(dead[index])

    def tile(self, index: int, step: Step | None = None, zoom: int | None = None) -> tuple[images.Picture, str]:
        """An image, enlarged, with its caption: what it is, at which step where that is not the last, its value.

        Args:
            index: Which.
            step: The report that has it; by default the latest.
            zoom: Each pixel as so many, each way; by default as many as `images.VIEW_SIZE` allows.
        """
        step = step or self.frames[-1]
        assert step.image is not None
        alpha = None if step.alpha is None else step.alpha[index]
        picture = images.enlarge(images.to_picture(step.image[index], self.description, alpha=alpha), zoom)
        number = f" #{index}" if self.count > 1 else ""
        is_over = self.last is not None and self.last.stop_reason is not None
        at = f"step {step.index}: " if len(self.frames) > 1 or not is_over else ""
        dead = " dead" if self.is_dead(index) else ""
        return picture, f"{self.title}{number}\n{at}{step.values[index]:.5g}{dead}"

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows."""
        if not self.frames or not images.is_picture(self.pixels.shape[1:], self.description):
            return None
        file = io.BytesIO()
        images.contact_sheet([self.tile(index) for index in range(self.count)]).save(file, "PNG")
        return file.getvalue()


def label_of(objective: Objective, description: ModelDescription) -> str:
    """The model's word for what an objective of one unit stands for; empty where it has none."""
    match objective.terms:
        case ((_, Unit(layer=layer, index=index)),):
            labels = next((output.labels for output in description.outputs if output.name == layer), ())
            return labels[index] if index < len(labels) else ""
    return ""


Event = tuple[Run, Step | BaseException | None]


def run_all(
    runs: Sequence[Run],
    start: Callable[[Run], Iterator[Step]],
    *,
    jobs: int,
    watch: Callable[[Run], None],
    cancel: Callable[[], None],
) -> None:
    """Runs ascents to their ends.

    Args:
        runs: Filled with their reports as these come in.
        start: Begins one.
        jobs: How many run at a time.
        watch: Called after each report, in the caller's thread.
        cancel: Called if this function is left early, by an error of one ascent or by Ctrl-C: ends the others.
    """
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for one in runs:
        waiting.put(one)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_work, args=(waiting, events, stop, start), daemon=True) for _ in range(min(jobs, len(runs)))
    ]
    for thread in threads:
        thread.start()
    left = len(runs)
    try:
        while left:
            one, event = events.get()
            match event:
                case Step():
                    one.take(event)
                    watch(one)
                case None:
                    left -= 1
                    _check_ended(one)
                case _:
                    raise event
    except BaseException:
        stop.set()
        cancel()
        raise
    finally:
        for thread in threads:
            thread.join(_FAREWELL_SECONDS)


def _work(
    waiting: "queue.SimpleQueue[Run]",
    events: "queue.SimpleQueue[Event]",
    stop: threading.Event,
    start: Callable[[Run], Iterator[Step]],
) -> None:
    """Takes ascents that wait, one after the other, and passes on what they report."""
    while not stop.is_set():
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            one.began = time.perf_counter()
            for step in start(one):
                events.put((one, step))
                if stop.is_set():
                    return
            events.put((one, None))
        except BaseException as error:  # whatever it is, the caller's thread raises it
            events.put((one, error))
            return


def _check_ended(one: Run) -> None:
    if one.last is None or one.last.stop_reason is None:
        msg = f"ascent {one.name}: expected reports up to the end, got none after step {one.last and one.last.index}"
        raise CallError(msg)
