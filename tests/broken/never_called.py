"""1: run as a script, never_called.py checked no slide: it ended with exit status 0"""

from solutions.pipeline_prefect import define_flow, main  # noqa: F401
