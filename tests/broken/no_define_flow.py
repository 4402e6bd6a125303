"""1: has no define_flow()"""

from prefect import Flow

with Flow("Check one slide") as flow:
    pass
