"""Two gateways, two backends and one PostgreSQL, under load, while one backend and one gateway are killed.

    python benchmarks/scale_service.py                 # 5,000 requests; SIGKILL and SIGTERM, one after the other
    python benchmarks/scale_service.py --requests 300

Counted: answers that came whole; answers that broke off after their first byte and said so; answers that broke off
silently; requests that got no answer from either gateway. Clients try the other gateway before the first byte, as a
load balancer does. The tokens in the database are compared with those of the answers, and a small budget is asked for
by many requests at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from sizewise.models.machine import describe_machine
from sizewise.service.shared_keys import KeyTable
from sizewise.service.usage import UsageStore
from sizewise.store.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.service.postgresql import Server, running_postgresql

WORDS = 20
ANSWER_TOKENS = 2 * WORDS
DELAY_MS = 5
CONCURRENT = 32
SMALL_BUDGET = 10 * ANSWER_TOKENS
CHAT = "/v1/chat/completions"
HERE = Path(__file__).parent
FINE = ("whole", "broken, told")
"""Outcomes of a request that isn't lost silently."""


@contextmanager
def serving(*arguments: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `sizewise serve`; give the process and its address."""
    command = [sys.executable, "-m", "sizewise", "serve", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | env) as process:
        lines: list[str] = []
        try:
            assert process.stderr is not None
            found = None
            while found is None:
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
                found = re.search(r"chat: (http://\S+)/ ", lines[-1])
            threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
            wait_until_ready(found[1])
            yield process, found[1]
        finally:
            process.kill()
            process.wait()


def wait_until_ready(address: str) -> None:
    """Wait until a service answers."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if httpx2.get(f"{address}/health", timeout=10).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(address)


class Client:
    """Asks two gateways in turns, and notes what came of it."""

    def __init__(self, gateways: list[str], key: str) -> None:
        self._gateways, self._key = gateways, key
        self.outcomes: Counter[str] = Counter()
        self.tokens = 0
        self.asked_again = 0
        """Attempts whose connection broke before the first byte; the gateway may have charged the prompt."""

    async def ask(self, client: httpx2.AsyncClient, number: int) -> None:
        """Ask for one answer; before its first byte the other gateway is tried."""
        headers = {"Authorization": f"Bearer {self._key}"}
        body = {
            "model": "big",
            "messages": [{"role": "user", "content": "word " * WORDS}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": WORDS + 10,
        }
        for attempt in range(8):
            address = self._gateways[(number + attempt) % len(self._gateways)]
            begun, text = False, ""
            try:
                async with client.stream("POST", f"{address}{CHAT}", json=body, headers=headers) as answer:
                    if answer.status_code == 200:
                        async for piece in answer.aiter_text():
                            begun = begun or bool(piece)
                            text += piece
                    elif answer.status_code not in (502, 503, 504):
                        self.outcomes[str(answer.status_code)] += 1
                        return
            except httpx2.TransportError:
                if begun:  # the connection broke: the client knows
                    self.outcomes["broken, told"] += 1
                    return
                self.asked_again += 1
            if begun:
                self._judge(text)
                return
            await asyncio.sleep(0.2 * attempt)
        self.outcomes["no answer"] += 1

    def _judge(self, text: str) -> None:
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        if any("error" in event for event in events):
            self.outcomes["broken, told"] += 1
        elif "data: [DONE]" not in text:
            self.outcomes["broken, silent"] += 1
        else:
            said = "".join(
                str(choice["delta"].get("content") or "") for event in events for choice in event.get("choices", ())
            )
            self.outcomes["whole" if said.split() == ["word"] * WORDS else "wrong"] += 1
            self.tokens += sum(event["usage"]["total_tokens"] for event in events if event.get("usage"))


async def load(client: Client, requests: int, events: dict[int, Any]) -> float:
    """Ask so many times, and do something when a number of requests has begun; returns the seconds."""
    started, numbers = time.monotonic(), iter(range(requests))
    limits = httpx2.Limits(max_connections=2 * CONCURRENT)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as http:

        async def work() -> None:
            for number in numbers:
                if number in events:
                    await asyncio.to_thread(events[number])
                await client.ask(http, number)

        await asyncio.gather(*(work() for _ in range(CONCURRENT)))
    return time.monotonic() - started


def drill(requests: int, how: signal.Signals, database: Server, folder: Path) -> dict[str, Any]:
    """Run the services, kill one backend and one gateway, and count."""
    db = Database(database.url)
    name, small = f"load-{how.name}", f"small-{how.name}"
    table = KeyTable(db)
    keys = {name: table.add(name), small: table.add(small, {"tokens_per_day": SMALL_BUDGET})}
    env = {"SIZEWISE_DATABASE_URL": database.url, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        backends = [
            stack.enter_context(
                serving(
                    *("fake:echo", "--port", "0", "--delay-ms", str(DELAY_MS)),
                    env={"SIZEWISE_HOME": str(folder / f"backend-{number}"), "SIZEWISE_DATABASE_URL": ""},
                )
            )
            for number in range(2)
        ]
        uris = [f"{address}/v1#echo" for _, address in backends]
        config = folder / "service.toml"
        config.write_text(
            "[server]\nport = 0\n[[model]]\nname = 'big'\nzone = 'inside'\n"
            f"uri = '{uris[0]}'\nreplicas = ['{uris[1]}']\n",
            encoding="utf-8",
        )
        gateways = [
            stack.enter_context(
                serving("--config", str(config), env=env | {"SIZEWISE_HOME": str(folder / f"gateway-{number}")})
            )
            for number in range(2)
        ]
        addresses = [address for _, address in gateways]
        budget = Client(addresses, keys[small])
        asyncio.run(load(budget, 64, {}))
        client = Client(addresses, keys[name])
        events = {
            requests // 3: lambda: backends[0][0].send_signal(how),
            2 * requests // 3: lambda: gateways[0][0].send_signal(how),
        }
        seconds = asyncio.run(load(client, requests, events))
        gateways[1][0].terminate()
        gateways[1][0].wait(60)
    usage = UsageStore(database.url, 900)
    charged = {row.key: row.tokens for row in usage.since(86_400)}
    usage.close()
    db.close()
    return {
        "signal": how.name,
        "requests": requests,
        "seconds": round(seconds, 1),
        "outcomes": dict(client.outcomes),
        "asked_again": client.asked_again,
        "tokens_of_whole_answers": client.tokens,
        "tokens_charged": charged.get(name, 0),
        "small_budget": SMALL_BUDGET,
        "small_budget_outcomes": dict(budget.outcomes),
        "small_budget_charged": charged.get(small, 0),
    }


def main() -> None:
    """Run the drill with both signals, and print one JSON object each."""
    options = argparse.ArgumentParser()
    options.add_argument("--requests", type=int, default=5_000)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    results = []
    with running_postgresql() as database:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with tempfile.TemporaryDirectory() as folder:
                results.append(drill(given.requests, how, database, Path(folder)))
                print(json.dumps(results[-1]), flush=True)
    if given.out is not None:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
        found = {
            "name": "scale_service",
            "value": sum(count for one in results for how, count in one["outcomes"].items() if how not in FINE),
            "unit": "requests lost without a word, of two drills in which a backend and a gateway end",
            "machine": describe_machine(),
            "commit": commit.stdout.strip(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "drills": results,
        }
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
