"""1: ended with exit status 2: flags_missing.py: error: unrecognized arguments: --folder data --output"""

import argparse

from solutions.pipeline_prefect import define_flow

if __name__ == "__main__":
    options = argparse.ArgumentParser().parse_args()
    define_flow().run(file_name="data/CMU-1-Small-Region.svs")
