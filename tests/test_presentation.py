"""The slides: made from what stands here, true to the code, readable from the back row, and said in their time."""

import importlib.util
import re
import shutil
from xml.etree import ElementTree

import cv2
import pytest

from conftest import HOME

_spec = importlib.util.spec_from_file_location("make_slides", HOME / "docs" / "presentation" / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

PAGE = make.render()
SLIDES = make.sections(PAGE)
TITLES = [make.heading(slide) for slide in SLIDES]
PDF = HOME / "Presentation.pdf"
SERVED = ("flow_timeline.png", "flow_schematic.png")

each_slide = pytest.mark.parametrize("slide", SLIDES, ids=TITLES)


def shown(slide: ElementTree.Element) -> list[str]:
    """The words that the room reads, but for code."""
    if slide.tag in ("aside", "pre") or slide.get("class") == "from":
        return []
    words = (slide.text or "").split()
    for inner in slide:
        words += [*shown(inner), *(inner.tail or "").split()]
    return words


def pages_of(pdf: bytes) -> list[bytes]:
    return re.findall(rb"/Type /Page\n.*?/MediaBox \[([^]]*)\]", pdf, re.DOTALL)


def test_the_pdf_is_made_from_what_stands_here():
    made_from = re.findall(rb"\n% made from ([0-9a-f]{64})\n$", PDF.read_bytes())
    assert made_from == [make.digest(PAGE).encode()], \
        "the slides, the code on them or a picture has changed since: run python docs/presentation/make.py"


def test_the_pdf_has_a_page_for_each_slide():
    pdf = PDF.read_bytes()
    assert 12 <= len(SLIDES) <= 15
    assert pages_of(pdf) == [b"0 0 960 540"] * len(SLIDES)  # points: 16:9
    assert len(pdf) < 2_000_000


def test_the_pdf_looks_the_same_everywhere_and_says_no_time():
    pdf = PDF.read_bytes()
    fonts = re.findall(rb"/Type /FontDescriptor.*?endobj", pdf, re.DOTALL)
    assert len(fonts) >= 4 and all(b"/FontFile2" in font and b"DejaVu" in font for font in fonts)
    assert set(re.findall(rb"/(?:Creation|Mod)Date \(D:(\d+)", pdf)) == {b"20210101000000"}
    assert b"file:" not in pdf


def test_the_pdf_names_its_slides_and_describes_its_pictures():
    """Its outline, and its pictures for those who have it read aloud."""
    pdf = PDF.read_bytes()
    literal = [text.decode("latin-1") for text in re.findall(rb"/(?:Title|Alt) \(((?:[^()\\]|\\.)*)\)", pdf)]
    utf16 = [bytes.fromhex(text.decode()).decode("utf-16") for text in re.findall(rb"/(?:Title|Alt) <(FEFF\w+)>", pdf)]
    said = {" ".join(text.split()) for text in [*literal, *utf16]}
    assert set(TITLES) <= said
    for image in ElementTree.fromstring(PAGE.partition("\n")[2]).iter("img"):
        assert image.get("alt") in said


def test_the_text_of_the_pdf_can_be_searched():
    reader = pytest.importorskip("pypdf").PdfReader(PDF)
    for slide, page in zip(SLIDES, reader.pages, strict=True):
        text = "".join(page.extract_text().split())  # lines break, and small gaps get lost
        code = [word for block in slide.iter("pre") for piece in block.itertext() for word in piece.split()]
        for word in [*shown(slide), *code]:
            assert word in text, (make.heading(slide), word)


@each_slide
def test_code_on_a_slide_stands_in_the_file_so(slide):
    for block in slide.iter("pre"):
        if block.get("class") == "typed":
            continue
        lines = (HOME / block.get("data-file")).read_text(encoding="utf-8").splitlines()
        assert len("".join(block.itertext())) > 20
        for piece in block.iter("code"):
            cut = "".join(piece.itertext()).splitlines()
            assert any(lines[start:start + len(cut)] == [" " * margin + line if line else "" for line in cut]
                       for start in range(len(lines)) for margin in (0, 4, 8)), cut


def test_code_that_is_gone_is_told():
    with pytest.raises(SystemExit, match=r"pipeline\.py has no lines 'no such line'"):
        make.code("pipeline.py", "no such line", marks=["x"])


def test_commands_on_the_slides_are_those_of_the_readme():
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    for block in SLIDES[-1].iter("pre"):
        for command in block.itertext():
            assert command in "".join(commands).splitlines()
    for named in SLIDES[-1].iter("kbd"):
        script = next(word for word in named.text.split() if word != "python")
        assert (HOME / script).exists()


def test_pictures_are_there_and_described():
    page = ElementTree.fromstring(PAGE.partition("\n")[2])
    images = {image.get("src"): image.get("alt") for image in page.iter("img")}
    for name in {*make.PICTURES, "title.jpg"} - set(SERVED):
        assert len(images[name].split()) > 3
        assert name == "title.jpg" or (HOME / "docs" / name).exists()
    for name in SERVED:  # until they are drawn, the slide says what will be there
        assert (name in images) == (HOME / "docs" / name).exists()
    for drawing in page.iter("svg"):
        assert drawing.get("aria-hidden") or len(drawing.get("aria-label").split()) > 3


def test_a_picture_that_is_not_drawn_yet_leaves_its_words(monkeypatch, tmp_path):
    monkeypatch.setattr(make, "DOCS", tmp_path)
    page = make.render()
    assert "to be drawn: The timeline of a run" in page and "<img src=\"flow" not in page
    assert len(make.sections(page)) == len(SLIDES)


@each_slide
def test_few_words_on_a_slide(slide):
    words = [word for word in shown(slide) if re.search(r"\w", word)]
    assert len(words) <= (30 if slide.find(".//pre[@data-file]") is not None else 50), words


@each_slide
def test_each_slide_has_something_to_say(slide):
    aside = slide.find("aside")
    words = " ".join(aside.itertext()).split()
    assert 30 <= len(words) <= 150 * float(aside.get("data-minutes"))  # slower than anyone speaks in a hurry


def test_the_time_is_kept():
    minutes = sum(float(slide.find("aside").get("data-minutes")) for slide in SLIDES)
    agenda = [60 * int(time[0]) + int(time[2:]) for time, _ in make.AGENDA]
    assert agenda == sorted(agenda) and agenda[0] == 0 and agenda[-1] < 120
    assert agenda[1] == make.BEGIN and agenda[2] == make.BEGIN + minutes


def test_the_notes_are_those_of_the_slides():
    notes = (HOME / "docs" / "presentation" / "notes.md").read_text(encoding="utf-8")
    assert notes == make.notes(PAGE)
    assert re.findall(r"^## \d+\. (.*)$", notes, re.MULTILINE) == TITLES
    assert max(map(len, notes.splitlines())) <= 120


def test_the_title_picture():
    assert cv2.imread(str(HOME / "docs" / "PresentationTitle.png")).shape == (900, 1600, 3)


def test_nothing_is_cut_off_or_small(browser, tmp_path):
    """Laid out by the browser: all inside its page with a margin, nothing over anything else, letters large enough."""
    make.build(tmp_path)
    tab = browser.new_page(viewport={"width": 1280, "height": 1000})
    tab.goto((tmp_path / "slides.html").as_uri())
    found = tab.evaluate("""async () => {
        await document.fonts.ready;
        const found = [...document.images].filter(i => !i.naturalWidth).map(i => 'not loaded: ' + i.src);
        for (const font of document.fonts) if (font.status != 'loaded') found.push('not loaded: ' + font.family);
        const least = e => e.closest('pre, kbd') ? 27 : e.closest('svg') ? 28 : e.closest('.from, .small') ? 22 : 32;
        for (const section of document.querySelectorAll('section')) {
            const page = section.getBoundingClientRect();
            const title = section.querySelector('h1').textContent;
            if (page.width != 1280 || page.height != 720) found.push(title + ': not a page');
            let bottom = page.top;
            for (const part of section.children) {
                if (part.matches('.notes, .title > *')) continue;
                const box = part.getBoundingClientRect();
                if (box.top < bottom - 1) found.push(title + ': one part over another: ' + part.outerHTML.slice(0, 80));
                bottom = box.bottom;
            }
            for (const part of section.querySelectorAll('*:not(marker):not(path)')) {
                const box = part.getBoundingClientRect();
                if (!box.width) continue;
                const margin = part.closest('.title') ? 0 : 20, below = part.closest('.title') ? 0 : 10;
                if (box.left < page.left + margin || box.right > page.right - margin || box.bottom > page.bottom - below
                    || part.scrollWidth > part.clientWidth + 1 && part.matches('pre, td, p, li, .cards div'))
                    found.push(title + ': cut off: ' + part.outerHTML.slice(0, 80));
                const own = [...part.childNodes].some(n => n.nodeType == 3 && n.data.trim());
                if (own && parseFloat(getComputedStyle(part).fontSize) < least(part))
                    found.push(title + ': small: ' + part.outerHTML.slice(0, 80));
            }
        }
        return found;
    }""")
    tab.close()
    assert found == []


@pytest.mark.skipif(not any(map(shutil.which, make.BROWSERS)), reason="needs Chromium or Chrome on the PATH")
def test_printed_anew_it_has_the_same_pages(tmp_path):
    make.make(tmp_path / "slides.pdf", tmp_path / "title.png")
    assert pages_of((tmp_path / "slides.pdf").read_bytes()) == pages_of(PDF.read_bytes())
    assert cv2.imread(str(tmp_path / "title.png")).shape == (900, 1600, 3)


def test_without_a_browser_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(make.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt install chromium"):
        make.chromium(tmp_path)
