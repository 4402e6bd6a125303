"""1: check_blurry is a plain function"""

from pieces import measure, parameters
from prefect import Flow, case

from pipeline import check_blurry
from solutions.pipeline_prefect import blurry_action


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        image, _, percent_blurry = measure(p)
        with case(check_blurry(percent_blurry, p.blur_max), True):
            blurry_action(image, percent_blurry)
    return flow
