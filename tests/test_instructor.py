"""The commands of docs/instructor.md, run in their order in a copy of the repository; and the load of a small room.

Ports, addresses, folders and KEY are replaced. Three commands are shortened: only a few packages are fetched and
installed, compare.py compares one row on small slides, in test_readme.py which runs the same command, and two seats
have keys. Where curl is missing, Python downloads instead.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_readme
from test_readme import PATIENCE, shell

from conftest import HOME, REAL, clone, environment
from harness import free_port

GUIDE = (HOME / "docs" / "instructor.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
FEW = "-c constraints.txt\npooch\nrequests\ntqdm\n"  # what get_data.py needs
COMPARED = "python compare.py --quick\n"
CURL = """curl() {
    python -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \\
        "${@: -1}" >"$([ "$1" = -O ] && basename "$2" || echo /dev/stdout)"
}"""

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="these are the commands for Linux and macOS"),
              pytest.mark.timeout(PATIENCE + 100)]


@pytest.fixture
def copy(tmp_path: Path, real_slide: Path, small_slides: Path) -> Path:
    """The repository as the instructor has it: with slides in data/, and under git."""
    folder = clone(tmp_path / "workshop")
    (folder / "data").mkdir()
    shutil.copy2(small_slides / "small-2.svs", folder / "data")  # the one that needs a rescan
    shutil.copy2(real_slide, folder / "data" / REAL)
    (folder / "requirements.txt").write_text(FEW, encoding="utf-8")
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*me, "commit", "--quiet", "--no-verify", "-m", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True, env=environment(tmp_path))
    return folder


def in_the_background(block: str, stem: str, port: str) -> str:
    """A block whose last command runs in the background, with its id in $`stem`; it ends once the port answers."""
    return f"{block.rstrip()} >../{stem}.txt 2>&1 &\n{stem}=$!\n" + (
        f"until (: </dev/tcp/127.0.0.1/{port}) 2>&-; do kill -0 ${stem} || cat ../{stem}.txt; sleep 0.1; done\n"
        if port else "")


def arranged(copy: Path) -> str:
    """All blocks as one script."""
    own, own_pages, room, room_pages, handout = (str(free_port()) for _ in range(5))
    slides = f"--generate 0 --dest '{copy / 'data'}'"  # the two of full size would take a minute
    script = ["trap 'kill $(jobs -p) 2>&-' EXIT",
              f"export PREFECT__SERVER__ENDPOINT=http://127.0.0.1:{own}", *([] if shutil.which("curl") else [CURL])]
    assert COMPARED in BLOCKS and COMPARED in test_readme.BLOCKS
    for block in BLOCKS:
        if block == COMPARED:
            continue
        block = block.replace("python get_data.py\n", f"python get_data.py {slides}\n")
        block = block.replace("seq -w 1 30", "seq -w 9 10")
        block = block.replace("--key KEY", "--key $(sed -n 's/.*--key //p' ../room/slips.txt | head -1)")
        block = block.replace("0.0.0.0", "127.0.0.1").replace("192.168.0.7:4200", f"127.0.0.1:{room}")
        block = block.replace("192.168.0.7:8080", f"127.0.0.1:{room_pages}")
        block = block.replace("8000", handout).replace("192.168.0.7", "127.0.0.1")
        if block.startswith("python -m workshop_server --host"):
            block = in_the_background(f"{block.rstrip()} --port {room} --ui-port {room_pages}", "room", room)
        elif block.startswith("python -m workshop_server"):
            block = in_the_background(f"{block.rstrip()} --port {own} --ui-port {own_pages}", "own", own)
        elif "-m http.server" in block:
            block = in_the_background(block, "handout", handout)
        elif "prefect agent" in block:
            block = in_the_background(block, "agent", "")
        elif "curl -O" in block:  # an attendee, in a folder and a shell of their own
            block = f"mkdir ../attendee\n(cd ../attendee\n{block})\n"
        elif block.startswith("rm "):
            block = f"kill $room\nwait $room || true\n{block}"
        script.append(block)
    return "\n".join(script)


def test_the_commands_in_their_order(copy: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = arranged(copy)
    assert "192.168" not in script and "0.0.0.0" not in script
    said = shell(copy, script, {"PATH": path, "PREFECT__CLOUD__HEARTBEAT_MODE": "thread"})
    for words in ("ready", "step 1 is done", "submitted: 1 flow run", '{"status":"ok"}',
                  "tenant 'seat-09'", "Image QC created", f"{REAL}: 1.9 MB from 127.0.0.1", "Logged out",
                  "Backend switched to server"):
        assert words in said, words
    for left in ("output/report.html", "../attendee/workshop/get_data.py"):
        assert (copy / left).exists(), left
    assert len(list((copy.parent / "handout" / "wheels").glob("*.whl"))) >= 3
    assert not (copy.parent / "room").exists()


def test_curl_is_the_real_one() -> None:
    if not shutil.which("curl"):
        pytest.skip("two commands of the instructor's guide need curl")
    assert GUIDE.count("\ncurl ") == 2


def test_the_load_of_a_room_can_be_measured() -> None:
    """Two fast attendees: every answer is as it was recorded."""
    done = subprocess.run(
        [sys.executable, HOME / "tests" / "server" / "room.py", "--attendees", "2", "--idle", "1", "--within", "1",
         "--session", "3"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all at once" in done.stdout
