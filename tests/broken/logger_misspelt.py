"""1: blurry_action failed: its logger is None"""

import prefect
from prefect import task

import solutions.pipeline_prefect as right


@task
def blurry_action(image, percent_blurry):
    logger = prefect.context.get("loger")
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


right.blurry_action = blurry_action
define_flow = right.define_flow
