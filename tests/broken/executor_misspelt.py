"""4: cannot import name 'LocalDaskExecuter' from 'prefect.executors' (it has LocalDaskExecutor)"""

from prefect.executors import LocalDaskExecuter  # noqa: F401

from solutions.pipeline_prefect_parallel import define_flow  # noqa: F401
