"""How a check calls an attendee's script: the step, the flags, and the results that it has to leave."""

import os
from dataclasses import dataclass
from pathlib import Path

from slideqc.checking import check_folder
from slideqc.checking.expected_results import ExpectedResults
from slideqc.checking.steps import STEPS

OUTPUT = "results"  # the --output that the script is given, in the folder of the check


@dataclass(frozen=True)
class ScriptCall:
    """One call of a script, as its user calls it."""

    step_number: int
    script: Path
    folder: Path                  # of the check
    timeout: float                # seconds
    parameters: dict[str, object]  # by name, as flags give them
    expected: ExpectedResults
    waits: bool = False           # is it called with --wait?

    @property
    def who(self) -> str:
        """How a finding names the script."""
        return f"run as a script, {self.script.name}"

    @property
    def output(self) -> Path:
        """The output folder that the script is given."""
        return self.folder / OUTPUT

    @property
    def parameter_flags(self) -> list[str]:
        """The parameters as command-line flags."""
        return check_folder.as_flags(self.parameters)

    @property
    def slides(self) -> list[str]:
        """The file names of the slides."""
        return list(self.expected.rows)

    @property
    def is_mapped(self) -> bool:
        """Does one flow run take all slides?"""
        return STEPS[self.step_number].files == "file_names"

    @property
    def expected_runs(self) -> str:
        """The flow runs that the step asks for, in words."""
        return "one flow run for all slides" if self.is_mapped else "a flow run for each slide"

    def shorten(self, text: str) -> str:
        """A text without the folder of the check."""
        return text.replace(f"{self.folder}{os.sep}", "")
