"""3: a Parameter called file_name, and none called file_names"""

from solutions.pipeline_prefect import define_flow  # noqa: F401
