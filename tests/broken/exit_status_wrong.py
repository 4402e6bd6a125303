"""1: run as a script, exit_status_wrong.py did all, and ended with exit status 1"""

import sys

from solutions.pipeline_prefect import define_flow, main  # noqa: F401

if __name__ == "__main__":
    sys.exit(main() == 0)
