"""The drawing of architecture.md: who imports whom, and the way of a slide through the files."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

SLIDE, IMPORTS, ASKS = "#D55E00", "#5c5c66", "#007a58"
BANDS = {  # what a band is called: its lower and upper edge, its colour; who stands above may import who is below
    "is it right, how fast is it": (85, 97, "#efe9f5"),
    "the steps as flows": (66, 80, "#fdf1dc"),
    "the steps": (49, 61, "#e3eff8"),
    "one slide": (37, 44, "#e3eff8"),
    "what they share": (15, 32, "#e9eaee"),
}
BOXES = (  # the files of a box; its centre, width and height in a picture of 160 × 100; what it is
    (("check.py", "slideqc/checking"), 36, 89.6, 44, ""),
    (("compare.py", "slideqc/comparing"), 86, 89.6, 44, ""),
    (("solutions/pipeline_prefect.py",), 24, 71.5, 30, "one flow run a slide"),
    (("solutions/pipeline_prefect_parallel.py",), 57, 71.5, 32, "one flow run, mapped"),
    (("solutions/pipeline_prefect_server.py", "solutions/pipeline_prefect_parallel_server.py"), 94, 71.5, 38, ""),
    (("pipeline.py",), 41, 54, 64, "load → tissue → blur → too blurry? → the slide's row"),
    (("pipeline_parallel.py",), 94, 54, 34, "the same, in a pool of processes"),
    (("BaseImage.py",), 41, 40.5, 42, ""),
    (("slideqc/pixels.py",), 94, 40.5, 26, ""),
    (("slideqc/slides/reading.py", "slideqc/slides/magnification.py"), 22, 22, 26, "pixels, of which level"),
    (("slideqc/output/drawing.py", "slideqc/files.py"), 51, 22, 26, "pictures, never half"),
    (("slideqc/output/results.py", "slideqc/output/report.py"), 80, 22, 26, "a row for each slide"),
    (("slideqc/output/run.py", "slideqc/flags.py", "slideqc/orchestration/flows.py",
      "slideqc/orchestration/servers.py"), 103, 22, 15, ""),
    (("workshop_server",), 141, 59, 32, "records flows, runs and logs"),
)
OUTSIDE = (  # what is no file of the repository
    ("data/*.svs", 22, 5, 26, SLIDE), ("output/  masks, overlay", 51, 5, 26, SLIDE),
    ("output/  results.csv, report.html", 83, 5, 32, SLIDE), ("Prefect's agent", 141, 89, 32, ASKS))
WAY = (  # of the slide: from, to
    ((22, 7.7), (22, 17.2)), ((25, 26.8), (25, 38.8)), ((31, 42.2), (31, 51)), ((70, 51), (82, 42.2)),
    ((51, 51), (51, 42.2)), ((51, 38.8), (51, 26.8)), ((51, 17.2), (51, 7.7)), ((65, 51), (76, 26.8)),
    ((80, 17.2), (80, 7.7)))
NUMBERS = (1, 2, 3, 3, 4, 4, 4, 5, 6)  # of architecture.md's list, beside each of them
HTTP = (  # who asks whom on the way to a server: from, to, the words, and where they stand
    ((113, 70), (129, 61.8), "registers a flow,\nasks for its runs", (128.5, 69.8)),
    ((142, 61.8), (142, 86.3), "", (0, 0)), ((148, 86.3), (148, 61.8), "asks\nfor work", (153.5, 74)),
    ((125, 88), (113.5, 75), "runs the flow in a\nprocess of its own", (129.5, 79.5)))


def draw(target: Path) -> None:
    """Write the drawing; the ending of `target` is the format."""
    figure = Figure(figsize=(16, 10))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, 160), ylim=(0, 100))
    axis.axis("off")
    for name, (low, high, colour) in BANDS.items():
        _box(axis, 59, (low + high) / 2, 110, high - low, colour, edge="none")
        axis.text(5.2, high - 0.8, name, va="top", fontsize=13, style="italic", color=IMPORTS)
    for names, x, y, width, words in BOXES:
        lines = [name.rpartition("/")[2] if "." in name else f"{name}/" for name in names]
        height = 2.4 * (len(lines) + bool(words)) + 1.2
        _box(axis, x, y, width, height, "white")
        for number, line in enumerate([*lines, *filter(None, [words])]):
            axis.text(x, y + height / 2 - 1.8 - 2.4 * number, line, ha="center", va="center", fontsize=13,
                      weight="normal" if line == words else "bold")
    for name, x, y, width, colour in OUTSIDE:
        _box(axis, x, y, width, 5.4, "white", edge=colour, style="--")
        axis.text(x, y, name, ha="center", va="center", fontsize=13)
    for x in (7, 111):
        for above, below in zip(list(BANDS.values())[:-1], list(BANDS.values())[1:], strict=True):
            _arrow(axis, (x, above[0]), (x, below[1]), IMPORTS)
    for number, (start, end) in zip(NUMBERS, WAY, strict=True):
        _arrow(axis, start, end, SLIDE)
        axis.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, str(number), ha="center", va="center", fontsize=12,
                  weight="bold", color="white", bbox={"boxstyle": "circle,pad=0.25", "color": SLIDE})
    for start, end, words, place in HTTP:
        _arrow(axis, start, end, ASKS)
        axis.text(*place, words, ha="center", va="center", fontsize=12.5, color=ASKS)
    for row, (colour, words) in enumerate(((IMPORTS, "may import what is below"), (SLIDE, "the way of a slide"),
                                           (ASKS, "over HTTP, or as a process"))):
        _arrow(axis, (123, 32 - 4 * row), (130, 32 - 4 * row), colour)
        axis.text(132, 32 - 4 * row, words, va="center", fontsize=13)
    figure.savefig(target, dpi=90, metadata={"Software": None})


def _box(axis: Axes, x: float, y: float, width: float, height: float, colour: str, edge: str = "#8a8a94",
         style: str = "-") -> None:
    axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=colour, edgecolor=edge,
                                  boxstyle="round,pad=0,rounding_size=1", linestyle=style, linewidth=1.5))


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, color=colour, linewidth=2.5,
                                   shrinkA=0, shrinkB=0))
