"""THE table of derivatives: each operator version in exactly one state.

| state | means | an input's cotangent |
|---|---|---|
| `Rule` | its vector-Jacobian product is known | what the rule emits |
| `Expansion` | it is spelled out in operators that have rules | the reverse walk through what was spelled out |
| `ProvenZero` | its outputs do not change, or only in jumps | none, with the reason |
| `Unsupported` | nobody has written its rule, or none exists | an error, with the reason |

The key is (domain, operator, since-version): the version of the operator, not of the opset, so that an operator that changes
its meaning in a new opset has no rule until somebody has looked at it. Rules live in `vjp_*.py`, one family a file:

    @vjp("Exp", since=(13,))
    def exp(g, n):
        \"\"\"dX = dY * Y.\"\"\"
        return (n.dy * n.y,)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import onnx
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.values import DEFAULT_DOMAINS

OLDEST_OPSET = 18
"""Older models are converted before they are differentiated: below it, axes are attributes and Scatter cannot add."""
NEWEST_OPSET = 28
"""The newest that the table covers; the completeness test holds it to every operator that onnx defines up to here."""

MICROSOFT = "com.microsoft"
RUNTIME_ONLY = frozenset({"SimplifiedLayerNormalization"})
"""Operators of the default domain that onnxruntime knows and onnx does not."""

Cotangent = Expr | Callable[[], Expr] | None
"""What flows back into one input: emitted, or to be emitted if it is wanted, or nothing."""

Key = tuple[str, str, int]
Refusal = Callable[[Site], str | None]
"""Says why a node has no gradient although its operator has a rule, in words; None where it has."""


@dataclass(frozen=True)
class Rule:
    """A vector-Jacobian product."""

    pull: Callable[[Emitter, Pull], Sequence[Cotangent]]
    """Emits it: one entry for each input, then for each captured value; missing ones are None."""
    zero: frozenset[int] = frozenset()
    """Float inputs that the output does not depend on, or only in jumps."""
    broadcasts: bool = False
    """The inputs are broadcast to the output's shape; the walk undoes it."""
    refuse: tuple[Refusal, ...] = ()
    is_zero: Callable[[Site], bool] | None = None
    """Whether this node, by its attributes, is a step function."""
    lacks: Mapping[int, str] = field(default_factory=dict)
    """Float inputs that the output depends on and the rule gives no cotangent for, and what they are, in words."""


@dataclass(frozen=True)
class Expansion:
    """A definition in operators that have rules. Only what the backward pass reads of it is ever computed."""

    expand: Callable[[Emitter, Site], Sequence[Expr | None]]
    """Emits it; gives one value for each output (None for those that no derivative flows through)."""
    zero: frozenset[int] = frozenset()
    refuse: tuple[Refusal, ...] = ()
    zero_here: Callable[[Site], Iterable[int]] | None = None
    """Inputs that, by this node's attributes, change the output only in jumps."""


@dataclass(frozen=True)
class ProvenZero:
    """The derivative is zero wherever it exists."""

    reason: str


@dataclass(frozen=True)
class Unsupported:
    """There is no rule."""

    reason: str


State = Rule | Expansion | ProvenZero | Unsupported

TABLE: dict[Key, State] = {}


def _register(ops: Iterable[str], since: Iterable[int], domain: str, state: State) -> None:
    versions = tuple(since)
    for op in ops:
        for version in versions:
            key = (domain, op, version)
            assert key not in TABLE, f"{key} stands in the table twice"
            TABLE[key] = state


def vjp(
    *ops: str,
    since: Iterable[int],
    domain: str = "",
    zero: Iterable[int] = (),
    broadcasts: bool = False,
    refuse: Refusal | tuple[Refusal, ...] = (),
    is_zero: Callable[[Site], bool] | None = None,
    lacks: Mapping[int, str] | None = None,
) -> Callable[[Callable[[Emitter, Pull], Sequence[Cotangent]]], Callable[[Emitter, Pull], Sequence[Cotangent]]]:
    """Registers a vector-Jacobian product. See `Rule`."""

    def register(pull: Callable[[Emitter, Pull], Sequence[Cotangent]]) -> Callable[[Emitter, Pull], Sequence[Cotangent]]:
        refusals = refuse if isinstance(refuse, tuple) else (refuse,)
        _register(ops, since, domain, Rule(pull, frozenset(zero), broadcasts, refusals, is_zero, lacks or {}))
        return pull

    return register


def expansion(
    *ops: str,
    since: Iterable[int],
    domain: str = "",
    zero: Iterable[int] = (),
    refuse: Refusal | tuple[Refusal, ...] = (),
    zero_here: Callable[[Site], Iterable[int]] | None = None,
) -> Callable[[Callable[[Emitter, Site], Sequence[Expr | None]]], Callable[[Emitter, Site], Sequence[Expr | None]]]:
    """Registers a definition in other operators. See `Expansion`."""

    def register(
        expand: Callable[[Emitter, Site], Sequence[Expr | None]],
    ) -> Callable[[Emitter, Site], Sequence[Expr | None]]:
        refusals = refuse if isinstance(refuse, tuple) else (refuse,)
        _register(ops, since, domain, Expansion(expand, frozenset(zero), refusals, zero_here))
        return expand

    return register


def proven_zero(reason: str, versions: dict[str, Iterable[int]], domain: str = "") -> None:
    """Registers operators with a derivative of zero: operator -> versions."""
    for op, since in versions.items():
        _register([op], since, domain, ProvenZero(reason))


def unsupported(reason: str, versions: dict[str, Iterable[int]], domain: str = "") -> None:
    """Registers operators without a rule: operator -> versions."""
    for op, since in versions.items():
        _register([op], since, domain, Unsupported(reason))


def key_of(node: ir.Node, opset: int) -> Key | None:
    """The node's row of the table; None for an operator that nobody defines.

    What onnxruntime adds to the default domain on its own account stands among the operators of its domain.
    """
    if node.domain in DEFAULT_DOMAINS:
        own = (MICROSOFT, node.op_type, 1)
        return _default_key(node.op_type, opset) or (own if node.op_type in RUNTIME_ONLY else None)
    return node.domain, node.op_type, 1


@cache
def _default_key(op_type: str, opset: int) -> Key | None:
    if not onnx.defs.has(op_type, opset, ""):
        return None
    return "", op_type, onnx.defs.get_schema(op_type, opset, "").since_version


def lookup(node: ir.Node, opset: int) -> State:
    """The state of a node's operator. What the table does not have is unsupported, with that as the reason."""
    key = key_of(node, opset)
    if key is None:
        return Unsupported("no such operator")
    if node.domain in DEFAULT_DOMAINS and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        return Unsupported(f"rules are for opsets {OLDEST_OPSET} to {NEWEST_OPSET}")
    return TABLE.get(key, Unsupported("no rule"))


# ---- refusals that many rules share ----


def rank_known(site: Site) -> str | None:
    """For rules that must know how many axes the first input has."""
    return None if site.inputs[0] is not None and site.inputs[0].shape is not None else "rank not known before the run"


def sizes_known(site: Site) -> str | None:
    """For rules that must know every size of the first input but the batch."""
    shape = site.inputs[0].shape if site.inputs[0] is not None else None
    known = shape is not None and all(isinstance(size, int) for size in shape[1:])
    return None if known else "sizes not known before the run"
