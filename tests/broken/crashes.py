"""1: Python itself ended"""

import os

from prefect import task

import solutions.pipeline_prefect as right


@task
def load_image(file_name, image_work_size, output):
    os.abort()


right.load_image = load_image
define_flow = right.define_flow
