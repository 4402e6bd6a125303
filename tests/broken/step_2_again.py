"""5: a Parameter called file_name, and none called file_names"""

from solutions.pipeline_prefect_server import define_flow  # noqa: F401
