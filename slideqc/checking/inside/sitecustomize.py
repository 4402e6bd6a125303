"""Python imports this by its name as it starts: in a script that is checked, and in each worker process of it.

What goes to data/ and output/ by default goes to the folder of the check.
"""

import os
from pathlib import Path

from slideqc import flags
from slideqc.checking.aside import PLACE

flags.DATA, flags.OUTPUT = Path(os.environ[PLACE]) / "data", Path(os.environ[PLACE]) / "output"
