import email.message
import importlib.metadata
import types
from pathlib import Path

from slimpajama.corpus.demo import python_texts

SOURCE = b'''"""Module text."""
class A:
    """Class text."""
    def f(self):
        """Method text."""
        def hidden():
            """Not shown."""
def g(): pass
async def h():
    """Async text."""
'''


def test_docstrings_come_in_order_with_their_names_and_no_code_is_run():
    assert python_texts.docstrings(SOURCE + b"raise SystemExit").split("\n\n") == [
        "Module text.",
        "A\nClass text.",
        "f\nMethod text.",
        "h\nAsync text.",
    ]


def test_what_is_no_python_has_no_docstrings():
    assert (
        python_texts.docstrings(b"def (:") == python_texts.docstrings(b"\0") == python_texts.docstrings(b"x = 1") == ""
    )


def test_modules_are_named_and_sorted_and_tests_are_left_out(tmp_path: Path):
    for name in ("b.py", "pack/__init__.py", "pack/a.py", "test/t.py", "empty.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('"""Text."""' if name != "empty.py" else "", encoding="utf-8")
    assert [name for name, _ in python_texts.module_texts(tmp_path)] == ["b", "pack", "pack.a"]


def test_topic_pages_are_whole_html_pages_without_a_path_of_this_machine():
    pages = dict(python_texts.topic_pages())
    assert len(pages) > 50
    assert all(page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>") for page in pages.values())
    assert not any(str(Path.home()) in page or "file:/" in page for page in pages.values())


def test_packages_are_listed_once_in_order_and_without_this_one():
    names = [name for name, _ in python_texts.descriptions()]
    assert names == sorted(set(names))
    assert "slimpajama" not in names
    assert "hypothesis" in names


def test_a_package_without_description_is_passed_over_whichever_library_reads_it(monkeypatch):
    class Strict(email.message.Message):
        """The backport `importlib_metadata` joins in once it is imported, and its messages raise on missing keys."""

        def __getitem__(self, key):
            if key not in self:
                raise KeyError(key)
            return super().__getitem__(key)

    def package(**headers):
        message = Strict()
        for name, value in headers.items():
            message[name] = value
        return types.SimpleNamespace(metadata=message)

    packages = [package(Name="a", Description="词语 words"), package(Name="b"), package(Description="nameless")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: packages)
    assert list(python_texts.descriptions()) == [("a", "词语 words")]


def test_licences_are_real_texts_of_installed_packages():
    texts = dict(python_texts.licences())
    assert len(texts) > 20
    assert any("Apache License" in text for text in texts.values())


def test_modules_of_a_package_bear_its_name_and_what_is_not_installed_has_none():
    assert "email.mime.text" in dict(python_texts.package_modules("email"))
    assert not list(python_texts.package_modules("no_such_package_anywhere"))
