"""1: a task called sys.exit(4)"""

import sys

from prefect import task

import solutions.pipeline_prefect as right


@task
def check_blurry(percent_blurry, blur_max):
    sys.exit(4)


right.check_blurry = check_blurry
define_flow = right.define_flow
