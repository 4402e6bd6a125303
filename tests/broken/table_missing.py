"""1: left a row for each slide, and no results.csv"""

from slideqc import flags
from slideqc.output.run import Run
from solutions.pipeline_prefect import define_flow

if __name__ == "__main__":
    options = flags.parser(__doc__).parse_args()
    for file_name in Run.begin(options).slides:
        define_flow().run(file_name=file_name, output=str(options.output), **flags.parameters(options))
