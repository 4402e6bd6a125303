"""1: name 'prefect' is not defined: `from prefect import …` does not bring the name prefect itself"""

from prefect import task

import solutions.pipeline_prefect as right


@task
def blurry_action(image, percent_blurry):
    logger = prefect.context.get("logger")  # noqa: F821
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


right.blurry_action = blurry_action
define_flow = right.define_flow
