"""docs/qc.md: its figures measured again, its commands run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import pipeline
from conftest import HOME, environment
from docs import qc_figure
from slideqc.pixels import LUMA
from slideqc.slides import magnification
from slideqc.tissue_warnings import WARNINGS

PAGE = (HOME / "docs" / "qc.md").read_text(encoding="utf-8")
CLOSE = 0.5  # percentage points: another release of OpenCV rounds differently


@pytest.fixture(scope="module", autouse=True)
def slide(real_slide):
    """The slide that the page was measured on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSI_TEST_SLIDES", str(real_slide.parent))
        yield real_slide


def tables(text: str) -> dict[str, dict[str, list[str]]]:
    """The Markdown tables of a text, by the first cell of their head; their rows, by the first cell of each."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines())
        found[head[0]] = {first: others for first, *others in [head, *rows]}
    return found


def test_the_tables_are_what_the_script_prints():
    page, printed = tables(PAGE), tables(qc_figure.tables())
    assert printed.keys() == {"defocus", "drawn in", "at 5x"}
    for head, rows in printed.items():
        ours = {name for name in page[head] if not name.startswith("TCGA")}
        assert ours == rows.keys()
        assert page[head].pop(head) == rows.pop(head)
        for name, cells in rows.items():
            assert list(map(float, page[head][name])) == [
                pytest.approx(float(cell), abs=CLOSE if "." in cell else 2) for cell in cells], name


def test_the_script_judges_as_the_pipeline_does(slide, tmp_path):
    """The tables rest on whole pictures in memory, the pipeline reads tiles: one figure."""
    defaults = {"image_work_size": "1.25x", "blur_radius": 7, "blur_threshold": 0.05, "blur_max": 0.1}
    copy = qc_figure.write_defocused(slide, 8, tmp_path / "copies")
    for name, size in ((slide, 5), (slide, 2.5), (copy, 5)):
        row = pipeline.check_slide(str(name), blur_work_size=f"{size}x", output=tmp_path, **defaults)
        found = qc_figure.measure(8 if name == copy else 0, size, half=True)
        assert row["percent_blurry"] == pytest.approx(found, abs=0.002 if name == copy else 0.0001)  # JPEG


def test_defocus_is_a_disc():
    """Every point becomes a disc with a radius of 0.577 µm for each µm of defocus, and no light is lost."""
    assert pytest.approx(0.577, abs=0.001) == qc_figure.DISC and "0.577 *z*" in PAGE
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    for radius in (0.5, 3, 4.6):
        disc = qc_figure.defocused(point, radius)[..., 0].astype(float)
        y, x = np.mgrid[-20:21, -20:21]
        assert not disc[np.hypot(y, x) > radius + 1].any()
        inside = disc[np.hypot(y, x) < radius - 1]
        assert np.ptp(inside) <= 1 if inside.size else True
        assert disc.sum() == pytest.approx(255, abs=0.5 * (2 * radius + 3) ** 2)  # each pixel is rounded
    flat = np.full((30, 30, 3), 180, np.uint8)
    assert np.array_equal(qc_figure.defocused(flat, 5.5), flat)
    assert np.array_equal(qc_figure.half_defocused(point, 3)[:20], point[:20])


def test_figures_in_the_text():
    text = " ".join(PAGE.split())
    usual = qc_figure.measure(0, 2.5, 100, 0.15)
    assert f"2.5x with 100 px and 0.15 calls {100 * usual:.0f} % of the sharp CMU-1" in text
    assert "8 of 16 sharp pictures of fat" in text and tables(PAGE)["size, threshold, limit"][
        "**5x, 0.05, 0.10 (the default)**"] == ["1", "1", "13", "56", "57", "8"]


def test_what_is_blurry_on_the_sharp_slide_is_glass():
    """All of the 1.1 % is."""
    assert "All of the 1.1 % of the sharp slide is such glass" in PAGE
    rgb = qc_figure.slide_at(5, 0)
    _, blurry = qc_figure.masks(qc_figure.slide_at(1.25, 0), rgb)
    assert np.percentile(cv2.transform(rgb, LUMA)[blurry > 0], 2) > 200


def test_noise_hides_blur_as_the_page_says():
    """Of white noise alone, with 4 gray levels, hardly anything is called blurry; with 3, all."""
    noise = np.random.default_rng(0).normal(0, 1, (400, 400, 1))
    everywhere = np.full((400, 400), 255, np.uint8)
    found = [pipeline.blurry_mask(np.repeat(np.uint8(np.round(128 + levels * noise)), 3, axis=2), everywhere, 7, 0.05)
             for levels in (4, 3)]
    assert [mask.mean() / 255 for mask in found] == [pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03)]


def test_every_warning_is_explained():
    """The table names each warning that a row can have, in its words."""
    named = [".*".join(map(re.escape, code.split("…")))
             for cell in tables(PAGE)["the row says"] for code in re.findall("`(.+?)`", cell)]
    odd = [words for power, mpp in ((20, 400), (400, 0.5), (None, 0.5), (20, 0.25))
           for words in magnification.oddities(power, mpp)]
    assert len(odd) == 4
    for words in [*(words for _, words in WARNINGS), *odd, *pipeline.results.NOTES.values()]:
        assert any(re.match(pattern, words) for pattern in named), words


@pytest.mark.skipif(os.name == "nt", reason="these are the commands for Linux and macOS")
def test_the_commands_in_their_order(slide, tmp_path):
    copy = tmp_path / "workshop"
    for name in ("pipeline.py", "BaseImage.py", "slideqc", "docs"):
        copied = shutil.copytree if (HOME / name).is_dir() else shutil.copy2
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        copied(HOME / name, copy / name)
    (copy / "data").mkdir()
    shutil.copyfile(slide, copy / "data" / slide.name)
    commands = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=copy, capture_output=True, text=True,
                          encoding="utf-8", env=environment(tmp_path) | {"PATH": path}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (copy / "output" / "known-5x" / "report.html").exists()
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    assert len(shown) == 2
    for line in shown:
        assert line.split() in [each.split() for each in done.stdout.splitlines()], line
    others = re.search(r"2\.5x says\s+([\d.]+) % and ([\d.]+) %: it misses 8 µm. 10x says ([\d.]+) % and ([\d.]+) %",
                       PAGE).groups()
    assert all(f" {share} %" in done.stdout for share in others)


def test_the_figure_is_drawn(tmp_path):
    """As `make pictures` draws it, which is told to."""
    assert '"qc_figure.py", "--draw", DOCS / "qc_blur.png"' in (HOME / "docs" / "pictures.py").read_text("utf-8")
    qc_figure.draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_pictures_and_links():
    for alternative, target in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", PAGE):
        assert len(alternative) > 50 and (HOME / "docs" / target).exists()
    for target in re.findall(r"\]\(([^)#\s]+)\)", PAGE):
        assert target.startswith("https://") or (HOME / "docs" / target).exists(), target
