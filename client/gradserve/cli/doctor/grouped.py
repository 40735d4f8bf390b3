"""Findings of one code belong together: a network has fifty BatchNormalizations, and one thing to say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gradserve import Diagnosis, Finding, Severity

FEW = 3
"""Places that are named; the rest is counted."""


@dataclass(frozen=True)
class Group:
    """All findings of a code."""

    findings: Sequence[Finding]

    @property
    def first(self) -> Finding:
        """Stands for what they have in common."""
        return self.findings[0]

    @property
    def where(self) -> str:
        """The places, as far as they can be named in a line."""
        places = [finding.node for finding in self.findings if finding.node]
        more = f" and {len(places) - FEW} more" if len(places) > FEW else ""
        return ", ".join(places[:FEW]) + more

    @property
    def detail(self) -> str:
        """What was found at the first of them."""
        at = f" (at {self.first.node})" if len(self.findings) > 1 and self.first.node else ""
        return f"{self.first.detail}{at}" if self.first.detail else ""


def groups(diagnosis: Diagnosis) -> list[Group]:
    """Of all findings, the worst first."""
    return [Group(list(found)) for _, found in groupby(diagnosis.findings, key=lambda finding: finding.code)]


def summary(diagnosis: Diagnosis) -> str:
    """As in "2 errors, 1 warning"."""
    found = [(sum(one.severity is severity for one in diagnosis.findings), severity) for severity in Severity]
    words = [
        f"{count} {severity}{'s' if count > 1 and severity is not Severity.INFO else ''}"
        for count, severity in found
        if count
    ]
    return ", ".join(words) or "nothing found"


def samples(diagnosis: Diagnosis) -> str:
    """What it was run on."""
    if not diagnosis.samples:
        return "not run"
    kind, plural = "given" if diagnosis.given else "made-up", "s" if diagnosis.samples > 1 else ""
    return f"run on {diagnosis.samples} {kind} sample{plural}"
