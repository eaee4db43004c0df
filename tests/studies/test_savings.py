"""Estimated savings, from a log of requests."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.progress import Silent
from sizewise.records import Candidate, Comparison, ModelDescription, Needs, Score
from sizewise.store import Store
from sizewise.studies.bill import EVERYTHING, part_of_bill, read_bill
from sizewise.studies.savings import SavingsOptions, estimate_savings, read_pays, savings_study

TINY = SavingsOptions(minutes=0.05, limit=80)


def write_log(path: Path, rows: int, references: bool, easy_every: int = 2) -> Path:
    """Requests whose easy kind a model that repeats the question answers, and whose hard kind it cannot."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            easy = number % easy_every == 0
            text = f"{'repeat' if easy else 'explain'} the clause {number} of part {rng.randint(1, 99)} of the plan"
            answer = text if easy else f"because number {rng.randint(1, 10**6)} holds here"
            row = {
                "id": f"r{number}",
                "request": {"messages": [{"role": "user", "content": text}]},
                "response": {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "model": "gpt"},
                "tags": ["easy" if easy else "hard"],
            }
            file.write(json.dumps(row | ({"references": [answer]} if references else {})) + "\n")
    return path


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace training: the trained small model is a rule here, and its answers are what is tested."""
    from sizewise.studies.steps import Steps

    def trained(_: object, candidate: Candidate, *__: object) -> str:
        return candidate.model

    monkeypatch.setattr(Steps, "train_one", trained)
    return "fake:echo"


def test_a_log_with_right_answers_says_what_it_saves_and_which_kinds_not(
    tmp_path: Path, store: Store, start: str
) -> None:
    log = write_log(tmp_path / "log.jsonl", 900, references=True)
    found = estimate_savings(
        log, 4_200.0, TINY._replace(start=start, limit=240, usd_per_hour=0.1, risk=0.05), store=store
    )
    assert found.basis == "references"
    assert found.requests == 900
    assert found.share.value is not None
    assert found.share.ci_low is not None
    assert 0.3 < found.share.value < 0.6
    assert found.not_these == ("hard",)
    assert found.saves_usd is not None
    assert found.saves_usd.lower < found.saves_usd.expected == pytest.approx(found.share.value * 4_200 - 73)
    assert "Keep the large model for: hard." in found.summary
    assert found.policy is not None
    assert Path(found.policy).is_file()


def test_without_right_answers_nothing_is_claimed(tmp_path: Path, store: Store, start: str) -> None:
    log = write_log(tmp_path / "log.jsonl", 400, references=False)
    found = estimate_savings(log, 4_200.0, TINY._replace(start=start), store=store)
    assert found.basis == "agreement"
    assert found.saves_usd is None
    assert found.summary.startswith("Savings unknown")
    assert f"judge open {found.study}" in found.summary


@pytest.mark.slow
def test_where_no_way_is_good_enough_or_the_bill_is_small_nothing_is_saved(
    tmp_path: Path, store: Store, start: str
) -> None:
    log = write_log(tmp_path / "hard.jsonl", 900, references=True, easy_every=1_000)
    bad = estimate_savings(log, 4_200.0, TINY._replace(start="fake:silent"), store=store)
    assert bad.summary.startswith("No savings: ")
    assert "At every threshold, more than" in bad.summary
    assert "including rules and classifiers" in bad.summary
    assert bad.summary.endswith("Keep the large model.")
    assert bad.policy is None
    log = write_log(tmp_path / "log.jsonl", 900, references=True)
    cheap = estimate_savings(log, 5.0, TINY._replace(start=start, limit=240), store=store)
    assert "machine costs more" in cheap.summary


TEAMS = {
    "billing": ["the invoice of {} is wrong", "charge of order {} came twice"],
    "shipping": ["the parcel {} did not arrive", "where is delivery {}"],
    "accounts": ["cannot log in as user {}", "reset the password of {}"],
}


def write_tickets(path: Path, rows: int, noise: float) -> Path:
    """Requests to sort into three teams; the words tell which, but for a share that nobody could tell."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            team = rng.choice(list(TEAMS))
            text = f"Which team: {rng.choice(TEAMS[team]).format(number * 7_919 % 100_003)}?"
            right = rng.choice(list(TEAMS)) if rng.random() < noise else team
            message = {"role": "assistant", "content": right}
            row = {
                "id": f"r{number}",
                "request": {"messages": [{"role": "user", "content": text}]},
                "response": {"choices": [{"message": message, "finish_reason": "stop"}], "model": "gpt"},
                "references": [right],
            }
            file.write(json.dumps(row) + "\n")
    return path


def test_a_classifier_that_is_as_good_is_what_saves(tmp_path: Path, store: Store, start: str) -> None:
    log = write_tickets(tmp_path / "tickets.jsonl", 1_200, noise=0.0)
    found = estimate_savings(log, 4_200.0, TINY._replace(start=start, limit=240, usd_per_hour=0.1), store=store)
    assert found.metric == "accuracy"
    assert found.small == "linear classifier (baseline)"
    assert found.share.value == 1
    assert found.saves_usd is not None
    assert found.saves_usd.expected == pytest.approx(4_200 - 73)
    assert found.summary.startswith("'linear classifier (baseline)' (no language model) can answer 100%")
    assert "At most 5% of all answers" in found.summary
    assert "saving about 4,127 USD a month" in found.summary
    assert found.ways["linear classifier (baseline)"].value == 1
    assert (found.ways["most frequent answer (baseline)"].value or 0) < 0.6
    assert {"small model, base", "small model, fine-tuned on the log"} <= set(found.ways)
    assert found.policy is not None


def test_too_few_requests_decide_nothing_and_say_what_they_show(tmp_path: Path, store: Store, start: str) -> None:
    log = write_tickets(tmp_path / "tickets.jsonl", 400, noise=0.0)
    found = estimate_savings(log, 4_200.0, TINY._replace(start=start, limit=40, usd_per_hour=0.1), store=store)
    assert found.tested <= 40
    assert found.small == "linear classifier (baseline)"
    assert found.saves_usd is None
    assert found.summary.startswith(
        f"Inconclusive: {found.tested} tested requests are too few to guarantee a risk of 5%; at least 77 are needed."
    )
    assert "'linear classifier (baseline)' (no language model) answers 100%" in found.summary
    assert ", which would save about 4,1" in found.summary
    assert "keep the large model" not in found.summary.lower()


@pytest.mark.slow
def test_a_classifier_that_is_often_wrong_does_not_take_the_large_models_place(
    tmp_path: Path, store: Store, start: str
) -> None:
    log = write_tickets(tmp_path / "tickets.jsonl", 600, noise=0.6)
    found = estimate_savings(log, 4_200.0, TINY._replace(start="fake:silent", limit=120), store=store)
    assert found.summary.startswith(("No savings", "Savings uncertain"))
    assert found.saves_usd is not None
    assert found.saves_usd.lower < 0


def test_bad_input_is_told(tmp_path: Path, store: Store) -> None:
    with pytest.raises(SizewiseError, match="holds 10 requests"):
        estimate_savings(write_log(tmp_path / "log.jsonl", 10, references=True), 1.0, store=store)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"completion": "x"}\n', encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"line 1 can't be read as a log: the prompt is missing"):
        estimate_savings(bad, 1.0, store=store)
    with pytest.raises(UsageError, match="must be shares"):
        estimate_savings(bad, 1.0, SavingsOptions(risk=2.0), store=store)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4200/month", 4200),
        ("1,200 / year", 100),
        ("$70/day", 70 * 365 / 12),
        ("12", 12),
        ("USD 4,200.50/Month", 4200.5),
        ("4200.50", 4200.5),
        ("4200,50", 4200.5),
        ("4200.500", 4200.5),
        ("0.500", 0.5),
        ("0,5", 0.5),
        ("4,2/month", 4.2),
        ("1.234,56/month", 1234.56),
        ("1,234.56/month", 1234.56),
        ("1.234.567", 1234567),
        ("1,234,567", 1234567),
        ("12'500.75/month", 12500.75),
        ("12 500,75 USD/month", 12500.75),
        ("12\u202f500/month", 12500),
    ],
)
def test_sums_of_money_are_understood(text: str, value: float) -> None:
    assert read_pays(text) == pytest.approx(value)


@pytest.mark.parametrize("text", [
        "much/month", "4/fortnight", "-3/month", "0", "nan/month", "inf", "-inf", "1e400", "9" * 400, "1,23,4", "1.2.3",
        "1,234,56", "12,34.567,8", "€4200/month", "4.2k/month", "", "/month", "٤٢٠٠",
    ],
)  # fmt: skip
def test_what_is_no_sum_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_pays(text)


@pytest.mark.parametrize("text", ["4.200/month", "12.500/year", "$1.234"])
def test_a_sum_with_two_readings_is_refused_with_both(text: str) -> None:
    with pytest.raises(UsageError, match=r"two readings: \d{4,5} and \d+\.\d+ US dollars"):
        read_pays(text)


@pytest.mark.slow
def test_what_is_as_good_on_average_is_named_even_where_no_answer_is_guaranteed(
    tmp_path: Path, store: Store, start: str
) -> None:
    rng = random.Random(0)
    rows = [json.loads(line) for line in write_tickets(tmp_path / "all.jsonl", 1_200, 0.1).read_text().splitlines()]
    for row in rows:  # the large model is wrong where the words don't mislead
        misled = not any(text.split(" {")[0] in str(row["request"]) for text in TEAMS[row["references"][0]])
        if not misled and rng.random() < 0.2:
            row["response"]["choices"][0]["message"]["content"] = "nobody"
        row["response"] |= {"model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 100, "completion_tokens": 5}}
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    reviewed = Needs.model_validate(
        {"review_share": 0.0001, "minutes_per_review": [0.5, 1, 2], "staff_usd_per_hour": 30}
    )
    options = TINY._replace(start=start, limit=240, usd_per_hour=0.1, needs=reviewed)
    found = estimate_savings(log, 3_000.0, options, store=store)
    assert (found.share.value or 0) < 0.5
    assert found.summary.startswith("On average, 'linear classifier (baseline)' is as good as the large model")
    assert "would save about 2,427 USD a month (1,927 to 2,677), human review included" in found.summary
    assert "Keep the large model" not in found.summary
    assert found.replaces == "linear classifier (baseline)"
    assert found.large == "gpt-4o"
    assert found.usd_per_1000 is not None
    assert found.usd_per_1000.value == pytest.approx(1_000 * (100 * 2.5e-6 + 5 * 10e-6))
    assert found.requests_per_month == 10_000_000
    assert found.replaces_usd is not None
    # 3,000 USD less, a machine for 73 and 1,000 reviews of half a minute to two at 30 USD an hour
    assert found.replaces_usd.expected == pytest.approx(3_000 - 73 - 1_000 / 60 * 30)
    assert found.replaces_usd.lower == pytest.approx(3_000 - 73 - 2_000 / 60 * 30)


def test_a_dry_run_of_a_log_reads_and_trains_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sizewise.studies import savings

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run ran the study")

    monkeypatch.setattr(savings, "study", refuse)
    log = write_log(tmp_path / "log.jsonl", 90, references=True)
    config, requests = savings_study(log, TINY._replace(start="fake:echo"), store=store)
    assert requests == 90
    assert [candidate.model.partition(":")[0] for candidate in config.candidates] == ["fake", "fake", "recorded"]
    ran = CliRunner().invoke(app, ["study", "--log", str(log), "--pays", "4200/month", "--dry-run"])
    assert ran.exit_code == 0, ran.output
    assert "fine-tuned on the log" in ran.stdout
    assert "Total:" in ran.stdout


@pytest.mark.parametrize("minutes", ["0", "-3"])
def test_a_time_is_above_0(minutes: str) -> None:
    ran = CliRunner().invoke(app, ["study", "demo:fhir", f"--minutes={minutes}"])
    assert ran.exit_code != 0
    assert "above 0" in str(ran.exception)


def cut_log(path: Path, rows: int, cut: int, **told: object) -> Path:
    """A log whose first answers were cut off."""
    write_log(path, rows, references=False)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines[:cut]:
        line["response"]["choices"][0]["finish_reason"] = "length"
    path.write_text("".join(f"{json.dumps(line | told)}\n" for line in lines), encoding="utf-8")
    return path


def test_answers_that_were_cut_off_are_no_references(tmp_path: Path, store: Store) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    log = cut_log(tmp_path / "log.jsonl", 90, cut=20)
    config, requests = savings_study(log, TINY, store=store, reporter=Listening())
    assert requests == 90
    assert len(Path(config.examples[0]).read_text(encoding="utf-8").splitlines()) == 70
    assert any("20 requests whose logged answer was cut off were left out" in line for line in said)
    with pytest.raises(SizewiseError, match=r"60 of 90 answers in .* were cut off at their limit, and 30 are left"):
        savings_study(cut_log(tmp_path / "most.jsonl", 90, cut=60), TINY, store=store)
    judged = cut_log(tmp_path / "judged.jsonl", 90, cut=20, references=["because"])
    config, _ = savings_study(judged, TINY, store=store)
    recorded = Path(config.candidates[-1].model.removeprefix("recorded:"))
    rows = [json.loads(line) for line in recorded.read_text(encoding="utf-8").splitlines()]
    assert sum(row.get("finish_reason") == "length" for row in rows) == 20


def test_answers_from_a_cache_that_cost_nothing_count_as_free(tmp_path: Path, store: Store) -> None:
    log = cut_log(tmp_path / "log.jsonl", 90, cut=0)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    priced = [line | {"cost_usd": 0.02 * (i % 2)} for i, line in enumerate(lines)]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in priced), encoding="utf-8")
    config, _ = savings_study(log, TINY, store=store)
    recorded = Path(config.candidates[-1].model.removeprefix("recorded:"))
    usd = [json.loads(line)["usd"] for line in recorded.read_text(encoding="utf-8").splitlines()]
    assert sum(usd) / len(usd) == pytest.approx(0.01)


def test_what_might_be_saved_counts_the_people_too(tmp_path: Path, store: Store, start: str) -> None:
    log = write_tickets(tmp_path / "tickets.jsonl", 400, noise=0.0)
    people = {"requests_per_month": 10_000, "review_share": 0.5, "minutes_per_review": 2, "staff_usd_per_hour": 30}
    options = TINY._replace(start=start, limit=40, usd_per_hour=0.1, needs=Needs.model_validate(people))
    found = estimate_savings(log, 4_200.0, options, store=store)  # 5,000 reviews of a dollar each
    assert found.summary.startswith("Inconclusive: ")
    assert "which would save" not in found.summary
    cheap = options._replace(needs=options.needs.model_copy(update={"requests_per_month": 1_000}))
    assert "which would save about 3,6" in estimate_savings(log, 4_200.0, cheap, store=store).summary


def compared(price: float) -> Comparison:
    score = Score(metric="usd_per_1000", value=price, ci_low=price, ci_high=price, n=10, unit="USD", signature="x")
    right = Score(metric="exact_match", value=0.5, n=10, unit="share", signature="x")
    large = ModelDescription(
        uri="recorded:x", origin="x", license="x", engine="recorded", precision="none", of="gpt-4o",
        price_basis="recorded tokens x list price",
    )  # fmt: skip
    return Comparison(
        data="d", evaluations={"large": "e", "own": "f"},
        models={"large": large, "own": large.model_copy(update={"engine": "x"})},
        scores={"usd_per_1000": {"large": score}, "exact_match": {"own": right, "large": right}},
        better={}, differences=(), language_modeling_proxy=False, rounds=1, seed=0,
    )  # fmt: skip


def test_wrong_answers_are_counted_only_by_the_metric_that_counts_them() -> None:
    needs = Needs.model_validate({"requests_per_month": 1_000, "usd_per_wrong_answer": 5})
    bill = read_bill(compared(2.0), "large", 2.0, needs)
    unknown = part_of_bill(bill, compared(2.0), "own", EVERYTHING, None)
    assert "wrong answers" not in unknown.terms
    assert "wrong answers not counted: the metric doesn't count them" in unknown.notes
    known = part_of_bill(bill, compared(2.0), "own", EVERYTHING, np.array([0.0, 1.0, 0.0, 0.0]))
    assert known.terms["wrong answers"].expected == pytest.approx(-0.25 * 1_000 * 5)


def test_a_bill_that_does_not_fit_the_stated_requests_is_told() -> None:
    fits = read_bill(compared(2.0), "large", 2.0, Needs(requests_per_month=1_500))
    assert fits.notes == ()
    odd = read_bill(compared(2.0), "large", 4_200.0, Needs(requests_per_month=1_000))
    assert "4,200 USD a month would pay for about 2,100,000 requests at 2 USD" in odd.notes[0]
    assert "requests_per_month is 1,000" in odd.notes[0]
