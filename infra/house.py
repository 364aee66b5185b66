"""What the house promises and a machine can count: `python infra/house.py` names each place that breaks a limit.

A file of at most 400 lines, a function of at most 60 lines and 8 arguments, in slimpajama, tasks and flows.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("slimpajama", "tasks", "flows")
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8


def broken(name: str, source: str) -> Iterator[str]:
    """Yield what in a source file is over a limit."""
    if (lines := len(source.splitlines())) > FILE_LINES:
        yield f"{name}: {lines} lines, at most {FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{name}:{node.lineno} {node.name}"
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES:
            yield f"{where}: {lines} lines, at most {FUNCTION_LINES}"
        arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if (count := len([name for name in arguments if name not in ("self", "cls")])) > ARGUMENTS:
            yield f"{where}: {count} arguments, at most {ARGUMENTS}"


def main() -> None:
    """Print every place over a limit, and end with 1 if there is one."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    found = [
        line for path in paths for line in broken(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
