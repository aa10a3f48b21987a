"""The ledger: one append-only table of facts, in SQLite on a laptop and PostgreSQL beyond it.

Two writers may append at once. Each reads the head, seals its fact onto it and inserts; the primary key lets only one
of them take the next sequence number, and the other tries again on the new head. A fact written with `once` is
written by the first caller alone; every later one receives what the first wrote.
"""

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Index,
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

from llmops_core.errors import InputError, IntegrityError, Problem, TransientError
from llmops_core.facts import GENESIS, Fact, Kind, first_broken

ATTEMPTS = 50
ROWS_PER_CALL = 500
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
# sensors ask at every tick for the newest request, however many steps of canaries were written since
_by_kind = Index("ix_facts_kind_sequence", _facts.c.kind, _facts.c.sequence)


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
    def newest_of_each(self, *kinds: Kind, subject: str | None = None, after: int = 0) -> list[Fact]:
        """For each model the newest fact after the number `after` that has one of these kinds, and this subject if one
        is given."""

    @abstractmethod
    def entries(self) -> list[tuple[Fact, str | None]]:
        """All facts in order, each with the key of `once` that it holds."""

    @abstractmethod
    def restore(self, entries: Sequence[tuple[Fact, str | None]]) -> int:
        """Continues this ledger with the facts of another, sealed as they are; how many were new here.

        Raises InputError unless what is here is how the other one begins, IntegrityError for a broken chain.
        """

    @abstractmethod
    def last(self, *kinds: Kind) -> Fact | None:
        """The newest fact of all models, or the newest that has one of these kinds."""

    @abstractmethod
    def facts(self, model: str | None = None, after: int = 0, before: int | None = None) -> list[Fact]:
        """All facts in order, or those of one model, between the numbers `after` and `before`. Only the whole list
        forms a chain."""


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
                _by_kind.create(connection, checkfirst=True)  # in a ledger that was begun without it
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
                    connection.execute(insert(_facts).values({**_row(fact), "once": once}))
                    return fact
            except (Duplicate, OperationalError) as error:
                refusal = error
                time.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311 (a wait, not a secret)
        raise TransientError(f"the ledger took no fact after {ATTEMPTS} attempts: {refusal}")

    def newest(self, model: str, *kinds: Kind) -> Fact | None:
        query = select(_facts).where(_facts.c.model == model, _facts.c.kind.in_(kinds))
        return next(iter(self._read(query.order_by(_facts.c.sequence.desc()).limit(1))), None)

    def newest_of_each(self, *kinds: Kind, subject: str | None = None, after: int = 0) -> list[Fact]:
        newest = select(func.max(_facts.c.sequence)).where(_facts.c.kind.in_(kinds), _facts.c.sequence > after)
        newest = newest.group_by(_facts.c.model)
        if subject is not None:
            newest = newest.where(_facts.c.subject == subject)
        return self._read(select(_facts).where(_facts.c.sequence.in_(newest)).order_by(_facts.c.model))

    def last(self, *kinds: Kind) -> Fact | None:
        query = select(_facts).order_by(_facts.c.sequence.desc()).limit(1)
        return next(iter(self._read(query.where(_facts.c.kind.in_(kinds)) if kinds else query)), None)

    def facts(self, model: str | None = None, after: int = 0, before: int | None = None) -> list[Fact]:
        query = select(_facts).where(_facts.c.sequence > after).order_by(_facts.c.sequence)
        if before is not None:
            query = query.where(_facts.c.sequence < before)
        return self._read(query if model is None else query.where(_facts.c.model == model))

    def entries(self) -> list[tuple[Fact, str | None]]:
        with self._reading() as connection:
            return [(_fact(row), row.once) for row in connection.execute(select(_facts).order_by(_facts.c.sequence))]

    def restore(self, entries: Sequence[tuple[Fact, str | None]]) -> int:
        if (broken := first_broken(fact for fact, _ in entries)) is not None:
            raise IntegrityError(f"line {broken.sequence} of the ledger to restore is not what was written there")
        rows = [{**_row(fact), "once": once} for fact, once in entries]
        try:
            with self._engine.begin() as connection:
                _take_turns(connection)
                here = list(connection.execute(select(_facts).order_by(_facts.c.sequence)))
                if [(row.digest, row.once) for row in here] != [(r["digest"], r["once"]) for r in rows[: len(here)]]:
                    message = "facts of another history are here; restore into an empty platform"
                    raise InputError(Problem("ledger", "", f"{len(here)} facts", "none, or the same", message))
                for first in range(len(here), len(rows), ROWS_PER_CALL):
                    connection.execute(insert(_facts), rows[first : first + ROWS_PER_CALL])
        except (Duplicate, OperationalError) as error:
            raise TransientError(f"somebody else wrote into the ledger meanwhile: {error}") from error
        return len(rows) - len(here)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except OperationalError as error:
            raise TransientError(f"the ledger cannot be read: {error}") from error

    def _read(self, query: Select[Any]) -> list[Fact]:
        with self._reading() as connection:
            return [_fact(row) for row in connection.execute(query)]


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


def _row(fact: Fact) -> dict[str, Any]:
    return {**fact.model_dump(), "body": json.dumps(fact.body, ensure_ascii=False)}


def _fact(row: Row[Any]) -> Fact:
    values = dict(row._mapping)
    values.pop("once")
    try:
        return Fact(**{**values, "body": json.loads(values["body"])})
    except ValueError as error:
        raise IntegrityError(f"line {row.sequence} of the ledger is not what was written there: {error}") from error
