"""1: I called define_flow(); it returned None"""

from pieces import measure, parameters, rescan
from prefect import Flow


def define_flow():
    with Flow("Check one slide"):
        p = parameters()
        image, _, percent_blurry = measure(p)
        rescan(image, percent_blurry, p.blur_max)
