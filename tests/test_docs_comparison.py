"""docs/comparison.md and the README quote comparison.json, as compare.py would show it."""

import json
import re

import pytest

from conftest import HOME
from slideqc.comparing import tables

PAGE = (HOME / "docs" / "comparison.md").read_text(encoding="utf-8")
README = (HOME / "README.md").read_text(encoding="utf-8")
RECORD = json.loads((HOME / "docs" / "comparison.json").read_text(encoding="utf-8"))
ROWS = {row["key"]: row for row in RECORD["rows"]}
IN_2021 = {"python-serial": 15, "python-parallel": 6, "prefect-serial": 23, "mapped-local": 20, "mapped-threads": 10}


def test_a_whole_run_of_full_size():
    assert (RECORD["rounds"], RECORD["stopped"], RECORD["slides"]["number"]) == (5, False, 16)
    assert RECORD["slides"]["largest"] == [92000, 65828] and not any(row["wrong"] for row in RECORD["rows"])


def test_the_page_shows_all_that_compare_says():
    said = tables.markdown(RECORD).splitlines()
    assert [line for line in said[1:] if line and line not in PAGE] == []


@pytest.mark.parametrize(("key", "then"), IN_2021.items(), ids=IN_2021)
def test_beside_2021(key, then):
    now, relative = (ROWS[key][name][0] for name in ("seconds", "relative"))
    name = ROWS[key]["label"]
    assert f"| {name} | {then} | {then / 15:.2f} | {now:.1f} | {relative:.2f} |" in PAGE
    assert f"| {name} | {now:.1f} | {relative:.2f} | {then} |" in README


def test_orchestration_with_the_runners_is_what_was_measured():
    for row in filter(lambda row: row["orchestration"], RECORD["rows"]):
        found = re.search(rf"^\| {re.escape(row['label'])} \| [\d.]+ \| ([\d.]+) \|$", PAGE, re.MULTILINE)
        assert found and found[1] == f"{1000 * row['orchestration'][0]:.1f}", row["label"]
