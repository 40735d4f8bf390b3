"""Einsum: contractions, broadcasting, ellipsis, diagonals."""

import torch
from conformance.case import Case

SINCE = (18, 28)


def _case(name, equation, *shapes, dynamic=("none", "batch", "all"), **others):
    inputs = {chr(ord("A") + i): shape for i, shape in enumerate(shapes)}
    written = f'Y = Einsum<equation = "{equation}">({", ".join(inputs)})'
    return Case(
        "Einsum", written, inputs, lambda *x: torch.einsum(equation, *x), SINCE, name=name, dynamic=dynamic, **others
    )


CASES = [
    _case("matrices", "ij,jk->ik", (2, 3), (3, 4)),
    _case("implicit", "bij, bkj", (2, 3, 4), (2, 5, 4)),
    _case("transpose", "ijk->kij", (2, 3, 4)),
    _case("sum", "ijk->j", (2, 3, 4)),
    _case("everything", "ij->", (2, 3)),
    _case("alone", "ij,jk->k", (2, 3), (3, 4)),
    _case("attention", "bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
    _case("outer", "i,j->ij", (2,), (3,)),
    _case("elementwise", "ij,ij->ij", (2, 3), (2, 3)),
    _case("inner", "i,i->", (3,), (3,)),
    _case("three", "ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    _case("ellipsis", "...ij,...jk->...ik", (2, 1, 3, 4), (2, 5, 4, 2)),
    _case("ellipsis implicit", "...ij,jk", (2, 3, 4), (4, 2)),
    _case("ellipsis once", "i...,j->...ij", (3, 2, 2), (4,)),
    _case("broadcast", "ij,ij->i", (2, 1), (2, 3)),
    _case("diagonal", "ii->i", (3, 3)),
    _case("trace", "bii->b", (2, 3, 3)),
    _case("diagonal product", "iij,jk->ik", (3, 3, 2), (2, 4)),
    _case("scalar", ",ij->ij", (), (2, 3)),
]
