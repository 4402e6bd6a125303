"""Work on many rows, where an error in one must not stop the others."""

import logging
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from workshop_server.errors import one_line

logger = logging.getLogger(__name__)


def one_by_one(rows: Iterable[sa.Row], do: Callable[[sa.Row], int]) -> int:
    """Call `do` for each row; returns the sum of what it returns. A row that raises an error is logged and skipped."""
    done = 0
    for row in rows:
        try:
            done += do(row)
        except Exception as error:
            logger.error("%s %s: %s", do.__name__, row.id, one_line(error))
    return done
