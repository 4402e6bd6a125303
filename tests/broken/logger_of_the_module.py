"""1: blurry_action logs through 'pipeline'"""

from prefect import task

import pipeline
import solutions.pipeline_prefect as right

right.blurry_action = task(pipeline.blurry_action)
define_flow = right.define_flow
