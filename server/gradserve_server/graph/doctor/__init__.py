"""What is wrong with a model, in words: the checks that need only its graph. Those that run it are in `runtime.doctor`.

    examine(Subject(load(path, oldest=1)))

One file for each family of checks; `table` says what each code means.
"""

from collections.abc import Callable, Iterator

from gradserve.diagnosis import Finding, Severity
from gradserve_server.graph.doctor.batchnorm import batchnorm
from gradserve_server.graph.doctor.differentiability import differentiability
from gradserve_server.graph.doctor.file import file
from gradserve_server.graph.doctor.finding import finding
from gradserve_server.graph.doctor.interface import interface
from gradserve_server.graph.doctor.randomness import randomness
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.doctor.table import CHECKS, Check

__all__ = ["CHECKS", "Check", "Subject", "examine", "finding", "in_order"]

FAMILIES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    file,
    batchnorm,
    randomness,
    interface,
    differentiability,
)


def examine(subject: Subject) -> list[Finding]:
    """Every finding of the static checks, the worst first.

    `load-refused` is among them only where no other error says why.
    """
    found = [one for family in FAMILIES for one in family(subject)]
    if subject.refusal and not any(one.severity is Severity.ERROR for one in found):
        found.append(finding("load-refused", detail=subject.refusal))
    return in_order(found)


def in_order(findings: list[Finding]) -> list[Finding]:
    """The worst first, then as the table has them."""
    severities, codes = list(Severity), list(CHECKS)
    return sorted(findings, key=lambda one: (severities.index(one.severity), codes.index(one.code)))
