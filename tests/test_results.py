"""What a run leaves in its output folder: the promise of whole, equal and well-formed files."""

import base64
import json
import multiprocessing
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import files, table
from slideqc.errors import SlideError
from slideqc.output import drawing, report, results

ODD_NAMES = ["with space.svs", "100%25.svs", "quote's.svs", "größe-玻片.svs", "a<b>&amp;.svs", 'say "cheese".svs',
             "semi;colon,.svs"]


@pytest.fixture(scope="module")
def checked(small_slides, tmp_path_factory):
    """The output of one run over the small slides and one broken file."""
    import pipeline
    folder, output = tmp_path_factory.mktemp("slides"), tmp_path_factory.mktemp("output")
    for slide in small_slides.glob("*.svs"):
        shutil.copy(slide, folder)
    (folder / "broken.svs").write_bytes(b"no slide")
    assert pipeline.main(["--folder", str(folder), "--output", str(output)]) == 1
    return folder, output


def test_files_of_a_run(checked):
    _, output = checked
    kinds = ("tissue_seg.png", "blurry.png", "overlay.jpg", "qc.json")
    slides = [f"small-{n}.svs" for n in (1, 2, 3)]
    assert {path.name for path in output.iterdir()} == {
        "results.csv", "report.html", "run.json", "broken.svs_qc.json",
        *(f"{slide}_{kind}" for slide in slides for kind in kinds)}


def test_masks_are_8_bit_and_of_the_working_size(checked):
    _, output = checked
    for name, row in table(output).items():
        if row["status"] != "failed":
            for kind in ("tissue_seg", "blurry"):
                mask = cv2.imread(str(output / f"{name}_{kind}.png"), cv2.IMREAD_UNCHANGED)
                assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
                assert mask.shape == (int(row["height"]), int(row["width"]))
            assert cv2.imread(str(output / f"{name}_overlay.jpg")).shape == (*mask.shape, 3)


def test_table(checked):
    _, output = checked
    text = (output / "results.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == ("file_name,status,base_mag,width,height,tissue_fraction,percent_blurry,"
                                    "warnings,error")
    rows = table(output)
    assert list(rows) == sorted(rows) == ["broken.svs", "small-1.svs", "small-2.svs", "small-3.svs"]
    assert rows["broken.svs"]["status"] == "failed" and "broken.svs" in rows["broken.svs"]["error"]
    assert rows["broken.svs"]["percent_blurry"] == rows["broken.svs"]["tissue_fraction"] == ""
    assert rows["small-2.svs"]["status"] == "rescan" and "rescan" in rows["small-2.svs"]["warnings"]
    assert [rows["small-1.svs"][column] for column in ("base_mag", "width", "height")] == ["20", "128", "96"]
    for name in ("tissue_fraction", "percent_blurry"):
        assert re.fullmatch(r"[01]\.\d{6}", rows["small-1.svs"][name])


def test_row_files_hold_the_rows(checked):
    _, output = checked
    row = json.loads((output / "small-1.svs_qc.json").read_text())
    assert [row[column] for column in ("file_name", "status", "base_mag")] == ["small-1.svs", "ok", 20]
    assert f"{row['percent_blurry']:.6f}" == table(output)["small-1.svs"]["percent_blurry"]


def test_no_times_and_no_paths(checked):
    folder, output = checked
    for name, content in files(output).items():
        assert str(folder).encode() not in content and str(output).encode() not in content, name


def test_run_json_says_what_ran(checked):
    _, output = checked
    ran = json.loads((output / "run.json").read_text())
    assert ran["parameters"]["blur_radius"] == 7 and ran["slides"] == 4 and ran["seconds"] > 0
    assert ran["versions"]["prefect"] == "1.4.1" and ran["machine"]["cpus_usable"] >= 1


def test_every_script_and_a_second_run_leave_the_same_bytes(checked, run, tmp_path):
    folder, output = checked
    for script in ("pipeline.py", "pipeline_parallel.py", "pipeline_parallel.py"):
        done = run(script, "--folder", folder, "--output", tmp_path / "again")
        assert done.returncode == 1, done.stderr
        assert files(tmp_path / "again") == files(output)


def test_a_run_starts_a_new_table(small_slides, run, tmp_path):
    folder = tmp_path / "slides"
    shutil.copytree(small_slides, folder)
    run("pipeline.py", "--folder", folder, "--output", tmp_path / "output")
    (folder / "small-2.svs").unlink()
    (folder / "small-3.svs").write_bytes(b"gone bad")
    (tmp_path / "output" / "notes.txt").write_text("the user's own")
    assert run("pipeline.py", "--folder", folder, "--output", tmp_path / "output").returncode == 1
    assert list(table(tmp_path / "output")) == ["small-1.svs", "small-3.svs"]
    # No picture of an earlier run stands for a slide that failed; what is not ours stays.
    assert not (tmp_path / "output" / "small-3.svs_overlay.jpg").exists()
    assert (tmp_path / "output" / "notes.txt").exists()


class Tags(HTMLParser):
    """Collects open tags and their attributes, and fails on tags that do not close."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_report(output: Path) -> Tags:
    page = Tags()
    page.feed((output / "report.html").read_text(encoding="utf-8"))
    page.close()
    assert not page.open
    return page


def test_report_needs_nothing_else(checked):
    _, output = checked
    page = read_report(output)
    for tag, attributes in page.seen:
        assert tag not in ("script", "link", "iframe")
        assert attributes.get("src", "data:").startswith("data:") and "href" not in attributes
        assert tag != "img" or attributes["alt"]
    assert "url(" not in (output / "report.html").read_text(encoding="utf-8")


def test_report_shows_the_worst_first(checked):
    _, output = checked
    cards = re.findall(r'<article class="(\w+)">\s*<header><h2>([^<]*)', (output / "report.html").read_text())
    assert [card[0] for card in cards] == ["failed", "rescan", "ok", "ok"]
    assert cards[0][1] == "broken.svs" and cards[1][1] == "small-2.svs"


def test_odd_names(small_slides, run, tmp_path):
    folder = tmp_path / "odd slides %20"
    folder.mkdir()
    names = [name for name in ODD_NAMES if not (set(name) & set('<>"') and shutil.os.name == "nt")]
    for name in names:
        shutil.copy(small_slides / "small-1.svs", folder / name)
    for script in ("pipeline.py", "pipeline_parallel.py"):
        done = run(script, "--folder", folder, "--output", tmp_path / "größe out")
        assert done.returncode == 0, done.stderr
        assert list(table(tmp_path / "größe out")) == sorted(names)
        assert "".join(read_report(tmp_path / "größe out").text).count(".svs") == len(names)
        assert all((tmp_path / "größe out" / f"{name}_overlay.jpg").stat().st_size for name in names)


def add_row(output: Path, number: int, start: multiprocessing.Barrier) -> None:
    results.save_row(output, f"slide-{number:02}.svs", "ok")
    start.wait()
    results.assemble(output)


def test_runs_that_end_together_lose_no_row(tmp_path):
    for attempt in range(5):
        output = tmp_path / str(attempt)
        output.mkdir()
        start = multiprocessing.Barrier(8)
        runs = [multiprocessing.Process(target=add_row, args=(output, number, start)) for number in range(8)]
        for process in runs:
            process.start()
        for process in runs:
            process.join()
        assert len(table(output)) == 8
        assert (output / "report.html").read_text().count("<article") == 8


def test_a_row_that_changes_while_the_report_is_written(tmp_path, monkeypatch):
    """A slide that failed is checked again by another run: the report shows its last row, with the pictures."""
    results.save_failure(tmp_path, "a.svs", SlideError("a.svs: the drive hiccuped"))
    render = report.render

    def meanwhile(rows, pictures_of):
        picture = np.zeros((1, 2, 3), np.uint8)
        (tmp_path / "a.svs_overlay.jpg").write_bytes(drawing.encode("overlay.jpg", picture, (picture, picture)))
        results.save_row(tmp_path, "a.svs", "ok", base_mag=20, width=2, height=1, tissue_fraction=0.5,
                         percent_blurry=0)
        return render(rows, pictures_of)

    monkeypatch.setattr(report, "render", meanwhile)
    assert results.assemble(tmp_path)[0]["status"] == "ok"
    page = (tmp_path / "report.html").read_text()
    assert "a.svs as scanned" in page and "hiccuped" not in page and table(tmp_path)["a.svs"]["status"] == "ok"


def test_the_overlay_carries_the_small_pictures(checked):
    """Whoever opens it sees the overlay; the report finds its two pictures at the front of the file."""
    content = (checked[1] / "small-1.svs_overlay.jpg").read_bytes()
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (96, 128)
    assert content[6:11] == b"JFIF\0", "readers look for the JFIF header first"
    slide, overlay = drawing.thumbnails(content[:drawing.THUMBNAILS_BYTES])
    assert slide != overlay and slide in (checked[1] / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", [(420, 420, 3), (4000, 3000, 3), (1, 2000, 3), (3, 5, 3)])
def test_even_noise_fits_into_a_comment(shape):
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    content = drawing.encode("noise.jpg", noise, (noise, noise))
    small = drawing.thumbnails(content[:drawing.THUMBNAILS_BYTES])
    for address in small:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
        assert max(picture.shape) == drawing.THUMBNAIL
    assert len(small) == 2 and cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == shape
