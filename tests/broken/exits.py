"""1: called sys.exit(1)"""

import sys

from solutions.pipeline_prefect import define_flow  # noqa: F401

sys.exit(1)
