"""English text that every installation has: Python's own documentation, its packages' descriptions and licences.

Modules are parsed, never imported.
"""

import ast
import importlib.metadata
import importlib.util
import pydoc
import pydoc_data.topics
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_SKIPPED = frozenset(
    ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "pydoc_data", "__pycache__")
)
_LICENCE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)
_OWN_NAME = "slimpajama"


def topic_pages() -> Iterator[tuple[str, str]]:
    """Yield name and HTML page of each language topic, as `python -m pydoc -b` shows them."""
    renderer = pydoc.HTMLDoc()
    for name in sorted(pydoc_data.topics.topics):
        contents = renderer.markup(pydoc_data.topics.topics[name])
        heading = renderer.heading(f'<strong class="title">{name}</strong>')
        yield name, renderer.page(name, heading + f"<pre>{contents}</pre>")


def modules(library: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield name and source of each module of a library, by default the standard library, without its tests."""
    library = library or Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if _SKIPPED.isdisjoint(parts):
            yield ".".join(parts).removesuffix(".__init__"), path.read_bytes()


def package_modules(package: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and source of each module of an installed package; nothing where it is not installed."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or ():
        for name, source in modules(Path(folder)):
            yield f"{package}.{name}", source


def module_texts(library: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield name and docstrings of each module of a library, by default the standard library.

    A module's text is its own docstring, then each class, method and function with a name line above it.
    """
    for name, source in modules(library):
        text = docstrings(source)
        if text:
            yield name, text


def docstrings(source: bytes) -> str:
    """Return the docstrings of a module's source, or nothing where it is no Python of this version."""
    return "\n\n".join(f"{name}\n{text}" if name else text for name, text in named_docstrings(source))


def named_docstrings(source: bytes) -> Iterator[tuple[str, str]]:
    """Yield the docstrings of a module's source, each with its definition's name; the module's own has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for name, node in (("", tree), *((node.name, node) for node in _definitions(tree.body))):
        text = ast.get_docstring(node) or ""
        if text.strip():
            yield name, text


def _definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield classes with their methods, and functions, in order; not what a function hides inside."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body)


def _distributions() -> Iterator[tuple[str, importlib.metadata.Distribution]]:
    """Yield the installed packages in order of their names, each once, without this one."""
    seen: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata.get("Name", "")).lower()  # type: ignore[attr-defined]
        if name and name != _OWN_NAME:
            seen.setdefault(name, distribution)
    yield from sorted(seen.items())


def descriptions() -> Iterator[tuple[str, str]]:
    """Yield name and long description of each installed package that has one."""
    for name, distribution in _distributions():
        metadata = distribution.metadata
        text = str(metadata.get_payload() or metadata.get("Description", ""))  # type: ignore[attr-defined]
        if text.strip() not in ("", "UNKNOWN"):
            yield name, text


def licences() -> Iterator[tuple[str, str]]:
    """Yield path and text of each licence file of the installed packages; many are nearly the same."""
    for name, distribution in _distributions():
        for file in sorted(distribution.files or [], key=str):
            if not (_LICENCE.search(file.name) and file.parts[0].endswith("-info")):
                continue
            try:
                text = Path(str(file.locate())).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if text.strip():
                yield f"{name}/{'/'.join(file.parts[1:])}", text
