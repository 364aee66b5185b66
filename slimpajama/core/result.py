"""What a step or a command came to, for people and as JSON."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

# What came of a night, as a run's last state is named; `infra/local/automations.yaml` lists them, too.
PROMOTED, REJECTED, UNTRAINED, NOTHING_NEW = "New champion", "Rejected", "Nothing trained", "Nothing new"
SKIPPED = "Skipped"


class Result(ABC):
    """Base of the frozen dataclasses that say what was done."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @abstractmethod
    def text(self) -> str:
        """Return lines for people."""
