"""The table of checks as docs/doctor.md has it: `python -m gradserve_server.graph.doctor.page`."""

import sys

from gradserve_server.graph.doctor.table import CHECKS


def rows() -> str:
    """The table, as Markdown."""
    head = "| code | severity | what it does | repair |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{code}` | {check.severity} | {check.effect} | {check.repair or '-'} |\n" for code, check in CHECKS.items()
    )


if __name__ == "__main__":
    sys.stdout.write(rows())
