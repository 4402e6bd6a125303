"""Small slides in every format that the workshop's scanners write, made from one picture.

Each writer takes an RGB picture, uint8 (height, width, 3), and the downsamples of its levels, and returns the path
to open. They write what OpenSlide asks of a format and no more: enough to prove that our pixels are its pixels.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence

TILE = 256
QUALITY = 90
WHITE = (255, 255, 255)
WSI_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # DICOM: VL Whole Slide Microscopy Image Storage
Encoder = Callable[[np.ndarray], bytes]


def pyramid(rgb: np.ndarray, downsamples: Sequence[int]) -> list[np.ndarray]:
    """The picture at each downsample: means of whole blocks, the size rounded down, as scanners do."""
    levels = []
    for by in downsamples:
        height, width = (side // by for side in rgb.shape[:2])
        whole = np.ascontiguousarray(rgb[:height * by, :width * by])
        levels.append(whole if by == 1 else cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
    return levels


def tiles(rgb: np.ndarray, size: int = TILE) -> Iterator[np.ndarray]:
    """The picture in squares, row by row; those that stick out are filled with the last pixels."""
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % size), (0, -width % size), (0, 0)), mode="edge")
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield np.ascontiguousarray(padded[top:top + size, left:left + size])


# JPEG ---------------------------------------------------------------------------------------------------------------

def jpeg(rgb: np.ndarray, colours: str = "ycbcr", subsampling: str = "420") -> bytes:
    """One JPEG stream whose components really are `colours`: `ycbcr` (marked JFIF) or `rgb` (marked Adobe)."""
    return imagecodecs.jpeg8_encode(rgb, QUALITY, colorspace="rgb", outcolorspace=colours,
                                    subsampling="444" if colours == "rgb" else subsampling)


def segments(stream: bytes) -> list[bytes]:
    """A JPEG stream cut before each marker of its head; the last piece is the scan with all that follows."""
    pieces, at = [stream[:2]], 2
    while stream[at + 1] != 0xDA:
        size = 2 + int.from_bytes(stream[at + 2:at + 4])
        pieces.append(stream[at:at + size])
        at += size
    return [*pieces, stream[at:]]


def without(stream: bytes, *markers: int) -> bytes:
    """The stream without the segments of these markers (0xE0 JFIF, 0xEE Adobe, 0xDB and 0xC4 the tables)."""
    return b"".join(piece for piece in segments(stream) if piece[1] not in markers)


def tables(stream: bytes) -> bytes:
    """The stream's tables alone, as TIFF keeps them once a page for all its tiles."""
    return b"\xff\xd8" + b"".join(piece for piece in segments(stream) if piece[1] in (0xDB, 0xC4)) + b"\xff\xd9"


# TIFF: Aperio, generic ----------------------------------------------------------------------------------------------

def _tiff(path: Path, rgb: np.ndarray, downsamples: Sequence[int], encode: Encoder, compression: int | str,
          photometric: int, *, description: str = "", thumbnail: bool = False, mpp: float | None = None,
          jpegtables: bytes | None = None, subsampling: tuple[int, int] | None = None) -> Path:
    ycbcr = photometric == tifffile.PHOTOMETRIC.YCBCR
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(pyramid(rgb, downsamples)):
            tiff.write((encode(tile) for tile in tiles(level)), shape=level.shape, dtype=np.uint8, tile=(TILE, TILE),
                       compression=compression, photometric="ycbcr" if ycbcr else "rgb", metadata=None,
                       subsampling=subsampling if ycbcr else None, jpegtables=jpegtables,
                       description=description or None, subfiletype=0 if number == 0 or thumbnail else 1,
                       resolution=(10_000 / mpp, 10_000 / mpp) if mpp else None,
                       resolutionunit="CENTIMETER" if mpp else None)
            if number == 0 and thumbnail:
                tiff.write(cv2.resize(rgb, (96, 64), interpolation=cv2.INTER_AREA), photometric="rgb", metadata=None,
                           compression="jpeg", rowsperstrip=16, description=description)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            if page.is_tiled and page.photometric != photometric:  # the writer takes every JPEG for YCbCr
                page.tags["PhotometricInterpretation"].overwrite(int(photometric))
    return path


def _aperio_description(rgb: np.ndarray, app_mag: float | None, mpp: float | None) -> str:
    height, width = rgb.shape[:2]
    facts = {"AppMag": app_mag, "MPP": mpp}
    stated = "".join(f"|{key} = {value:g}" for key, value in facts.items() if value)
    return f"Aperio Image Library v1.0\r\n{width}x{height} ({TILE}x{TILE}) tiles{stated}"


def aperio_jpeg(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, subsampling: str = "420",
                app_mag: float | None = 20, mpp: float | None = 0.5, shared_tables: bool = False) -> Path:
    """Aperio, JPEG tiles of YCbCr; with `shared_tables` as Aperio itself does it, the tables once a page."""
    def encode(tile: np.ndarray) -> bytes:
        stream = jpeg(tile, "ycbcr", subsampling)
        return without(stream, 0xE0, 0xDB, 0xC4) if shared_tables else stream
    return _tiff(path, rgb, downsamples, encode, "jpeg", tifffile.PHOTOMETRIC.YCBCR, thumbnail=True,
                 description=_aperio_description(rgb, app_mag, mpp),
                 subsampling={"444": (1, 1), "422": (2, 1), "420": (2, 2)}[subsampling],
                 jpegtables=tables(jpeg(rgb[:TILE, :TILE], "ycbcr", subsampling)) if shared_tables else None)


def aperio_jpeg_rgb(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, bare: bool = True,
                    app_mag: float | None = 20, mpp: float | None = 0.5) -> Path:
    """Aperio, JPEG tiles of true RGB; with `bare` tiles only the TIFF tag says so, as in Aperio's own files."""
    def encode(tile: np.ndarray) -> bytes:
        stream = jpeg(tile, "rgb")
        return without(stream, 0xEE) if bare else stream
    return _tiff(path, rgb, downsamples, encode, "jpeg", tifffile.PHOTOMETRIC.RGB, thumbnail=True,
                 description=_aperio_description(rgb, app_mag, mpp))


def aperio_jpeg_contradicted(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *,
                             says: str = "rgb") -> Path:
    """Aperio whose TIFF tag says one thing of the colours (`says`) and whose tiles' own markers the other."""
    colours, tag = (("ycbcr", tifffile.PHOTOMETRIC.RGB) if says == "rgb" else ("rgb", tifffile.PHOTOMETRIC.YCBCR))
    return _tiff(path, rgb, downsamples, lambda tile: jpeg(tile, colours, "444"), "jpeg", tag, thumbnail=True,
                 description=_aperio_description(rgb, 20, 0.5), subsampling=(1, 1))


def _jpeg2000(tile: np.ndarray, mct: bool) -> bytes:
    return imagecodecs.jpeg2k_encode(tile, 42, codecformat="J2K", mct=mct, reversible=False)


def aperio_j2k_33005(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,)) -> Path:
    """Aperio, JPEG 2000 tiles of RGB."""
    return _tiff(path, rgb, downsamples, lambda tile: _jpeg2000(tile, True), 33005, tifffile.PHOTOMETRIC.RGB,
                 description=_aperio_description(rgb, 20, 0.5), thumbnail=True)


def aperio_j2k_33003(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,)) -> Path:
    """Aperio, JPEG 2000 tiles of YCbCr: the components are stored as such, and only the number 33003 says so."""
    def encode(tile: np.ndarray) -> bytes:
        return _jpeg2000(np.ascontiguousarray(cv2.cvtColor(tile, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]), False)
    return _tiff(path, rgb, downsamples, encode, 33003, tifffile.PHOTOMETRIC.RGB,
                 description=_aperio_description(rgb, 20, 0.5), thumbnail=True)


def generic_tiff(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, compression: str = "jpeg",
                 mpp: float | None = 0.5) -> Path:
    """A tiled pyramid of no particular scanner; its pixel size lies in the resolution tags."""
    if compression == "jpeg":
        return _tiff(path, rgb, downsamples, jpeg, "jpeg", tifffile.PHOTOMETRIC.YCBCR, mpp=mpp, subsampling=(2, 2))
    return _tiff(path, rgb, downsamples, lambda tile: imagecodecs.zlib_encode(tile, 1), "zlib",
                 tifffile.PHOTOMETRIC.RGB, mpp=mpp)


def empty_tiles(path: Path, fraction: float = 0.25) -> Path:
    """Set the byte counts of the lower right tiles to 0 on each level, as Aperio does where nothing was scanned."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in [page for page in tiff.pages if page.is_tiled]:
            down, across = (-(-side // TILE) for side in page.shape[:2])
            counts = np.array(page.databytecounts).reshape(down, across)
            rows, columns = (int(side * fraction ** 0.5) for side in (down, across))
            counts[down - rows:, across - columns:] = 0
            page.tags["TileByteCounts"].overwrite([int(count) for count in counts.ravel()])
    return path


def damage_tile(path: Path, page: int = 0, tile: int = 3, *, how: str = "middle") -> Path:
    """Overwrite one tile's data: all of it, or the middle of its scan, where a decoder may guess and go on."""
    with tifffile.TiffFile(path) as tiff:
        levels = [page for page in tiff.pages if page.is_tiled]
        offset, count = levels[page].dataoffsets[tile], levels[page].databytecounts[tile]
    return overwrite(path, offset, count) if how == "whole" else overwrite(path, offset + 3 * count // 4, count // 8)


def overwrite(path: Path, offset: int, count: int) -> Path:
    """Put noise without a JPEG marker in place of some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.random.default_rng(0).integers(1, 255, count, np.uint8).tobytes())
    return path


# Hamamatsu NDPI -----------------------------------------------------------------------------------------------------

def ndpi(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, lens: float = 20, mpp: float = 0.5,
         restarts: bool = True) -> Path:
    """Hamamatsu: a TIFF with one JPEG a page; restart markers, where the width allows them, make tiles of it.

    NDPI is TIFF with directory offsets of eight bytes; tag 65420 marks it, 65421 is the lens (a page is a level if
    that is positive), 65424 the focal plane, 65426 where in the JPEG each restart interval begins.
    """
    short, long, rational, slong, real = 3, 4, 5, 9, 11
    out, links = bytearray(b"II*\0" + bytes(8)), [4]
    for level in pyramid(rgb, downsamples):
        height, width = level.shape[:2]
        blocks = width // 16 if restarts and width % 16 == 0 and height % 8 == 0 else 0
        stream = BytesIO()
        Image.fromarray(level).save(stream, "jpeg", quality=QUALITY, subsampling="4:2:2", restart_marker_blocks=blocks)
        data, start = stream.getvalue(), len(out)
        out += data + bytes(-len(data) % 2)
        resolution = len(out)
        out += struct.pack("<II", round(1e8 / mpp / (rgb.shape[1] // width)), 10_000)
        tags = [(256, long, width), (257, long, height), (258, short, 8), (259, short, 7), (262, short, 6),
                (271, 2, b"Ham\0"), (273, long, start), (277, short, 3), (278, long, height), (279, long, len(data)),
                (282, rational, resolution), (283, rational, resolution), (296, short, 3), (65420, long, 1),
                (65421, real, lens * width / rgb.shape[1] if links[1:] else lens), (65424, slong, 0)]
        starts = _restart_starts(data)
        if len(starts) > 1:
            tags.append((65426, long, (len(starts), len(out))))
            out += struct.pack(f"<{len(starts)}I", *starts)
        struct.pack_into("<Q", out, links[-1], len(out))
        out += struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            count, value = value if isinstance(value, tuple) else (4 if kind == 2 else 1, value)
            packed = value if kind == 2 else struct.pack({real: "<f", slong: "<i"}.get(kind, "<I"), value)
            out += struct.pack("<HHI", tag, kind, count) + packed
        links.append(len(out))
        out += bytes(8) + bytes(4 * len(tags))  # no further directory, and the upper halves of its values
    path.write_bytes(out)
    return path


def _restart_starts(stream: bytes) -> list[int]:
    """Where each run between restart markers begins."""
    head = sum(map(len, segments(stream)[:-1]))
    starts = [head + 2 + int.from_bytes(stream[head + 2:head + 4])]
    for at in range(starts[0], len(stream) - 1):
        if stream[at] == 0xFF and 0xD0 <= stream[at + 1] <= 0xD7:
            starts.append(at + 2)
    return starts


# DICOM --------------------------------------------------------------------------------------------------------------

def dicom(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, lens: float | None = 20,
          mpp: float = 0.5) -> Path:
    """VL Whole Slide Microscopy: one file a level, in the folder of `path`, which holds nothing else."""
    series = pydicom.uid.generate_uid(entropy_srcs=[path.name, "series"])
    for number, level in enumerate(pyramid(rgb, downsamples)):
        file = path if number == 0 else path.with_stem(f"{path.stem}-{number}")
        instance = pydicom.uid.generate_uid(entropy_srcs=[path.name, str(number)])
        frames = [jpeg(tile, "ycbcr", "422") for tile in tiles(level)]
        height, width = level.shape[:2]

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = WSI_STORAGE, instance
        meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit

        slide = Dataset()
        slide.file_meta = meta
        slide.SOPClassUID, slide.SOPInstanceUID, slide.SeriesInstanceUID = WSI_STORAGE, instance, series
        slide.Modality, slide.DimensionOrganizationType = "SM", "TILED_FULL"
        slide.ImageType = ["DERIVED" if number else "ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED" if number else "NONE"]
        slide.Rows = slide.Columns = TILE
        slide.TotalPixelMatrixColumns, slide.TotalPixelMatrixRows = width, height
        slide.TotalPixelMatrixFocalPlanes, slide.NumberOfFrames = 1, len(frames)
        slide.SamplesPerPixel, slide.PlanarConfiguration, slide.PixelRepresentation = 3, 0, 0
        slide.BitsAllocated, slide.BitsStored, slide.HighBit = 8, 8, 7
        slide.PhotometricInterpretation, slide.LossyImageCompression = "YBR_FULL_422", "01"
        measures, shared, optics = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = [mpp * rgb.shape[0] / height / 1000, mpp * rgb.shape[1] / width / 1000]
        shared.PixelMeasuresSequence = DicomSequence([measures])
        slide.SharedFunctionalGroupsSequence = DicomSequence([shared])
        optics.OpticalPathIdentifier = "1"
        if lens:
            optics.ObjectiveLensPower = lens
        slide.OpticalPathSequence, slide.NumberOfOpticalPaths = DicomSequence([optics]), 1
        slide.PixelData = encapsulate(frames)
        slide["PixelData"].VR, slide["PixelData"].is_undefined_length = "OB", True
        slide.save_as(file, enforce_file_format=True)
    return path


# MIRAX --------------------------------------------------------------------------------------------------------------

def mrxs(path: Path, rgb: np.ndarray, downsamples: Sequence[int] = (1,), *, lens: int = 20, mpp: float = 0.5,
         unscanned: tuple[int, int] = (0, 0), fill: tuple[int, int, int] = WHITE, tile: int = 128) -> Path:
    """MIRAX: `NAME.mrxs`, a thumbnail, beside the folder `NAME` with the slide. Downsamples are powers of two.

    The scanner leaves the images of the lower right corner out (`unscanned`: height and width in pixels), and names
    the colour to show there. An image of level n holds the area of 4ⁿ of the first level's; all have one size.
    """
    down, across = (side // tile for side in rgb.shape[:2])
    rgb = rgb[:down * tile, :across * tile].copy()
    scanned = np.ones((down, across), bool)
    if all(unscanned):
        rgb[-unscanned[0]:, -unscanned[1]:] = fill
        scanned[down - unscanned[0] // tile:, across - unscanned[1] // tile:] = False

    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(jpeg(cv2.resize(rgb, (96, 64), interpolation=cv2.INTER_AREA)))
    ident = "0123456789ABCDEF0123456789ABCDEF"
    data = bytearray(b"head of the data file")
    records = []
    for by in downsamples:
        span = tile * by
        sides = ((0, -rgb.shape[0] % span), (0, -rgb.shape[1] % span), (0, 0))
        level = pyramid(np.pad(rgb, sides, mode="edge"), [by])[0]
        found = []
        for y in range(0, down, by):
            for x in range(0, across, by):
                if scanned[y:y + by, x:x + by].any():
                    top, left = y // by * tile, x // by * tile
                    stream = jpeg(np.ascontiguousarray(level[top:top + tile, left:left + tile]), "ycbcr", "444")
                    found.append((y * across + x, len(data), len(stream), 0))
                    data += stream
        records.append(found)
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_mirax_index(ident, records))

    exponents = [by.bit_length() - 1 for by in downsamples]
    steps = [exponents[0], *(after - before for before, after in pairwise(exponents))]
    ini = {"GENERAL": {"SLIDE_VERSION": "01.02", "SLIDE_ID": ident, "IMAGENUMBER_X": across, "IMAGENUMBER_Y": down,
                       "OBJECTIVE_MAGNIFICATION": lens, "CameraImageDivisionsPerSide": 1},
           "HIERARCHICAL": {"HIER_COUNT": 1, "NONHIER_COUNT": 0, "INDEXFILE": "Index.dat",
                            "HIER_0_NAME": "Slide zoom level", "HIER_0_COUNT": len(steps),
                            **{f"HIER_0_VAL_{n}_SECTION": f"LAYER_0_LEVEL_{n}_SECTION" for n in range(len(steps))}},
           "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
           **{f"LAYER_0_LEVEL_{n}_SECTION": {
               "IMAGE_CONCAT_FACTOR": step, "OVERLAP_X": 0, "OVERLAP_Y": 0, "MICROMETER_PER_PIXEL_X": mpp * by,
               "MICROMETER_PER_PIXEL_Y": mpp * by, "IMAGE_FORMAT": "JPEG", "DIGITIZER_WIDTH": tile,
               "DIGITIZER_HEIGHT": tile, "IMAGE_FILL_COLOR_BGR": int.from_bytes(bytes(fill[::-1]))}
              for n, (step, by) in enumerate(zip(steps, downsamples, strict=True))}}
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
             for group, keys in ini.items()]
    (folder / "Slidedat.ini").write_text("\n".join(lines), encoding="utf-8")
    return path


def _mirax_index(ident: str, records: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Version, identity, two roots; from the first a pointer for each level, from that its one page of records."""
    out = bytearray(f"01.02{ident}".encode())
    levels = len(out) + 8
    out += struct.pack("<ii", levels, levels) + bytes(4 * len(records))
    for number, found in enumerate(records):
        struct.pack_into("<i", out, levels + 4 * number, len(out))
        out += struct.pack("<ii", 0, len(out) + 8)
        out += struct.pack("<ii", len(found), 0) + b"".join(struct.pack("<4i", *record) for record in found)
    return bytes(out)
