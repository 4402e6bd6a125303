"""The folders of the server import each other in one direction only."""

import ast
from graphlib import TopologicalSorter

from harness import HOME

FILES = {path.relative_to(HOME).with_suffix("").as_posix().replace("/", "."): path
         for path in (HOME / "workshop_server").rglob("*.py")}


def room(module: str) -> str:
    """The folder of a module; a file beside the folders is a room of its own."""
    above = module.rpartition(".")[0]
    return module if above == "workshop_server" else above


def test_imports_between_rooms_make_no_circle() -> None:
    above: dict[str, set[str]] = {}
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = {name if name in FILES else node.module for name in names}
                above.setdefault(room(module), set()).update(room(each) for each in targets if each in FILES)
    assert len(above) > 15
    for name, targets in above.items():
        targets.discard(name)
    TopologicalSorter(above).prepare()  # raises CycleError, which names the rooms
