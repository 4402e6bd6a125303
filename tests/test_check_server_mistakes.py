"""check.py 2 and 5 find what is wrong in each broken script, with a server and an agent of the check."""

from pathlib import Path

import pytest
from check_in_process import Check, assert_mistake_is_told, broken_scripts

pytest_plugins = ["check_in_process"]  # fixtures


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("broken", broken_scripts(with_server=True), ids=lambda path: path.stem)
def test_each_mistake_gets_its_sentence(check: Check, broken: Path):
    assert_mistake_is_told(check, broken)
