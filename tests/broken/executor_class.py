"""4: flow.executor is the class LocalDaskExecutor"""

from prefect.executors import LocalDaskExecutor

from solutions.pipeline_prefect_parallel import define_flow

if __name__ == "__main__":
    flow = define_flow()
    flow.executor = LocalDaskExecutor
    flow.run(file_names=["data/CMU-1-Small-Region.svs"])
