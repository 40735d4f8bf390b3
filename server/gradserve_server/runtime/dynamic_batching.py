"""How the predictions of a model are scheduled: `dynamic_batching` of its config.pbtxt, and what else that file may say.

As in Triton, but that callers take turns within a level, and that no level starves. Without `dynamic_batching` predictions
run one by one, in the order of their turns, and wait for as long as it takes.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from gradserve.errors import InvalidModel
from gradserve_server.graph.batch_axis import is_batched
from gradserve_server.runtime.batch import Batch
from gradserve_server.runtime.company import ORDINARY, Company, Queue
from gradserve_server.runtime.session import Session

_log = logging.getLogger(__name__)

_MICROSECOND = 1e-6
_DELAY = 1
"""`ModelQueuePolicy.TimeoutAction`: REJECT is 0."""


@dataclass(frozen=True)
class DynamicBatching:
    """How the predictions of a model are scheduled."""

    batch: Batch | None = None
    """Joins them; None where each runs alone."""
    company: Company | None = None
    queues: Mapping[int, Queue] = field(default_factory=dict)
    """By level."""
    default: Queue = ORDINARY

    def queue(self, priority: int) -> Queue:
        """Where a prediction waits; one of a level that there is not, in the default's."""
        return self.queues.get(priority, self.default)


ALONE = DynamicBatching()
"""Of a model that says nothing of it."""


def dynamic_batching(config: Any, name: str, model: ir.Model, session: Session) -> DynamicBatching:
    """What the configuration of a model says.

    Args:
        config: The `inference.ModelConfig`.
        name: Of the model.
        model: Its graph.
        session: Runs it.

    Raises:
        InvalidModel: It asks for what is not done here, or contradicts itself.
    """
    where = f"model '{name}': config.pbtxt: "
    _check_scheduling(config, where)
    if config.WhichOneof("scheduling_choice") != "dynamic_batching":
        return ALONE
    asked, most = config.dynamic_batching, config.max_batch_size
    preferred = tuple(sorted(set(asked.preferred_batch_size)))
    if preferred and not 1 <= preferred[0] <= preferred[-1] <= most:
        expected = f"sizes from 1 to max_batch_size ({most})"
        msg = f"{where}dynamic_batching: preferred_batch_size: expected {expected}, got {list(preferred)}"
        raise InvalidModel(msg)
    queues, default = _queues(asked, name, where)
    company, batch = None, None
    if most > 1:
        if is_batched(model, ()):
            company = Company(most, preferred, asked.max_queue_delay_microseconds * _MICROSECOND)
            batch = Batch(session, frozenset())
        else:
            _log.warning("%sdynamic_batching: predictions run one by one: %s", where, _why_not(model))
    return DynamicBatching(batch, company, queues, default)


def _queues(asked: Any, name: str, where: str) -> tuple[dict[int, Queue], Queue]:
    """The queue of each level, and the default one."""
    levels, default = asked.priority_levels, asked.default_priority_level
    if not levels:
        return {}, _queue(asked.default_queue_policy, f"model '{name}'", 0)
    for what, level in (
        ("default_priority_level", default),
        *(("priority_queue_policy", level) for level in sorted(asked.priority_queue_policy)),
    ):
        if not 1 <= level <= levels:
            msg = f"{where}dynamic_batching: {what}: expected a level from 1 to priority_levels ({levels}), got {level}"
            raise InvalidModel(msg)
    if levels > MAX_LEVELS:
        msg = f"{where}dynamic_batching: priority_levels: expected at most {MAX_LEVELS}, got {levels}"
        raise InvalidModel(msg)
    queues = {}
    for level in range(1, levels + 1):
        own = level in asked.priority_queue_policy
        policy = asked.priority_queue_policy[level] if own else asked.default_queue_policy
        queues[level] = _queue(policy, f"model '{name}', priority {level}", level - default)
    return queues, queues[default]


MAX_LEVELS = 1000
"""Of a model's predictions; each has a queue, and waits for its turn among as many."""


def _queue(policy: Any, what: str, rank: int) -> Queue:
    timeout = policy.default_timeout_microseconds * _MICROSECOND or math.inf
    return Queue(what, rank, policy.max_queue_size, timeout, policy.allow_timeout_override, policy.timeout_action == _DELAY)


def _why_not(model: ir.Model) -> str:
    """Why requests cannot share a run."""
    values = [*model.graph.inputs, *model.graph.outputs]
    shapes = ", ".join(f"'{value.name}' {value.shape if value.shape is not None else '[?]'}" for value in values)
    return f"expected one open size along axis 0 of every input and output, and nowhere else, got {shapes}"


# ---- what else a configuration may ask for -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Other:
    """Something of Triton's that is not done here."""

    what: str
    asked: Callable[[Any], bool]
    why: str


REFUSED = (
    _Other(
        "sequence_batching",
        lambda config: bool(config.HasField("sequence_batching")),
        "models keep nothing from one request to the next",
    ),
    _Other(
        "ensemble_scheduling",
        lambda config: bool(config.HasField("ensemble_scheduling")),
        "each model is one ONNX file; join the files, or let the client call one after the other",
    ),
    _Other(
        "allow_ragged_batch",
        lambda config: any(entry.allow_ragged_batch for entry in config.input),
        "only requests whose inputs have the same sizes but for the batch run together",
    ),
    _Other("batch_input", lambda config: len(config.batch_input) > 0, "the server adds no inputs of its own"),
    _Other("batch_output", lambda config: len(config.batch_output) > 0, "outputs are split along axis 0"),
    _Other(
        "model_transaction_policy.decoupled",
        lambda config: bool(config.model_transaction_policy.decoupled),
        "an ONNX model answers a request once",
    ),
)
"""What would change answers: a model that asks for it is not served."""

IGNORED = (
    _Other(
        "instance_group",
        lambda config: any(
            group.count > 1 or group.gpus or group.secondary_devices or group.HasField("rate_limiter")
            for group in config.instance_group
        ),
        "there is one instance of each model; one run at a time uses the whole device, which --device chooses",
    ),
    _Other(
        "optimization.priority",
        lambda config: bool(config.optimization.priority),
        "models take turns; dynamic_batching.priority_levels orders the requests of one",
    ),
    _Other("response_cache", lambda config: bool(config.response_cache.enable), "every request is run"),
)
"""What changes no answer: it is told in the log, and nothing else."""


def _check_scheduling(config: Any, where: str) -> None:
    for other in REFUSED:
        if other.asked(config):
            msg = f"{where}{other.what}: expected none, because it is not done here: {other.why}"
            raise InvalidModel(msg)
    for other in IGNORED:
        if other.asked(config):
            _log.warning("%s%s: ignored: %s", where, other.what, other.why)
