"""The runs of a comparison, in their order, and every raw sample."""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from slideqc import flags
from slideqc.comparing import cluster_and_server, measuring
from slideqc.comparing.measuring import Measured
from slideqc.comparing.rows import Row
from slideqc.comparing.same_files import fingerprint, first_difference
from slideqc.errors import CommandError

LIMIT = 600  # seconds, beside twenty times what the first row took, after which a run is given up
NOTHING_BESIDE = cluster_and_server.Beside()

logger = logging.getLogger("slideqc")


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    rows: list[Row]               # the first is what the others are measured against
    slides: list[Path]
    sizes: list[int]              # of jobs, in slides: ascending, the last is all of them
    repeats: int                  # rounds
    rounds_of_all_sizes: int      # the first so many; the others run the whole job alone
    workers: int
    flags: list[str]              # of every row: the parameters of the pipeline
    parameters: dict[str, object]
    pipeline: str                 # the module of the plain pipeline
    empty_sizes: list[int]        # slides of the emptied flows
    passes: int                   # over the emptied flows, and over the slides to profile

    def jobs(self, number: int) -> list[tuple[Row, int]]:
        """What round `number` runs: each row in turn comes first."""
        sizes = self.sizes if number < self.rounds_of_all_sizes else self.sizes[-1:]
        turn = number % len(self.rows)
        return [(row, size) for size in sizes for row in (*self.rows[turn:], *self.rows[:turn])]

    def count(self) -> int:
        """How many runs there will be, for the progress bar."""
        flows = sum(row.flow is not None for row in self.rows)
        return (len(self.rows) + len(self.sizes) - 1 + flows + 1
                + sum(len(self.jobs(number)) for number in range(self.repeats)))


@dataclass
class Session:
    """Runs a plan in a folder of its own, and keeps what came of it."""

    plan: Plan
    folder: Path
    wrong: dict[str, str] = field(default_factory=dict)         # what is wrong, by the key of the row
    samples: list[dict] = field(default_factory=list)           # every timed run
    rounds: int = 0                                             # that are finished
    empty_flows: dict[str, list[dict]] = field(default_factory=dict)  # by the key of the row
    profile: list[dict] = field(default_factory=list)
    _expected: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)  # status, files; by size of job
    _beside: dict[str | None, cluster_and_server.Beside] = field(default_factory=lambda: {None: NOTHING_BESIDE})
    _limit: float = LIMIT

    def run(self) -> None:
        """All of it. On Ctrl-C, what was measured until then is here."""
        plan = self.plan
        for size in plan.sizes:
            folder = self._slides(size)
            folder.mkdir(parents=True)
            for slide in plan.slides[:size]:
                _link(slide, folder / slide.name)
        with ExitStack() as running, tqdm(total=plan.count(), unit="run", disable=None, dynamic_ncols=True) as bar, \
                logging_redirect_tqdm([logging.getLogger()]):
            starts = {"cluster": lambda folder: cluster_and_server.cluster(folder, plan.workers),
                      "server": cluster_and_server.server}
            for need in sorted({row.beside for row in plan.rows} - {None}):
                logger.info("starting a %s, which is not timed", need)
                self._beside[need] = running.enter_context(starts[need](self.folder / need))
            self._warm_up(bar)
            for number in range(plan.repeats):
                logger.info("round %d of %d", number + 1, plan.repeats)
                for row, size in plan.jobs(number):
                    with _step(bar, f"{row.label}, {size} slides"):
                        if row.key not in self.wrong:
                            self._timed(row, size, number)
                self.rounds = number + 1
            self._where_the_time_goes(bar)

    def _warm_up(self, bar: tqdm) -> None:
        """Run every row once, off the clock; the first row says what the others have to leave."""
        logger.info("warming up, and comparing what the rows leave, byte for byte")
        first, *others = self.plan.rows
        for size in self.plan.sizes:
            with _step(bar, f"{first.label}, {size} slides"):
                done, output = self._once(first, size)
                if done.status not in (0, 1):
                    raise CommandError(f"{first.script} cannot check these slides: {done.said}")
                self._expected[size] = done.status, fingerprint(output)
        self._limit = LIMIT + 20 * done.seconds
        for row in others:
            with _step(bar, f"{row.label}, warm-up"):
                self._compare(row, size, *self._once(row, size))

    def _timed(self, row: Row, size: int, number: int) -> None:
        done, output = self._once(row, size)
        if self._compare(row, size, done, output):
            self.samples.append({
                "round": number, "row": row.key, "slides": size, "seconds": done.seconds, "start_up": done.start_up,
                "cpu": done.cpu, "memory": done.memory, "memory_before": done.memory_before})

    def _compare(self, row: Row, size: int, done: Measured, output: Path) -> bool:
        """Is the row right this time? If not, it is wrong from now on."""
        status, files = self._expected[size]
        if done.status == measuring.GIVEN_UP:
            problem = f"given up after {self._limit:.0f} s"
        elif done.status != status:
            problem = f"exit status {done.status} instead of {status}: {done.said}"
        else:
            problem = first_difference(files, fingerprint(output))
        if problem:
            self.wrong[row.key] = problem
            logger.error("%s is wrong: %s", row.label, problem)
        return not problem

    def _once(self, row: Row, size: int) -> tuple[Measured, Path]:
        """Run a row on so many slides, into a fresh folder."""
        needed = self._beside[row.beside]
        output = self.folder / "output" / row.key
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        command = [sys.executable, flags.HOME / row.script, "--folder", self._slides(size), "--output", output,
                   "--filetype", self.plan.slides[0].suffix, *self.plan.flags,
                   *row.flags(workers=self.plan.workers, scheduler=needed.scheduler)]
        return self._measured(command, row.key, needed), output

    def _measured(self, command: list[object], name: str, needed: cluster_and_server.Beside) -> Measured:
        with ExitStack() as quiet:
            for other in self._beside.values():
                if other is not needed:
                    quiet.enter_context(other.asleep())
            return measuring.run(command, self.folder / f"{name}.log", env=needed.env, limit=self._limit,
                                 cwd=flags.HOME, beside=needed.processes)

    def _slides(self, size: int) -> Path:
        return self.folder / "slides" / str(size)

    def _where_the_time_goes(self, bar: tqdm) -> None:
        plan = self.plan
        logger.info("timing flows without work, and the steps of the pipeline")
        for row in plan.rows:
            if row.flow:
                with _step(bar, f"{row.label}, no work"):
                    self._empty(row)
        with _step(bar, "the steps of the pipeline"):
            self.profile = self._child("step_times", NOTHING_BESIDE, {
                "module": plan.pipeline, "slides": [str(slide) for slide in plan.slides],
                "output": str(self.folder / "output" / "step_times"), "parameters": plan.parameters})

    def _empty(self, row: Row) -> None:
        needed = self._beside[row.beside]
        if row.key not in self.wrong:
            self.empty_flows[row.key] = self._child("empty_flow", needed, {
                "module": row.flow, "executor": row.executor, "workers": self.plan.workers,
                "scheduler": needed.scheduler, "sizes": self.plan.empty_sizes})

    def _child(self, module: str, needed: cluster_and_server.Beside, order: dict) -> list[dict]:
        """Run one of the modules that time something inside a process, and read what they found."""
        to = self.folder / f"{module}.json"
        order |= {"passes": self.plan.passes, "to": str(to)}
        command = [sys.executable, "-m", f"slideqc.comparing.{module}", json.dumps(order)]
        done = self._measured(command, module, needed)
        if done.status:  # no reason to lose what was measured before
            logger.error("%s failed, and its figures are missing: %s", module, done.said)
            return []
        return json.loads(to.read_text(encoding="utf-8"))


@contextmanager
def _step(bar: tqdm, what: str) -> Iterator[None]:
    bar.set_postfix_str(what)
    yield
    bar.update()


def _link(slide: Path, link: Path) -> None:
    """Let the slide be in another folder too, if possible without a copy."""
    for make in (link.symlink_to, link.hardlink_to):
        with suppress(OSError):  # Windows lets few users make the first, and no disk has the second across disks
            return make(slide.resolve())
    shutil.copy2(slide, link)
