"""1: the flow has no Parameter blur_max"""

from pieces import measure, parameters
from prefect import Flow, case, task

from solutions.pipeline_prefect import blurry_action


@task
def check_blurry(percent_blurry):
    return percent_blurry > 0.05


def define_flow():
    with Flow("Check one slide") as flow:
        image, _, percent_blurry = measure(parameters())
        with case(check_blurry(percent_blurry), True):
            blurry_action(image, percent_blurry)
    return flow
