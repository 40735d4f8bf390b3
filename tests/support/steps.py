"""Runs of an ascent without a scheduler."""

from collections.abc import Callable


def again_and_again(model: Callable[[], object]) -> Callable[[Callable[[], bool]], None]:
    """What `ascent.loop` calls: a run of the model, and one more for as long as the ascent goes on."""

    def run(advance: Callable[[], bool]) -> None:
        model()
        while advance():
            model()

    return run
