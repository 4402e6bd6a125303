"""Errors with a message for the user: at the start of the server, and in the answer to a request."""


class StartError(Exception):
    """The server cannot start; the message is the one line that its user sees."""


class RequestError(Exception):
    """A request that cannot be carried out. A client gets the message as a GraphQL error; a page shows it."""

    code = "BAD_REQUEST"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.extensions = {"code": self.code}  # graphql-core puts these into the answer


class NotFoundError(RequestError):
    """A row that does not exist, or that belongs to another tenant."""

    code = "NOT_FOUND"


class StateConflictError(RequestError):
    """A run that is not in the state that the caller expects; agents look for the words `State update failed`."""

    code = "STATE_CONFLICT"


class UnauthenticatedError(RequestError):
    """No key, or a wrong one; the code makes Prefect's client raise its AuthorizationError."""

    code = "UNAUTHENTICATED"


def one_line(error: Exception) -> str:
    """The type and the message of an error, in one line for the log."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
