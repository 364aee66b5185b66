"""The section "Attacks" of docs/reliability.md."""

from __future__ import annotations

from benchmarks.attacks import Row
from benchmarks.machine import conditions, table

HEADING, NEXT = "## Attacks\n", "## Bad inputs\n"
TEXT = """\
`make soak` tries what a hostile page, client, twin, disk, link, setting or machine may do
([security.md](security.md) says who they are); `make test` tries a sample of each.
"""


def section(rows: list[Row], seed: int) -> str:
    """Return the rows as a section of the page, with what got through below."""
    shown = [
        {"attack": row.measure, "tries": row.tries, "got through": len(row.broken), "": row.figure} for row in rows
    ]
    broken = [f"- {sentence}" for row in rows for sentence in row.broken]
    return "\n".join([HEADING, TEXT, conditions("prefect", "s3fs"), f"- seed: {seed}\n", table(shown), "", *broken])


def replaced(page: str, text: str) -> str:
    """Return the page with this section in place of the one that it had."""
    before, _, rest = page.partition(HEADING)
    kept = (rest or before).partition(NEXT)
    return f"{(before if rest else kept[0]).rstrip()}\n\n{text.rstrip()}\n\n{NEXT}{kept[2]}"


def taken_over(page: str, old: str) -> str:
    """Return a page with the section that its former text had, if it had one."""
    _, found, rest = old.partition(HEADING)
    return replaced(page, HEADING + rest.partition(NEXT)[0]) if found else page
