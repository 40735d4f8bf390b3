"""What the doctor says of a model: findings, and what it measured, as plain data."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Activity", "ChannelStatistics", "Diagnosis", "Finding", "Repaired", "Severity", "Treatment"]


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Predictions or gradients are wrong, or there are none."""
    WARNING = "warning"
    """They may be, or gradserve does less for the model than it could."""
    INFO = "info"
    """Good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing about a model."""

    code: str
    """Stable: what it is (docs/doctor.md lists all)."""
    severity: Severity
    node: str
    """Where in the graph, or which input or output; empty where it is about the whole model."""
    effect: str
    """What it does, in a sentence; the same for every finding of the code."""
    detail: str
    """What was found here: numbers, names."""
    repair: str
    """What to do; empty where there is nothing to repair."""


@dataclass(frozen=True)
class ChannelStatistics:
    """A BatchNormalization's running statistics beside those of the data, for some of its channels, evenly spread."""

    node: str
    channels: tuple[int, ...]
    running_mean: tuple[float, ...]
    running_variance: tuple[float, ...]
    observed_mean: tuple[float, ...]
    """Of what the node normalizes, over samples and positions."""
    observed_variance: tuple[float, ...]
    """Of the population: divided by the count, as ONNX's training form has it."""
    conflict: float
    """How far apart both are: the channels' median of |ln(ratio of variances)| / 2 + |difference of means| / deviation."""


@dataclass(frozen=True)
class Activity:
    """What the data does to a ReLU."""

    node: str
    units: int
    """Channels; positions share a filter, and are one unit."""
    dead: float
    """The share of units that are 0 for every sample, at every position."""
    zero: float
    """The share of zeros among all values."""


@dataclass(frozen=True)
class Diagnosis:
    """All of it."""

    model: str
    version: str
    sha256: str
    """Of the file."""
    samples: int
    """That the measurements were made on; 0 where the model does not run."""
    given: bool
    """Whether they were given, not made up."""
    findings: tuple[Finding, ...] = ()
    """The worst first."""
    statistics: tuple[ChannelStatistics, ...] = ()
    """In the order of the graph."""
    activity: tuple[Activity, ...] = ()
    """In the order of the graph."""
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""

    @property
    def has_errors(self) -> bool:
        """Whether anything is an error."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True)
class Repaired:
    """What became of one repair."""

    repair: str
    """Its name (docs/doctor.md lists all)."""
    done: tuple[str, ...]
    """In words; nothing where it could not be made."""
    change: float
    """The largest difference that it made to a float output; NaN where the model does not run before or after, or gives
    numbers on one side only."""
    relative: float
    """The same, relative to the largest value of that output."""
    problem: str = ""
    """Why it could not be made."""


@dataclass(frozen=True)
class Treatment:
    """A model before and after its repairs."""

    before: Diagnosis
    repairs: tuple[Repaired, ...]
    """In the order in which they were made, or failed."""
    after: Diagnosis


def to_plain(diagnosis: Diagnosis) -> dict[str, Any]:
    """As JSON has it."""
    return asdict(diagnosis)


def from_plain(plain: Any) -> Diagnosis:
    """The inverse of `to_plain`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It is none.
    """
    findings = [dict(one, severity=Severity(one["severity"])) for one in plain["findings"]]
    parts = {
        "findings": tuple(Finding(**one) for one in findings),
        "statistics": tuple(ChannelStatistics(**_tuples(one)) for one in plain["statistics"]),
        "activity": tuple(Activity(**one) for one in plain["activity"]),
        "notes": tuple(plain["notes"]),
    }
    return Diagnosis(**plain | parts)


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
