"""A lease: a lock object in a workspace on S3, which has no lock that ends with its process.

Whoever holds it writes it anew all the time. Another run takes it over once it has stood still for `LEASE_S` on that
run's own monotonic clock; two hosts' clocks are never compared.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from typing import Any

from slimpajama.core.errors import LockedError, StorageError
from slimpajama.core.logs import step_log
from slimpajama.workspace.store import LOCK, Store

LEASE_S = 60.0
# So often a lease is written anew before it may be taken over.
RENEWALS = 6


class Lease:
    """A lease of a workspace, from `acquire` to `release`."""

    def __init__(self, store: Store, owner: str) -> None:
        self.store, self.owner = store, f"{owner}, process {os.getpid()} on {socket.gethostname()}"
        self.token, self.lost = uuid.uuid4().hex, False
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True, name="workspace-lease")

    def _body(self, owner: str) -> bytes:
        # Versions before 0.2 compare `until` with their clock.
        until = time.time() + LEASE_S if owner else 0.0
        return json.dumps({"owner": owner, "token": self.token, "until": until, "turn": uuid.uuid4().hex}).encode()

    def _read(self) -> tuple[dict[str, Any], str]:
        data, version = self.store.read_versioned(LOCK)
        return json.loads(data) if data else {"owner": "", "token": ""}, version

    def acquire(self) -> None:
        """Take the lease; wait for one that may be a dead run's.

        Raises:
            LockedError: If another run holds it and lives.
        """
        holder, version = self._read()
        if holder["owner"]:
            step_log("workspace").info(
                f"held by {holder['owner']}: it is taken over if it gives no sign of life for {LEASE_S:.0f} s"
            )
            version = self._watch(version)
        if not self.store.swap(LOCK, self._body(self.owner), version):
            raise self._held(self._read()[0])
        self.thread.start()

    def _watch(self, version: str) -> str:
        """Return the version of a lease that was given back or has stood still."""
        end = time.monotonic() + LEASE_S
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LEASE_S / RENEWALS / 2))
            holder, now = self._read()
            if not holder["owner"]:
                return now
            if now != version:
                raise self._held(holder)
        return version

    def _held(self, holder: dict[str, Any]) -> LockedError:
        where, hint = self.store.uri, "Wait for it to end, or stop it."
        return LockedError("another run holds the workspace", where=where, found=holder["owner"], hint=hint)

    def is_held(self) -> bool:
        """Ask whether it is still held by this run; while the store does not answer, it may be."""
        with contextlib.suppress(StorageError):
            self.lost = self.lost or self._read()[0]["token"] != self.token
        return not self.lost

    def _write(self, owner: str) -> None:
        # The store may answer again before the lease is taken over; if not, it is.
        with contextlib.suppress(StorageError):
            holder, version = self._read()
            self.lost = self.lost or holder["token"] != self.token
            if not self.lost:
                self.store.swap(LOCK, self._body(owner), version)

    def _renew(self) -> None:
        while not self.lost and not self.stop.wait(LEASE_S / RENEWALS):
            self._write(self.owner)

    def release(self) -> None:
        """Give the lease back, if it is still this run's; an error here must not hide why the run ended."""
        self.stop.set()
        self.thread.join()
        if not self.lost:
            self._write("")
