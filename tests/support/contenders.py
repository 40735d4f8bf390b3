"""Contenders of benchmarks: importable, because each is set up in a process of its own."""

import os
from functools import partial


def steady(seconds):
    return lambda task: (lambda count: count * seconds, lambda: task)


def dies_at(bad):
    def prepare(task):
        if task == bad:
            os._exit(1)
        return (lambda count: count * 0.5), (lambda: task)

    return prepare


def fails_at(bad):
    def prepare(task):
        if task == bad:
            raise ValueError(task)
        return (lambda count: count * 0.5), (lambda: task)

    return prepare


def hangs_at(bad):
    def prepare(task):
        while task == bad:
            pass
        return (lambda count: count * 0.5), (lambda: task)

    return prepare


STEADY, DYING, FAILING, HANGING = partial(steady, 2.0), partial(dies_at, "b"), partial(fails_at, "b"), partial(hangs_at, "b")
