"""A watched model: canaries first, all items when something changed, and a gate that tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.comparison import history
from sizewise.comparison.history import run_change
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.models import patience
from sizewise.stats.changes import p_of_change
from sizewise.store import Store
from sizewise.studies.watching import WatchOptions, payload, watch
from sizewise.studies.webhooks import read_target, send_webhook
from tests.models import standin
from tests.models.standin import StandIn

pytest.importorskip("pydantic_ai")
ITEMS = 30
WITHHELD = "(a content filter withholds this answer)"


class Service(StandIn):
    """A service whose model and answers a test can change."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.fingerprint, self.renames = "m-2026-01-01", "fp_1", False
        self.answer: Callable[[int, int], str] = lambda item, number: f"echo: question {item}"

    @property
    def asked(self) -> int:
        return len([body for body in self.bodies if "messages" in body])


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    service, plain = Service(), standin.openai

    def named(body: dict[str, Any], fault: object, told: dict[str, Any], words: str = "") -> list[str]:
        item = int(standin.words_in(body["messages"][-1]["content"]).split()[-1])
        name = f"{service.name}-{service.asked}" if service.renames else service.name
        said = service.answer(item, service.asked)
        lines = plain(body | {"model": name}, "filter" if said == WITHHELD else fault, told, said)
        mark = f'"model": "{name}"'
        return [line.replace(mark, f'{mark}, "system_fingerprint": "{service.fingerprint}"') for line in lines]

    monkeypatch.setattr(standin, "openai", named)
    yield service
    service.close()


@pytest.fixture
def questions(tmp_path: Path) -> str:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"question {i}", "references": [f"echo: question {i}"]} for i in range(ITEMS)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def options(*require: str, **more: Any) -> WatchOptions:
    return WatchOptions(("exact_match",), require=require or ("exact_match >= old - 0.05",), canaries=10, **more)


def test_a_model_that_stays_the_same_costs_only_the_canaries(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    first = watch(uri, questions, options(), store=store).record
    assert (first.outcome, service.asked) == ("first", ITEMS)
    second = watch(uri, questions, options(), store=store).record
    assert (second.outcome, second.canaries, second.moved, second.evaluation) == ("unchanged", 10, 0, None)
    assert service.asked == ITEMS + 10
    assert second.p_changed is None
    assert not second.model_changed


def test_another_model_behind_the_same_address_is_named_and_measured(
    service: Service, questions: str, store: Store
) -> None:
    uri = f"{service.url}/v1#m"
    baseline = watch(uri, questions, options(), store=store).record
    service.name = "m-2026-06-01"
    found = watch(uri, questions, options(), store=store).record
    assert (found.outcome, found.model_changed) == ("changed", True)
    assert found.different == ("model in responses: m-2026-01-01 -> m-2026-06-01",)
    assert found.evaluation == f"{baseline.reference}.2"
    assert service.asked == 2 * ITEMS  # the canaries' answers weren't asked twice
    told = history(uri, store=store)
    assert any("m-2026-01-01 -> m-2026-06-01" in note for note in told.notes)
    assert [one.model_changed for one in told.runs] == [True]


def test_another_backend_is_known_by_its_fingerprint(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    watch(uri, questions, options(), store=store)
    service.fingerprint = "fp_2"
    found = watch(uri, questions, options(), store=store).record
    assert found.different == ("fingerprint: fp_1 -> fp_2",)
    assert found.model_changed


def test_a_worse_model_misses_the_gate_already_on_the_canaries(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    watch(uri, questions, options(), store=store)
    service.answer = lambda item, number: "no idea"
    found = watch(uri, questions, options(), store=store).record
    assert (found.outcome, found.moved, found.unstable) == ("changed", 10, 0)
    assert found.p_changed == pytest.approx(3**-10)
    assert found.model_changed
    assert [gate.outcome for gate in found.gates] == ["missed"]
    assert service.asked == ITEMS + 20
    assert found.evaluation is None


def test_a_few_changed_answers_lead_to_all_items(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    watch(uri, questions, options(), store=store)
    service.answer = lambda item, number: f"echo: question {item}" if item % 3 else "no idea"
    found = watch(uri, questions, options("exact_match >= old - 0.7"), store=store).record
    assert found.outcome == "changed"
    assert found.evaluation is not None
    assert found.scores["exact_match"].value == pytest.approx(2 / 3)
    assert [gate.outcome for gate in found.gates] == ["met"]
    again = watch(uri, questions, options("exact_match >= old - 0.05"), store=store).record
    assert (again.outcome, again.reference) == ("unchanged", found.evaluation)  # since the newest run
    assert [gate.outcome for gate in again.gates] == ["missed"]  # but not since the baseline


def test_answers_that_a_content_filter_withholds_now_have_changed(
    service: Service, questions: str, store: Store
) -> None:
    uri = f"{service.url}/v1#m"
    watch(uri, questions, options(), store=store)
    service.answer = lambda item, number: WITHHELD if item % 2 else f"echo: question {item}"
    found = watch(uri, questions, options("exact_match >= old - 0.9"), store=store).record
    assert found.outcome == "changed"
    assert found.canaries == 10
    assert found.moved > 0
    assert f"{ITEMS // 2} of {ITEMS} answers differ" in found.reason
    again = watch(uri, questions, options("exact_match >= old - 0.9"), store=store).record
    assert (again.outcome, again.moved) == ("unchanged", 0)


def test_a_service_whose_answers_vary_has_not_changed(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    watch(uri, questions, options(), store=store)
    service.answer = lambda item, number: f"echo: question {item}" if number % 2 else f"variant {number}"
    found = watch(uri, questions, options(), store=store).record
    assert (found.outcome, found.moved) == ("unchanged", 0)
    assert found.unstable > 0
    assert not found.model_changed


def test_equal_models_are_called_changed_in_at_most_5_percent_of_passes() -> None:
    random = np.random.default_rng(0)
    found = 0
    for _ in range(2_000):
        three = random.random((20, 3)) < random.uniform(0.05, 0.5)
        moved = int(((three[:, 1] == three[:, 2]) & (three[:, 0] != three[:, 1])).sum())
        found += p_of_change(moved, int((three[:, 1] != three[:, 2]).sum())) < 0.05
    assert 0 < found <= 0.05 * 2_000
    assert p_of_change(0, 5) == 1
    assert p_of_change(3, 0) == pytest.approx(1 / 27)


def test_a_pass_without_time_is_resumed(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    first = watch(uri, questions, options(), store=store).record
    service.answer = lambda item, number: f"echo: question {item}" if item % 5 else "no idea"
    calls = iter([0.0, *[0.0] * 200, *[1e9] * 10_000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sizewise.studies.watching.time.monotonic", lambda: next(calls))
        try:
            found = watch(uri, questions, options(minutes=1.0), store=store).record
            assert found.outcome == "unfinished"
            assert "minutes" in found.reason
        except SizewiseError as error:
            assert "resumes" in error.expected  # noqa: PT017 - during the canaries
    whole = watch(uri, questions, options(), store=store).record
    assert whole.evaluation == f"{first.reference}.2"


def test_the_first_canaries_are_asked_anew(service: Service, questions: str, store: Store) -> None:
    """A smaller sample shares the ledger of the whole evaluation, except in a new run."""
    uri = f"{service.url}/v1#m"
    evaluate(uri, questions, ["exact_match"], store=store)
    service.name = "another"
    new = EvaluationOptions(new_run=True)
    small = evaluate(uri, questions, ["exact_match"], store=store, limit=10, options=new).record
    assert small.conditions is not None
    assert small.conditions.served_models == {"another": 10}
    assert service.asked == ITEMS + 10


def test_a_service_that_names_another_model_each_time_is_noted(service: Service, questions: str, store: Store) -> None:
    uri = f"{service.url}/v1#m"
    plain = evaluate(uri, questions, ["exact_match"], store=store)
    service.renames = True
    new = EvaluationOptions(new_run=True)
    found = [evaluate(uri, questions, ["exact_match"], store=store, options=new) for _ in range(2)]
    (note,) = [note for note in found[0].record.notes if "different models" in note]
    assert not any("different models" in note for note in plain.record.notes)
    assert f"named {ITEMS} different models in {ITEMS} answers" in note
    assert f"(1) and {ITEMS - 3} others" in note
    change = run_change(*found, store)
    assert not any(one.startswith("model in responses") for one in change.different)


def test_the_command_ends_with_3_and_tells_a_webhook(
    service: Service, questions: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    junit = tmp_path / "gate.xml"
    command = ["watch", f"{service.url}/v1#m", "--data", questions, "--metrics", "exact_match", "--canaries", "10"]
    command += ["--require", "exact_match >= old - 0.05", "--junit", str(junit)]
    assert CliRunner().invoke(app, command).exit_code == 0
    service.answer = lambda item, number: "a secret answer"
    hook = StandIn()
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("sizewise.studies.webhooks._post", lambda target, body: seen.append(json.loads(body)) or 200)
    result = CliRunner().invoke(app, [*command, "--webhook", f"{hook.url}/hook", "--json"])
    hook.close()
    assert result.exit_code == 3
    assert json.loads(result.stdout)["kind"] == "watch"
    assert 'failures="1"' in junit.read_text(encoding="utf-8")
    (body,) = seen
    assert body["gates"] == [{"expression": "exact_match >= old - 0.05", "outcome": "missed"}]
    assert "secret" not in json.dumps(body)
    assert "question" not in json.dumps(body)
    assert isinstance(CliRunner().invoke(app, [*command, "--every", "soon"]).exception, UsageError)


def test_a_webhook_gets_no_password(service: Service, questions: str, store: Store) -> None:
    saved = watch(f"{service.url}/v1#m", questions, options(), store=store)
    hidden = saved._replace(record=saved.record.model_copy(update={"model": "https://me:key@host/v1#m"}))
    assert payload(hidden)["model"] == "https://host/v1#m"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://localhost/x",
        "https://user:pw@example.org/",
        "example.org",
        "https://[::1",
        "http://",
    ],
)
def test_a_webhook_is_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(UsageError, match="webhook's address"):
        read_target(url)


@pytest.mark.parametrize(
    "address", ["10.0.0.8", "169.254.169.254", "127.0.0.1", "::ffff:192.168.1.1", "fd00::1", "0.0.0.0", "224.0.0.1"]
)
def test_a_webhook_never_reaches_a_private_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIZEWISE_OFFLINE", raising=False)
    monkeypatch.setattr("sizewise.studies.webhooks.proxy_of", lambda *unused: None)
    reached: list[object] = []
    monkeypatch.setattr("sizewise.studies.webhooks.socket.create_connection", lambda *given: reached.append(given))
    monkeypatch.setattr(
        "sizewise.studies.webhooks.socket.getaddrinfo", lambda *unused, **more: [(0, 0, 0, "", (address, 443))]
    )
    with pytest.raises(SizewiseError, match="private address"):
        send_webhook("https://hooks.example.org/x", {})
    assert not reached


@pytest.mark.parametrize(
    "host", ["10.0.0.8", "169.254.169.254", "192.168.1.1", "[::ffff:10.0.0.8]", "[fd00::1]", "0x0a000008", "10.8"]
)
def test_a_private_address_is_refused_before_the_pass(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIZEWISE_OFFLINE", raising=False)
    with pytest.raises(SizewiseError, match="private address"):
        read_target(f"https://{host}/hook")
    assert read_target("https://93.184.216.34/hook").host == "93.184.216.34"


def test_a_webhook_that_redirects_or_fails_is_an_error(service: Service) -> None:
    service.fault = lambda number: (302, {"location": "http://169.254.169.254/"})
    with pytest.raises(SizewiseError, match="status 302"):
        send_webhook(
            f"{service.url}/v1/chat/completions", {"messages": [{"role": "user", "content": "1"}], "model": "m"}
        )
    assert service.asked == 1


def test_offline_forbids_webhooks_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    with pytest.raises(SizewiseError, match="forbids"):
        read_target("https://hooks.example.org/x")
    assert read_target("http://localhost:8000/x?y=1").path == "/x?y=1"


def test_a_condition_with_a_typo_is_refused_in_the_first_pass(service: Service, questions: str, store: Store) -> None:
    with pytest.raises(UsageError, match="tokn_f1 wasn't measured"):
        watch(f"{service.url}#m", questions, WatchOptions(require=("tokn_f1 >= 0.5",)), store=store)
