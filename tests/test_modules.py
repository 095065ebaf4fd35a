"""The modules of hipcomm import each other in one direction only: docs/architecture.md draws them."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "hipcomm"


def name_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports(tree):
    """The modules of hipcomm that a module imports, in functions too; not those for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)
        yield from imports(node)


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        name: {other for other in imports(ast.parse(path.read_text())) if other in MODULES}
        for name, path in MODULES.items()
    }
    assert "hipcomm.core" in graph["hipcomm.collectives"]
    list(TopologicalSorter(graph).static_order())  # raises CycleError
