"""2: ran the flow itself, with flow.run(), and registered no flow with the server"""

import sys

from solutions.pipeline_prefect import define_flow, main  # noqa: F401

if __name__ == "__main__":
    sys.exit(main())
