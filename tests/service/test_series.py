"""The monitor's figures over time: quantiles, spans, several processes, restarts."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sizewise.models.fake import FakeModel
from sizewise.service import Settings, create_app
from sizewise.service.model_runner import RequestRecord
from sizewise.service.series import DAY_S, HOUR_S, Point, Series, bucket_of, quantile
from sizewise.store import Store


def record(at: float, status: int = 200, latency_s: float = 0.5, usd: float | None = 0.25) -> RequestRecord:
    return RequestRecord(
        at=at,
        model="m",
        status=status,
        latency_s=latency_s,
        ttft_s=0.1,
        prompt_tokens=3,
        completion_tokens=6,
        cost_usd=usd,
    )


@given(st.lists(st.floats(0.001, 900), min_size=1, max_size=50), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_a_quantile_is_exact_to_15_percent(seconds: list[float], share: float) -> None:
    exact = next(value for place, value in enumerate(sorted(seconds), 1) if place >= share * len(seconds))
    found = quantile(Counter(map(bucket_of, seconds)), share)
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.151
    assert quantile(Counter(), share) is None


def test_requests_are_summed_by_minute_and_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "series.sqlite"
    now = time.time()
    first, second = Series(path), Series(path)
    second._process += 1  # another worker
    first.add(record(now), queued=2)
    first.add(record(now, status=500), queued=0)
    first.flush()
    first.add(record(now, status=429), queued=7)
    second.add(record(now, latency_s=2.0), queued=0)
    second.look("m", 3, 0.01)
    first.flush()
    second.flush()
    assert path.stat().st_mode & 0o077 == 0
    for span in ("1h", "24h", "30d"):
        one = Series(path).read(span)["models"]["m"]
        assert sum(one["requests"]) == 4
        assert sum(one["failed"]) == sum(one["rejected"]) == 1
        assert sum(one["completion_tokens"]) == 12
        assert sum(one["usd"]) == 0.5
        assert max(one["queued"]) == 7
        assert [value for value in one["drift_p"] if value is not None] == [0.01]
        assert max(value for value in one["latency_p95_s"] if value is not None) == pytest.approx(2.0, rel=0.15)
        assert max(value for value in one["error_share"] if value is not None) == 0.25
        assert len(one["requests"]) == {"1h": 60, "24h": 96, "30d": 60}[span]


def test_old_points_leave_the_short_spans_and_then_the_file(tmp_path: Path) -> None:
    series = Series(tmp_path / "series.sqlite")
    now = time.time()
    for age_s in (0.0, 2 * HOUR_S, 3 * DAY_S, 40 * DAY_S):
        series.add(record(now - age_s), queued=0)
    counts = [sum(series.read(span)["models"]["m"]["requests"]) for span in ("1h", "24h", "30d")]
    assert counts == [1, 2, 3]
    with series._database.opened() as connection:
        rows = connection.execute("SELECT length, COUNT(*) FROM points GROUP BY length").fetchall()
    assert dict(rows) == {60: 2, 3600: 3}


def test_a_point_survives_json() -> None:
    point = Point(Counter(requests=2), Counter({"3": 1}), Counter(), 4, 0.5)
    assert Point.from_json(point.to_json()) == point


def test_the_service_keeps_its_figures_when_it_stops(store: Store) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}
    for count in (1, 2):
        with TestClient(create_app({"echo": FakeModel("echo")}, Settings(), store)) as client:
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            found = client.get("/monitor/series?span=24h").json()
            assert sum(found["models"]["echo"]["requests"]) == count
            assert client.get("/monitor/series?span=9h").status_code == 400
