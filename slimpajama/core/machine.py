"""Where this process meets its machine: standard streams that cannot fail it, limits that it cannot live with.

What is odd about a machine is met here, once, and not where it would strike: the rest of the program takes for granted
that it may print, that names are UTF-8, and that there is a working directory.
"""

import errno
import io
import os
import re
import resource
import sys
from pathlib import Path
from typing import TextIO

from slimpajama.core.errors import ConfigError, SlimpajamaError

# Whatever the operating system calls so stays until somebody changes it.
FOR_A_PERSON = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOMEM, errno.EBADF, errno.EEXIST),
}
# How the shell calls a limit, and in what unit.
ULIMIT = {"RLIMIT_AS": ("-v", 1024), "RLIMIT_FSIZE": ("-f", 1024), "RLIMIT_NOFILE": ("-n", 1)}
_NO_MEMORY = re.compile(r"can't (start new thread|allocate memory)|cannot allocate memory|failed to map segment", re.I)


class OutputError(SlimpajamaError):
    """Stdout takes no more; its cause says why."""


class _Stream(io.FileIO):
    """A standard stream: what stderr does not take is lost without a word, what stdout does not take is an error."""

    def write(self, data: object) -> int:
        try:
            return super().write(data) or len(memoryview(data))  # type: ignore[arg-type]
        except OSError as error:
            if self.fileno() == 2:
                return len(memoryview(data))  # type: ignore[arg-type]
            raise OutputError(f"cannot be written: {error.strerror}", where="stdout") from error


def use_utf8() -> None:
    """Start this program again in UTF-8 mode where names of files would be read as something else.

    The terminal keeps its encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        shown = sys.stdout.encoding if sys.stdout else "utf-8"
        encoding = os.environ.get("PYTHONIOENCODING", f"{shown}:backslashreplace")
        environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": encoding}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def steady_streams() -> None:
    """Give this process standard streams, whatever it was started with.

    A letter that the terminal's encoding lacks is spelt out. A stream that is closed is open from here on, so that no
    file takes its number: stdin and stdout for the wrong direction, which is an error for who uses them.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.set_blocking(number, True)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout, sys.stderr = (_text(number, stream) for number, stream in ((1, sys.stdout), (2, sys.stderr)))


def _text(number: int, before: TextIO | None) -> io.TextIOWrapper:
    raw = _Stream(number, "w", closefd=False)
    encoding = before.encoding if before else "utf-8"
    lines = number == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


def drop_output() -> None:
    """Forget what stdout did not take: at the process's end it would be tried again."""
    sys.stdout = io.StringIO()


def require_machine(**least: int) -> None:
    """Refuse a machine that cannot run us.

    Args:
        least: What a limit of the process must leave by its name in `resource`, as in `RLIMIT_AS=1 << 30`: with less
            of it libraries wait for ever, or die with a word of their own.

    Raises:
        ConfigError: A limit leaves less, or there is no working directory.
    """
    try:
        Path.cwd()
    except OSError as error:
        hint = "Change to a folder that is there."
        raise ConfigError(f"the working directory cannot be used: {error.strerror}", hint=hint) from None
    for name, wanted in least.items():
        limit = resource.getrlimit(getattr(resource, name))[0]
        if limit != resource.RLIM_INFINITY and limit < wanted:
            option, unit = ULIMIT[name]
            raise ConfigError(
                "too low a limit of this process",
                where=f"ulimit {option}",
                expected=f"{wanted // unit} or more",
                found=str(limit // unit),
            )


def of_machine(error: BaseException) -> SlimpajamaError | None:
    """Return what to tell of an error that comes from the machine; None where it does not.

    Its exit code is 2 where the next try fails, too, unless somebody changes something.
    """
    if isinstance(error, SlimpajamaError):
        known, cause = error, error.__cause__
    elif isinstance(error, OSError):
        where = " ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        known, cause = SlimpajamaError(error.strerror or str(error) or type(error).__name__, where=where), error
    elif isinstance(error, UnicodeEncodeError):
        # A name in bytes that are none, which Python keeps as halves of letters.
        known, cause = ConfigError("bytes that are no UTF-8", found=ascii(error.object[error.start : error.end])), None
    elif isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        hint = (
            "Give it more memory and threads (`ulimit -a` shows limits), or lower run.workers and train.batch_tokens."
        )
        known, cause = SlimpajamaError("not enough memory", found=str(error), hint=hint), OSError(errno.ENOMEM, "")
    else:
        return None
    if isinstance(cause, OSError) and cause.errno in FOR_A_PERSON:
        known.exit_code = ConfigError.exit_code
    return known
