"""Steps 3 and 4: one flow run for all slides, with mapped tasks, on an executor that you choose.

    python solutions/pipeline_prefect_parallel.py --folder data --executor threads --workers 2

What changes from pipeline_prefect.py in step 3:

- Each task is mapped over the slides with `.map`.
- Arguments that are the same for all slides are `unmapped`.
- The `case` moves to a function, which `apply_map` applies to each slide.
- Instead of the loop, the flow gets the list of all slides as a parameter.

In step 4, the flow gets an executor, which decides where its tasks run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slideqc.console import script

from prefect import Flow, Parameter, Task, apply_map, case, unmapped
from prefect.executors import DaskExecutor, Executor, LocalDaskExecutor, LocalExecutor

from slideqc import flags
from slideqc.orchestration import flows
from slideqc.output.run import Run
from solutions.pipeline_prefect import (
    blurry_action,
    check_blurry,
    identifyBlurryRegions,
    load_image,
    save_result,
    tissue_segmentation_simple,
)


def rescan_if_blurry(image: Task, percent_blurry: Task, blur_max: Task) -> Task:
    """The branch of the flow, for one slide."""
    too_blurry = check_blurry(percent_blurry, blur_max)
    with case(too_blurry, True):
        blurry_action(image, percent_blurry)
    return too_blurry


def define_flow() -> Flow:
    """The flow for all slides: its mapped tasks and their dependencies."""
    with Flow("Check all slides", terminal_state_handler=flows.finish) as flow:
        file_names = Parameter("file_names")
        image_work_size = unmapped(Parameter("image_work_size", default="1.25x"))
        blur_work_size = unmapped(Parameter("blur_work_size", default="5x"))
        blur_radius = unmapped(Parameter("blur_radius", default=7))
        blur_threshold = unmapped(Parameter("blur_threshold", default=0.05))
        blur_max = unmapped(Parameter("blur_max", default=0.10))
        output = unmapped(Parameter("output", default=str(flags.OUTPUT)))

        image = load_image.map(file_names, image_work_size, output)
        tissue = tissue_segmentation_simple.map(image, image_work_size)
        percent_blurry = identifyBlurryRegions.map(image, image_work_size, blur_work_size, blur_radius,
                                                   blur_threshold, upstream_tasks=[tissue])
        too_blurry = apply_map(rescan_if_blurry, image, percent_blurry, blur_max)
        save_result.map(image, image_work_size, tissue, percent_blurry, too_blurry)
    flows.save_failures(flow)
    flows.name_task_runs(flow)  # such as "load CMU-1.svs", for a server's pages
    return flow


def choose_executor(name: str, workers: int, scheduler_address: str | None) -> Executor:
    """Choose where tasks run: one after the other in this process, on threads, on processes, or on a Dask cluster.

    The cluster is the one at `scheduler_address`, or if that is None, a local one with `workers` processes.
    """
    if name == "local":
        return LocalExecutor()
    if name != "distributed":
        return LocalDaskExecutor(scheduler=name, num_workers=workers)
    own_cluster = None if scheduler_address else {"n_workers": workers, "threads_per_worker": 1,
                                                  "dashboard_address": None}
    return DaskExecutor(scheduler_address, cluster_kwargs=own_cluster, watch_worker_status=False)


@script
def main(argv: list[str] | None = None) -> int:
    """Check all slides of the folder in one flow run; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_visualize(parser)
    flags.add_workers(parser)
    flags.add_executor(parser)
    options = parser.parse_args(argv)
    flow = define_flow()
    if options.visualize:
        return flows.visualize(flow, options.visualize)
    flows.check_scheduler(options)
    run = Run.begin(options)
    flow.executor = choose_executor(options.executor, options.workers, options.scheduler_address)
    flow.run(file_names=run.slides, output=str(options.output), **flags.parameters(options))
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
