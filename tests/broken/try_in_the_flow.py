"""1: a try in `with Flow(…)`, where the tasks are only put together"""

from pieces import measure, parameters, rescan
from prefect import Flow

from slideqc.output import results


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        try:
            image, _, percent_blurry = measure(p)
            rescan(image, percent_blurry, p.blur_max)
        except Exception as error:
            results.save_failure(p.output, p.file_name, error)
    return flow
