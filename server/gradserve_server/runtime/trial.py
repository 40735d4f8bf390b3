"""A model is first loaded in another process: a file that crashes native code, or never ends, takes that one down.

The process is a fresh interpreter with the same modules and settings, and makes the very `Model` that this one would; so it
finds the same errors. It is no sandbox: it runs as the same user. What it says back is never more than the class and the
text of an error, as JSON, or a diagnosis; code that took it over could say nothing else.
"""

import gc
import json
import logging
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gradserve import errors
from gradserve.diagnosis import Diagnosis, from_plain, to_plain
from gradserve.errors import BackendMissing, GradserveError, InvalidModel
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.doctor import examine
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.model_config import empty_config
from gradserve_server.runtime.operators import have_operators
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import newest_opset
from gradserve_server.runtime.warmup import warm_up

START_SECONDS = 120.0
"""That the process has to start: a second, on a machine that does nothing else."""

PATIENCE = 0.1
"""Seconds after which a caller who waits is asked whether it still does."""

MAX_ANSWER = 64 * 2**10
"""Bytes of what the process may say about a model that it loads."""

MAX_DIAGNOSIS = 16 * 2**20
"""The same where it is to examine it: some hundred for each layer and finding."""

MAX_TEXT = 4096
"""Characters of an error's text; the rest is cut off."""

_START = (
    "import sys; fd, *sys.path[:] = sys.argv[1:]; sys.modules['torch'] = None; "
    "from gradserve_server.runtime.trial import main; main(int(fd))"
)
"""Imports come from where they come from here, and never from the working folder. torch, which onnxruntime-training imports
where it finds it (0.9 s), is not needed to load."""


@dataclass(frozen=True)
class TrialLimits:
    """What one model may take."""

    seconds: float
    """Of wall-clock time, and as many on each core."""
    bytes: int
    """Of memory that is its own, not those of files that are mapped."""


class Trial:
    """A process that loads models before this one does. Safe to use from many threads.

    As a context it keeps its process, which is started when the first enters and ended when the last leaves; and started
    anew after a model that it did not survive.

    Args:
        limits: For each model.
    """

    def __init__(self, limits: TrialLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()  # guards all below, and is held while a model is tried
        self._users = 0
        self._process: _Process | None = None

    def load(
        self, name: str, version: int, file: Path, folder: Path | None = None, *, config: Any = None, **settings: Any
    ) -> None:
        """Loads a model there, and warms it up.

        Args:
            name: See `Model`.
            version: See `Model`.
            file: See `Model`.
            folder: See `warm_up`.
            config: See `Model`.
            **settings: See `Model`, but for what it shares with others: scheduler, observer, budget.

        Raises:
            InvalidModel: The file cannot be served, or not even be tried.
            GradserveError: As `Model` does.
            BackendMissing: The process does not start.
        """
        self._answer(_load, name, config, {"name": name, "version": version, "file": file, **settings}, folder)

    def examine(
        self, name: str, version: int, file: Path, *, config: Any = None, caller: Caller = ANYONE, **settings: Any
    ) -> Diagnosis:
        """Has the doctor look at a model there.

        The process is ended once the caller does not want to know any more.

        Args:
            name: See `runtime.doctor.examine`.
            version: See `runtime.doctor.examine`.
            file: See `runtime.doctor.examine`.
            config: See `Model`.
            caller: Who waits for it.
            **settings: See `runtime.doctor.examine`, samples included.

        Raises:
            InvalidModel: The process does not survive it.
            GradserveError: As `examine` does.
            BackendMissing: The process does not start.
            CallCancelled, DeadlineExceeded: The caller has gone.
        """
        model = {"name": name, "version": version, "file": file, **settings}
        found = self._answer(_examine, name, config, model, caller=caller)
        try:
            return from_plain(found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"model '{name}': expected a diagnosis, got nonsense in a trial process"
            raise InvalidModel(msg) from error

    def _answer(
        self,
        task: "_Run",
        name: str,
        config: Any,
        model: dict[str, Any],
        folder: Path | None = None,
        caller: Caller = ANYONE,
    ) -> Any:
        plain = config.SerializeToString() if config is not None else None
        request = pickle.dumps((task.__name__, self._limits, plain, folder, model))
        while not self._lock.acquire(timeout=PATIENCE):
            caller.check()
        try:
            outcome = self._try(request, _TASKS[task.__name__].most, caller)
        finally:
            if not self._users:
                self._stop()
            self._lock.release()
        if isinstance(outcome, str):
            msg = f"model '{name}': expected a file that loads, got {outcome} in a trial process"
            raise InvalidModel(msg)
        if "error" in outcome:
            raise _error(name, outcome)
        return outcome.get("result")

    def _try(self, request: bytes, most: int, caller: Caller) -> dict[str, Any] | str:
        """What became of a model: a result, an error, or in words how the process ended."""
        outcome = self._ask(request, most, caller)
        if isinstance(outcome, str) and self._process is not None and self._process.died and self._process.tried > 1:
            # It may be for what an earlier model left behind.
            self._stop()
            outcome = self._ask(request, most, caller)
        if isinstance(outcome, str):
            self._stop()
        return outcome

    def _ask(self, request: bytes, most: int, caller: Caller) -> dict[str, Any] | str:
        self._process = self._process or _Process()
        try:
            return self._process.ask(request, self._limits.seconds, most, caller)
        except BaseException:  # it did not start, or nobody waits for its answer any more
            self._stop()
            raise

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        with self._lock:
            self._process = self._process or _Process()
            self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stop()


class _Process:
    """The other process, seen from here."""

    def __init__(self) -> None:
        self.tried = 0
        self._started = False
        self._here, there = Pipe()
        executable = spawn.get_executable()  # what an embedded interpreter has set by multiprocessing.set_executable
        command = [executable or "python", "-P", "-c", _START, str(there.fileno()), *sys.path]
        try:
            # Of its own session: Ctrl-C in a terminal reaches this process alone, which then stops it.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self._here.close()
            raise _does_not_start(str(error)) from error
        finally:
            there.close()

    @property
    def died(self) -> bool:
        """Whether it ended by itself."""
        return self._child.poll() is not None

    def ask(self, request: bytes, seconds: float, most: int, caller: Caller) -> dict[str, Any] | str:
        """Has it load a model, or examine it. Returns as `Trial._try`; raises once the caller has gone."""
        _learn_about_the_runtime()
        if not self._started:
            if self._receive(START_SECONDS, MAX_ANSWER, caller) != {}:
                raise _does_not_start(self._end())
            self._started = True
        self.tried += 1
        with suppress(OSError):  # it is gone: what it says is its end
            self._here.send_bytes(request)
        answer = self._receive(seconds, most, caller)
        if answer is TimeoutError:
            return f"none after {seconds:g} s (load_timeout_seconds)"
        return answer if isinstance(answer, dict) else self._end()

    def _receive(self, seconds: float, most: int, caller: Caller) -> Any:
        """What it says; TimeoutError if it says nothing in time, None if it says nothing any more."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with suppress(OSError, EOFError, ValueError):
                if not self._here.poll(min(left, PATIENCE)):
                    caller.check()
                    continue
                return json.loads(self._here.recv_bytes(most))
            return None
        return TimeoutError

    def _end(self) -> str:
        """How it ended, or was ended for saying what it cannot say."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        code = self._child.poll()
        if code is None:
            return "nonsense"
        if code == -signal.SIGKILL:
            return "killed (SIGKILL: no memory left?)"
        return f"a crash ({signal.Signals(-code).name})" if code < 0 else f"an exit (code {code})"

    def stop(self) -> None:
        """Ends it."""
        self._here.close()
        self._child.kill()
        self._child.wait()


def _learn_about_the_runtime() -> None:
    """What this process finds out once about its onnxruntime, it does while the other one starts."""
    newest_opset()
    block_size()
    have_operators()


def _does_not_start(reason: str) -> BackendMissing:
    return BackendMissing(
        f"trial process: expected '{spawn.get_executable()}' to be a Python that imports gradserve_server, got {reason}; "
        "an application that embeds Python says by multiprocessing.set_executable which one, or turns trials off"
    )


def _error(name: str, outcome: dict[str, Any]) -> GradserveError:
    """The error that the other process had, as if it had been raised here."""
    kind, text = str(outcome.get("error")), str(outcome.get("text"))
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, GradserveError):
        return known(text)
    return InvalidModel(f"model '{name}': expected a file that loads, got {kind}: {text}")


# ---- in the other process --------------------------------------------------------------------------------------------


def main(fd: int) -> None:
    """Loads what it is told to, until nobody is left to tell.

    Args:
        fd: Of the connection.
    """
    connection = Connection(fd)
    logging.disable()  # this process's parent loads the same model next, and logs the same
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # Linux: should memory run out, it is this process that goes
        Path("/proc/self/oom_score_adj").write_text("1000")
    gc.freeze()  # what is there now stays: looking for a model's circles then takes no time
    connection.send_bytes(b"{}")
    while True:
        try:
            request = pickle.loads(connection.recv_bytes())  # of the process that started this one
        except EOFError:
            return
        outcome = _outcome(*request)
        gc.collect()  # before the other process makes the same model
        connection.send_bytes(json.dumps(outcome).encode())


def _outcome(
    task: str, limits: TrialLimits, config: bytes | None, folder: Path | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """What a model comes to: the task's result, or the class and the text of its error."""
    try:
        _limit(limits, settings["threads"])
        if config is not None:
            settings["config"] = empty_config()
            settings["config"].ParseFromString(config)
        return {"result": _TASKS[task].run(settings, folder)}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)[:MAX_TEXT]}


def _load(settings: dict[str, Any], folder: Path | None) -> None:
    warm_up(Model(scheduler=Scheduler(max_batch=1, max_queue=1), **settings), folder)


def _examine(settings: dict[str, Any], folder: Path | None) -> dict[str, Any]:  # noqa: ARG001
    return to_plain(examine(**settings))


_Run = Callable[[dict[str, Any], Path | None], Any]


@dataclass(frozen=True)
class _Task:
    """What the process can be told to do."""

    run: _Run
    most: int
    """Bytes of its answer."""


_TASKS = {task.run.__name__: task for task in (_Task(_load, MAX_ANSWER), _Task(_examine, MAX_DIAGNOSIS))}


def _limit(limits: TrialLimits, threads: int) -> None:
    """Should the other process be killed, this one does not outlive it by more than the time of a model."""
    soft = int(time.process_time() + limits.seconds * threads) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
