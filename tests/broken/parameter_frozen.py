"""1: identifyBlurryRegions gets blur_radius=7, a value that is fixed when the flow is built"""

from pieces import measure, parameters, rescan
from prefect import Flow


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters(blur_radius=7)
        image, _, percent_blurry = measure(p)
        rescan(image, percent_blurry, p.blur_max)
    return flow
