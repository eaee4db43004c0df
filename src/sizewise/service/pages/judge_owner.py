"""The owner's page of a judging round at `/`: progress, agreement and results so far, and closing the round."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, report
from sizewise.records import JudgeRater, JudgeReport, PairVerdict, Score
from sizewise.service.hosting import is_loopback
from sizewise.service.pages import SAFE_HEADERS, read_page
from sizewise.store import Store


class Owner:
    """Access of the person who runs a round.

    Args:
        token: secret of the page, valid while this server runs.
        store: where records live.
    """

    def __init__(self, token: str, store: Store) -> None:
        self.token, self._store = token, store
        self._known: tuple[tuple[int, bool], dict[str, Any]] | None = None

    def check(self, request: HttpRequest) -> None:
        """Check that a request comes from this machine and has the token.

        Raises:
            SizewiseError: it doesn't.
        """
        client, server = request.client, request.scope.get("server")
        if client is None or not (is_loopback(client.host) or (server and client.host == server[0])):
            raise SizewiseError(
                "This page only opens on the machine that serves the round.", "a browser on that machine", ""
            )
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise SizewiseError("This token isn't valid.", "the token printed when the server started", "")

    def results(self, ballot: Ballot) -> dict[str, Any]:
        """Return agreement and results so far; computed again when a vote has arrived."""
        state = (len(ballot.versions()), ballot.closed)
        if self._known is None or self._known[0] != state:
            try:
                body = _results(report(ballot.id, store=self._store))
            except SizewiseError as error:  # no votes yet
                body = {"agreement": error.what, "pairs": [], "notes": []}
            self._known = (state, body)
        return self._known[1]


def add_owner_routes(app: FastAPI, ballot: Ballot, owner: Owner) -> None:
    """Add the owner's page and the routes that feed it."""

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(read_page("judge_owner.html"), headers=SAFE_HEADERS | {"Cache-Control": "no-store"})

    @app.get("/owner/state")
    async def state(request: HttpRequest) -> dict[str, Any]:
        owner.check(request)
        return round_progress(ballot)

    @app.get("/owner/results")
    async def results(request: HttpRequest) -> dict[str, Any]:
        owner.check(request)
        return await run_in_threadpool(owner.results, ballot)

    @app.post("/owner/close")
    async def close(request: HttpRequest) -> dict[str, Any]:
        owner.check(request)
        if not ballot.closed:
            ballot.close_votes()
        return round_progress(ballot)


def round_progress(ballot: Ballot) -> dict[str, Any]:
    """Summarize how far each rater is, without results."""
    record, versions = ballot.round, ballot.versions()
    latest = {version.vote.rater: version.at for version in versions}
    votes = ballot.votes()
    cast = {(version.vote.rater, version.vote.task) for version in versions if not version.undone}
    return {
        "round": ballot.id,
        "question": record.question,
        "closed": ballot.closed,
        "expires": record.expires,
        "votes": len(votes),
        "corrected": sum(not version.undone for version in versions) - len(cast),
        "links": len(record.raters),
        "links_used": sum(rater.name in latest for rater in record.raters),
        "raters": [_rater(rater, ballot, latest.get(rater.name)) for rater in ballot.raters.values()],
        "left_out": record.left_out,
        "notes": list(record.notes),
    }


def _rater(rater: JudgeRater, ballot: Ballot, latest: str | None) -> dict[str, Any]:
    skipped = sum(vote.rater == rater.name and vote.choice == "skip" for vote in ballot.votes())
    return {
        "name": rater.name,
        "origin": rater.origin,
        "done": ballot.done(rater),
        "total": len(rater.tasks),
        "skipped": skipped,
        "latest": latest,
    }


def _results(found: JudgeReport) -> dict[str, Any]:
    alpha = found.agreement.scores.get("krippendorff_alpha") if found.agreement else None
    absent = "Unknown: no task was judged by more than one rater"
    return {
        "agreement": absent if alpha is None else f"Krippendorff's alpha {_text(alpha, '.2f')} on {alpha.n:,} tasks",
        "pairs": [_pair(pair) for pair in found.pairs],
        "notes": list(found.notes),
    }


def _pair(pair: PairVerdict) -> dict[str, Any]:
    other = pair.right if pair.better == pair.left else pair.left
    verdict = (
        f"{pair.better} preferred to {other}" if pair.better else "too close to call" if pair.votes else "no votes"
    )
    return {
        "left": pair.left,
        "right": pair.right,
        "votes": pair.votes,
        "win_rate": _text(pair.win_rate, ".0%"),
        "verdict": verdict,
        "identical": pair.identical,
    }


def _text(score: Score, form: str) -> str:
    if score.value is None:
        return score.missing_reason or "missing"
    if score.ci_low is None or score.ci_high is None:
        return format(score.value, form)
    return f"{score.value:{form}} [{score.ci_low:{form}}, {score.ci_high:{form}}]"


def local_address(address: str) -> str:
    """Return the address under which this machine reaches a server bound to any address."""
    parts = urlsplit(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")
    return f"{parts.scheme}://{host}:{parts.port}" if host else address
