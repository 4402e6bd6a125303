"""Make the slides that open the workshop, out of slides.html and style.css:

    python docs/presentation/make.py      (make pictures runs it too, after the pictures that it shows)

writes Presentation.pdf and docs/PresentationTitle.png, by printing from Chromium, and notes.md, what to say when. The
code on the slides is cut out of the solutions, so that it is always theirs. At its end the PDF names what it was made
from; tests compare that with what stands here now.
"""

import hashlib
import html
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
HOME = DOCS.parent
sys.path.insert(0, str(HOME))

import jinja2  # noqa: E402
import matplotlib  # noqa: E402
from PIL import Image  # noqa: E402
from prefect.engine import state  # noqa: E402

import pipeline  # noqa: E402
from slideqc.output import drawing  # noqa: E402
from slideqc.slides import generate  # noqa: E402

FIGURES = [  # what ran in 2021, seconds, and whether it was Prefect: first one after the other, then side by side
    ("Python, serial", 15, False),
    ("Prefect, serial", 23, True),
    ("Prefect, mapped", 20, True),
    ("Python, parallel", 6, False),
    ("Prefect, mapped, Dask", 10, True),
]
AGENDA = [
    ("0:00", "arrival"),
    ("0:05", "introduction: these slides"),
    ("0:20", "set-up and data"),
    ("0:35", "hello world, in a notebook"),
    ("0:55", "break"),
    ("1:00", "the pipeline, its images"),
    ("1:10", "step 1: it becomes a flow"),
    ("1:30", "step 2: on to a server"),
    ("1:40", "review of step 5"),
    ("1:50", "wrap-up"),
]
BEGIN = 5  # minutes into the session
PICTURES = ("pipeline_overview.png", "flow_serial.png", "flow_parallel.png", "flow_timeline.png", "flow_schematic.png")
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def code(file: str, *pieces: str, marks: list[str]) -> str:
    """Lines of a file; each piece names the beginning of one line, or of a first and a last: "first → last"."""
    lines = (HOME / file).read_text(encoding="utf-8").splitlines()
    cuts = []
    for piece in pieces:
        first, _, last = piece.partition(" → ")
        end = next((n for n, line in enumerate(lines) if line.strip().startswith(last or first)), -1)
        start = next((n for n in range(end, -1, -1) if lines[n].strip().startswith(first)), -1)
        if start < 0:
            sys.exit(f"{file} has no lines {piece!r}, which a slide shows")
        cuts.append((start, end + 1))
    margin = min(len(line) - len(line.lstrip()) for cut in cuts for line in lines[slice(*cut)] if line)
    words = re.compile("|".join(rf"(?<!\w){re.escape(mark)}(?!\w)" if mark[0].isalnum() else re.escape(mark)
                                for mark in sorted(map(html.escape, marks), key=len, reverse=True)))
    shown, before = [], cuts[0][0]
    for start, end in cuts:
        if any(lines[before:start]):
            shown.append('<span class="gap">…</span>')
        text = html.escape("\n".join(line[margin:] for line in lines[start:end]), quote=False)
        shown.append("<code>" + words.sub(r"<mark>\g<0></mark>", text) + "</code>")
        before = end
    return f'<pre data-file="{file}">{"".join(shown)}</pre><p class="from">{file}</p>'


def typed(*commands: str) -> str:
    """Commands, as they are typed."""
    return f'<pre class="typed">{"".join(f"<code>{html.escape(command)}</code>" for command in commands)}</pre>'


def picture(name: str, words: str, style: str = "") -> str:
    """A picture of the documents; where it has not been drawn yet, what it will show."""
    if name in PICTURES and not (DOCS / name).exists():
        return f'<div class="missing" style="{style}">to be drawn: {html.escape(words)}</div>'
    return f'<img src="{name}" alt="{html.escape(words)}" style="{style}" />'


def colour(name: str) -> str:
    """The colour that Prefect gives to a state."""
    return getattr(state, name).color


def render() -> str:
    """The slides as HTML, which is XML too; fonts and pictures are named as if they lay beside it."""
    template = jinja2.Template((HERE / "slides.html").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    return template.render(code=code, typed=typed, picture=picture, colour=colour, figures=FIGURES, agenda=AGENDA)


def sections(page: str) -> list[ElementTree.Element]:
    """The slides, one element each."""
    return list(ElementTree.fromstring(page.partition("\n")[2]).iter("section"))


def heading(section: ElementTree.Element) -> str:
    """A slide's title."""
    return _words(section.find(".//h1"))


def digest(page: str) -> str:
    """What the PDF is made from, in 64 letters: the slides, their looks, and the pictures on them."""
    found = hashlib.sha256(page.encode())
    found.update((HERE / "style.css").read_text(encoding="utf-8").encode())
    for name in PICTURES:
        if (DOCS / name).exists():
            found.update((DOCS / name).read_bytes())
    return found.hexdigest()


def notes(page: str) -> str:
    """What to say when, slide by slide, as Markdown."""
    written = ["# What to say, slide by slide", "",
               "Made from `slides.html` by `make pictures`: change it there. The slides take a quarter of an hour,",
               "from 0:05 to 0:20 of the session. No lines to read out: say them in your own words.", ""]
    minute = BEGIN
    for number, section in enumerate(sections(page), 1):
        aside = section.find("aside")
        lasts = float(aside.get("data-minutes"))
        begins = f"{int(minute) // 60}:{int(minute) % 60:02}" + (":30" if minute % 1 else "")
        written += [f"## {number}. {heading(section)}", "", f"*At {begins}, for {_minutes(lasts)}.*", ""]
        for paragraph in aside.iter("p"):
            text = _words(paragraph, mark_code=True)
            written += [textwrap.fill(text, 116, break_long_words=False, break_on_hyphens=False), ""]
        minute += lasts
    return "\n".join(written)


def _minutes(lasts: float) -> str:
    return {0.5: "half a minute", 1: "a minute", 1.5: "a minute and a half"}.get(lasts, f"{lasts:g} minutes")


def _words(element: ElementTree.Element, mark_code: bool = False) -> str:
    text = element.text or ""
    for inner in element:
        words = _words(inner)
        text += (f"`{words}`" if mark_code and inner.tag == "code" else words) + (inner.tail or "")
    return " ".join(text.split())


def title_picture(target: Path) -> None:
    """A generated slide as the pipeline's overlay shows it, cut to the piece that has something out of focus."""
    with tempfile.TemporaryDirectory() as folder:
        slide = generate.write_slide(Path(folder) / "slide.svs", width=24000, height=18000, magnification=20, seed=4)
        image = pipeline.load_image(str(slide), "1.25x", folder)
        pipeline.tissue_segmentation_simple(image, "1.25x")
        pipeline.identifyBlurryRegions(image, "1.25x", 7, 0.05)
        drawn = drawing.overlay(image.picture("1.25x"), image.load_mask("tissue_seg.png"),
                                image.load_mask("blurry.png"))
    target.write_bytes(drawing.encode("title.jpg", drawn[105:1005, 720:1460]))


def build(folder: Path) -> str:
    """Put all that the browser needs into one folder, as slides.html and what it names; returns the page."""
    page = render()
    (folder / "slides.html").write_text(page, encoding="utf-8")
    shutil.copy(HERE / "style.css", folder)
    for font in FONTS:
        shutil.copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font, folder)
    for name in PICTURES:
        if (DOCS / name).exists():
            shutil.copy(DOCS / name, folder)
    title_picture(folder / "title.jpg")
    return page


def chromium(folder: Path, *arguments: str) -> None:
    """Open the slides in the browser, without a window and without a network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit("the slides are printed by a browser: apt install chromium")
    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                    "--hide-scrollbars", f"--user-data-dir={folder / 'browser'}", *arguments,
                    (folder / "slides.html").as_uri()], check=True, stderr=subprocess.DEVNULL, timeout=120)


def make(pdf: Path, title: Path) -> None:
    """Print the slides, without the time at which it was done, and their first page as a picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = build(folder)
        chromium(folder, "--no-pdf-header-footer", "--generate-pdf-document-outline",
                 f"--print-to-pdf={folder / 'slides.pdf'}")
        # A window is lower inside than it is outside, so this one is higher than a page.
        chromium(folder, "--window-size=1280,1000", "--force-device-scale-factor=1.25",
                 f"--screenshot={folder / 'title.png'}")
        printed = re.sub(rb"(/(?:Creation|Mod)Date \(D:)\d{14}", rb"\g<1>20210101000000",
                         (folder / "slides.pdf").read_bytes())
        pdf.write_bytes(printed + f"\n% made from {digest(page)}\n".encode())
        # A third of the bytes in 128 colours, and nobody sees the difference.
        Image.open(folder / "title.png").convert("RGB").crop((0, 0, 1600, 900)).quantize(128).save(title, optimize=True)


if __name__ == "__main__":
    make(HOME / "Presentation.pdf", DOCS / "PresentationTitle.png")
    (HERE / "notes.md").write_text(notes(render()), encoding="utf-8")
