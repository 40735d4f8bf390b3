"""The doctor on architectures of the zoo, as torch's exporters write them: they are healthy, so an error is one of its own.

    PYTHONPATH=benchmarks python -m zoo.diagnose [NAME ...] [--core] [--exports dynamo-18] [--unfolded]

Writes a line for each: its errors, its warnings, how many remarks. Fails if there is an error.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from gradserve.diagnosis import Diagnosis, Severity
from gradserve_server import EngineConfig, diagnose

from . import Architecture, Exporter, export, load_table
from .selection import CORE


def main() -> int:
    """Prints a line for each architecture and the counts; returns 1 if there was an error."""
    options = _options()
    table = load_table()
    healthy = seen = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or (CORE if options.core else table):
            for spelled in options.exports:
                start = time.perf_counter()
                try:
                    diagnosis = examine(table[name], spelled, Path(folder) / "model.onnx", folded=not options.unfolded)
                except Exception as error:  # the exporters' own are many
                    _say(
                        f"{name:32} {spelled:15} not exported: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
                    )
                    continue
                seen += 1
                healthy += not diagnosis.has_errors
                _say(f"{name:32} {spelled:15} {time.perf_counter() - start:5.0f} s  {in_words(diagnosis)}")
    _say(f"{healthy} of {seen} without an error")
    return int(healthy < seen)


def examine(architecture: Architecture, spelled: str, path: Path, *, folded: bool) -> Diagnosis:
    """Exports an architecture, as in "dynamo-18", and has the doctor look at it.

    Raises:
        ValueError: It is known that it cannot be exported so.
        Exception: It cannot be exported.
    """
    exporter, opset = Exporter(spelled.partition("-")[0]), int(spelled.partition("-")[2])
    reason = architecture.why(architecture.fails, str(exporter), opset)
    if reason is not None:
        raise ValueError(reason)
    export(architecture.module(), architecture.inputs(), path, exporter, opset, constant_folding=folded)
    return diagnose(path, config=EngineConfig(threads=1))


def in_words(diagnosis: Diagnosis) -> str:
    """Everything but remarks, which are counted."""
    serious = [finding for finding in diagnosis.findings if finding.severity is not Severity.INFO]
    said = [f"{one.severity.name} {one.code} {one.subject} {one.detail}" for one in serious]
    return "; ".join([*said, f"{len(diagnosis.findings) - len(serious)} remarks", *diagnosis.notes])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m zoo.diagnose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures (default: all)")
    parser.add_argument("--core", action="store_true", help="only the core of the zoo: every family, once or twice")
    parser.add_argument("--exports", nargs="+", default=["dynamo-18"], metavar="EXPORTER-OPSET", help="default: %(default)s")
    parser.add_argument("--unfolded", action="store_true", help="without the exporter's constant folding and optimizations")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
