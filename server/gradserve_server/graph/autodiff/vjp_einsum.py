"""Einsum: each operand's cotangent is an Einsum of dY with the other operands."""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

Factor = tuple[str, Expr]
"""An operand and its labels, one for each axis."""


def terms(n: Site) -> tuple[list[str], str]:
    """The labels of each operand and of the output: one letter for each axis, also of those that the ellipsis stands for.

    Axes of the ellipsis that are the same axis of the output have the same letter.
    """
    equation = n.string("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    operands = left.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    counts = [n.input(i).rank - len(term.replace("...", "")) for i, term in enumerate(operands)]
    dots = "".join(free[: max((count for term, count in zip(operands, counts, strict=True) if "..." in term), default=0)])
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        out = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    spelled = [term.replace("...", dots[len(dots) - count :]) for term, count in zip(operands, counts, strict=True)]
    return spelled, out.replace("...", dots)


def _ranks_known(n: Site) -> str | None:
    return None if all(x is not None and x.shape is not None for x in n.inputs) else "ranks not known before the run"


def _enough_letters(n: Site) -> str | None:
    letters = {letter for letter in n.string("equation", "") if letter.isalpha()}
    axes = sum(x.rank for x in n.inputs if x is not None and x.shape is not None)
    return None if axes + len(letters) <= len(ascii_letters) else "more axes than letters"


@vjp("Einsum", since=(12, 28), refuse=(_ranks_known, _enough_letters))
def einsum(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """ij,jk->ik: dA is the product ik,jk->ij of dY and B, and so on.

    An axis of A that stands nowhere else was summed: its cotangent is the same everywhere. One of size 1 was broadcast: its
    cotangent is a sum. A label that an operand has twice, "ii", is two labels and an identity matrix of them.
    """
    spelled, out = terms(n)
    factors, diagonals = _without_repetitions(g, n, spelled, out)
    n.dy.value.shape = _output_shape(factors, out)

    def cotangent(index: int) -> Expr:
        labels, x = factors[index]
        others = [*factors[:index], *factors[index + 1 :], *diagonals]
        return _product(g, [(out, n.dy), *others], labels, x, _certain([*factors, *diagonals], index, out))

    return [lambda index=index: cotangent(index) for index in range(len(factors))]  # type: ignore[misc]


def _found(factors: Sequence[Factor]) -> dict[str, set[int | str | None]]:
    """All sizes that each label has in the operands."""
    found: dict[str, set[int | str | None]] = {}
    for term, x in factors:
        for label, size in zip(term, x.shape or (), strict=True):
            found.setdefault(label, set()).add(size)
    return found


def _output_shape(factors: Sequence[Factor], out: str) -> ir.Shape:
    """Of Y. Onnx infers the sizes of the first operand that has the label, although they may be 1 in the run."""
    found = _found(factors)
    sizes = [found[label] - {1} or {1} for label in out]
    return ir.Shape([size.pop() if len(size) == 1 else None for size in sizes])


def _certain(factors: Sequence[Factor], index: int, out: str) -> list[bool]:
    """Of each axis of an operand: whether the product of the others and dY has that size for sure."""
    labels, x = factors[index]
    found = _found(factors)
    others = [factor for i, factor in enumerate(factors) if i != index]
    beside = {*out, *(label for label, sizes in _found(others).items() if sizes != {1})}
    sizes = zip(labels, x.shape or (), strict=True)
    return [label in beside and size is not None and found[label] - {1} <= {size} for label, size in sizes]


def _without_repetitions(g: Emitter, n: Site, spelled: Sequence[str], out: str) -> tuple[list[Factor], list[Factor]]:
    """The operands with a letter of its own for each axis, and identity matrices for those that were the same letter."""
    free = iter(letter for letter in ascii_letters if letter not in out and not any(letter in term for term in spelled))
    factors, diagonals = [], []
    for index, term in enumerate(spelled):
        x, labels = n.input(index), ""
        for axis, letter in enumerate(term):
            fresh = letter
            if letter in labels:
                fresh = next(free)
                size = g.size(x, axis)
                zeros = g.op("ConstantOfShape", g.concat(size, size), value=ir.tensor(np.zeros(1, x.dtype.numpy())))
                identity = g.op("EyeLike", zeros)
                identity.value.shape = ir.Shape([(x.shape or ())[axis]] * 2)
                diagonals.append((letter + fresh, identity))
            labels += fresh
        factors.append((labels, x))
    return factors, diagonals


def _product(g: Emitter, factors: Sequence[Factor], labels: str, like: Expr, certain: Sequence[bool]) -> Expr:
    """The product of the factors with the axes and sizes of `like`, which has these labels. See `_certain`."""
    there = {label for term, _ in factors for label in term}
    kept = "".join(label for label in labels if label in there)
    # Runtimes differ in what they make of an operand without axes.
    scalars = [x for term, x in factors if not term]
    arrays = [(term, x) for term, x in factors if term]
    if arrays:
        equation = ",".join(term for term, _ in arrays) + "->" + kept
        same = len(arrays) == 1 and arrays[0][0] == kept
        result = arrays[0][1] if same else g.op("Einsum", *(x for _, x in arrays), equation=equation)
        if not same:
            known = dict(zip(labels, zip(like.shape or (), certain, strict=True), strict=True))
            result.value.shape = ir.Shape([size if sure else None for size, sure in (known[label] for label in kept)])
    else:
        result, *scalars = scalars
    for scalar in scalars:
        result = result * scalar
    result = g.unsqueeze(result, [axis for axis, label in enumerate(labels) if label not in there])
    if not all(certain):
        # Both ways: what was summed is spread, what was broadcast is summed.
        both = g.op("Expand", result, g.shape(like))
        sizes = zip(labels, like.shape or (), certain, strict=True)
        both.value.shape = ir.Shape([size if sure or label not in there else None for label, size, sure in sizes])
        result = g.unbroadcast(both, like)
    result.value.shape = like.value.shape
    return result
