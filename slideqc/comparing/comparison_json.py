"""comparison.json: what was run, on which machine, every raw sample, and the statistics of the samples.

Seconds are wall-clock time unless they say CPU; memory is in bytes; a spread is [median, least, greatest].

schema            1
date              when it began, ISO 8601
rounds, asked     finished, and asked for; statistics are of finished rounds
stopped           was it stopped by Ctrl-C?
workers           of the parallel rows
slides            folder, number, bytes, largest (width and height in pixels), sizes: of the jobs, in slides
parameters        of the pipeline
machine           system, processor, cpus, cpus_usable, memory, load: the load average of the minute before the start
versions          of Python and of the libraries that do the work
rows              key, label, kind, script, flags, wrong: null, or what is wrong; then, each null if not measured:
    seconds            of the whole job                      spread
    relative           to the first row                      ratio of the medians; least and greatest of the rounds
    start_up           to the first line of output           spread
    cpu                seconds of CPU                        median
    memory             the peak of all runs of the whole job
    memory_growth      that, to the peak of the smallest job
    per_slide          seconds over slides: slope by least squares over all sizes, its standard error, intercept
    orchestration      the same for the flow without work, over its own sizes
    orchestration_share   its share of per_slide; this and the next two only if the slopes are greater than their errors
    slides_for_start_up   start-up takes less than a tenth of a job of so many slides
    work_for_orchestration  orchestration takes less than a tenth of a slide with so many seconds of work
pixels            seconds a slide in one process: mean of read, tissue, blur, draw, write, rest
doubts            sentences about what not to trust
samples           every timed run: round (from 0), row, slides, seconds, start_up, cpu, memory, memory_before: held by
                  the cluster or the server before the run, a part of memory
empty_flows       by row: pass, slides, seconds
profile           pass, slide, and the seconds of each part
"""

import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

import psutil

from slideqc import flags
from slideqc.comparing import summary
from slideqc.comparing.rows import ComparisonRow
from slideqc.comparing.session import ComparisonPlan, Session
from slideqc.comparing.step_times import PARTS
from slideqc.output.run import LIBRARIES
from slideqc.slides.reading import read_facts

SCHEMA = 1


def load_average() -> float:
    """The load average of the last minute."""
    return psutil.getloadavg()[0]


def comparison(session: Session, *, date: str, load: float, stopped: bool) -> dict:
    """The content of comparison.json; `date` and `load` are from before the start."""
    plan = session.plan
    finished = [sample for sample in session.samples if sample["round"] < session.rounds]
    whole = {row.key: [sample for sample in finished if (sample["row"], sample["slides"]) == (row.key, plan.sizes[-1])]
             for row in plan.rows}
    rows = [_row(row, session, finished, whole) for row in plan.rows]
    seconds = {row["label"]: [sample["seconds"] for sample in whole[row["key"]]] for row in rows if row["seconds"]}
    return {
        "schema": SCHEMA, "date": date, "rounds": session.rounds, "asked": plan.repeats, "stopped": stopped,
        "workers": plan.workers, "slides": _slides(plan), "parameters": plan.parameters,
        "machine": _machine(load), "versions": _versions(), "rows": rows, "pixels": _pixels(session.profile),
        "doubts": summary.doubts(seconds, load, flags.cpus()),
        "samples": session.samples, "empty_flows": session.empty_flows, "profile": session.profile,
    }


def _row(row: ComparisonRow, session: Session, finished: list[dict], whole: dict[str, list[dict]]) -> dict:
    """The statistics of one row."""
    first, wrong = session.plan.rows[0].key, session.wrong.get(row.key)
    facts = {"key": row.key, "label": row.label, "kind": row.kind, "script": row.script,
             "flags": " ".join(row.flags(workers=session.plan.workers, scheduler="tcp://…")), "wrong": wrong}
    figures = dict.fromkeys((
        "seconds", "relative", "start_up", "cpu", "memory", "memory_growth", "per_slide", "orchestration",
        "orchestration_share", "slides_for_start_up", "work_for_orchestration"))
    mine = whole[row.key]
    if wrong or not mine:
        return facts | figures
    of_all_sizes = [sample for sample in finished if sample["row"] == row.key]
    seconds = [sample["seconds"] for sample in mine]
    per_slide = _fit(of_all_sizes)
    start_up = summary.spread([sample["start_up"] for sample in mine])
    peak = max(sample["memory"] for sample in mine)
    smallest = max(sample["memory"] for sample in of_all_sizes if sample["slides"] == session.plan.sizes[0])
    figures |= {
        "seconds": summary.spread(seconds),
        "relative": None if first in session.wrong else
        summary.relative(seconds, [sample["seconds"] for sample in whole[first]]),
        "start_up": start_up, "cpu": statistics.median(sample["cpu"] for sample in mine),
        "memory": peak, "memory_growth": peak / smallest, "per_slide": per_slide,
        "slides_for_start_up":
        summary.slides_until_small(start_up.median, per_slide.slope) if per_slide.known else None}
    if empties := session.empty_flows.get(row.key):
        side_by_side = session.plan.workers if row.executor not in (None, "local") else 1
        orchestration = _fit(empties)
        figures["orchestration"] = orchestration
        if orchestration.known:
            figures["work_for_orchestration"] = summary.work_until_small(orchestration.slope, side_by_side)
        if orchestration.known and per_slide.known:
            figures["orchestration_share"] = orchestration.slope / per_slide.slope
    return facts | figures


def _fit(samples: list[dict]) -> summary.Line:
    """Fit seconds over slides."""
    return summary.line([each["slides"] for each in samples], [each["seconds"] for each in samples])


def _pixels(profile: list[dict]) -> dict[str, float] | None:
    """Mean seconds of each part, for one slide."""
    return {part: statistics.mean(each[part] for each in profile) for part in PARTS} if profile else None


def _slides(plan: ComparisonPlan) -> dict:
    folder = plan.slides[0].parent
    return {"folder": str(folder.relative_to(flags.HOME) if folder.is_relative_to(flags.HOME) else folder.name),
            "number": len(plan.slides), "bytes": sum(slide.stat().st_size for slide in plan.slides),
            "largest": max((read_facts(slide).level_dimensions[0] for slide in plan.slides), key=_area),
            "sizes": plan.sizes}


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _machine(load: float) -> dict:
    return {"system": platform.platform(), "processor": _processor(), "cpus": os.cpu_count(),
            "cpus_usable": flags.cpus(), "memory": psutil.virtual_memory().total, "load": round(load, 2)}


def _processor() -> str:
    """The name of the processor, if the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpuinfo.read_text(encoding="utf-8").splitlines()
             if line.startswith("model name")] if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in (*LIBRARIES, "distributed")}
