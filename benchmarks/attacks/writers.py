"""Writers on S3 that stand still at any request, or whose clock is wrong, while another one takes over.

One writer stops before or after a request drawn by the seed, its lease with it. Another one waits for the lease, takes
it and does its work, or stops as well until the first one has gone on to its end. In half of the tries neither notices
that its lease is lost, which leaves it to the names of files and to conditional puts. The pairs: the same night with
the same settings, with other settings, a night that found nothing new beside one that did, a document that is forgotten
beside another one; and a run whose clock is ahead beside one that lives.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks.attacks import Row
from benchmarks.machine import ROOT
from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import SlimpajamaError
from slimpajama.core.progress import silent
from slimpajama.corpus.pipeline import prepare
from slimpajama.ops.forget import forget
from slimpajama.ops.verify import verify
from slimpajama.workspace import layout, lease
from slimpajama.workspace import s3 as storage
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.s3 import S3Store
from slimpajama.workspace.step import Context

sys.path.append(str(ROOT / "tests" / "e2e"))
from servers import s3_server
from small_corpus import chinese, english

LEASE_S = 1.5
AHEAD_S = 90.0
# So many requests at the end publish a night and sweep behind it.
LATE = 14
CONFIG = """
[run]
workers = 2
[ingest]
sources = [{name = "a", uri = "raw/*.jsonl"}]
[tokenizer]
vocab_size = 600
[shards]
target_mb = 0.05
"""
Writer = Callable[[S3Store, Config], str]
"""Does its work and returns what it says of it; what stops it is an error for the user."""


class Paused:
    """The client of a store: at one of its requests every thread waits until it is woken."""

    def __init__(self, fs: Any, at: int, before: bool) -> None:
        self.fs, self.at, self.before = fs, at, before
        self.count, self.mutex = 0, threading.Lock()
        self.stopped, self.going = threading.Event(), threading.Event()
        self.going.set()
        self.where = ""

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self.fs, name)
        if name not in ("call_s3", "pipe_file", "rm_file", "find"):
            return ask

        def asked(*args: Any, **options: Any) -> Any:
            self.going.wait()
            with self.mutex:
                self.count += 1
                mine = self.count == self.at
            if mine and self.before:
                self._stop(name, args, options)
            answer = ask(*args, **options)
            if mine and not self.before:
                self._stop(name, args, options)
            # Those that were under way stand still behind their answer.
            self.going.wait()
            return answer

        return asked

    def _stop(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        path = options.get("Key") or next((one for one in args if isinstance(one, str) and "/" in one), "")
        self.where = f"{'before' if self.before else 'after'} {args[0] if name == 'call_s3' else name} {path}"
        self.going.clear()
        self.stopped.set()
        self.going.wait()


class Nobody(set[str]):
    """The locked workspaces of a process, as another process sees them."""

    def __contains__(self, uri: object) -> bool:
        return False


def make_night(store: S3Store, cfg: Config) -> str:
    """Prepare night `n1` as the flow does, and publish it or find nothing new."""
    nights = Workspace(store).nights
    with store.lock("night n1"):
        if nights.finish_publication("n1", cfg):
            return "found n1"
        made = []
        for manifest in prepare(Context(Workspace(store), cfg, "n1")):
            made.append(manifest)
            if manifest.name == "ingest" and not manifest.counts["files"]:
                nights.discard("n1")
                return "found nothing new"
        nights.publish("n1", made, cfg)
    return "published n1"


def forget_one(number: int) -> Writer:
    """Return a writer that forgets a document of night `n0`."""

    def run(store: S3Store, cfg: Config) -> str:
        entry = Workspace(store).nights.load("n0").entries("nights/n0/documents/")[0]
        doc_id = read_table(store, entry, ["id"])["id"][number].as_py()
        forget(Workspace(store), "id", doc_id)
        return f"forgot {number}"

    return run


def write_corpus(folder: Path) -> Config:
    """Write the raw files of two nights; the second one's are in `raw/b.jsonl`."""
    texts = [*map(chinese, range(120)), *english()[:30]]
    (folder / "raw").mkdir(parents=True)
    for name, some in (("a", texts[:90]), ("b", texts[90:])):
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in some)
        (folder / "raw" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return load_config(folder / "config.toml")


def reading(cfg: Config, pattern: str) -> Config:
    """Return the settings with other raw files."""
    (source,) = cfg.ingest.sources
    uri = str(Path(source.uri).parent / pattern)
    return replace(cfg, ingest=replace(cfg.ingest, sources=(replace(source, uri=uri),)))


@contextmanager
def apart() -> Iterator[None]:
    """Let writers in threads be as writers in processes are: each holds the workspace for itself, and shortly."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(storage, "held", Nobody()))
        stack.enter_context(patch.object(lease, "LEASE_S", LEASE_S))
        stack.enter_context(silent())
        yield


def said_by(run: Writer, store: S3Store, cfg: Config) -> str:
    """Return what a writer said, or the sentence that stopped it; any other error is the attack's finding."""
    try:
        return run(store, cfg)
    except SlimpajamaError as error:
        return f"stopped: {error}"
    except Exception as error:
        return f"broke: {type(error).__name__}: {error}"


def _keep(said: dict[str, str], name: str, run: Writer, store: S3Store, cfg: Config) -> None:
    said[name] = said_by(run, store, cfg)


class Attack:
    """Workspaces on one server, each a copy of one in which night `n0` is published."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.both = write_corpus(folder)
        self.old, self.draw = reading(self.both, "a.jsonl"), random.Random(seed)
        self.base = f"s3://tests/base-{seed}"
        store = S3Store(self.base)
        nights = Workspace(store).nights
        with store.lock("base"):
            made = list(prepare(Context(Workspace(store), self.old, "n0")))
            nights.publish("n0", made, self.old)
        self.requests: dict[str, int] = {}

    def copy(self, name: str) -> str:
        """Return the address of a new copy."""
        uri, store = f"{self.base}-{name}", S3Store(self.base)
        for path in store.list():
            store._fs.copy(f"{self.base}/{path}", f"{uri}/{path}")
        return uri

    def moment(self, kind: str, writer: Writer, cfg: Config) -> int:
        """Return the number of a request that the writer makes, drawn from all that it makes alone."""
        if kind not in self.requests:
            store = S3Store(self.copy(f"quiet-{kind.replace(' ', '-')}"))
            store._fs = counted = Paused(store._fs, 0, True)
            said = said_by(writer, store, cfg)
            assert not said.startswith(("stopped", "broke")), said
            self.requests[kind] = counted.count
        # The first ones look at the store and take the lease, the last ones publish.
        return self.draw.randint(self.requests[kind] - LATE if "late" in kind else 8, self.requests[kind])

    def stalled(self, number: int) -> list[str]:
        """Let one writer stand still while another one works; return what was wrong."""
        # Every document has other bytes.
        other = replace(self.both, clean=replace(self.both.clean, fold_width=True))
        kinds: list[tuple[str, Writer, Config, Writer, Config]] = [
            ("the same night", make_night, self.both, make_night, self.both),
            ("a night, and nothing new", make_night, self.old, make_night, self.both),
            ("a night of other settings", make_night, self.both, make_night, other),
            ("two documents", forget_one(3), self.both, forget_one(5), self.both),
            ("a night of other settings, late", make_night, self.both, make_night, other),
        ]
        kind, first, first_cfg, second, second_cfg = kinds[number % len(kinds)]
        at = self.moment(kind, first, first_cfg)
        then = self.moment(f"{kind}, the second", second, second_cfg) if self.draw.random() < 0.5 else 0
        uri, blind = self.copy(str(number)), number // len(kinds) % 2 == 1
        said: dict[str, str] = {}
        with ExitStack() as stack:
            if blind:
                stack.enter_context(patch.object(lease.Lease, "is_held", lambda _: True))
                stack.enter_context(patch.object(lease.Lease, "_renew", lambda _: None))
            clients, threads = [], []
            for name, writer, cfg, moment in (("first", first, first_cfg, at), ("second", second, second_cfg, then)):
                store = S3Store(uri)
                store._fs = client = Paused(store._fs, moment, self.draw.random() < 0.5)
                thread = threading.Thread(target=_keep, args=(said, name, writer, store, cfg))
                thread.start()
                while thread.is_alive() and not client.stopped.wait(0.1):
                    pass
                clients.append(client)
                threads.append(thread)
            between = {} if threads[1].is_alive() else self.state(uri)
            for client, thread in zip(clients, threads, strict=True):
                client.going.set()
                thread.join()
        found = self.wrong(uri, said, between, second_cfg if said["second"] == "published n1" else first_cfg)
        where = " and ".join(client.where for client in clients if client.where)
        return [f"{kind}{', blind' * blind}, {where} (requests {at}, {then}), {said}: {one}" for one in found]

    def ahead(self, number: int) -> list[str]:
        """Let one writer stand at work with its lease alive, beside one whose clock is ahead; return what was wrong."""
        uri, said = self.copy(str(number)), {}
        holder = S3Store(uri)
        with holder.lock("night n1"):
            clock = SimpleNamespace(time=lambda: time.time() + AHEAD_S, monotonic=time.monotonic, sleep=time.sleep)
            with patch.object(lease, "time", clock):
                said["second"] = said_by(make_night, S3Store(uri), self.both)
        fine = said["second"].startswith("stopped") and "another run holds" in said["second"]
        return [] if fine else [f"a clock that is ahead, {said}"]

    def state(self, uri: str) -> dict[str, bytes]:
        """Return the published manifests."""
        store = S3Store(uri)
        return {path: store.read(path) for path in store.list("nights") if layout.is_published_manifest(path)}

    def wrong(self, uri: str, said: dict[str, str], between: dict[str, bytes], cfg: Config) -> Iterator[str]:
        """Yield what is wrong after both writers have ended; a next run has the settings of what was published."""
        workspace = Workspace(S3Store(uri))
        _, bad = verify(workspace, 4)
        if bad:
            yield f"{len(bad)} bad: {next(iter(bad.values()))}"
        if all(one == "published n1" for one in said.values()):
            yield "both said published"
        if any(one.startswith("broke") for one in said.values()):
            yield "an error that is not for the user"
        now = self.state(uri)
        if said["second"] == "published n1" and between and now != between:
            yield "what was published is another one now"
        nights = workspace.nights.published()
        if any(one == "published n1" for one in said.values()) != ("n1" in nights):
            yield f"said published, and the nights are {nights}"
        after = said_by(make_night, S3Store(uri), cfg)
        if not after.startswith(("published", "found")) or verify(Workspace(S3Store(uri)), 4)[1]:
            yield f"the next run: {after}"


def attack_here(folder: Path, tries: int, seed: int) -> list[Row]:
    """Try so many interleavings on the server that the environment leads to; return the row of the table."""
    broken: list[str] = []
    began = time.monotonic()
    with apart():
        attacks = Attack(folder, seed)
        for number in range(tries):
            broken += attacks.ahead(number) if number % 10 == 9 else attacks.stalled(number)
    figure = f"{time.monotonic() - began:.0f} s"
    return [Row("stalled or skewed writers on S3: nights with bad files, or published twice", tries, broken, figure)]


def attack(folder: Path, tries: int, seed: int) -> list[Row]:
    """Try so many interleavings on a real server of its own; return the row of the table."""
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as environment, patch.dict("os.environ", environment):
        return attack_here(folder / "corpus", tries, seed)
