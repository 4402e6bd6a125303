"""comparison.png: bars that can be read from the back row."""

from io import BytesIO
from textwrap import shorten

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from slideqc.comparing.summary import count

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = {"python": "#0072B2", "prefect": "#E69F00", "server": "#009E73"}
KINDS = {"python": "plain Python", "prefect": "Prefect", "server": "Prefect, through a server"}
WRONG = "#B00020"
LOG_ABOVE = 25   # slowest over fastest: above this ratio, short bars could not be seen on a linear axis
WIDTH, DPI = 16, 120  # inches, dots per inch


def draw(comparison: dict) -> bytes:
    """The seconds of each row as a PNG: median, fastest, slowest, and the part that is start-up."""
    rows = comparison["rows"]
    timed = [row for row in rows if row["seconds"]]
    figure = Figure(figsize=(WIDTH, 2.6 + 0.8 * len(rows)), layout="constrained")
    axis = figure.subplots()
    medians = [row["seconds"][0] for row in timed]
    longest = max((row["seconds"][2] for row in timed), default=1)
    log = bool(timed) and max(medians) / min(medians) > LOG_ABOVE
    start = min(medians) / 3 if log else 0
    for place, row in enumerate(rows):
        if row["seconds"]:
            _bar(axis, place, row, longest, log)
        else:
            why = f"wrong, not timed: {row['wrong']}" if row["wrong"] else "not timed"
            axis.text(start, place, f" {shorten(why, 62, placeholder=' …')}", va="center_baseline", fontsize=20,
                      color=WRONG)
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=24)
    axis.invert_yaxis()
    axis.set_xscale("log" if log else "linear")
    axis.set_xlim(start, longest * (6 if log else 1.42))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.tick_params(axis="x", labelsize=20)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("seconds" + (", each mark ten times the one before" if log else ""), fontsize=22)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(f"Quality control of {count(comparison['slides']['number'], 'slide')}, "
                    f"{count(comparison['workers'], 'worker')}", fontsize=32, weight="bold")
    axis.set_title(f"median of {count(comparison['rounds'], 'run')}; the line is from the fastest to the slowest",
                   fontsize=20, loc="left", pad=14)
    patches = [Patch(color=COLOURS[kind], label=KINDS[kind]) for kind in KINDS if kind in {row["kind"] for row in rows}]
    if not log:
        patches.append(Patch(facecolor="0.8", edgecolor="0.35", hatch="//", label="of it start-up"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=20, frameon=False)
    figure.get_layout_engine().set(w_pad=0.2, h_pad=0.15)
    picture = BytesIO()
    figure.savefig(picture, dpi=DPI, metadata={"Software": None})
    return picture.getvalue()


def _bar(axis: object, place: int, row: dict, longest: float, log: bool) -> None:
    median, low, high = row["seconds"]
    axis.barh(place, median, 0.66, color=COLOURS[row["kind"]])
    if not log:  # on a logarithmic axis, parts of a bar say nothing
        axis.barh(place, row["start_up"][0], 0.66, color=(1, 1, 1, 0.45), edgecolor="0.25", hatch="//", linewidth=0)
    axis.errorbar(median, place, xerr=[[median - low], [high - median]], color="black", capsize=9, linewidth=3,
                  capthick=3)
    gap = high * 1.06 if log else high + 0.015 * longest
    relative = f"   {row['relative'][0]:.2f} ×" if row["relative"] else ""
    axis.text(gap, place, f"{median:.1f} s{relative}", va="center_baseline", fontsize=24)
