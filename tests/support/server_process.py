"""A real server in a process of its own, watched from outside."""

import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from typing import Self

import psutil
from prometheus_client.parser import text_string_to_metric_families
from support.paths import MODELS, WITH_TESTS

SERVER = ("gradserve_server",)
"""The module that is run, and what comes before the repository among its arguments."""


class ServerProcess:
    """`python -m gradserve_server`, listening once constructed; ends with the context, and must then have logged no defect.

    Args:
        arguments: Of the command line, after the repository.
        repository: What it serves.
        module: The module that is run, and arguments before the repository.
        environment: Added to this process's.
    """

    def __init__(
        self,
        *arguments: str,
        repository=MODELS,
        module: Sequence[str] = SERVER,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed with the context
        self._process = subprocess.Popen(
            [sys.executable, "-m", *module, str(repository), "--port", "0", "--metrics-port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | WITH_TESTS | (environment or {}),
        )
        told = {}
        for line in self._process.stdout:
            what, _, where = line.strip().rpartition(" ")
            told[what] = where
            if what == "listening on":
                break
        else:
            raise RuntimeError(self.log())
        self.address, self._metrics = told["listening on"], told["metrics on"]
        self.os = psutil.Process(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._process.poll() is None

    def log(self) -> str:
        """What it has written to standard error so far."""
        self._log.seek(0)
        return self._log.read()

    def scrape(self) -> dict[str, float]:
        """Its metrics; those with labels added up."""
        with urllib.request.urlopen(self._metrics, timeout=20) as answer:
            text = answer.read().decode()
        values: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] = values.get(sample.name, 0) + sample.value
        return values

    def stop(self) -> int:
        """Ends it, gently, and returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code, log = self.stop(), self.log()
        self._log.close()
        if kind is None:
            assert code == 0, log
            assert "Traceback" not in log, log
