"""The finished points of a sweep, durable from the moment they are recorded.

One SQLite file in write-ahead mode. Points that a worker finished together are one transaction, so
a process killed at any moment leaves a store that opens, with every recorded point in it. Only the
sweeping process writes; workers hand their results to it. Several sweeps may share a folder: each
claims a point in a transaction before it runs it, and holds a lock on a file of its own for as long
as it lives. The operating system releases that lock when the process ends, however it ends, and the
claims of a sweep whose lock is free belong to nobody. Needs a local file system, as SQLite's own
locks do.
"""

import fcntl
import json
import os
import sqlite3
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from accelsim.errors import FILE_ERRORS, OutputError, reason_of
from accelsim.sweeps.outcome import Outcome
from accelsim.sweeps.resolve import Point

FILE_NAME = "results.sqlite"
SCHEMA_VERSION = 2
_APPLICATION_ID = 0x61636373  # "accs"; SQLite keeps it in the header of the file
_BUSY_TIMEOUT_S = 60.0

_LABEL = "label TEXT NOT NULL DEFAULT ''"
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE points (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'infeasible', 'failed')),
    reason TEXT NOT NULL,
    row TEXT NOT NULL,
    {_LABEL}
) WITHOUT ROWID;
CREATE TABLE claims (id TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_OLDER = 1
"""Layout of accelsim 0.1.0, whose points have no label; they are kept as they are."""
_UPGRADE = f"""
BEGIN IMMEDIATE;
ALTER TABLE points ADD COLUMN {_LABEL};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class Store:
    """The store of one output folder, opened by one sweep. Close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        """Open or create the store; raises OutputError for a folder or file that is of no use."""
        self.path = folder / FILE_NAME
        self._owner = uuid.uuid4().hex
        with _explained(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                self._connection = _open(self.path)
            self._lock = _hold(self._lock_path(self._owner))

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the claims and close the file."""
        try:
            with _explained(self.path):
                self._connection.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        finally:
            self._connection.close()
            with suppress(OSError):
                self._lock_path(self._owner).unlink()
            self._lock.close()

    def finished(self) -> set[str]:
        """Return the ids of the recorded points."""
        with _explained(self.path):
            return {id_ for (id_,) in self._connection.execute("SELECT id FROM points")}

    def claim(self, ids: Sequence[str]) -> set[str]:
        """Take what nobody else runs or has finished; returns the ids this sweep shall run."""
        with self._transaction():
            return {id_ for id_ in ids if self._claim_one(id_)}

    def _claim_one(self, id_: str) -> bool:
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO claims SELECT ?, ? "
            "WHERE NOT EXISTS (SELECT 1 FROM points WHERE id = ?)",
            (id_, self._owner, id_),
        )
        return cursor.rowcount == 1

    def free_abandoned_claims(self) -> None:
        """Drop the claims of sweeps that ended without giving them back."""
        with _explained(self.path):
            owners = self._connection.execute("SELECT DISTINCT owner FROM claims").fetchall()
        for (owner,) in owners:
            if owner != self._owner and _is_abandoned(self._lock_path(owner)):
                with self._transaction():
                    self._connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    def release(self, ids: Iterable[str]) -> None:
        """Give back claims of this sweep."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM claims WHERE id = ? AND owner = ?", [(id_, self._owner) for id_ in ids]
            )

    def record(self, finished: Iterable[tuple[Point, int, Outcome]]) -> None:
        """Commit finished points, each with its position; the first result of a point stays."""
        rows = [
            (
                *(point.id, position, point.version, point.label),
                *(outcome.status, outcome.reason, json.dumps(outcome.row)),
            )
            for point, position, outcome in finished
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO points (id, position, version, label, status, reason, row) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def rows(self, versions: Collection[str], points: Iterable[Point]) -> list[dict[str, Any]]:
        """Return one row per point that is as good as new, in the order of the grid.

        That is what code of one of `versions` made, less what one of `points` replaces: a result
        with its label and another id was made from files that have changed since.
        """
        id_by_label = {point.label: point.id for point in points}
        with _explained(self.path):
            stored = self._connection.execute(
                "SELECT id, version, label, status, reason, row FROM points ORDER BY position, id"
            ).fetchall()
        return [
            _table_row(id_, status, reason, row)
            for id_, version, label, status, reason, row in stored
            if version in versions and id_by_label.get(label, id_) == id_
        ]

    def row(self, id_: str) -> dict[str, Any]:
        """Return the row of a recorded point; raises KeyError for one that is not."""
        select = "SELECT id, status, reason, row FROM points WHERE id = ?"
        with _explained(self.path):
            found = self._connection.execute(select, (id_,)).fetchone()
        if found is None:
            raise KeyError(id_)
        return _table_row(*found)

    def _lock_path(self, owner: str) -> Path:
        return self.path.with_name(f"{FILE_NAME}.{owner}.lock")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                # Some errors, such as a full disk, have rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _table_row(id_: str, status: str, reason: str, row: str) -> dict[str, Any]:
    return {"point": id_, "status": status, "reason": reason, **json.loads(row)}


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that the file is ours, or create the tables of a new one."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    # Survives the end of the process at any moment; a power cut may lose the last points.
    connection.execute("PRAGMA synchronous = NORMAL")
    if not tables:
        connection.executescript(_SCHEMA)
    elif _layout(connection) == _OLDER:
        connection.executescript(_UPGRADE)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = _layout(connection)
    if application != _APPLICATION_ID:
        raise OutputError(f"{path}: a database of another program; choose another output folder")
    if version not in (_OLDER, SCHEMA_VERSION):
        raise OutputError(
            f"{path}: found store version {version}, allowed: {_OLDER} and {SCHEMA_VERSION}; "
            "choose another output folder"
        )


def _layout(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _hold(path: Path) -> TextIO:
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time opens a store: two that create it at once would disturb each other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(path: Path) -> bool:
    """Whether no living sweep holds the lock; removes the file of one that ended."""
    try:
        file = path.open("r+")
    except FileNotFoundError:
        return True
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with suppress(FileNotFoundError):
            path.unlink()
        return True


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an OutputError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OutputError(f"{path}: {_advice(str(error))}") from error
    except FILE_ERRORS as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)})") from error


def _advice(problem: str) -> str:
    if "full" in problem:
        return "the disk is full; finished points are kept, make room and run the sweep again"
    if "not a database" in problem or "malformed" in problem:
        return f"damaged or not a store of accelsim ({problem}); choose another output folder"
    return f"cannot be written ({problem})"
