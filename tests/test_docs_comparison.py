"""docs/comparison.md and the README quote comparison.json, as compare.py would show it."""

import json

import pytest

from conftest import HOME
from slideqc.comparing import comparison_json, tables

PAGE = (HOME / "docs" / "comparison.md").read_text(encoding="utf-8")
README = (HOME / "README.md").read_text(encoding="utf-8")
RECORD = json.loads((HOME / "docs" / "comparison.json").read_text(encoding="utf-8"))
ROWS = {row["key"]: row for row in RECORD["rows"]}
IN_2021 = {"python-serial": 15, "python-parallel": 6, "prefect-serial": 23, "mapped-local": 20, "mapped-threads": 10}


def test_a_whole_run_of_full_size():
    assert (RECORD["rounds"], RECORD["stopped"], RECORD["slides"]["number"]) == (5, False, 16)
    assert RECORD["slides"]["largest"] == [92000, 65828] and not any(row["wrong"] for row in RECORD["rows"])


def test_the_page_shows_all_that_compare_says():
    assert RECORD["schema"] == comparison_json.SCHEMA
    assert [line for line in tables.markdown(RECORD).splitlines() if line not in PAGE] == []


@pytest.mark.parametrize(("key", "then"), IN_2021.items(), ids=IN_2021)
def test_beside_2021(key, then):
    now, relative = (ROWS[key][name][0] for name in ("seconds", "relative"))
    name = ROWS[key]["label"]
    assert f"| {name} | {then} | {then / 15:.2f} | {now:.1f} | {relative:.2f} |" in PAGE
    assert f"| {name} | {now:.1f} | {relative:.2f} | {then} |" in README
