"""What `ascend`, `grid` and their like have in common: runs side by side, watched, kept, and gone on with later."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from gradserve import AscentSettings, Checkpoint, ModelDescription, Step, StopReason, fidelity, images, outputs, records
from gradserve.cli import ascent_view, checkpoint_file, console, going_on
from gradserve.cli.backend import Verbs
from gradserve.cli.interrupts import Interrupts
from gradserve.errors import GradserveError, ServerUnavailable
from gradserve.runs import Run, run_all

_FRAMES = 48
"""Of a film, or of a preview, where nobody says how many."""


def frames(runs: Sequence[Run], arguments: argparse.Namespace) -> None:
    """Asks for images on the way, where a film or a preview needs them."""
    moves = any(path.suffix.lower() in outputs.FILMS for path in arguments.output)
    for run in runs:
        if arguments.image_every:
            run.settings["image_every"] = arguments.image_every
        elif moves or arguments.preview:
            run.settings["image_every"] = max(1, run.settings.get("steps", _FRAMES) // _FRAMES)
        run.is_film = moves or bool(arguments.image_every)


def climb(verbs: Verbs, model: str, runs: Sequence[Run], arguments: argparse.Namespace) -> None:
    """Runs ascents to their ends, keeps how far they are, and measures what they made.

    Args:
        verbs: Who does the work.
        model: By which name.
        runs: With their settings.
        arguments: Of `ascent_options`, and `output`.

    Raises:
        GradserveError: As `ascend` does.
    """
    known = checkpoint_file.read(arguments.resume) if arguments.resume else {}
    keeper = checkpoint_file.Keeper(arguments.checkpoint or arguments.resume, known)
    if keeper.path is not None:
        for run in runs:
            run.settings["checkpoint_every"] = arguments.checkpoint_every

    def ascend(run: Run, resume: Checkpoint | None) -> Iterator[Step]:
        return verbs.ascend(model, run.objective, **cast("AscentSettings", {**run.settings, "resume": resume}))

    try:
        watch(
            verbs,
            runs,
            lambda run: going_on.steps(partial(ascend, run), known.get(run.name), patience=arguments.reconnect),
            preview=arguments.preview,
            jobs=arguments.jobs,
            take=lambda run, step: keeper.take(run.name, step.checkpoint),
        )
    except BaseException:
        _say_how_to_go_on(keeper)
        raise
    if any(run.last and run.last.stop_reason is StopReason.INTERRUPTED for run in runs):
        keeper.path = keeper.path or arguments.output[0].with_suffix(".checkpoint")
    else:
        measure(verbs, model, runs, arguments)
    keeper.write()


def watch(
    verbs: Verbs,
    runs: Sequence[Run],
    start: Callable[[Run], Iterator[Step]],
    *,
    preview: str,
    jobs: int = 1,
    take: Callable[[Run, Step], None] = lambda _run, _step: None,
) -> None:
    """Runs anything that reports steps to its end, with bars and pictures.

    Args:
        verbs: Who does the work.
        runs: What to run.
        start: Begins one.
        preview: How pictures are drawn, by name; empty: not at all.
        jobs: How many at a time.
        take: Told of each report.
    """
    with Interrupts() as interrupts, ascent_view.Bars(runs, preview=preview) as bars:

        def told(run: Run) -> None:
            interrupts.check()
            assert run.last is not None
            bars.update(run)
            take(run, run.last)

        run_all(runs, start, jobs=jobs, watch=told, cancel=verbs.close)


def measure(verbs: Verbs, model: str, runs: Sequence[Run], arguments: argparse.Namespace) -> None:
    """What the objectives are of the pictures that are asked for. A failure here loses no picture: it is said."""
    endings = {path.suffix.lower(): None for path in arguments.output if path.suffix.lower() in images.FORMATS}
    try:
        for run in runs:
            fidelity.measure(verbs, model, run, list(endings), arguments.zoom)
    except GradserveError as error:
        console.note(f"what the pictures are worth could not be measured: {error}")


def deliver(runs: Sequence[Run], description: ModelDescription, arguments: argparse.Namespace) -> None:
    """Shows what became of runs, and writes the record and the files that are asked for.

    Raises:
        ServerUnavailable: The runs were interrupted: what there was is written.
    """
    ascent_view.show(runs, description, as_json=arguments.json)
    if path := vars(arguments).get("record"):
        records.write(path, records.make(description, runs, source=arguments.model))
        console.note(f"wrote {path}")
    _finish(runs, arguments, outputs.Style(arguments.zoom, film=bool(arguments.image_every)))


def _finish(runs: Sequence[Run], arguments: argparse.Namespace, style: outputs.Style) -> None:
    """Writes the files, and says so.

    Raises:
        ServerUnavailable: The runs were interrupted: what there was is written.
    """
    if any(path.suffix.lower() in (*outputs.PICTURES, *outputs.FILMS) for path in arguments.output):
        ascent_view.say_if_stretched(runs[0])
    for path in arguments.output:
        outputs.write(path, runs, style)
        console.note(f"wrote {path}")
    if any(run.last and run.last.stop_reason is StopReason.INTERRUPTED for run in runs):
        given = vars(arguments)
        kept: Path = given.get("checkpoint") or given.get("resume") or arguments.output[0].with_suffix(".checkpoint")
        if kept.exists():
            console.note(f"to go on, give the same command with --resume {kept}")
        msg = "the server shut down before all steps were made"
        raise ServerUnavailable(msg)


def _say_how_to_go_on(keeper: checkpoint_file.Keeper) -> None:
    keeper.write()
    if keeper.path is not None and not keeper.is_empty:
        console.note(f"to go on, give the same command with --resume {keeper.path}")
