"""Requests that wait for the approval of other people, and the approvals given: on the disk, so that a
controller that ends forgets neither."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from openbell.state.database import Database
from openbell.state.tables import approvals, requests

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Approval:
    approver: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class StoredRequest:
    id: str
    act: str
    parameters: Mapping[str, tuple[str, ...]]
    reason: str
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    used: bool
    approvals: tuple[Approval, ...]
    """In the order in which they were given."""
    boot_id: str = ""
    """Under which it was asked for; empty: an earlier version, which kept no monotonic time, did so."""
    expires_mono_ns: int = 0
    """On that boot's monotonic clock, which all of its processes share and nobody sets."""


class RequestStore:
    """Requests in the desk database. Thread-safe. Every method: StorageError, CorruptError; what was
    to be kept is then not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, request: StoredRequest) -> None:
        row = {
            "id": request.id,
            "act": request.act,
            "parameters": msgspec.json.encode(request.parameters).decode(),
            "reason": request.reason,
            "asked_by": request.asked_by,
            "asked_ns": _ns(request.asked_at),
            "expires_ns": _ns(request.expires_at),
            "boot_id": request.boot_id,
            "expires_mono_ns": request.expires_mono_ns,
        }
        with self._database.writing() as connection:
            connection.execute(insert(requests).values(row))

    def bind(self, request: str, parameters: Mapping[str, tuple[str, ...]]) -> None:
        """To these from now on: somebody else has asked for the same, say."""
        with self._database.writing() as connection:
            connection.execute(
                update(requests)
                .where(requests.c.id == request)
                .values(parameters=msgspec.json.encode(parameters).decode())
            )

    def approve(self, request: str, approver: str, reason: str) -> None:
        """Each person once; who has approved already changes nothing."""
        with self._database.writing() as connection:
            there = connection.execute(
                select(approvals.c.approver).where(
                    approvals.c.request == request, approvals.c.approver == approver
                )
            ).first()
            if there is None:
                connection.execute(
                    insert(approvals).values(
                        request=request, approver=approver, reason=reason, at_ns=time.time_ns()
                    )
                )

    def use(self, request: str) -> bool:
        """It counts, once: False where it was used already."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(requests)
                .where(requests.c.id == request, requests.c.used_ns.is_(None))
                .values(used_ns=time.time_ns())
            ).rowcount
        return changed == 1

    def newest(self, limit: int) -> tuple[StoredRequest, ...]:
        """Oldest of them first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(requests).order_by(requests.c.asked_ns.desc()).limit(limit)
            ).all()
            given = connection.execute(
                select(approvals)
                .where(approvals.c.request.in_([row.id for row in rows]))
                .order_by(approvals.c.at_ns)
            ).all()
        return tuple(_request(row, given) for row in reversed(rows))


def _request(row: Row[Any], given: Any) -> StoredRequest:
    return StoredRequest(
        id=row.id,
        act=row.act,
        parameters=msgspec.json.decode(row.parameters, type=dict[str, tuple[str, ...]]),
        reason=row.reason,
        asked_by=row.asked_by,
        asked_at=_at(row.asked_ns),
        expires_at=_at(row.expires_ns),
        used=row.used_ns is not None,
        approvals=tuple(
            Approval(each.approver, each.reason, _at(each.at_ns))
            for each in given
            if each.request == row.id
        ),
        boot_id=row.boot_id,
        expires_mono_ns=row.expires_mono_ns,
    )


def _ns(moment: datetime) -> int:
    """By integers: the digest of a request holds its times, to the microsecond."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _at(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)
