"""The three ways in which a run can go wrong, told apart by what becomes of them."""


class SlideError(Exception):
    """This slide cannot be checked: its row says `failed`, the other slides go on."""


class OutputError(Exception):
    """The output folder stopped taking files: the run ends, exit status 1."""


class CommandError(Exception):
    """The command itself was wrong: one line on standard error, exit status 2."""
