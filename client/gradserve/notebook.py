"""An ascent that can be watched in a notebook.

    from gradserve import notebook
    run = notebook.watch(client, "digits", O.unit("logits", 7), steps=256)

The picture below the cell changes while the ascent runs; `run` has everything in the end, and shows itself. Needs IPython,
which every notebook has, and no widgets.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Unpack, cast

from gradserve import images
from gradserve.ascents import AscentSettings
from gradserve.descriptions import ModelDescription
from gradserve.errors import BackendMissing
from gradserve.objectives import Objective
from gradserve.runs import Ascends, Run, label_of

__all__ = ["Verbs", "watch"]

_FRAMES = 64
"""How often the picture changes, where nobody says how often."""


class Verbs(Ascends, Protocol):
    """`gradserve.Client` or `gradserve_server.Engine`."""

    def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """Inputs, outputs and what was done to the file."""
        ...


def watch(
    verbs: Verbs, model: str, objective: Objective, *, name: str = "objective", **settings: Unpack[AscentSettings]
) -> Run:
    """Runs an ascent to its end, and shows its images as they change.

    Args:
        verbs: A client or an engine.
        model: Its name.
        objective: What to make large.
        name: What to call it.
        **settings: See `gradserve.AscentSettings`. Without `image_every` there are some 64 pictures.

    Returns:
        The run. Interrupting the cell ends the ascent, and `watch`.

    Raises:
        BackendMissing: IPython is not installed.
        GradserveError: As `ascend`.
    """
    display = _display()
    description = verbs.inspect(model, version=settings.get("version", ""))
    tensor = description.changing_input(settings.get("input", ""))
    steps = settings.get("steps", 256)
    settings = cast("AscentSettings", {"image_every": max(1, steps // _FRAMES), **settings})
    run = Run(name, objective, tensor, settings, label_of(objective, description))
    shown = None
    for step in verbs.ascend(model, objective, **settings):
        run.take(step)
        if step.image is None or not images.is_picture(step.image.shape[1:], run.description):
            continue
        view = _View(run, steps)
        if shown is None:
            shown = display(view, display_id=True)
        else:
            shown.update(view)
    return run


@dataclass(frozen=True, eq=False)
class _View:
    """A run at this moment."""

    run: Run
    steps: int

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        images.contact_sheet(list(self._tiles())).save(file, "PNG")
        return file.getvalue()

    def _tiles(self) -> Iterator[tuple[images.Picture, str]]:
        run = self.run
        assert run.last is not None
        for index in range(run.count):
            words = (
                run.title,
                f"step {run.last.index} of {self.steps}",
                f"value {run.last_value(index):.5g}",
                f"{run.steps_per_second:.0f} steps/s",
            )
            yield images.enlarge(run.picture(index)), "\n".join(words)


def _display() -> Any:
    try:
        from IPython.display import display
    except ModuleNotFoundError as error:
        msg = "watch: this needs a notebook, and so IPython: pip install ipython"
        raise BackendMissing(msg) from error
    return display
