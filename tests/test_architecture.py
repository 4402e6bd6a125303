"""docs/architecture.md: which file may import which; and its worked changes, applied to a copy and run."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_docs import TRACKED, blocks, content

from conftest import HOME, clone, environment, files, table
from slideqc.slides import aperio

DOCUMENT = "docs/architecture.md"
RULES = {row[0]: re.findall(r"`([^`]+)`", row[1])
         for row in re.findall(r"^\| `([^`]+)`[^|]*\| (.*) \|$", content(DOCUMENT), re.MULTILINE)}
CODE = [name for name in TRACKED if name.endswith(".py") and not name.startswith("tests/")]
ALLOWED_PREFECT = ("solutions/", "docs/", "slideqc/orchestration/",
                   "slideqc/checking/", "slideqc/comparing/")
CHANGES = blocks(DOCUMENT, "diff")
MAPPED = "solutions/pipeline_prefect_parallel.py"
WAYS = {
    "parallel": ["pipeline_parallel.py", "--workers", "2"],
    "serial flow": ["solutions/pipeline_prefect.py"],
    "processes": [MAPPED, "--workers", "2", "--executor", "processes"],
    "inside": [MAPPED, "--workers", "2", "--executor", "inside"],
}


def imported(name: str) -> set[str]:
    """The modules that a file imports, anywhere in it, and those that `from package import name` may mean."""
    found = set()
    for node in ast.walk(ast.parse((HOME / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively: the table could not name it"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def home_of(name: str) -> str | None:
    """The row of the table that a file belongs to: its own, else that of its nearest folder."""
    return max((who for who in RULES if name == who or (who.endswith("/") and name.startswith(who))), key=len,
               default=None)


def below(who: str) -> set[str]:
    """The rows that a row may import: itself, those that it names, and what these may import."""
    return {who}.union(*map(below, RULES[who]))


def ours(module: str) -> str | None:
    """The file of a module, if it is one of the repository's."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in TRACKED), None)


def test_imports_go_down():
    wrong = []
    for name in CODE:
        home = home_of(name)
        if not home:
            wrong.append(f"the table of {DOCUMENT} has no row for {name}")
            continue
        wrong += [f"{name} imports {target}, which its row does not reach"
                  for target in filter(None, map(ours, imported(name))) if home_of(target) not in below(home)]
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_circle():
    assert not [who for who in RULES if who in set().union(*map(below, RULES[who]))]


def test_prefect_stays_where_flows_are():
    wrong = [name for name in CODE if not name.startswith(ALLOWED_PREFECT)
             and any(module.split(".")[0] == "prefect" for module in imported(name))]
    assert not wrong, f"these import prefect, and may not: {wrong}"


def test_every_file_in_the_drawing_is_there():
    sys.path.insert(0, str(HOME / "docs"))
    try:
        import architecture_figure
    finally:
        sys.path.pop(0)
    drawn = {name for names, *_ in architecture_figure.BOXES for name in names}
    assert all((HOME / name).exists() for name in drawn)
    shown = {f"{folder}/" for name in drawn for folder in (name, *Path(name).parents)} | drawn
    assert set(RULES) - shown == {"docs/", "get_data.py", "slideqc/errors.py"}


def apply(change: str, folder: Path) -> None:
    """Carry out a block: a file's name, then hunks, each of which has to fit at exactly one place."""
    name, _, hunks = change.partition("\n")
    text = (folder / name).read_text(encoding="utf-8")
    for hunk in hunks.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] or "\n" for line in lines if line[0] in " -\n")
        after = "".join(line[1:] or "\n" for line in lines if line[0] in " +\n")
        assert f"\n{text}".count(f"\n{before}") == 1, f"{name}: this does not stand there once:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, small_slides: Path) -> Path:
    """A copy of the repository with the document's step and executor, and three slides: one has pen marks."""
    folder = clone(tmp_path_factory.mktemp("changed") / "workshop")
    for change in CHANGES:
        apply(change, folder)
    (folder / "data").mkdir()
    for name in ("small-1.svs", "small-2.svs"):
        shutil.copy(small_slides / name, folder / "data")
    picture = np.full((1536, 2048, 3), 242, np.uint8)
    cv2.ellipse(picture, (900, 800), (500, 350), 20, 0, 360, (214, 150, 190), -1)
    cv2.line(picture, (200, 300), (1500, 250), (20, 110, 60), 60)
    words = aperio.description(2048, 1536, {"AppMag": "20", "MPP": "0.4990"})
    with (folder / "data" / "inked.svs").open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, aperio.smaller(picture, by), words) for by in (1, 4, 16)]
        pages.insert(1, aperio.add_thumbnail(file, picture, words))
        aperio.write_directories(file, pages)
    return folder


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, encoding="utf-8",
                          env=environment(folder.parent), timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def plain(changed: Path) -> Path:
    """What the plain pipeline leaves, with the new step."""
    run(changed, "pipeline.py", "--output", "plain")
    return changed / "plain"


def test_the_new_step_finds_the_ink(plain):
    rows = table(plain)
    assert re.search(r"pen marks on \d+\.\d % of the slide", rows["inked.svs"]["warnings"])
    assert [name for name, row in rows.items() if "pen marks" in row["warnings"]] == ["inked.svs"]
    masks = {name: cv2.imread(str(plain / f"{name}_pen.png"), cv2.IMREAD_GRAYSCALE).any() for name in rows}
    assert masks == {"inked.svs": True, "small-1.svs": False, "small-2.svs": False}


@pytest.mark.parametrize("way", WAYS)
def test_the_new_step_leaves_the_same_bytes_everywhere(way, changed, plain, tmp_path):
    script, *arguments = WAYS[way]
    run(changed, script, *arguments, "--output", tmp_path)
    assert files(tmp_path) == files(plain)


def test_the_check_asks_for_the_new_step(changed, tmp_path):
    solution = changed / "solutions" / "pipeline_prefect.py"
    assert "step 1 is done" in run(changed, "check.py", "1", solution).stdout
    mine = tmp_path / "my_flow.py"  # without it
    mine.write_bytes((HOME / "solutions" / "pipeline_prefect.py").read_bytes())
    before = subprocess.run([sys.executable, "check.py", "1", mine], cwd=changed, capture_output=True, text=True,
                            encoding="utf-8", env=environment(tmp_path), timeout=300, check=False)
    assert before.returncode == 1 and "not yet" in before.stdout


def test_the_changed_copy_passes_its_tests_and_the_linter(changed):
    run(changed, "-m", "ruff", "check", *{change.partition("\n")[0] for change in CHANGES})
    done = run(changed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_pixels.py",
               "tests/test_solutions.py", "-k", "pen_marks or graph_is or (good_slides and inside)")
    assert re.search(r"\b[3-9] passed", done.stdout), done.stdout
