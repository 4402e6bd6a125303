"""1: name 'case' is not defined"""

from pieces import measure, parameters
from prefect import Flow

from solutions.pipeline_prefect import blurry_action, check_blurry


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        image, _, percent_blurry = measure(p)
        with case(check_blurry(percent_blurry, p.blur_max), True):  # noqa: F821
            blurry_action(image, percent_blurry)
    return flow
