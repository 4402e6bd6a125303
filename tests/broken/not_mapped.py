"""3: load_image is called once, for all slides together"""

from pieces import measure, parameters, rescan
from prefect import Flow, Parameter


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters(file_name=Parameter("file_names"))
        image, _, percent_blurry = measure(p)
        rescan(image, percent_blurry, p.blur_max)
    return flow
