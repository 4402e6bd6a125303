"""Make the slides of the workshop's introduction from slides.html and style.css.

    python docs/presentation/make.py      (make pictures runs it too, after it has drawn the pictures)

Chromium prints them to Presentation.pdf, and the first page to docs/PresentationTitle.png. The speaker's notes go to
notes.md. The code on the slides is copied from the solutions, so that both are always the same. The last line of the
PDF is a hash of its sources; a test compares it with the hash of the present sources.
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

FIGURES = [  # measured in 2021: the pipeline, its seconds, and whether it uses Prefect
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
    """Lines of a file as HTML, with `marks` highlighted.

    Each piece is the beginning of a line, or the beginnings of the first and the last line: "first → last". Ends the
    script if the file has no such lines.
    """
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
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(mark)}(?!\w)" if mark[0].isalnum() else re.escape(mark)
                                  for mark in sorted(map(html.escape, marks), key=len, reverse=True)))
    parts, before = [], cuts[0][0]
    for start, end in cuts:
        if any(lines[before:start]):
            parts.append('<span class="gap">…</span>')
        text = html.escape("\n".join(line[margin:] for line in lines[start:end]), quote=False)
        parts.append("<code>" + pattern.sub(r"<mark>\g<0></mark>", text) + "</code>")
        before = end
    return f'<pre data-file="{file}">{"".join(parts)}</pre><p class="from">{file}</p>'


def typed(*commands: str) -> str:
    """Commands as HTML, one line each."""
    return f'<pre class="typed">{"".join(f"<code>{html.escape(command)}</code>" for command in commands)}</pre>'


def picture(name: str, description: str, style: str = "") -> str:
    """A picture from docs/ as HTML, with its description; only the description if the picture does not exist yet."""
    if name in PICTURES and not (DOCS / name).exists():
        return f'<div class="missing" style="{style}">to be drawn: {html.escape(description)}</div>'
    return f'<img src="{name}" alt="{html.escape(description)}" style="{style}" />'


def colour(name: str) -> str:
    """The colour that Prefect gives to a state."""
    return getattr(state, name).color


def render() -> str:
    """The slides as HTML that is also valid XML. Fonts and pictures are expected in the folder of the HTML file."""
    template = jinja2.Template((HERE / "slides.html").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    return template.render(code=code, typed=typed, picture=picture, colour=colour, figures=FIGURES, agenda=AGENDA)


def sections(page: str) -> list[ElementTree.Element]:
    """The slides of a page: one element for each."""
    return list(ElementTree.fromstring(page.partition("\n")[2]).iter("section"))


def heading(section: ElementTree.Element) -> str:
    """The title of a slide."""
    return _text(section.find(".//h1"))


def digest(page: str) -> str:
    """The SHA-256, in hexadecimal, of everything from which the PDF is made: the page, style.css, the pictures."""
    hashed = hashlib.sha256(page.encode())
    hashed.update((HERE / "style.css").read_text(encoding="utf-8").encode())
    for name in PICTURES:
        if (DOCS / name).exists():
            hashed.update((DOCS / name).read_bytes())
    return hashed.hexdigest()


def notes(page: str) -> str:
    """The speaker's notes for each slide, with the time of its beginning, as Markdown."""
    lines = ["# What to say, slide by slide", "",
             "Made from `slides.html` by `make pictures`: change it there. The slides take a quarter of an hour,",
             "from 0:05 to 0:20 of the session. No lines to read out: say them in your own words.", ""]
    minute = BEGIN
    for number, section in enumerate(sections(page), 1):
        speech = section.find("aside")
        duration = float(speech.get("data-minutes"))
        begins = f"{int(minute) // 60}:{int(minute) % 60:02}" + (":30" if minute % 1 else "")
        lines += [f"## {number}. {heading(section)}", "", f"*At {begins}, for {_minutes(duration)}.*", ""]
        for paragraph in speech.iter("p"):
            text = _text(paragraph, mark_code=True)
            lines += [textwrap.fill(text, 116, break_long_words=False, break_on_hyphens=False), ""]
        minute += duration
    return "\n".join(lines)


def _minutes(duration: float) -> str:
    return {0.5: "half a minute", 1: "a minute", 1.5: "a minute and a half"}.get(duration, f"{duration:g} minutes")


def _text(element: ElementTree.Element, mark_code: bool = False) -> str:
    text = element.text or ""
    for inner in element:
        inner_text = _text(inner)
        text += (f"`{inner_text}`" if mark_code and inner.tag == "code" else inner_text) + (inner.tail or "")
    return " ".join(text.split())


def title_picture(target: Path) -> None:
    """Write the overlay of a generated slide, cropped to a part with tissue out of focus."""
    with tempfile.TemporaryDirectory() as folder:
        slide = generate.write_slide(Path(folder) / "slide.svs", width=24000, height=18000, magnification=20, seed=4)
        image = pipeline.load_image(str(slide), "1.25x", folder)
        pipeline.tissue_segmentation_simple(image, "1.25x")
        pipeline.identifyBlurryRegions(image, "1.25x", "5x", 7, 0.05)
        drawn = drawing.overlay(image.picture("1.25x"), image.load_mask("tissue_seg.png"),
                                image.load_mask("blurry.png"))
    target.write_bytes(drawing.encode("title.jpg", drawn[105:1005, 720:1460]))


def build(folder: Path) -> str:
    """Write slides.html and everything that it needs, style, fonts and pictures, to one folder; returns the page."""
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
    """Open the slides in Chromium, without a window and without a network. Ends the script if there is no browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit("the slides are printed by a browser: apt install chromium")
    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                    "--hide-scrollbars", f"--user-data-dir={folder / 'browser'}", *arguments,
                    (folder / "slides.html").as_uri()], check=True, stderr=subprocess.DEVNULL, timeout=120)


def make(pdf: Path, title: Path) -> None:
    """Print the slides to a PDF without the time of printing, and their first page to a picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = build(folder)
        chromium(folder, "--no-pdf-header-footer", "--generate-pdf-document-outline",
                 f"--print-to-pdf={folder / 'slides.pdf'}")
        # The window's frame takes part of its height, so the window is higher than a page.
        chromium(folder, "--window-size=1280,1000", "--force-device-scale-factor=1.25",
                 f"--screenshot={folder / 'title.png'}")
        printed = re.sub(rb"(/(?:Creation|Mod)Date \(D:)\d{14}", rb"\g<1>20210101000000",
                         (folder / "slides.pdf").read_bytes())
        pdf.write_bytes(printed + f"\n% made from {digest(page)}\n".encode())
        # With 128 colours, the file has a third of the bytes, and looks the same.
        Image.open(folder / "title.png").convert("RGB").crop((0, 0, 1600, 900)).quantize(128).save(title, optimize=True)


if __name__ == "__main__":
    make(HOME / "Presentation.pdf", DOCS / "PresentationTitle.png")
    (HERE / "notes.md").write_text(notes(render()), encoding="utf-8")
