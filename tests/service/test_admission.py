from __future__ import annotations

import asyncio

import pytest

from sizewise.service.admission import Admission, Busy


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_queue_is_limited_per_key_and_served_round_robin() -> None:
    async def flood() -> list[str]:
        slots = Admission(max_running=2, max_tokens=1_000, max_queued_tokens=1_000, max_queued_per_key=3)
        order: list[str] = []
        end = asyncio.Event()

        async def ask(who: str) -> str:
            try:
                async with slots.slot(who, 10):
                    order.append(who)
                    if len(order) <= 2:
                        await end.wait()
            except Busy as busy:
                return "refused" if busy.retry_s >= 1 else "without a time"
            return "served"

        greedy = [asyncio.create_task(ask("greedy")) for _ in range(20)]
        await _settle()
        assert (slots.running, slots.queued) == (2, 3)
        assert sum(task.done() for task in greedy) == 15  # refused at once, not after a while
        modest = asyncio.create_task(ask("modest"))
        await _settle()
        assert slots.queued == 4
        end.set()
        assert await modest == "served"
        found = await asyncio.gather(*greedy)
        assert (found.count("served"), found.count("refused")) == (5, 15)
        assert (slots.running, slots.tokens, slots.queued, slots.queued_tokens) == (0, 0, 0, 0)
        return order

    order = asyncio.run(flood())
    assert order.index("modest") == 3  # in turns: one of the greedy key's first, then the modest one's


def test_requests_queue_for_tokens_and_cancelled_ones_free_their_slot() -> None:
    async def run() -> None:
        slots = Admission(max_running=8, max_tokens=100, max_queued_tokens=150, max_queued_per_key=8)
        async with slots.slot("a", 60):
            left = asyncio.create_task(_hold(slots, "b", 60))
            await _settle()
            assert (slots.queued, slots.queued_tokens) == (1, 60)
            with pytest.raises(Busy):
                await _hold(slots, "c", 100)  # more than may wait
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            assert (slots.queued, slots.queued_tokens, slots.tokens) == (0, 0, 60)
        assert slots.tokens == 0

    asyncio.run(run())


async def _hold(slots: Admission, who: str, tokens: int) -> None:
    async with slots.slot(who, tokens):
        await asyncio.sleep(60)
