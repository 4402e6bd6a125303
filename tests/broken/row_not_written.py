"""1: partly-blurry.svs has no row"""

from prefect import task

import solutions.pipeline_prefect as right


@task
def save_result(image, image_work_size, tissue, percent_blurry, too_blurry):
    return {"file_name": image.name, "status": "rescan" if too_blurry else "ok"}


right.save_result = save_result
define_flow = right.define_flow
