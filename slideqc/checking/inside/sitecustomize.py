"""Python imports this by its name as it starts: in a script that is checked, and in each worker process of it.

What goes to data/ and output/ by default goes to the folder of the check. Only where slideqc is imported, that is: an
agent's process has to find the script's modules by itself, or fail as it would without the check.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

PLACE = Path(os.environ["SLIDEQC_CHECK"])


class _Aside(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "slideqc.flags":
            return None
        sys.meta_path.remove(self)  # or it would find itself
        spec = find_spec(name)
        load = spec.loader.exec_module

        def load_and_move(module: object) -> None:
            load(module)
            module.DATA, module.OUTPUT = PLACE / "data", PLACE / "output"
        spec.loader.exec_module = load_and_move
        return spec


sys.meta_path.insert(0, _Aside())
