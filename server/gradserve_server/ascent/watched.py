"""Tells an observer when an ascent begins and how it ends."""

from collections.abc import Generator, Iterator
from contextlib import closing

from gradserve import Step
from gradserve_server.runtime.events import AscentEnded, AscentStarted, Observer
from gradserve_server.runtime.work import Subject

CANCELLED, FAILED = "CANCELLED", "FAILED"
"""How an ascent ends without a last report, beside the names of `gradserve.StopReason`."""


def watched(steps: Generator[Step], subject: Subject, observe: Observer) -> Iterator[Step]:
    """The same steps.

    Args:
        steps: Of the ascent.
        subject: What it is about.
        observe: Told when the first step is asked for, and when there are no more or nobody wants them.
    """
    reason = CANCELLED
    observe(AscentStarted(subject))
    try:
        with closing(steps):
            for step in steps:
                if step.stop_reason is not None:
                    reason = step.stop_reason.name
                yield step
    except Exception:
        reason = FAILED
        raise
    finally:
        observe(AscentEnded(subject, reason))
