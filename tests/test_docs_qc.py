"""docs/qc.md: its figures measured again, its commands run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipeline
from conftest import HOME, environment
from docs import qc_figure

PAGE = (HOME / "docs" / "qc.md").read_text(encoding="utf-8")
CLOSE = 0.5  # percentage points: another release of OpenCV rounds differently


@pytest.fixture(scope="module", autouse=True)
def slide(real_slide):
    """The slide that the page was measured on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSI_TEST_SLIDES", str(real_slide.parent))
        yield real_slide


def rows(head: str) -> dict[str, list[str]]:
    """The cells of the page's table whose head begins like that, by the first cell of their row."""
    lines = PAGE[PAGE.index(f"| {head}"):].split("\n\n")[0].splitlines()[2:]
    return {first: others for first, *others in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)}


@pytest.mark.parametrize("name", qc_figure.SIZES)
def test_working_sizes(name):
    pixel, *shares, truth, found_from = rows("working size | µm/px")[name]
    options = qc_figure.SIZES[name]
    assert float(pixel) == pytest.approx(10 / options["size"])
    for column in (0, 2, 4):
        found = qc_figure.measure(qc_figure.TABLED[column], **options)
        assert 100 * found["percent"] == pytest.approx(float(shares[column]), abs=CLOSE)
        assert 100 * found["truth"] == pytest.approx(float(truth), abs=1.5)  # blur moves Otsu's threshold
    sigma = float(re.fullmatch(r"σ = ([\d.]+) µm", found_from)[1])
    assert 0.3 < qc_figure.measure(sigma, **options)["lower"] < 0.7


def test_radii_and_thresholds():
    table = rows("at 1.25x | as it is")
    choices = {f"radius {name}": options for name, options in qc_figure.RADII.items()}
    choices |= {f"threshold {name}": options for name, options in qc_figure.THRESHOLDS.items()}
    assert table.keys() == choices.keys()
    for name, options in choices.items():
        for column in (0, 4):
            found = qc_figure.measure(qc_figure.TABLED[column], **options)
            assert 100 * found["percent"] == pytest.approx(float(table[name][column]), abs=CLOSE)


def test_troubles():
    table = rows("drawn in")
    assert table.keys() == qc_figure.TROUBLES.keys()
    for name, cells in table.items():
        tissue, blurry, percent = map(float, cells)
        found = qc_figure.trouble(name)
        assert 100 * found["percent"] == pytest.approx(percent, abs=CLOSE)
        assert 100 * found["tissue"] == pytest.approx(tissue, abs=2)
        assert 100 * found["blurry"] == pytest.approx(blurry, abs=2)


def test_spots():
    for radius, cells in rows("at 1.25x, spots of").items():
        number = float(radius.removeprefix("radius ").removesuffix(" px"))
        assert 100 * qc_figure.spots_found(300, number) == pytest.approx(float(cells[2]), abs=2)


def test_figures_in_the_text():
    coarse, fine = qc_figure.false_alarms(1.25), qc_figure.false_alarms(20)
    light, usual = (qc_figure.measure(0, 2.5, *values)["percent"] for values in ((7, 0.05), (100, 0.15)))
    for words in (f"finds {100 * coarse['dark']:.0f} % tissue and the dilation makes {100 * coarse['tissue']:.0f} %",
                  f"{100 * coarse['in the rim']:.0f} % of that is the rim of glass",
                  f"without its rim, {100 * coarse['inner']:.1f} % is called blurry",
                  f"At 20x, {100 * fine['inner']:.1f} % of the tissue without its rim",
                  f"2.5x with 7 px and 0.05 gives {100 * light:.1f} % here",
                  f"2.5x with 100 px and 0.15 calls {100 * usual:.0f} % of this"):
        assert words in " ".join(PAGE.split()), words


def test_noise_hides_blur_as_the_page_says():
    """Of white noise alone, with 4 gray levels, hardly anything is called blurry; with 3, all."""
    noise = np.random.default_rng(0).normal(0, 1, (400, 400, 1))
    everywhere = np.full((400, 400), 255, np.uint8)
    found = [pipeline.blurry_mask(np.repeat(np.uint8(np.round(128 + levels * noise)), 3, axis=2), everywhere, 7, 0.05)
             for levels in (4, 3)]
    assert [mask.mean() / 255 for mask in found] == [pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03)]


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
    assert "mine.tif" in done.stdout and (copy / "output" / "scans" / "report.html").exists()
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    assert len(shown) == 2
    for line in shown:
        assert line.split() in [each.split() for each in done.stdout.splitlines()], line
    other = re.search(r"0\.07 has ([\d.]+) % and\s+([\d.]+) %", PAGE)
    assert all(f" {share} %" in done.stdout for share in other.groups())


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
