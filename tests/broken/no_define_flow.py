"""1: has no define_flow()"""

from prefect import Flow

with Flow("Image QC") as flow:
    pass
