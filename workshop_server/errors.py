"""What goes wrong in words: at the start of the server, and in the answer to a request."""


class StartError(Exception):
    """The server cannot start; the message is the one line that its user sees."""


class RequestError(Exception):
    """A request asks for what cannot be done; travels to the client as a GraphQL error, or to the page as a line."""

    code = "BAD_REQUEST"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.extensions = {"code": self.code}  # where graphql-core looks for it


class NotFoundError(RequestError):
    """There is no such row, or it belongs to another tenant."""

    code = "NOT_FOUND"


class StateConflictError(RequestError):
    """The run is in another state than the caller believes; agents look for the words `State update failed`."""

    code = "STATE_CONFLICT"


class UnauthenticatedError(RequestError):
    """No key, or a wrong one; the code makes Prefect's client raise its AuthorizationError."""

    code = "UNAUTHENTICATED"
