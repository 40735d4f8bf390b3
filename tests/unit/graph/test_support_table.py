"""The page of operators is the table of derivatives, today."""

from support.paths import ROOT

from gradserve_server.graph.autodiff.rules import TABLE
from gradserve_server.graph.autodiff.support_table import page


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "operators.md").read_text() == page()


def test_every_rule_says_its_formula():
    silent = [key for key, state in TABLE.items() if not (getattr(state, "reason", "") or _function(state).__doc__)]
    assert silent == []


def _function(state):
    return getattr(state, "pull", None) or state.expand
