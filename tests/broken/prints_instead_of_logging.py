"""1: blurry_action logs nothing"""

from prefect import task

import solutions.pipeline_prefect as right


@task
def blurry_action(image, percent_blurry):
    print(image.name, "needs a rescan")


right.blurry_action = blurry_action
define_flow = right.define_flow
