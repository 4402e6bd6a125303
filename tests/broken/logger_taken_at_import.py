"""1: blurry_action logs through 'prefect', the logger that prefect.context holds while the script is imported"""

import prefect
from prefect import task

import solutions.pipeline_prefect as right

logger = prefect.context.get("logger")


@task
def blurry_action(image, percent_blurry):
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


right.blurry_action = blurry_action
define_flow = right.define_flow
