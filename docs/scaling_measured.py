"""Repeat the measurements of scaling.md on your machine.

    python docs/scaling_measured.py flow --sizes 8 100 1000 2000           the mapped flow with empty tasks, on threads
    python docs/scaling_measured.py flow --executor distributed --batch 500    on a cluster, 500 slides per flow run
    python docs/scaling_measured.py table --sizes 100 1000 10000           results.csv and report.html with these rows
    python docs/scaling_measured.py slide data/*.svs                       bytes read and written, CPU s for each slide

Each size is measured in a separate process. Seconds depend on the other programs on the machine, so the table has the
load average. CPU seconds of the flow's process hardly depend on them. The script reads /proc, so it needs Linux.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from slideqc import flags  # noqa: E402
from slideqc.output import drawing, results  # noqa: E402

SMALL = 21_000  # bytes of a typical thumbnail of a full-size slide


def flow(sizes: list[int], executor: str, batch: int) -> None:
    """Measure the mapped flow with empty tasks, for each number of slides; prints a Markdown table."""
    print("| slides | executor | batch | s | ms/slide | CPU ms/slide | flow MB | scheduler MB | load |\n"
          "|---|---|---|---|---|---|---|---|---|", flush=True)
    for size in sizes:
        with cluster(2) if executor == "distributed" else ExitStack() as started:
            address, pid = started if executor == "distributed" else (None, None)
            arguments = json.dumps({"size": size, "executor": executor, "batch": batch or size, "address": address})
            done = subprocess.run([sys.executable, __file__, "one-flow", arguments], capture_output=True, text=True,
                                  check=True, env=os.environ | {"PREFECT__LOGGING__LEVEL": "WARNING"})
            result = json.loads(done.stdout.splitlines()[-1])
            scheduler = f"{peak_of(pid):.0f}" if pid else ""
        print("|", " | ".join([str(size), executor, str(batch or "–"), f"{result['seconds']:.1f}",
                               *(f"{1000 * result[name] / size:.1f}" for name in ("seconds", "cpu")),
                               f"{result['memory']:.0f}", scheduler, f"{os.getloadavg()[0]:.1f}"]), "|", flush=True)


def one_flow(size: int, executor: str, batch: int, address: str | None) -> None:
    """Measure one number of slides, in this process; prints seconds, CPU seconds and peak memory (MB) as JSON."""
    from slideqc.comparing.empty_flow import empty
    from solutions.pipeline_prefect_parallel import choose_executor, define_flow
    mapped = empty(define_flow())
    names = [f"/archive/2026/11/slide-{number:07}.svs" for number in range(size)]
    started, cpu = time.perf_counter(), time.process_time()
    for start in range(0, size, batch):
        mapped.executor = choose_executor(executor, 2, address)  # a new one: it keeps the states of its runs
        if not mapped.run(file_names=names[start:start + batch]).is_successful():
            sys.exit("the flow failed")
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "memory": peak()}))


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, int]]:
    """Start a Dask scheduler and `workers` workers, each a process with its own working folder.

    Yields the scheduler's address and its process id. Ends all processes afterwards.
    """
    with ExitStack() as cleanup:
        base = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        env = os.environ | {"PYTHONPATH": str(HOME)}

        def start(name: str, *arguments: str) -> subprocess.Popen:
            (base / name).mkdir()
            command = [sys.executable, "-m", "dask", *arguments]
            process = subprocess.Popen(command, cwd=base / name, env=env, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            cleanup.callback(process.wait)
            cleanup.callback(process.terminate)
            return process

        scheduler_file = base / "scheduler.json"
        scheduler = start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                          "--scheduler-file", str(scheduler_file))
        while not scheduler_file.exists() or not scheduler_file.read_text():
            time.sleep(0.1)
        address = json.loads(scheduler_file.read_text())["address"]
        for number in range(workers):
            start(f"worker-{number}", "worker", address, "--nthreads", "1", "--no-dashboard")
        yield address, scheduler.pid


def table(sizes: list[int]) -> None:
    """Measure results.assemble for each number of rows, with overlays that contain thumbnails; prints a table."""
    blank = np.zeros((8, 8, 3), np.uint8)
    overlay = drawing.encode("overlay.jpg", blank)
    after = 4 + int.from_bytes(overlay[4:6], "big")
    comment = drawing.COMMENT + (SMALL + 2).to_bytes(2, "big") + SMALL * b"A"
    overlay = overlay[:after] + 2 * comment + overlay[after:]
    print("| rows | s | ms/row | peak MB | report.html MB | load |\n|---|---|---|---|---|---|", flush=True)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(size):
                name = f"slide-{number:07}.svs"
                Path(folder, f"{name}{results.OVERLAY}").write_bytes(overlay)
                results.save_row(folder, name, "ok", base_mag=40, width=5750, height=4114, tissue_fraction=0.4,
                                 percent_blurry=number / size)
            done = subprocess.run([sys.executable, __file__, "one-table", folder], capture_output=True, text=True,
                                  check=True)
            seconds, memory, report = map(float, done.stdout.split())
        print(f"| {size} | {seconds:.1f} | {1000 * seconds / size:.2f} | {memory:.0f} | {report:.0f} | "
              f"{os.getloadavg()[0]:.1f} |", flush=True)


def one_table(folder: Path) -> None:
    """Measure the rows in `folder`, in this process; prints seconds, peak memory (MB) and size of report.html (MB)."""
    started = time.perf_counter()
    results.assemble(folder)
    print(time.perf_counter() - started, peak(), (folder / "report.html").stat().st_size / 1e6)


def slides(paths: list[Path]) -> None:
    """Measure bytes read and written, and CPU seconds, of pipeline.py's steps for each slide; prints a table."""
    import pipeline
    print("| slide | MB | read MB | written MB | pictures MB | row KB | CPU s | load |\n"
          "|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        output, defaults = Path(folder), vars(flags.parser("").parse_args([]))
        for number, path in enumerate([paths[0], *paths]):
            started, before = time.process_time(), transferred("self")
            pipeline.check_slide(str(path), output=folder, **{name: defaults[name] for name in flags.PARAMETERS})
            cpu, after = time.process_time() - started, transferred("self")
            row = (output / f"{path.name}{results.ROW_FILE}").stat().st_size
            pictures = sum((output / f"{path.name}{kind}").stat().st_size for kind in results.PICTURES)
            sizes = [path.stat().st_size, after[0] - before[0], after[1] - before[1], pictures]
            if number:  # the first slide is measured twice: its first time includes imports
                print("|", " | ".join([path.name, *(f"{size / 1e6:.2f}" for size in sizes), f"{row / 1e3:.0f}",
                                       f"{cpu:.2f}", f"{os.getloadavg()[0]:.1f}"]), "|", flush=True)


def transferred(pid: str) -> tuple[int, int]:
    """The bytes that a process has read and written so far."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    counts = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    return counts["rchar"], counts["wchar"]


def peak_of(pid: int) -> float:
    """The peak memory of another process, in megabytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def peak() -> float:
    """The peak memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("flow", "table"):
        kinds.add_parser(name).add_argument("--sizes", type=int, nargs="+", default=[8, 100, 1000])
    kinds.choices["flow"].add_argument("--executor", choices=["local", "threads", "distributed"], default="threads")
    kinds.choices["flow"].add_argument("--batch", type=int, default=0, help="slides for each flow run (0: all in one)")
    kinds.add_parser("slide").add_argument("paths", type=Path, nargs="+")
    kinds.add_parser("one-flow").add_argument("arguments", type=json.loads)
    kinds.add_parser("one-table").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.kind == "flow":
        flow(options.sizes, options.executor, options.batch)
    elif options.kind == "table":
        table(options.sizes)
    elif options.kind == "slide":
        slides(options.paths)
    elif options.kind == "one-flow":
        one_flow(**options.arguments)
    else:
        one_table(options.folder)


if __name__ == "__main__":
    main()
