"""1: on sharp.svs, with the default executor, blurry_action ran"""

from pieces import measure, parameters
from prefect import Flow, case

from solutions.pipeline_prefect import blurry_action, check_blurry


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        image, _, percent_blurry = measure(p)
        with case(check_blurry(percent_blurry, p.blur_max), False):
            blurry_action(image, percent_blurry)
    return flow
