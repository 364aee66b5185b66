"""Errors that a user can act on: what, where, expected, found, what next.

Any other error is a defect of ours and keeps its traceback.
"""

import re
from functools import partial
from typing import Any

AGAIN = "Run again: it goes on where it stopped."
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}

# It finds `user:password@` before a host, anything before the `@` of a web address, and secrets in a query.
# Every part is bounded, so that hostile text costs linear time.
_CREDENTIALS = re.compile(
    r"(?<=://)(?:[^/\s@:'\"]{0,200}:[^/\s@'\"]{0,400}|(?<=http://)[^/\s@'\"]{1,400}|(?<=https://)[^/\s@'\"]{1,400})(?=@)"
    r"|(?<=[?&;])([\w.-]{0,40}(?:token|secret|passw|signature|credential|api-?_?key|accesskey)[\w.-]{0,40}=|"
    r"(?:sig|key|pwd|auth|authorization)=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return `text` with `***` for every password, token or signature that an address in it carries.

    Example:
        >>> masked("https://me:secret@example.org/a.txt?token=1")
        'https://***@example.org/a.txt?token=***'
    """
    return _CREDENTIALS.sub(lambda found: f"{found[1] or ''}***", text)


def printable(value: object, limit: int = 300) -> str:
    """Return `value` as one line that is safe to print: a corpus may hold terminal escapes, an address a password."""
    text = masked(str(value))
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def printable_lines(text: str) -> str:
    """Return `text` with its control characters spelt out, which a terminal would obey; line breaks and tabs stay."""
    return text.translate(CONTROLS)


PARTS = ("where", "expected", "found", "hint")


class SlimpajamaError(Exception):
    """Something the user can act on.

    Args:
        what: What went wrong, in one clause, without a full stop.
        where: File, URI or field it is about.
        expected: What should have been there.
        found: What was there.
        hint: What to do next, a full sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", found: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.expected, self.found, self.hint = what, where, expected, found, hint

    def __str__(self) -> str:
        # It may quote a key or a name, or a library's message that quotes the corpus.
        what = printable(self.what, 10_000)
        text = f"{printable(self.where)}: {what}" if self.where else what
        if self.expected:
            text += f": expected {printable(self.expected)}"
        if self.found:
            text += f"{',' if self.expected else ':'} found {printable(self.found)}"
        return f"{text}. {self.hint}" if self.hint else text

    # Without this, keyword-only arguments do not survive a process boundary.
    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.what, **{name: vars(self)[name] for name in PARTS}), ()


class ConfigError(SlimpajamaError):
    """A wrong key, type or value in a configuration or on the command line."""

    exit_code = 2


class InputError(SlimpajamaError):
    """The raw input as a whole cannot be used (a single bad record never raises)."""


class EmptyInputError(InputError):
    """Nothing of the raw input is left: somebody has to change it, or the settings."""

    exit_code = 2


def unwritable(error: OSError, where: object, another: str) -> InputError:
    """Return what to raise where something cannot be written to a place that the user named.

    Args:
        error: What the operating system said.
        where: The place.
        another: What to name instead, `folder` for one.
    """
    hint = f"Is there room, and may you write there? Or name another {another}."
    return InputError(f"cannot be written: {error.strerror or error}", where=str(where), hint=hint)


class StorageError(SlimpajamaError):
    """A read or write of the workspace failed, or a published file is not what its manifest says."""


class DamagedError(StorageError):
    """A file of the workspace was read, and its content is not what was written."""


class LockedError(SlimpajamaError):
    """Another run holds the workspace, or replaced a pointer first."""


class ModelError(SlimpajamaError):
    """A model is missing, or cannot do what was asked of it."""


class CompressedFileError(SlimpajamaError):
    """A compressed file is damaged, or another model or machine made it."""
