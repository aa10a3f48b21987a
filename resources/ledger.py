"""The ledger: one append-only table of facts, in SQLite on a laptop and PostgreSQL beyond it.

Two writers may append at once. Each reads the head, seals its fact onto it and inserts; the primary key lets only one
of them take the next sequence number, and the other tries again on the new head. A fact written with `once` is
written by the first caller alone; every later one receives what the first wrote.
"""

import json
import random
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import URL, Connection, Row
from sqlalchemy.exc import IntegrityError as Duplicate
from sqlalchemy.exc import OperationalError

from llmops_core.errors import IntegrityError, TransientError
from llmops_core.facts import GENESIS, Fact, Kind

ATTEMPTS = 50
LOCK_KEY = int.from_bytes(b"llmfacts")  # one of PostgreSQL's 2**64 advisory locks

_metadata = MetaData()
_facts = Table(
    "facts",
    _metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("model", String(63), nullable=False, index=True),
    Column("subject", String(63), nullable=False),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("once", String(200), nullable=True, unique=True),
)


class Ledger(ABC):
    """Append-only, ordered, chained."""

    @abstractmethod
    def append(
        self,
        kind: Kind,
        *,
        model: str,
        subject: str,
        fingerprint: str = "",
        body: dict[str, Any] | None = None,
        once: str | None = None,
    ) -> Fact:
        """Writes a fact and returns it; with `once`, returns the fact that already holds this key if there is one."""

    @abstractmethod
    def newest(self, model: str, *kinds: Kind) -> Fact | None:
        """The newest fact of a model that has one of these kinds."""

    @abstractmethod
    def newest_of_each(self, *kinds: Kind) -> list[Fact]:
        """For each model the newest fact that has one of these kinds."""

    @abstractmethod
    def facts(self, model: str | None = None) -> list[Fact]:
        """All facts in order, or those of one model. Only the whole list forms a chain."""


class SqlLedger(Ledger):
    """A ledger in a database of SQLite or PostgreSQL, for instance `sqlite:///ledger.db`. Raises TransientError where
    it cannot be reached."""

    def __init__(self, url: str | URL) -> None:
        # bodies of facts are no matter for logs, and errors would show them
        self._engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _wait_for_other_writers)
        try:
            with self._engine.begin() as connection:
                _take_turns(connection)  # of two that make the table at once PostgreSQL refuses one
                _metadata.create_all(connection)
        except OperationalError as error:
            raise TransientError(f"the ledger in {self._engine.url!r} cannot be reached: {error.orig}") from error

    def append(
        self,
        kind: Kind,
        *,
        model: str,
        subject: str,
        fingerprint: str = "",
        body: dict[str, Any] | None = None,
        once: str | None = None,
    ) -> Fact:
        refusal: Exception | None = None
        for attempt in range(ATTEMPTS):
            try:
                with self._engine.begin() as connection:
                    _take_turns(connection)
                    if once is not None and (held := _held(connection, once)):
                        return held
                    fact = _next(connection, kind, model, subject, fingerprint, body or {})
                    row = {**fact.model_dump(), "body": json.dumps(fact.body, ensure_ascii=False), "once": once}
                    connection.execute(insert(_facts).values(row))
                    return fact
            except (Duplicate, OperationalError) as error:
                refusal = error
                time.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311 (a wait, not a secret)
        raise TransientError(f"the ledger took no fact after {ATTEMPTS} attempts: {refusal}")

    def newest(self, model: str, *kinds: Kind) -> Fact | None:
        query = select(_facts).where(_facts.c.model == model, _facts.c.kind.in_(kinds))
        return next(iter(self._read(query.order_by(_facts.c.sequence.desc()).limit(1))), None)

    def newest_of_each(self, *kinds: Kind) -> list[Fact]:
        newest = select(func.max(_facts.c.sequence)).where(_facts.c.kind.in_(kinds)).group_by(_facts.c.model)
        return self._read(select(_facts).where(_facts.c.sequence.in_(newest)).order_by(_facts.c.model))

    def facts(self, model: str | None = None) -> list[Fact]:
        query = select(_facts).order_by(_facts.c.sequence)
        return self._read(query if model is None else query.where(_facts.c.model == model))

    def _read(self, query: Select[Any]) -> list[Fact]:
        try:
            with self._engine.connect() as connection:
                return [_fact(row) for row in connection.execute(query)]
        except OperationalError as error:
            raise TransientError(f"the ledger cannot be read: {error}") from error


def _wait_for_other_writers(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=10000")


def _take_turns(connection: Connection) -> None:
    """On PostgreSQL writers queue here, until their transaction ends, instead of colliding; readers do not wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})


def _held(connection: Connection, once: str) -> Fact | None:
    row = connection.execute(select(_facts).where(_facts.c.once == once)).first()
    return _fact(row) if row else None


def _next(connection: Connection, kind: Kind, model: str, subject: str, fingerprint: str, body: dict[str, Any]) -> Fact:
    head = connection.execute(
        select(_facts.c.sequence, _facts.c.digest).order_by(_facts.c.sequence.desc()).limit(1)
    ).first()
    return Fact(
        sequence=head.sequence + 1 if head else 1,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        kind=kind,
        model=model,
        subject=subject,
        fingerprint=fingerprint,
        body=body,
        previous=head.digest if head else GENESIS,
    ).sealed()


def _fact(row: Row[Any]) -> Fact:
    values = dict(row._mapping)
    values.pop("once")
    try:
        return Fact(**{**values, "body": json.loads(values["body"])})
    except ValueError as error:
        raise IntegrityError(f"line {row.sequence} of the ledger is not what was written there: {error}") from error
