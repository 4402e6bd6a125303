"""2: ended with exit status 2: server_elsewhere.py: no server at http://127.0.0.1:9"""

import os
import sys

os.environ["PREFECT__SERVER__ENDPOINT"] = "http://127.0.0.1:9"

from solutions.pipeline_prefect_server import define_flow, main  # noqa: F401

if __name__ == "__main__":
    sys.exit(main())
