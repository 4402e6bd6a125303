"""Draw the pictures of the documents anew, from real runs:  make pictures"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import architecture_figure  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from prefect import Flow, Task  # noqa: E402

import pipeline  # noqa: E402
from slideqc import own_server  # noqa: E402
from slideqc.comparing import chart  # noqa: E402
from slideqc.orchestration import flows  # noqa: E402
from slideqc.output import drawing  # noqa: E402
from slideqc.slides import generate  # noqa: E402
from solutions import pipeline_prefect, pipeline_prefect_parallel  # noqa: E402


def pipeline_overview(target: Path) -> None:
    """A generated slide, partly out of focus, next to the pictures that the two steps of the pipeline leave."""
    with tempfile.TemporaryDirectory() as folder:
        slide = generate.write_slide(Path(folder) / "slide.svs", width=46000, height=32914, magnification=20, seed=4)
        image = pipeline.load_image(str(slide), "1.25x", folder)
        pipeline.tissue_segmentation_simple(image, "1.25x")
        percent_blurry = pipeline.identifyBlurryRegions(image, "1.25x", "5x", 7, 0.05)
        tissue, blurry = image.load_mask("tissue_seg.png"), image.load_mask("blurry.png")
        panels = {
            "the slide, at 1.25x": image.picture("1.25x"),
            "its tissue mask": tissue,
            f"its blur mask: {100 * percent_blurry:.0f} % of the tissue": blurry,
            "both, in the report": drawing.overlay(image.picture("1.25x"), tissue, blurry),
        }
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.4), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(title, fontsize=16)
        axis.set(xticks=[], yticks=[])
    figure.savefig(target, dpi=90, metadata={"Software": None})


def flow_picture(flow: Flow, target: Path) -> None:
    """The flow as Prefect draws it, from its first tasks to its last: out of its sets, each run would draw another."""

    def place(task: Task) -> tuple[int, str]:
        return max((place(before)[0] + 1 for before in flow.upstream_tasks(task)), default=0), task.name

    edges = {edge: (place(edge.upstream_task), place(edge.downstream_task), edge.key or "") for edge in flow.edges}
    flow.tasks = sorted(flow.tasks, key=place)
    flow.edges = sorted(edges, key=edges.get)
    flows.visualize(flow, target)


def run_pictures(timeline: Path, schematic: Path) -> None:
    """The pages of a run of the mapped flow, on a server with an agent, as the browser shows them."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        sys.exit("the pictures of the server's pages need a browser: apt install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slides = folder / "scans"
        slides.mkdir()
        for seed in range(8):
            generate.write_slide(slides / f"slide-{seed + 1}.svs", width=12000, height=9000, magnification=20,
                                 seed=seed, blurred=seed % 3 == 2)
        with own_server.run_server(folder / "server") as server:
            server.start_agent()
            solution = DOCS.parent / "solutions" / "pipeline_prefect_parallel_server.py"
            subprocess.run([sys.executable, solution, "--folder", slides, "--output", folder / "output",
                            "--workers", "2", "--wait"], env=server.env, check=True)
            run = server.query("{ flow_run { id } }")["flow_run"][0]
            for tab, height, target in (("timeline", 1000, timeline), ("schematic", 1500, schematic)):
                subprocess.run([browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={name}/b",
                                f"--window-size=1400,{height}", "--disable-background-networking", "--disable-quic",
                                f"--screenshot={target}", f"{server.ui}/default/flow-run/{run['id']}?tab={tab}"],
                               check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    pipeline_overview(DOCS / "pipeline_overview.png")
    flow_picture(pipeline_prefect.define_flow(), DOCS / "flow_serial.png")
    flow_picture(pipeline_prefect_parallel.define_flow(), DOCS / "flow_parallel.png")
    architecture_figure.draw(DOCS / "architecture.png")
    comparison = json.loads((DOCS / "comparison.json").read_text(encoding="utf-8"))
    (DOCS / "comparison.png").write_bytes(chart.draw(comparison))
    run_pictures(DOCS / "flow_timeline.png", DOCS / "flow_schematic.png")
    subprocess.run([sys.executable, DOCS / "qc_figure.py", "--draw", DOCS / "qc_blur.png"], check=True)
    subprocess.run([sys.executable, DOCS / "presentation" / "make.py"], check=True)  # last: it shows the pictures
