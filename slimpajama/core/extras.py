"""Packages that only one option needs: imported when the option is used, and named where they are missing."""

import contextlib
from collections.abc import Iterator

from slimpajama.core.errors import ConfigError


@contextlib.contextmanager
def require_extra(extra: str, package: str) -> Iterator[None]:
    """Import in this block what `pip install 'slimpajama[EXTRA]'` installs.

    Raises:
        ConfigError: `package` is not installed. Another import that fails is a defect, and its error passes.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ConfigError(
            f"needs the extra `{extra}`", where=package, hint=f"pip install 'slimpajama[{extra}]'"
        ) from None
