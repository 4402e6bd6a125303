"""A row of the comparison: one way to do the job, and the command that an attendee would type for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from slideqc.errors import CommandError
from slideqc.one_line_parser import suggestion


@dataclass(frozen=True)
class ComparisonRow:
    """One way to do the job."""

    key: str                         # what --rows calls it
    label: str                       # what tables and pictures call it
    script: str                      # from the project's folder
    arguments: tuple[str, ...] = ()  # its flags; {workers} and {scheduler} are filled in
    kind: str = "prefect"            # python, prefect or server: the colour of its bar
    flow: str | None = None          # the module whose `define_flow` it runs in its own process
    executor: str | None = None      # where that flow runs its tasks
    backend: str | None = None       # cluster or server: it runs all the time, and its start is not timed

    def flags(self, **values: object) -> list[str]:
        """The row's own flags, with `values` filled in."""
        return [argument.format(**values) for argument in self.arguments]


def choose(rows: Sequence[ComparisonRow], keys: Sequence[str] | None, with_server: bool) -> list[ComparisonRow]:
    """The rows that the user asked for, in their own order, and always the first, since all are compared with it."""
    known = {row.key: row for row in rows}
    for key in keys or []:
        if key not in known:
            raise CommandError(f"no row is called {key}{suggestion(key, list(known))}; there are {', '.join(known)}")
    asked = keys or [row.key for row in rows if row.backend != "server"]
    return [row for row in rows
            if row is rows[0] or row.key in asked or (with_server and row.backend == "server")]
