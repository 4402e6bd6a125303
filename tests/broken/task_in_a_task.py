"""1: check_blurry calls the task blurry_action while it runs"""

from prefect import task

import solutions.pipeline_prefect as right


@task
def check_blurry(percent_blurry, blur_max):
    if percent_blurry > blur_max:
        right.blurry_action(None, percent_blurry)


right.check_blurry = check_blurry
define_flow = right.define_flow
