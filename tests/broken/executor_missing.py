"""4: flow.executor is not set"""

from solutions.pipeline_prefect_parallel import define_flow

if __name__ == "__main__":
    define_flow().run(file_names=["data/CMU-1-Small-Region.svs"])
