"""1: on sharp.svs, with the default executor, save_result was skipped, so this slide gets no row"""

from pieces import measure, parameters
from prefect import Flow, case, task

import pipeline
from solutions.pipeline_prefect import blurry_action, check_blurry

save_result = task(pipeline.save_result)


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        image, result, percent_blurry = measure(p)
        too_blurry = check_blurry(percent_blurry, p.blur_max)
        with case(too_blurry, True):
            blurry_action(image, percent_blurry)
            save_result(image, p.image_work_size, result, percent_blurry, too_blurry)
    return flow
