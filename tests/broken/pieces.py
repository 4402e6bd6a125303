"""Pieces of the right flows, for the broken scripts to leave as they are: each shows its mistake, and little else.

This is no broken script itself. Where a single task is wrong, a script puts it into the solution in place of the right
one instead.
"""

from argparse import Namespace
from collections.abc import Callable
from types import SimpleNamespace

from prefect import Flow, Parameter, Task, case, unmapped

from slideqc import flags
from slideqc.checking.steps import DEFAULTS
from slideqc.output.run import Run
from solutions.pipeline_prefect import (
    blurry_action,
    check_blurry,
    identifyBlurryRegions,
    load_image,
    tissue_segmentation_simple,
)
from solutions.pipeline_prefect_server import RUN_CONFIG


def parameters(**own: object) -> SimpleNamespace:
    """The Parameters of step 1; those that the script makes on its `own` take the place of the right ones."""
    made = {"file_name": Parameter("file_name"), "output": Parameter("output", default=str(flags.OUTPUT))}
    made |= {name: Parameter(name, default=value) for name, value in DEFAULTS.items()}
    return SimpleNamespace(**made | own)


def mapped_parameters(**own: object) -> SimpleNamespace:
    """The same for step 3."""
    made = {name: unmapped(Parameter(name, default=value)) for name, value in DEFAULTS.items()}
    return SimpleNamespace(**{"file_names": Parameter("file_names")} | made | own)


def measure(p: SimpleNamespace) -> tuple[Task, Task, Task]:
    """The steps up to the blur step; gives the image, its tissue, its blur."""
    image = load_image(p.file_name, p.image_work_size, p.output)
    result = tissue_segmentation_simple(image, p.image_work_size)
    return image, result, identifyBlurryRegions(image, p.image_work_size, p.blur_work_size, p.blur_radius,
                                                p.blur_threshold, upstream_tasks=[result])


def measure_mapped(p: SimpleNamespace) -> tuple[Task, Task]:
    """The same steps for each slide; gives the images and their blur."""
    image = load_image.map(p.file_names, p.image_work_size)
    result = tissue_segmentation_simple.map(image, p.image_work_size)
    return image, identifyBlurryRegions.map(image, p.image_work_size, p.blur_work_size, p.blur_radius,
                                            p.blur_threshold, upstream_tasks=[result])


def rescan(image: Task, percent_blurry: Task, blur_max: Task) -> Task:
    """The steps that branch."""
    too_blurry = check_blurry(percent_blurry, blur_max)
    with case(too_blurry, True):
        blurry_action(image, percent_blurry)
    return too_blurry


def main(flow: Flow, in_the_loop: Callable[[Flow, str, Namespace], None]) -> int:
    """The main() of pipeline.py, which does what the script has in its loop."""
    options = flags.parser(__doc__).parse_args()
    run = Run.begin(options)
    for file_name in run.slides:
        in_the_loop(flow, file_name, options)
    return run.finish()


def given(options: Namespace) -> dict:
    """All that each flow run is given beside its slide."""
    return {"output": str(options.output), **flags.parameters(options)}


def send(flow: Flow, ask: Callable[[Flow, list[str], Namespace], None]) -> int:
    """The main() of step 2, which asks the server for what the script asks for."""
    options = flags.parser(__doc__).parse_args()
    run = Run.begin(options)
    flow.run_config = RUN_CONFIG
    ask(flow, run.slides, options)
    return 0
