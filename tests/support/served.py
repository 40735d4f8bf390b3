"""A server as a user runs it: a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.waiting import WAIT


class Served:
    """`gradserve serve`, running.

    Args:
        repository: Its models.
        flags: As in `max_batch=1`.
    """

    def __init__(self, repository: Path, flags: Mapping[str, object]) -> None:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gradserve.cli", "serve", str(repository), "--port=0", "--metrics-port=0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = self.metrics_address = ""
        self.output = ""

    def wait_until_listening(self) -> None:
        """Reads up to the line that says so."""
        while not self.address:
            line = self.line()
            assert line, self.process.communicate(timeout=WAIT)
            if line.startswith("metrics on "):
                self.metrics_address = line.split("//")[1].split("/")[0]
            if line.startswith("listening on "):
                self.address = line.split()[-1]

    def line(self) -> str:
        """The next line of standard output; "" at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.output += line
        return line

    def send(self, number: int) -> None:
        """Sends a signal, and returns once the server has said that it stops."""
        self.process.send_signal(number)
        while not self.line().startswith("stopping"):
            pass

    def end(self) -> int:
        """Waits for the end, and returns the exit code."""
        out, self.errors = self.process.communicate(timeout=4 * WAIT)
        self.output += out
        assert "Traceback" not in self.errors, self.errors
        return self.process.returncode


@contextmanager
def serving(repository: Path, **flags: object) -> Iterator[Served]:
    """A server that listens; ended roughly if a test has not."""
    served = Served(repository, flags)
    try:
        served.wait_until_listening()
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate()
