"""Points in time as the server stores and compares them: text in UTC, of fixed width, with microseconds."""

from datetime import UTC, datetime, timedelta

from workshop_server.errors import RequestError


def text(moment: datetime) -> str:
    """`2026-11-22T14:17:35.881666+00:00`; a moment without a zone is taken for UTC, as Prefect's client does."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def moment(stamp: str) -> datetime:
    """The moment that an ISO 8601 text names; raises RequestError for any other text."""
    try:
        found = datetime.fromisoformat(stamp.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, AttributeError, TypeError):
        raise RequestError(f"not a date and time as in 2026-11-22T14:17:35+00:00: {str(stamp)[:60]!r}") from None


def clean(stamp: str) -> str:
    """The same moment, written as the server writes it."""
    return text(moment(stamp))


def now(*, shift: float = 0) -> str:
    """This moment, or `shift` seconds from it."""
    return text(datetime.now(UTC) + timedelta(seconds=shift))
