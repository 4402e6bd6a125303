"""The report as a person meets it: opened in a browser, from a folder without network."""

import shutil

import pytest

from slideqc.output import results

HOSTILE = "<script>document.title = 'taken'</script><b>bold</b> & \"quoted\" {{ 7 * 7 }}.svs"


@pytest.fixture(scope="module")
def page(browser, small_slides, tmp_path_factory):
    """The report of the small slides and two failures, one of them with markup in its name and its error."""
    import pipeline
    folder, output = tmp_path_factory.mktemp("slides"), tmp_path_factory.mktemp("output")
    for slide in small_slides.glob("*.svs"):
        shutil.copy(slide, folder)
    (folder / "broken.svs").write_bytes(b"")
    pipeline.main(["--folder", str(folder), "--output", str(output)])
    results.save_failure(output, "hostile.svs", ValueError(HOSTILE))
    results.assemble(output)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto((output / "report.html").as_uri())
    yield page
    page.close()


def test_every_slide_has_a_card_the_worst_first(page):
    names = page.locator("article h2").all_inner_texts()
    assert names[:3] == ["broken.svs", "hostile.svs", "small-2.svs"] and len(names) == 5
    counts = page.locator(".counts b").all_inner_texts()
    assert counts == ["2", "1", "0", "2"]


def test_pictures_show(page):
    sizes = page.locator("article img").evaluate_all("images => images.map(i => [i.complete, i.naturalWidth])")
    assert len(sizes) == 2 * 3 and all(complete and width > 100 for complete, width in sizes)


def test_nothing_is_fetched_and_nothing_complains(page):
    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []
    assert page.complaints == []


def test_hostile_text_stays_text(page):
    assert page.title() == "Slide quality: 5 slides"
    assert HOSTILE in page.locator(".error").nth(1).inner_text()


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_fits_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_off_from_its_ground(page, scheme):
    """WCAG's contrast of at least 4.5, for the words that matter."""
    page.emulate_media(color_scheme=scheme)
    for selector in ("h1", "h2", ".status", "dd", "dt", ".legend", ".error"):
        colours = page.locator(selector).first.evaluate("""element => {
            let ground = element;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor]
                .map(colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number));
        }""")
        light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector


def luminance(colour: list[float]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
              for value in (channel / 255 for channel in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
