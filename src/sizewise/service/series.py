"""Figures of the monitor over time, kept over restarts: by minute for a day, by hour for a month.

A row holds what one process observed of one model in one period. Latencies are counted in buckets of 15 % width, so
that quantiles of any span can be computed from the rows.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from sizewise.service.private_database import PrivateDatabase

if TYPE_CHECKING:
    from sizewise.service.model_runner import RequestRecord

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
SPANS = {"1h": (HOUR_S, MINUTE_S), "24h": (DAY_S, 15 * MINUTE_S), "30d": (30 * DAY_S, 12 * HOUR_S)}
"""Span -> its length and the length of a point, in seconds."""
FLUSH_S = 15.0
_GROWTH, _FIRST_S = 1.15, 0.001
_TABLES = (
    "CREATE TABLE IF NOT EXISTS points (period INTEGER NOT NULL, length INTEGER NOT NULL, model TEXT NOT NULL, "
    "process INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (period, length, model, process))",
)
_SUMS = ("requests", "failed", "rejected", "prompt_tokens", "completion_tokens", "usd")


@dataclass
class Point:
    """What was observed of a model in a period."""

    sums: Counter[str] = field(default_factory=Counter)
    latency: Counter[str] = field(default_factory=Counter)
    """Bucket -> answers; see `bucket_of`."""
    ttft: Counter[str] = field(default_factory=Counter)
    """Time to first token, the same."""
    queued: int = 0
    """Most requests that waited at once, as seen at each request's end and at each flush."""
    drift_p: float | None = None
    """Latest p-value of the drift test; None: there is none."""

    def add(self, other: Point) -> None:
        """Add a later observation."""
        for name in ("sums", "latency", "ttft"):
            getattr(self, name).update(getattr(other, name))
        self.queued = max(self.queued, other.queued)
        self.drift_p = other.drift_p if other.drift_p is not None else self.drift_p

    def to_json(self) -> str:
        """Write the point as JSON."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Point:
        """Read a point."""
        body = json.loads(text)
        counted = (Counter(body[name]) for name in ("sums", "latency", "ttft"))
        return cls(*counted, body["queued"], body["drift_p"])


def bucket_of(seconds: float) -> str:
    """Return the bucket of a duration."""
    return str(max(0, math.ceil(math.log(max(seconds, _FIRST_S) / _FIRST_S, _GROWTH))))


def quantile(counts: Counter[str], share: float) -> float | None:
    """Return a quantile of durations in seconds, at most 15 % too large; None without any."""
    total = sum(counts.values())
    passed = 0
    for bucket in sorted(counts, key=int):
        passed += counts[bucket]
        if passed >= share * total:
            return _FIRST_S * float(_GROWTH ** int(bucket))
    return None


class Series:
    """The figures of all models over time.

    Args:
        path: SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._database = PrivateDatabase(path, _TABLES)
        self._pending: dict[tuple[int, str], Point] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._cleaned = 0.0

    def add(self, record: RequestRecord, queued: int) -> None:
        """Add a finished request; nothing is written to disk."""
        point = Point(queued=queued)
        point.sums["requests"] = 1
        point.sums["failed"] = int(record.status >= 500)
        point.sums["rejected"] = int(record.status == 429)
        if record.status == 200:
            point.sums["prompt_tokens"], point.sums["completion_tokens"] = (
                record.prompt_tokens,
                record.completion_tokens,
            )
            point.sums["usd"] += record.cost_usd or 0.0  # type: ignore[assignment]
            point.latency[bucket_of(record.latency_s)] = 1
            if record.ttft_s is not None:
                point.ttft[bucket_of(record.ttft_s)] = 1
        self._put(record.at, record.model, point)

    def look(self, model: str, queued: int, drift_p: float | None) -> None:
        """Add the length of a queue and the drift of a model."""
        if queued or drift_p is not None:
            self._put(time(), model, Point(queued=queued, drift_p=drift_p))

    def _put(self, at: float, model: str, point: Point) -> None:
        with self._lock:
            self._pending.setdefault((int(at // MINUTE_S) * MINUTE_S, model), Point()).add(point)

    def flush(self) -> None:
        """Write what was added to the file."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        with self._database.opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for (minute, model), point in pending.items():
                for length in (MINUTE_S, HOUR_S):
                    key = minute // length * length, length, model, self._process
                    row = connection.execute(
                        "SELECT body FROM points WHERE period = ? AND length = ? AND model = ? AND process = ?", key
                    ).fetchone()
                    kept = Point.from_json(row[0]) if row else Point()
                    kept.add(point)
                    connection.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)", (*key, kept.to_json()))
            if time() - self._cleaned > HOUR_S:
                self._cleaned = time()
                for length, age in ((MINUTE_S, DAY_S), (HOUR_S, 30 * DAY_S)):
                    connection.execute(
                        "DELETE FROM points WHERE length = ? AND period < ?", (length, time() - age - HOUR_S)
                    )

    def read(self, span: str) -> dict[str, Any]:
        """Return the figures of a span, the latest point last.

        Args:
            span: a key of `SPANS`.
        """
        length_s, step_s = SPANS[span]
        self.flush()
        last = int(time() // step_s) * step_s
        first = last - length_s + step_s
        stored = HOUR_S if step_s >= HOUR_S else MINUTE_S
        with self._database.opened() as connection:
            rows = connection.execute(
                "SELECT period, model, body FROM points WHERE length = ? AND period >= ? ORDER BY period",
                (stored, first),
            ).fetchall()
        models: dict[str, dict[int, Point]] = {}
        for period, model, body in rows:
            points = models.setdefault(model, {})
            points.setdefault((period - first) // step_s, Point()).add(Point.from_json(body))
        places = range(length_s // step_s)
        return {
            "span": span,
            "start": first,
            "step_s": step_s,
            "models": {
                model: _columns([points.get(place) for place in places], step_s) for model, points in models.items()
            },
        }


def _columns(points: Iterable[Point | None], step_s: int) -> dict[str, list[float | None]]:
    """Return a list of values by figure; without requests, counts are 0 and quantiles missing."""
    columns: dict[str, list[float | None]] = {}
    for point in points:
        found = point or Point()
        row: dict[str, float | None] = {name: found.sums[name] for name in _SUMS}
        row |= {
            "requests_per_s": found.sums["requests"] / step_s,
            "output_tokens_per_s": found.sums["completion_tokens"] / step_s,
            "error_share": found.sums["failed"] / found.sums["requests"] if found.sums["requests"] else None,
            "latency_p50_s": quantile(found.latency, 0.5),
            "latency_p95_s": quantile(found.latency, 0.95),
            "ttft_p50_s": quantile(found.ttft, 0.5),
            "ttft_p95_s": quantile(found.ttft, 0.95),
            "queued": found.queued,
            "drift_p": found.drift_p,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
