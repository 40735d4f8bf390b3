"""docs/doctor.md is the table of checks and that of repairs, today."""

import pytest
from support.paths import ROOT

from gradserve_server.graph.doctor.page import rows
from gradserve_server.runtime.doctor.repair import REPAIRS

TEXT = (ROOT / "docs" / "doctor.md").read_text()


def test_the_table_of_checks_is_up_to_date():
    assert f"-->\n{rows()}<!-- end -->" in TEXT


@pytest.mark.parametrize("repair", REPAIRS)
def test_every_repair_is_in_the_page(repair):
    assert f"\n| `{repair}` |" in TEXT
