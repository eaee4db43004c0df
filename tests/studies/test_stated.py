"""What a study file states about recorded answers, and today's process as a candidate."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.errors import UsageError
from sizewise.records import Comparison, Needs, Recommendation, StatedFacts
from sizewise.store import Store
from sizewise.studies import study
from sizewise.studies.config import config_text, read_config
from sizewise.studies.waves import beaten
from tests.choice.test_situations import compared

TEAMS = ("billing", "shipping", "accounts")
STAFF = 'name = "staff"\nmodel = "recorded:staff.jsonl"\nminutes_per_case = 4\nusd_per_hour = 35'
PAID = 'name = "paid"\nmodel = "recorded:paid.jsonl"\nof = "gpt-4o"\nusd_per_1000 = 5'


def write_study(folder: Path, candidates: tuple[str, ...], needs: str = "", cases: int = 500) -> Path:
    rng = random.Random(0)
    rows, said = [], {"staff": [], "paid": []}  # type: ignore[var-annotated]
    for number in range(cases):
        team = rng.choice(TEAMS)
        rows.append({"id": f"c{number}", "prompt": f"case {number} on {rng.random()}", "references": [team]})
        wrong = {"staff": number % 50 == 0, "paid": number % 4 == 0}
        for name, answers in said.items():
            answers.append({"id": f"c{number}", "completion": "nobody" if wrong[name] else team})
    for name, answers in said.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers), encoding="utf-8")
    (folder / "cases.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    text = '[study]\nname = "cases"\n[data]\nexamples = "cases.jsonl"\nmetrics = ["exact_match"]\n'
    text += "".join(f"\n[[candidates]]\n{candidate}\n" for candidate in candidates)
    path = folder / "study.toml"
    path.write_text(f"{text}\n[needs]\n{needs}\n", encoding="utf-8")
    return path


def test_keys_of_a_candidate_become_facts_and_are_written_back(tmp_path: Path) -> None:
    path = write_study(tmp_path, (PAID + "\nlocal = false", STAFF))
    config = read_config(path)
    paid, staff = config.candidates
    assert paid.stated == StatedFacts(of="gpt-4o", local=False, usd_per_1000=5)
    assert paid.model.endswith("paid.jsonl#gpt-4o&local=false&usd_per_1000=5.0")
    assert staff.stated is not None
    assert staff.stated.process == "staff"
    again = tmp_path / "again.toml"
    again.write_text(config_text(config), encoding="utf-8")
    assert 'of = "gpt-4o"' in config_text(config)
    assert read_config(again).candidates == config.candidates


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ('name = "x"\nmodel = "pkg:smollm2-135m"\nof = "gpt-4o"', "'of' in .* describes recorded answers"),
        ('name = "x"\nmodel = "recorded:paid.jsonl"\nminutes_per_case = 4', "without a price of that time"),
        ('name = "x"\nmodel = "recorded:paid.jsonl"\nparameters = -1', "parameters = -1 isn't valid"),
        ('name = "x"\nmodel = "recorded:paid.jsonl"\nminutes_per_cases = 4', "did you mean 'minutes_per_case'"),
    ],
)
def test_wrong_facts_are_refused_with_the_line_to_fix(tmp_path: Path, candidate: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(write_study(tmp_path, (candidate,), cases=1))


def test_a_range_of_costs_must_rise(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must rise"):
        read_config(write_study(tmp_path, (PAID,), "usd_per_wrong_answer = [5, 1, 9]", cases=1))
    with pytest.raises(UsageError, match="usd_per_wrong_answer"):
        read_config(write_study(tmp_path, (PAID,), "usd_per_wrong_answer = -2", cases=1))


def test_staff_of_today_are_a_candidate_and_wrong_answers_count(tmp_path: Path, store: Store) -> None:
    needs = 'requests_per_month = 10_000\ntoday = "staff"\nusd_per_wrong_answer = [1, 2, 5]\nreview_share = 0.1\n'
    needs += "minutes_per_review = 1\nstaff_usd_per_hour = 30"
    made = study(write_study(tmp_path, (PAID, STAFF), needs), store=store).record
    assert (made.outcome, made.pick) == ("do_not_train", "staff")
    assert "Keep today's process: staff" in made.summary
    chosen = store.read(Recommendation, made.recommendation)
    (paid,) = chosen.savings
    assert (paid.name, paid.today) == ("paid", "staff")
    assert paid.terms["running cost"].expected == pytest.approx(10_000 * (4 / 60 * 35) - 50)
    assert paid.terms["human review"].expected == pytest.approx(-10_000 * 0.1 / 60 * 30)
    compared = store.read(Comparison, made.comparison)
    right = {name: compared.scores[chosen.quality][name].value or 0 for name in ("paid", "staff")}
    lost = 10_000 * (right["staff"] - right["paid"])
    assert paid.terms["wrong answers"].expected == pytest.approx(-2 * lost)
    assert paid.terms["wrong answers"].lower < -2 * lost < paid.terms["wrong answers"].upper < 0
    assert compared.scores["latency_s"]["staff"].value == 240


def test_a_model_that_cannot_be_picked_stops_no_other() -> None:
    facts = {
        "small": {"quality": 5.0, "memory_gb": 0.3, "start": "base"},
        "gpt-4": {"quality": 9.0, "of": "gpt-4", "hosted_by": "OpenAI", "retires_on": "2026-10-23"},
        "gpt-4o": {"quality": 9.0, "of": "gpt-4o", "hosted_by": "OpenAI"},
    }
    found = compared(facts)
    sure = [one.model_copy(update={"p_adjusted": 1e-6}) for one in found.differences]
    found = found.model_copy(update={"differences": tuple(sure)})
    assert set(beaten(found, Needs(), "bleu", list(facts))) == {"small"}
    assert beaten(found, Needs(local_only=True), "bleu", list(facts)) == {}
    assert beaten(found, Needs(), "bleu", ["small", "gpt-4"]) == {}
