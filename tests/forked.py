"""In place of `subprocess`: starts Python programs as forks of a process that has imported the packages they need.

That saves each of them up to a second. Each is a process of its own all the same, with its own folder, environment,
arguments and modules: what is imported beforehand are other people's packages, and the server, which no script changes.
Prefect is not among them, since it reads its settings as it is imported. Only Linux forks such a process well: on other
systems, programs are started as usual.
"""

import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

HOME = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "cv2", "simplejpeg", "openslide", "tifffile", "imagecodecs", "tqdm", "pendulum", "requests",
            "yaml", "toml", "box", "marshmallow", "marshmallow_oneofschema", "croniter", "cloudpickle", "click",
            "tabulate", "docker", "pytz", "slugify", "dask.threaded", "dask.multiprocessing", "distributed",
            "workshop_server.start")
LARGEST = 1_000_000  # bytes of a request
OWN = (__file__, "<frozen runpy>")  # files that a program's traceback would not name


class Forks:
    """The process whose forks the programs are; `Popen` starts one. Leaving the block ends it."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __enter__(self) -> "Forks":
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-P", __file__, str(theirs.fileno())], cwd=HOME,
                                             pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                                             stdout=subprocess.DEVNULL, start_new_session=True,
                                             env=os.environ | {"PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"})
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._requests.close()
        self._process.wait()

    def Popen(self, command, *, cwd, env, stdout, stderr, stdin, start_new_session):  # noqa: N802 — subprocess's name
        """As subprocess.Popen does, with the arguments that slideqc/child_process.py gives."""
        assert command[0] == sys.executable and stdin == self.DEVNULL and start_new_session
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps({"arguments": command[1:], "cwd": str(cwd), "env": dict(env)})
            socket.send_fds(self._requests, [request.encode()], [theirs.fileno(), stdout.fileno(), stderr.fileno()])
        return Program(ours, command)


class Program:
    """A running fork, which can be waited for as a subprocess.Popen can."""

    def __init__(self, told: socket.socket, command: list[str]) -> None:
        self._told, self._command = told, command
        self.pid, self.returncode = int(told.recv(100)), None

    def poll(self) -> int | None:
        """The exit status; None if it still runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, as soon as it has ended; TimeoutExpired if it still runs after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._command, timeout)
            self.returncode = int(self._told.recv(100))
        return self.returncode


def serve(requests: socket.socket) -> dict:
    """Fork for each request, until there are no more; returns the request in the fork that is to be that program."""
    while True:
        message, received, *_ = socket.recv_fds(requests, LARGEST, 3)
        if not message:
            sys.exit()
        if not os.fork():
            break
        for number in received:
            os.close(number)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    requests.close()
    told = socket.socket(fileno=received[0])
    if program := os.fork():  # this process only tells how it ends
        ended = os.waitid(os.P_PID, program, os.WEXITED | os.WNOWAIT)  # it keeps its number while it may be asked for
        told.send(str(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status).encode())
        told.recv(1)
        os.waitpid(program, 0)
        os._exit(0)
    os.setsid()
    told.send(str(os.getpid()).encode())
    told.close()
    for number, target in zip(received[1:], (1, 2), strict=True):
        os.dup2(number, target)
        os.close(number)
    return json.loads(message)


def run(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be `python ARGUMENTS`, in this folder and with this environment."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.excepthook = without_own_frames
    is_module = arguments[0] == "-m"
    sys.argv = arguments[is_module:]
    sys.path[:0] = [cwd if is_module else str(Path(arguments[0]).resolve().parent),
                    *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def without_own_frames(kind: type, problem: BaseException, trace: TracebackType | None) -> None:
    """Tell what ended a program, as Python does."""
    while trace and trace.tb_frame.f_code.co_filename in OWN:
        trace = trace.tb_next
    sys.__excepthook__(kind, problem.with_traceback(trace), trace)


if __name__ == "__main__":
    sys.path.insert(0, str(HOME))
    for name in PACKAGES:
        importlib.import_module(name)
    sys.path.remove(str(HOME))
    run(**serve(socket.socket(fileno=int(sys.argv[1]))))
