"""The three kinds of expected errors; each has its own consequence for the run."""


class SlideError(Exception):
    """One slide cannot be checked: its row says `failed`, and the run continues with the other slides."""


class OutputError(Exception):
    """The output folder cannot be written to: the run ends with exit status 1."""


class CommandError(Exception):
    """The command is wrong: the script prints one line to standard error and ends with exit status 2."""
