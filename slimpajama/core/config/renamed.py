"""Settings that were renamed: their old names stay valid for one release."""

import copy
import functools
from typing import Any

from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import log

# Old dotted key -> new dotted key, as in `"dedup.jaccard": "dedup.threshold"`.
RENAMED: dict[str, str] = {}


def new_name(key: str) -> str:
    """Return the name that a dotted key has now."""
    if key in RENAMED:
        _notify(key, RENAMED[key])
    return RENAMED.get(key, key)


def with_new_names(data: dict[str, Any]) -> dict[str, Any]:
    """Return settings with every old key replaced by its new one.

    Raises:
        ConfigError: Both are given.
    """
    for old, new in RENAMED.items():
        *parents, last = old.split(".")
        if last in _section(copy.deepcopy(data), parents):
            data = copy.deepcopy(data)
            *new_parents, new_last = new_name(old).split(".")
            value, target = _section(data, parents).pop(last), _section(data, new_parents)
            if new_last in target:
                raise ConfigError(f"is now named {new}, and both are given", where=old, hint="Keep the new one.")
            target[new_last] = value
    return data


def _section(data: Any, path: list[str]) -> dict[str, Any]:
    """Return the section at `path`, made where it is missing; an empty one where something else stands in its place."""
    for key in path:
        data = data.setdefault(key, {}) if isinstance(data, dict) else {}
    return data if isinstance(data, dict) else {}


@functools.cache
def _notify(old: str, new: str) -> None:
    """Warn that a name is old, once in a process."""
    log.warning(f"the setting {old} is now named {new}; the old name goes with the next release")
