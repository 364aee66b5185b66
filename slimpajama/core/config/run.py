"""Settings of a run: where and how it runs, what it keeps, what it tells. Only `run.retry` changes a published byte."""

import os
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from slimpajama.core.config.base import STRICT, Address, CountOrNone, Place, protocol


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RunConfig:
    """Where and how it runs; nothing here but `retry` changes a published byte."""

    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads, or processes of an engine of this machine, for stages that are mapped over files; 0 takes every core."""

    engine: Literal["threads", "dask", "ray"] = "threads"
    """What maps stages over files: threads of one process, or a cluster's workers beside it (`pip install
    slimpajama[dask]` or `[ray]`). The workspace must be one that all workers reach."""

    address: Address = ""
    """The cluster's, for example `tcp://scheduler:8786` or `ray://head:10001`; empty starts one on this machine."""

    source_root: Place = ""
    """Folder that relative source patterns start at; empty means the configuration file's own."""

    retry: tuple[str, ...] = ()
    """Sources whose refused records this run tries again, changed settings or not: what `--retry` sets. In a file it
    would do so every night."""

    def threads(self) -> int:
        """Return how many threads a mapped stage may use."""
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ScheduleConfig:
    """When the deployment `nightly` starts a night. Cron and time zone count when it is made for the first time; after
    that they are changed in Prefect, and stay as they are there."""

    cron: Annotated[str, Field(pattern=r"^$|^\S+( \S+){4}$")] = "0 2 * * *"
    """Minute, hour, day of the month, month, day of the week; empty for no schedule."""

    timezone: str = "UTC"
    """Of the cron and of the weekly `clean-up`, for example `Asia/Shanghai`."""

    missed: Literal["last", "none"] = "last"
    """Which of the nights is made up for that no worker was there to start: the `last` one, or `none`, if more than an
    hour has gone since."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RetentionConfig:
    """What `clean-up` removes. Champions, what they were started from, and the nights' corpora always stay."""

    nights: CountOrNone = 14
    """Newest nights whose rejected models are kept; 0 keeps all."""

    max_gb: Annotated[float, Field(ge=0.0, le=1e9)] = 0.0
    """Size of the workspace above which rejected models of these nights go too, the oldest first; 0 for no limit."""

    run_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    """Days for which finished runs stay in Prefect, with their logs and artifacts; 0 keeps all."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RecoveryConfig:
    """What happens to a scheduled run whose process died."""

    attempts: Annotated[int, Field(ge=0, le=1000)] = 3
    """Times it is started again, to go on where it stopped; after that someone is notified."""

    alert: str = ""
    """Notification block in Prefect for runs that failed or keep dying, for example
    `slack-webhook/nights`; empty notifies nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ObserveConfig:
    """What a run tells other systems. Nothing here changes a published byte, and none of them can fail a run."""

    openlineage: Address = ""
    """Where OpenLineage events go: a file, one event a line, or the `http(s)://` address of a server; a relative path
    starts at the configuration file's folder. Needs the extra `openlineage`. Empty for none."""

    metrics: Annotated[Place, Field(pattern=r"^$|\.prom$")] = ""
    """File for Prometheus, `NAME.prom` in the folder of node_exporter's textfile collector; a relative path starts at
    the configuration file's folder. Empty for none."""

    logs: Literal["text", "json"] = "text"
    """What commands write to stderr: `text` for people, `json` for one object a line."""

    def __post_init__(self) -> None:
        if (used := protocol(self.openlineage)) not in ("file", "http", "https"):
            raise ValueError(f"openlineage: a file or http(s)://, got {used}://")
