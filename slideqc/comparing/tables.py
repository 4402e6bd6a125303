"""comparison.md: the comparison as Markdown tables, ready to paste."""

from slideqc.comparing.step_times import PARTS
from slideqc.comparing.summary import Line, Spread

NONE = "–"


def markdown(comparison: dict) -> str:
    """What comparison.md holds and the terminal shows: two tables, what they mean, and what not to trust."""
    slides, machine = comparison["slides"], comparison["machine"]
    rounds = comparison["rounds"]
    stopped = f", of {comparison['asked']} asked for: stopped before the end" if comparison["stopped"] else ""
    width, height = slides["largest"]
    parts = [
        f"## {slides['number']} slides, {comparison['workers']} workers",
        f"Median of {rounds} interleaved round{'s' * (rounds != 1)}{stopped}; in brackets the fastest and the slowest. "
        "Each row ran as a whole process, and left the same files, byte for byte, as the first.",
        _times(comparison["rows"]),
        "Where the time goes:",
        _causes(comparison),
        *_sentences(comparison),
        *(["Beware:", "\n".join(f"- {doubt}" for doubt in comparison["doubts"])] if comparison["doubts"] else []),
        f"{comparison['date'][:10]} · {slides['number']} slides of up to {width}×{height} px, "
        f"{slides['bytes'] / 1e6:.0f} MB, in {slides['folder']} · {machine['processor']}, "
        f"{machine['cpus_usable']} CPUs, {machine['memory'] / 2**30:.0f} GB, {machine['system']}, load before the "
        f"start {machine['load']:.2f} · " + ", ".join(" ".join(each) for each in comparison["versions"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _times(rows: list[dict]) -> str:
    head = ["", "seconds", "relative", "memory, MB", "CPU, s"]
    body = []
    for row in rows:
        if row["seconds"] is None:
            body.append([row["label"], f"wrong: {row['wrong']}" if row["wrong"] else NONE, NONE, NONE, NONE])
        else:
            body.append([row["label"], _spread(row["seconds"]), _spread(row["relative"]) if row["relative"] else NONE,
                         f"{row['memory'] / 1e6:.0f}", f"{row['cpu']:.2f}"])
    return table(head, body)


def _causes(comparison: dict) -> str:
    least, *_, most = comparison["slides"]["sizes"]
    head = ["", "start-up, s", "a slide, s", "orchestration a slide, ms", "of a slide's time",
            "start-up < 10 % from", "orchestration < 10 % from", f"memory, {most} : {least} slides"]
    return table(head, [[
        row["label"],
        _number(row["start_up"] and row["start_up"][0], "{:.2f}"),
        _slope(row["per_slide"], "{:.3f} ± {:.3f}"),
        "none" if row["kind"] == "python" else _slope(row["orchestration"], "{:.1f} ± {:.1f}", 1000),
        _number(row["orchestration_share"], "{:.0f} %", 100),
        _number(row["slides_for_start_up"], "{} slides"),
        _number(row["work_for_orchestration"], "{:.2f} s a slide"),
        _number(row["memory_growth"], "{:.2f}"),
    ] for row in comparison["rows"] if row["seconds"]])


def _sentences(comparison: dict) -> list[str]:
    """How to read the tables."""
    said = ["Start-up is the time to a script's first line: Python, its imports, the flags, the list of slides. "
            f"A slide is the slope over jobs of {', '.join(map(str, comparison['slides']['sizes']))} slides, ± its "
            "standard error. "
            "Orchestration is the same flow with nothing in its tasks, so what states, logs and handing on cost. Start-"
            "up costs less than a tenth of a job from so many slides on, orchestration less than a tenth of a slide's "
            "time from so much work in a slide on. Memory and CPU are of all processes, also of those of the cluster "
            "or the server, which hold some before a run begins."]
    if any(row["kind"] == "server" for row in comparison["rows"]):
        said.append("A row through the server also waits for the agent, which after a quiet time looks for work every "
                    "ten seconds, and for the script, which looks for the ends of its runs every second.")
    if comparison["pixels"]:
        whole = sum(comparison["pixels"].values())
        said.append(f"The pixels of a slide, in one process: {1000 * whole:.0f} ms, of it " + ", ".join(
            f"{part} {1000 * seconds:.0f} ms ({seconds / whole:.0%})"
            for part in PARTS for seconds in [comparison["pixels"][part]]) + ".")
    return said


def _spread(spread: Spread) -> str:
    median, low, high = spread
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def _slope(line: Line | None, form: str, factor: float = 1) -> str:
    return NONE if line is None else form.format(line[0] * factor, line[1] * factor)


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return NONE if value is None else form.format(value * factor)


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    from tabulate import tabulate
    return tabulate(body, head, tablefmt="github", disable_numparse=True,
                    colalign=("left", *["right"] * (len(head) - 1)) if body else None)
