"""1: already called flow.run()"""

from solutions.pipeline_prefect import define_flow

flow = define_flow()
flow.run(file_name="data/CMU-1-Small-Region.svs")
