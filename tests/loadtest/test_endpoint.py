"""load_test() against servers that don't stream as asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sizewise.errors import SizewiseError
from sizewise.loadtest import endpoint
from sizewise.loadtest.endpoint import LoadOptions, load_test
from sizewise.store import Store
from tests.models.standin import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    standing = StandIn()
    yield standing
    standing.close()


def test_an_answer_that_never_ends_is_cut(server: StandIn, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "REQUEST_S", 0.1)
    server.fault = lambda number: "slow"  # each piece arrives in time, the whole answer doesn't
    with pytest.raises(SizewiseError, match="TimeoutError"):
        load_test(server.url, [1], options=LoadOptions(requests=2), store=store)


def test_an_answer_in_one_piece_cannot_be_timed(server: StandIn, store: Store) -> None:
    server.fault = lambda number: "whole"
    with pytest.raises(SizewiseError, match="came as application/json, not as a stream"):
        load_test(server.url, [1], options=LoadOptions(requests=2), store=store)
