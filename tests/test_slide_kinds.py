"""What a slide is, and what only looks like one: levels, colours, copies that are not whole, metadata that cannot be.

Each test writes its own file, of the kind that a public bug report tells of. The last part goes over files that the
project does not hold, where there are any.
"""

import os
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from skimage.data import immunohistochemistry
from test_formats import farthest, reference

import formats
from BaseImage import BaseImage
from conftest import HOME
from slideqc import flags
from slideqc.errors import CommandError, SlideError
from slideqc.slides import memory, reading

SHARED = Path(os.environ.get("WSI_TEST_SLIDES", HOME.parent / "shared" / "slides")).parent / "faults" / "slides"
APERIO = "Aperio Image Library v1\r\n"


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Stained tissue, 768×1024."""
    patch = immunohistochemistry()
    return np.ascontiguousarray(np.tile(patch, (2, 2, 1))[:768, :1024])


def refusal(path: Path, size: str = "1/16") -> str:
    """What the SlideError says that ends reading it, which names the file once, without its folder, in one line."""
    with pytest.raises(SlideError) as caught:
        BaseImage(path).picture(size)
    said = str(caught.value)
    assert said.startswith(f"{path.name} ") and said.count(path.name) == 1
    assert str(path.parent) not in said and "\n" not in said
    return said


def write_pages(path: Path, *pages: tuple[np.ndarray, dict], tile: int = 256) -> Path:
    """A TIFF file of JPEG tiles with these pages, each with options of its own."""
    with tifffile.TiffWriter(path) as tiff:
        for rgb, options in pages:
            usual = {"shape": rgb.shape, "dtype": np.uint8, "tile": (tile, tile), "compression": "jpeg",
                     "photometric": "ycbcr", "subsampling": (2, 2), "metadata": None,
                     "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
            tiff.write((formats.jpeg(part) for part in formats.tiles(rgb, tile)), **usual | options)
    return path


# Which picture is a level -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape, options", [
    ((108, 320), {"description": f"{APERIO}macro 1280x431", "subfiletype": 9}),
    ((108, 320), {"description": f"{APERIO}a thumbnail"}),
    ((200, 200), {"description": f"{APERIO}label 200x200", "subfiletype": 1}),
    ((96, 128), {"description": f"{APERIO}macro 128x96", "subfiletype": 9}),  # of the same shape as the slide
    ((96, 128), {"description": f"{APERIO}label 128x96"}),
])
def test_a_tiled_macro_or_label_is_no_level(shape, options, picture, tmp_path):
    other = np.full((*shape, 3), (30, 90, 200), np.uint8)
    smaller = formats.pyramid(picture, (1, 4))
    path = write_pages(tmp_path / "slide.svs", (smaller[0], {"description": f"{APERIO}x|AppMag = 20|MPP = 0.5"}),
                       (smaller[1], {"description": f"{APERIO}x"}), (other, options))
    image = BaseImage(path)
    assert image.facts.level_numbers == [0, 1]
    for size in ("1/8", "1/6"):
        assert image.plan(size).level == 1
        assert np.abs(image.picture(size).mean((0, 1)) - picture.mean((0, 1))).max() < 4


def test_levels_whose_sides_are_rounded_or_padded_are_levels():
    assert reading.levels.real_levels([(46000, 32914), (11500, 8228), (2875, 2057), (1437, 1028)]) == [0, 1, 2, 3]
    assert reading.levels.real_levels([(1529, 37), (382, 9), (95, 2), (95, 3)]) == [0, 1, 2, 3]
    assert reading.levels.real_levels([(97792, 221184), (6144, 13824), (1024, 2048)]) == [0, 1]  # sides padded to tiles


def test_the_page_that_openslide_takes_is_read(picture, tmp_path):
    """Not another one of the same size, wherever it stands."""
    levels, other = formats.pyramid(picture, (1, 4)), np.ascontiguousarray(picture[::-1, ::-1])
    smaller = formats.pyramid(other, (1, 4))
    path = write_pages(tmp_path / "slide.tif", (levels[0], {}), (other, {"subfiletype": 0}),
                       (smaller[1], {"subfiletype": 0}), (levels[1], {"subfiletype": 1}))
    for level, by in enumerate((1, 4)):
        assert farthest(BaseImage(path).picture(f"1/{by}"), reference(path, level)) == 0
        assert np.abs(reference(path, level).astype(int) - levels[level]).mean() < 5


def test_pages_that_lie_in_any_order_are_levels_by_width(picture, tmp_path):
    levels = formats.pyramid(picture, (1, 2, 4))
    path = write_pages(tmp_path / "slide.tif", *((levels[number], {"subfiletype": 1}) for number in (1, 0, 2)))
    for level, by in enumerate((1, 2, 4)):
        assert farthest(BaseImage(path).picture(f"1/{by}"), reference(path, level)) == 0


# JPEG colours -------------------------------------------------------------------------------------------------------

JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
COMMENT = b"\xff\xfe\x00\x07hello"
ICC = b"\xff\xe2\x00\x0eICC_PROFILE\x00"


def adobe(transform: int) -> bytes:
    """The marker that says how colours were transformed: 0 not at all, 1 to YCbCr."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def marked(stream: bytes, *markers: bytes, behind_tables: bool = False) -> bytes:
    """The stream with these markers, and none of its own, before or behind its quantisation tables."""
    pieces = formats.segments(formats.without(stream, 0xE0, 0xEE))
    at = next(number for number, piece in enumerate(pieces) if piece[1] in (0xC0, 0xC2)) if behind_tables else 1
    return b"".join([*pieces[:at], *markers, *pieces[at:]])


IN_TILE = {"JFIF": [JFIF], "Adobe": [adobe(0)], "other Adobe": [adobe(1)], "comment, then Adobe": [COMMENT, adobe(0)],
           "comment, then other Adobe": [COMMENT, adobe(1)], "profile, comment, JFIF": [ICC, COMMENT, JFIF],
           "padding, then Adobe": [b"\xff\xff\xff" + adobe(0)], "nothing": []}


@pytest.mark.parametrize("place", ["tile", "tile, behind its tables", "page's tables"])
@pytest.mark.parametrize("markers", IN_TILE)
@pytest.mark.parametrize("tag", ["rgb", "ycbcr"])
def test_the_tag_decides_on_the_colours(tag, markers, place, picture, tmp_path):
    """Wherever JFIF and Adobe markers stand, and whatever they say."""
    rgb, options, markers = picture[:300, :500], {}, IN_TILE[markers]
    streams = [formats.jpeg(part, tag, "444") for part in formats.tiles(rgb)]
    if place == "page's tables":
        tables = formats.tables(streams[0])
        options["jpegtables"] = tables[:2] + b"".join(markers) + tables[2:]
        streams = [formats.without(stream, 0xE0, 0xEE, 0xDB, 0xC4) for stream in streams]
    else:
        streams = [marked(stream, *markers, behind_tables="behind" in place) for stream in streams]
    path = tmp_path / "slide.svs"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(iter(streams), shape=rgb.shape, dtype=np.uint8, tile=(256, 256), compression="jpeg", metadata=None,
                   photometric="ycbcr", subsampling=(1, 1), description=f"{APERIO}x|AppMag = 20|MPP = 0.5", **options)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(2 if tag == "rgb" else 6)
    read = BaseImage(path).picture("1/1")
    assert farthest(read, reference(path, 0)) == 0
    assert np.abs(read.astype(int) - rgb).mean() < 4


# Copies that are not whole ------------------------------------------------------------------------------------------

WRITERS = {"aperio": (formats.aperio_jpeg, "svs"), "aperio JPEG 2000": (formats.aperio_j2k_33005, "svs"),
           "generic": (formats.generic_tiff, "tif"), "ndpi": (formats.ndpi, "ndpi"), "DICOM": (formats.dicom, "dcm")}


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95, 0.9999])
@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_copy_says_so(name, share, picture, tmp_path):
    write, ending = WRITERS[name]
    path = write(tmp_path / f"slide.{ending}", picture, (1, 4))
    assert BaseImage(path).picture("1/4").any()
    whole = path.read_bytes()
    path.write_bytes(whole[:int(len(whole) * share)])
    said = refusal(path, "1/4")
    assert "truncated" in said and "copy" in said, said


def test_a_truncated_file_of_a_series_says_so(picture, tmp_path):
    """Also where it holds another level than the one that is asked for."""
    path = formats.dicom(tmp_path / "slide.dcm", picture, (1, 4, 16))
    last = tmp_path / "slide-2.dcm"
    last.write_bytes(last.read_bytes()[:-200])
    with pytest.raises(SlideError, match=r"^slide\.dcm is truncated \(slide-2\.dcm .*copy"):
        BaseImage(path)


def test_truncated_data_of_mirax(picture, tmp_path):
    path = formats.mrxs(tmp_path / "slide.mrxs", picture, (1, 4))
    data = tmp_path / "slide" / "Data0000.dat"
    data.write_bytes(data.read_bytes()[:data.stat().st_size // 3])
    refusal(path, "1/1")


def test_what_cannot_be_read_at_full_size_is_not_judged_by_smaller_levels(picture, tmp_path):
    """The last tile of level 0 is no JPEG 2000."""
    path = formats.aperio_j2k_33005(tmp_path / "slide.svs", picture, (1, 4))
    formats.damage_tile(path, page=0, tile=11, how="whole")
    assert "damaged" in refusal(path, "1/4")


def test_only_missing_bytes_ask_for_another_copy(picture, tmp_path):
    path = formats.damage_tile(formats.aperio_jpeg(tmp_path / "slide.svs", picture), tile=5, how="middle")
    said = refusal(path)
    assert "cannot be read" in said and "copy it again" not in said and "scan it again" in said


# A DICOM series is one slide ----------------------------------------------------------------------------------------

def test_a_series_is_one_slide(picture, tmp_path):
    """The one with its full-size file; a second series beside it is another slide."""
    folder = tmp_path / "slides"
    folder.mkdir()
    formats.dicom(folder / "b.dcm", picture, (1, 4, 16))
    assert flags.slides(folder, "dcm") == [str(folder / "b.dcm")]
    formats.dicom(folder / "a.dcm", picture[:512], (1, 4))
    (folder / "c.dcm").write_bytes(b"no DICOM")
    assert [Path(path).name for path in flags.slides(folder, "dcm")] == ["a.dcm", "b.dcm", "c.dcm"]
    assert BaseImage(folder / "a.dcm").facts.level_dimensions[0] == (1024, 512)


@pytest.mark.parametrize("told", [True, False])
def test_a_series_without_its_full_size_is_not_judged(told, picture, tmp_path):
    """Where a file tells that it is a smaller copy, and where only its pixels do, twice as large as the lens has it."""
    formats.dicom(tmp_path / "slide.dcm", picture, (1, 2, 4)).unlink()
    if not told:
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes().replace(b"VOLUME\\RESAMPLED", b"VOLUME\\NONE     "))
    (path,) = map(Path, flags.slides(tmp_path, "dcm"))
    said = refusal(path)
    assert "full size" in said and "copy the whole series" in said


# Limits -------------------------------------------------------------------------------------------------------------

@pytest.fixture
def never_read(monkeypatch):
    """Fails where a pixel is read."""
    monkeypatch.setattr(reading.tiles, "opened", lambda *_: pytest.fail("it began to read"))


def test_a_picture_wider_than_jpeg_is_refused_before_the_work(tmp_path, never_read):
    rgb = np.full((32, 66_000, 3), 200, np.uint8)
    path = write_pages(tmp_path / "wide.tif", (rgb, {}), tile=1024)
    said = refusal(path, "1/1")
    assert "66000×32 px" in said and "65500" in said and "give a smaller --image-work-size" in said


def test_a_picture_beyond_the_free_memory_is_refused_before_the_work(picture, tmp_path, never_read, monkeypatch):
    monkeypatch.setattr(reading, "ORDINARY", 0)
    monkeypatch.setattr(memory, "free", lambda: 1 << 20)
    said = refusal(formats.aperio_jpeg(tmp_path / "slide.svs", picture), "1/1")
    assert "0.0 GB of memory" in said and "1024×768 px" in said and "--image-work-size" in said and "--workers" in said


def test_no_memory_left_in_the_work_says_how_much_it_takes(picture, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise MemoryError
    path = formats.aperio_jpeg(tmp_path / "slide.svs", picture)
    monkeypatch.setattr(reading, "_read_whole", full)
    assert "GB of memory at this working size (1024×768 px)" in refusal(path, "1/1")


def test_free_memory_is_known_here():
    known = memory.free()
    assert known is None or 1 << 20 < known < 1 << 50
    if Path("/proc/meminfo").exists():
        assert known is not None


def test_a_group_may_have_less_memory_than_the_machine(tmp_path, monkeypatch):
    """A container, or a batch job; files that the system remembers count as free."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory._of_group() is None
    for name, text in {"memory.max": "5000\n", "memory.current": "4000\n",
                       "memory.stat": "anon 900\ninactive_file 2000\nactive_file 1000\n"}.items():
        (tmp_path / name).write_text(text)
    assert memory._of_group() == 4000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._of_group() is None


# Words --------------------------------------------------------------------------------------------------------------

def test_strips_say_so(picture, tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, rowsperstrip=16, compression="zlib", photometric="rgb")
    said = refusal(path)
    assert "in strips" in said and "tiles" in said and "copy" not in said


@pytest.mark.parametrize("compression, name", [("jpeg2000", "JPEG 2000"), ("webp", "WebP"), ("jpegxl", "JPEG XL"),
                                               ("lzma", "LZMA")])
def test_an_unknown_compression_is_named(compression, name, picture, tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(256, 256), compression=compression, photometric="rgb")
    said = refusal(path)
    assert f"compressed with {name} (TIFF compression " in said and "convert it" in said and "copy" not in said


@pytest.mark.parametrize("ending, description", [("tif", None), ("svs", f"{APERIO}x|AppMag = 20|MPP = 0.5")])
def test_an_edge_tile_of_the_wrong_size_is_named(ending, description, picture, tmp_path):
    rgb = picture[:700, :900]
    parts = [rgb[y:y + 256, x:x + 256] for y in range(0, 700, 256) for x in range(0, 900, 256)]
    path = tmp_path / f"slide.{ending}"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write((formats.jpeg(np.ascontiguousarray(part)) for part in parts), shape=rgb.shape, dtype=np.uint8,
                   tile=(256, 256), compression="jpeg", photometric="ycbcr", subsampling=(2, 2), metadata=None,
                   description=description, resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    said = refusal(path)
    assert "a tile of 132×188 px among tiles of 256×256 px" in said and "convert it" in said and "copy" not in said


def test_pixels_of_other_numbers_are_named(picture, tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, np.float32(picture) / 255, tile=(256, 256), photometric="rgb")
    assert "pixels of 32 bits" in refusal(path)


def test_mirax_without_its_folder(picture, tmp_path):
    path = formats.mrxs(tmp_path / "slide.mrxs", picture)
    shutil.rmtree(tmp_path / "slide")
    with pytest.raises(SlideError, match=r"^slide\.mrxs needs the folder slide beside it"):
        BaseImage(path)


@pytest.mark.parametrize("content, words", [
    (b"\x89PNG\r\n\x1a\n....", "a PNG picture"), (b"PK\3\4....", "unpack it"), (b"%PDF-1.7", "a PDF"),
    (b"\n<!DOCTYPE html><html>", "a web page"), (b"<HTML><body>Google Drive", "a web page"), (b"", "0 bytes"),
    (b"hello", "not a slide in a format that OpenSlide reads"), (b"II*\0\x08\0\0\0", "truncated"),
    (b"II*\0", "truncated"), (b"II*\0\0\0\0\0", "damaged")])
def test_files_that_are_no_slides_are_named(content, words, tmp_path):
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    said = refusal(path)
    assert words in said and ("copy it again" in said) == (words in ("truncated", "0 bytes"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on this system")
def test_a_link_that_leads_nowhere_is_a_failed_row(picture, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "gone.svs").symlink_to("/mnt/scanner/slide.svs")
    (folder / "round.svs").symlink_to("round.svs")
    formats.aperio_jpeg(folder / "here.svs", picture)
    (folder / "folder.svs").mkdir()
    os.mkfifo(folder / "pipe.svs")
    assert [Path(path).name for path in flags.slides(folder, "svs")] == ["gone.svs", "here.svs", "round.svs"]
    with pytest.raises(SlideError, match=r"^gone\.svs is a link to /mnt/scanner/slide\.svs, which is not there: is"):
        BaseImage(folder / "gone.svs")
    with pytest.raises(SlideError, match=r"^round\.svs is a link to round\.svs"):
        BaseImage(folder / "round.svs")


def test_subfolders_with_slides_are_named(picture, tmp_path):
    folder = tmp_path / "slides"
    for name in ("case 1", "case 2", "notes"):
        (folder / name).mkdir(parents=True)
    for name in ("case 1", "case 2"):
        formats.aperio_jpeg(folder / name / "slide.svs", picture[:300, :300])
    with pytest.raises(CommandError, match=r"in its folder case 1 and 1 more: name one folder at a time, --folder"):
        flags.slides(folder, "svs")
    with pytest.raises(CommandError, match="it holds nothing"):
        flags.slides(folder / "notes", "svs")


@pytest.mark.parametrize("tag", [1, 3, 6])
def test_an_orientation_is_a_warning(tag, picture, tmp_path):
    path = formats.generic_tiff(tmp_path / "slide.tif", picture, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        page.tags["ResolutionUnit"].overwrite(3)
        place = page.tags["ExtraSamples" if "ExtraSamples" in page.tags else "ResolutionUnit"]
    data = bytearray(path.read_bytes())
    # The tag of the resolution's unit becomes the one of the orientation: both are one short number.
    data[place.offset:place.offset + 2] = (274).to_bytes(2, "little")
    data[place.valueoffset:place.valueoffset + 2] = tag.to_bytes(2, "little")
    path.write_bytes(data)
    told = [warning for warning in BaseImage(path).warnings if f"orientation tag {tag}" in warning]
    assert len(told) == (tag != 1)


# Files of the faults' own folder ------------------------------------------------------------------------------------

def fault(name: str) -> Path:
    """One of the shared files."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs the shared folder of faults, which is not at {SHARED.parent}")
    return SHARED / name


@pytest.mark.parametrize("name, words", [
    ("scn/cut_to_60_percent.scn", "truncated"), ("tif/strips.tif", "in strips"),
    ("tif/codec_jpeg2000.tif", "JPEG 2000"), ("tif/dpi_72.tif", "352.8 µm/px, which no slide has"),
])
def test_shared_faults_that_fail(name, words):
    path = fault(name)
    with pytest.raises(SlideError) as caught:
        BaseImage(path).picture("1.25x")
    assert words in str(caught.value) and ("copy" in str(caught.value)) == (words == "truncated")


@pytest.mark.parametrize("name", ["svs/rgb_with_jfif_in_page_tables.svs", "svs/ycbcr_with_comment_then_adobe_rgb.svs"])
def test_shared_colours(name):
    path = fault(name)
    assert farthest(BaseImage(path).picture("1/1"), reference(path, 0)) == 0


@pytest.mark.parametrize("name, share", [
    ("svs/blank_glass_beside_unscanned.svs", 0.5), ("scn/core_in_dull_glass.scn", 0.007),
    ("tif/rgba_alpha_all_zero.tif", 0)])
def test_shared_unscanned_parts(name, share):
    assert (BaseImage(fault(name)).scanned("1.25x") > 0).mean() == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize("name, words", [("svs/power_and_pixel_size_disagree.svs", "0.2428 µm/px, which is 41.2x"),
                                         ("tif/orient3_zlib.tif", "orientation tag 3")])
def test_shared_warnings(name, words):
    assert any(words in warning for warning in BaseImage(fault(name)).warnings)


def test_shared_levels_and_series():
    assert BaseImage(fault("svs/tiled_macro_is_a_level.svs")).plan("1.25x").level == 1
    assert [Path(path).name for path in flags.slides(fault("dcm"), "dcm")] == ["slide.dcm"]
    with pytest.raises(SlideError, match="66000×300 px"):
        BaseImage(fault("tif/wider_than_65500.tif")).picture("20x")


def test_compressed_pixels_of_every_kind_are_still_read(picture, tmp_path):
    """The check for whole files refuses none of them."""
    for compression in ("zlib", "lzw", "packbits", None):
        path = tmp_path / f"{compression}.tif"
        tifffile.imwrite(path, picture, tile=(256, 256), compression=compression, photometric="rgb", bigtiff=True)
        assert farthest(BaseImage(path).picture("1/1"), picture) == 0
    assert imagecodecs.JPEG8.available
