from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging import PlanAssumptions, agreement, plan, rank
from sizewise.stats import MIN_CLUSTERS
from sizewise.stats.crossed import estimate_share
from sizewise.stats.ranking import bradley_terry, win_matrix

NONE = None


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def ratings(path: Path, table: list[list[Any]]) -> Path:
    """One row a rater, one column an item."""
    return write(
        path,
        [
            {"rater": f"r{r}", "item": f"i{i}", "label": label}
            for r, row in enumerate(table)
            for i, label in enumerate(row)
            if label is not None
        ],
    )


# Krippendorff (2011), Computing Krippendorff's alpha-reliability, section D: four observers, twelve units.
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
# Fleiss (1971), as in Wikipedia's worked example: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorffs_example(tmp_path: Path, level: Any, published: float) -> None:
    found = agreement(ratings(tmp_path / "four.csv", FOUR), level)
    score = found.scores["krippendorff_alpha"]
    assert score.value == pytest.approx(published, abs=5e-4)
    assert score.ci_low is not None
    assert score.ci_low < published < (score.ci_high or 0)
    assert found.items == 11
    assert found.raters == 4


def test_kappa_is_that_of_fleiss_example(tmp_path: Path) -> None:
    table: list[list[Any]] = [[None] * 10 for _ in range(14)]
    for item, counts in enumerate(FLEISS):
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        for rater, label in enumerate(labels):
            table[rater][item] = label
    found = agreement(ratings(tmp_path / "fleiss.csv", table))
    assert found.scores["fleiss_kappa"].value == pytest.approx(0.210, abs=5e-4)


def test_kappa_of_two_raters_and_gwets_answer_to_rare_labels(tmp_path: Path) -> None:
    # Cohen's kappa with 20, 5, 10 and 15 of 50 is 0.4 (observed 0.7, by chance 0.5).
    pairs = ["yy"] * 20 + ["yn"] * 5 + ["ny"] * 10 + ["nn"] * 15
    found = agreement(ratings(tmp_path / "two.csv", [[pair[0] for pair in pairs], [pair[1] for pair in pairs]]))
    assert found.scores["cohen_kappa"].value == pytest.approx(0.4)
    # Gwet (2008): 118 and 2 on the diagonal, 5 off it, of 125: kappa is near zero, AC1 is not (0.9 and more).
    skewed = ["yy"] * 118 + ["yn"] * 5 + ["nn"] * 2
    rare = agreement(ratings(tmp_path / "rare.csv", [[pair[0] for pair in skewed], [pair[1] for pair in skewed]]))
    assert (rare.scores["gwet_ac1"].value or 0) > 0.94
    assert (rare.scores["cohen_kappa"].value or 1) < 0.5


def test_own_packages_agree_with_known_ones(tmp_path: Path) -> None:
    import krippendorff

    random = np.random.default_rng(3)
    table = random.integers(1, 6, (5, 40)).astype(float)
    table[random.random((5, 40)) < 0.3] = np.nan
    rows = [[None if np.isnan(x) else int(x) for x in row] for row in table]
    for level in ("nominal", "ordinal", "interval"):
        own = agreement(ratings(tmp_path / f"{level}.csv", rows), level).scores["krippendorff_alpha"].value
        assert own == pytest.approx(krippendorff.alpha(table, level_of_measurement=level), abs=1e-9)


def test_strengths_are_the_likeliest(tmp_path: Path) -> None:
    # Two players: the strength is the share of wins; three in a circle are alike.
    rows = [{"left": "a", "right": "b", "winner": "left"}] * 3 + [{"left": "b", "right": "a", "winner": "left"}]
    found = rank(write(tmp_path / "two.csv", rows))
    assert [row.name for row in found.table] == ["a", "b"]
    assert found.table[0].score.value == pytest.approx(0.75, abs=1e-9)
    assert found.left_share.value == 1.0
    circle = [{"left": x, "right": y, "winner": "left"} for x, y in ("ab", "bc", "ca")]
    for row in rank(write(tmp_path / "circle.csv", circle)).table:
        assert row.score.value == pytest.approx(1 / 3, abs=1e-9)
        assert row.ranks == (1, 3)


def test_whoever_never_wins_is_last_and_said_so(tmp_path: Path) -> None:
    rows = [{"left": "a", "right": "b", "winner": "left"}] * 30
    found = rank(write(tmp_path / "one.csv", rows))
    assert [row.name for row in found.table] == ["a", "b"]
    first = found.table[0].score
    assert (first.ci_low or 1) < 0.8 < 0.95 < (first.value or 0) < (first.ci_high or 0) < 1
    assert any("don't link all candidates" in note for note in found.notes)


@pytest.mark.parametrize("votes", [8, 20, 100])
def test_soft_preferences_decide_no_less_than_hard_ones(tmp_path: Path, votes: int) -> None:
    def ranked(winner: str) -> list[Any]:
        rows = [{"left": "a", "right": "b", "winner": winner}] * votes
        return list(rank(write(tmp_path / "soft.csv", rows)).table)

    hard = ranked("left")[0]
    assert votes == 8 or hard.ranks == (1, 1)
    for winner in ("0.9", "0.95", "0.98", "0.99", "0.995", "0.999", "0.99999", "1"):
        first, second = ranked(winner)
        assert first.name == "a"
        assert first.ranks in (hard.ranks, (1, 1))
        assert first.score.ci_low >= hard.score.ci_low - 0.05
        assert 0 < second.score.ci_low < second.score.value < second.score.ci_high
        assert first.score.ci_low == pytest.approx(first.win_rate.ci_low, abs=0.25)


@pytest.mark.parametrize("winner", ["1e-320", "1e-300", "1e-16", "0.00001", "0.9999999999999999"])
def test_extreme_preferences_are_ranked_like_wins(tmp_path: Path, winner: str) -> None:
    rows = [{"left": "a", "right": "b", "winner": winner}] * 30
    soft = rank(write(tmp_path / "soft.csv", rows))
    hard = rank(write(tmp_path / "hard.csv", [row | {"winner": f"{float(winner):.0f}"} for row in rows]))
    for one, other in zip(soft.table, hard.table, strict=True):
        assert (one.name, one.ranks) == (other.name, other.ranks)
        assert one.score.value == pytest.approx(other.score.value, abs=0.01)
        assert one.score.ci_low == pytest.approx(other.score.ci_low, abs=0.01)


def test_ties_rank_nobody_above_anybody(tmp_path: Path) -> None:
    rows = [{"left": x, "right": y, "winner": "tie"} for x, y in ("ab", "bc", "ca") * 10]
    ties = rank(write(tmp_path / "ties.csv", rows))
    assert ties.left_share.missing_reason == "all votes are ties"
    for row in ties.table:
        assert row.score.value == pytest.approx(1 / 3)
        assert row.score.ci_low is not None
        assert row.score.ci_low < 1 / 3 < (row.score.ci_high or 0)
        assert (row.rank, row.ranks) == (1, (1, 3))


def test_one_vote_is_too_few(tmp_path: Path) -> None:
    found = rank(write(tmp_path / "one.csv", [{"left": "a", "right": "b", "winner": "left"}]))
    assert found.table[0].score.value == pytest.approx(0.75)
    assert [(row.score.ci_low, row.win_rate.ci_low, row.ranks) for row in found.table] == [(None, None, (1, 2))] * 2
    assert any("too few for intervals" in note for note in found.notes)
    # Minimums count documents: 40 votes on 4 items are 4 of them.
    rows = [{"left": "a", "right": "b", "winner": "left", "item": f"i{n % 4}"} for n in range(40)]
    found = rank(write(tmp_path / "four.csv", rows))
    assert found.table[0].ranks == (1, 2)
    assert any(note.startswith("4 different items are too few") for note in found.notes)


def test_soft_preferences_are_votes(tmp_path: Path) -> None:
    said = ["left", "0.5", "0", "1", "0.75"] * 8
    rows = [{"left": "a", "right": "b", "winner": word} for word in said]
    found = rank(write(tmp_path / "soft.csv", rows))
    assert {row.name: row.win_rate.value for row in found.table} == pytest.approx({"a": 0.65, "b": 0.35})
    assert found.ties == 8
    preferred = [{"left": "a", "right": "b", "preference": {"left": "1"}.get(word, word)} for word in said]
    assert rank(write(tmp_path / "column.csv", preferred)).table[0].win_rate.value == pytest.approx(0.65)
    for wrong in ("1.5", "nan", "-0.1"):
        with pytest.raises(SizewiseError, match="a number from 0 to 1"):
            rank(write(tmp_path / "bad.csv", [{"left": "a", "right": "b", "winner": wrong}]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"left": "a", "right": "b"}], "no column winner or preference"),
        ([{"left": "a", "right": "b", "winner": "A"}], "winner 'A'"),
        ([{"left": "a", "right": "a", "winner": "tie"}], "with itself"),
        ([{"left": "a", "right": "", "winner": "tie"}], "has no right"),
    ],
)
def test_bad_votes_are_named(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SizewiseError, match=said):
        rank(write(tmp_path / "bad.csv", rows))


def test_bad_ratings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="two ratings of one item by one rater"):
        agreement(write(tmp_path / "twice.csv", [{"rater": "a", "item": "1", "label": "x"}] * 2))
    with pytest.raises(SizewiseError, match="No item"):
        agreement(ratings(tmp_path / "one.csv", [["x", "y"]]))
    with pytest.raises(SizewiseError, match="not numbers"):
        agreement(ratings(tmp_path / "words.csv", [["x"], ["y"]]), "interval")
    alike = agreement(ratings(tmp_path / "alike.csv", [["x", "x"], ["x", "x"]]))
    assert alike.scores["krippendorff_alpha"].missing_reason is not None


def test_a_plan_finds_what_it_promises() -> None:
    found = plan(0.1, 0.8, assumptions=PlanAssumptions(tie_share=0.2))
    random = np.random.default_rng(1)
    seen = 0
    for _ in range(2_000):
        votes = random.choice([1.0, 0.5, 0.0], found.votes, p=[0.5, 0.2, 0.3])
        error = votes.std(ddof=1) / np.sqrt(len(votes))
        seen += abs(votes.mean() - 0.5) / error > 1.96
    assert 0.76 <= seen / 2_000 <= 0.86
    assert plan(0.05).votes > 3.5 * plan(0.1).votes
    assert plan(0.1, votes_per_item=3).votes > plan(0.1).votes
    with pytest.raises(UsageError):
        plan(0.7)


def test_a_plan_never_falls_below_the_documents_that_a_claim_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for each in (1, 3):
        found = plan(0.499, votes_per_item=each, assumptions=PlanAssumptions(tie_share=0))
        assert (found.items, found.votes) == (MIN_CLUSTERS, MIN_CLUSTERS * each)
    assert plan(0.1).items > MIN_CLUSTERS
    with pytest.raises(UsageError, match="detect=1e-200"):
        plan(1e-200)
    for detect, rates in (("0.001", "50.1% (or 49.9%)"), ("0.1", "60% (or 40%)"), ("0.0001", "50.01% (or 49.99%)")):
        app(["judge", "plan", "--detect", detect], standalone_mode=False)
        assert rates in " ".join(capsys.readouterr().out.split())
    app(["judge", "plan", "--detect", "0.499", "--ties", "0"], standalone_mode=False)
    assert "fewer than 8 items" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("detect", "ties"), [(0.4, 0.3), (0.01, 0.99), (0.499, 0.01)])
def test_a_win_rate_that_ties_rule_out_is_not_planned(detect: float, ties: float) -> None:
    with pytest.raises(UsageError, match=f"A win rate of {0.5 + detect:g} is impossible") as refused:
        plan(detect, assumptions=PlanAssumptions(ties))
    detected, possible = refused.value.next_step.split()[4], refused.value.next_step.split()[6]
    assert plan(float(detected), assumptions=PlanAssumptions(float(possible))).detect == detect


@pytest.mark.parametrize(("detect", "ties"), [(0.25, 0.0), (0.3, 0.3)])
def test_small_rounds_have_the_power_they_are_planned_for(detect: float, ties: float) -> None:
    votes = plan(detect, assumptions=PlanAssumptions(ties)).votes
    won = (1 - ties) / 2 + detect
    shares = np.random.default_rng(0).choice([1, 0.5, 0], (600, votes), p=[won, ties, 1 - ties - won])
    found = np.mean([estimate_share(row, None, np.arange(votes)).p < 0.05 for row in shares])
    assert 0.78 < found < 0.93


def test_commands_print_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"left": "a", "right": "b", "winner": w, "rater": f"r{i % 3}", "item": f"q{i % 5}"}
        for i, w in enumerate(["left", "right", "tie", "left", "both_bad"] * 6)
    ]
    app(["judge", "rank", str(write(tmp_path / "v.csv", rows))], standalone_mode=False)
    app(["judge", "agreement", str(ratings(tmp_path / "a.csv", FOUR)), "--level", "ordinal"], standalone_mode=False)
    app(["judge", "plan", "--detect", "0.1", "--power", "0.8"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "Intervals treat raters and prompts as samples" in said
    assert "krippendorff alpha" in said
    assert "minutes each" in said


@pytest.mark.data
def test_the_golden_scores_of_llmfao_are_reproduced() -> None:
    folder = Path(os.environ["SIZEWISE_TEST_DATA"]) / "llmfao"
    with (folder / "evalica_llmfao.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "llmfao-golden.csv").open(encoding="utf-8", newline="") as file:
        golden = {r["item"]: float(r["score"]) for r in csv.DictReader(file) if r["algorithm"] == "bradley_terry"}
    names = sorted(golden)
    place = {name: i for i, name in enumerate(names)}
    left, right = (np.array([place[row[side]] for row in rows]) for side in ("left", "right"))
    share = np.array([{"left": 1.0, "right": 0.0, "tie": 0.5}[row["winner"]] for row in rows])
    strengths = bradley_terry(win_matrix(left, right, share, len(names)))
    expected = np.array([golden[name] for name in names])
    np.testing.assert_allclose(strengths, expected / expected.sum(), atol=1e-6)


def test_blanks_and_composed_letters_make_no_other_label_or_name(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    forms = ("gr\u00fcn", "gru\u0308n ", "\u00a0gr\u00fcn")
    rows = [
        f"{rater}{' ' * (item % 2)},{item},{forms[(item + place) % 3]}"
        for place, rater in enumerate("ab")
        for item in range(9)
    ]
    path.write_text("rater,item,label\n" + "\n".join([*rows, "a,9,NA", "b,9,NA "]) + "\n", encoding="utf-8")
    found = agreement(path)
    assert found.labels == ("NA", "gr\u00fcn")
    assert found.raters == 2
    assert found.scores["krippendorff_alpha"].value == 1
    votes = "".join(f"{'new ' if n % 2 else 'new'},old,{'left ' if n % 3 else 'right'}\n" for n in range(12))
    path.write_text("left,right,winner\n" + votes, encoding="utf-8")
    assert sorted(row.name for row in rank(path).table) == ["new", "old"]
    path.write_text("rater,item,label\na,1, \n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2 has no label"):
        agreement(path)


def test_labels_that_only_look_like_numbers_are_words(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("rater,item,label\na,1,inf\nb,1,inf\na,2,1\nb,2,1\n", encoding="utf-8")
    assert agreement(path).labels == ("1", "inf")
    with pytest.raises(SizewiseError, match="not numbers"):
        agreement(path, "interval")


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("spell", ["{}.0", "+{}", "0{}", "{}e0", " {} "])
def test_equal_numbers_are_one_label(tmp_path: Path, level: Any, spell: str) -> None:
    first = [i % 5 for i in range(30)]
    second = [spell.format(label) for label in first]
    found = agreement(ratings(tmp_path / "spelled.csv", [first, second]), level)
    plain = agreement(ratings(tmp_path / "plain.csv", [first, first]), level)
    assert found.labels == plain.labels == ("0", "1", "2", "3", "4")
    assert found.scores == plain.scores
    assert {name: score.value for name, score in found.against_the_rest.items()} == {"r0": 1.0, "r1": 1.0}
    assert any("'1', " in note for note in found.notes) == (spell != " {} ")
    assert not any("same number" in note for note in plain.notes)
    # Long identifiers that a float can't tell apart stay different.
    ids = ["12345678901234567890", "12345678901234567891"]
    assert len(agreement(ratings(tmp_path / "ids.csv", [ids, ids]), level).labels) == 2


def test_words_that_look_alike_are_noted(tmp_path: Path) -> None:
    found = agreement(ratings(tmp_path / "case.csv", [["yes", "no", "not sure"] * 5, ["Yes", "no", "not  sure"] * 5]))
    assert len(found.labels) == 5
    assert any("differ only in case or spaces" in note and "'Yes', 'yes'" in note for note in found.notes)
    assert any("'not  sure', 'not sure'" in note for note in found.notes)
    clean = agreement(ratings(tmp_path / "clean.csv", [["yes", "no"] * 5] * 2))
    assert not any("differ only" in note for note in clean.notes)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200, 1e308])
def test_interval_agreement_does_not_depend_on_the_unit(tmp_path: Path, size: float) -> None:
    first, second = [-1, 0, 1, 1] * 5, [-1, 0, 1, 0] * 5
    scaled = [[size * label for label in rater] for rater in (first, second)]
    found = agreement(ratings(tmp_path / "scaled.csv", scaled), "interval").scores["krippendorff_alpha"]
    plain = agreement(ratings(tmp_path / "plain.csv", [first, second]), "interval").scores["krippendorff_alpha"]
    assert found.value == pytest.approx(plain.value)
    assert (found.ci_low, found.ci_high) == pytest.approx((plain.ci_low, plain.ci_high))


def test_one_label_measures_no_agreement(tmp_path: Path) -> None:
    found = agreement(ratings(tmp_path / "one.csv", [["x"] * 20, ["x"] * 20]))
    assert {score.missing_reason for score in found.scores.values()} == {"there is only one label"}


ITEMS = [
    "item",
    "Item",
    "ITEM ID",
    "item_id",
    "prompt",
    "Prompt-ID",
    "question_id",
    "task",
    "Document",
    "doc",
    "source",
]
RATERS = ["rater", "Rater", "rater_id", "Annotator", "annotator_id", "Worker ID", "judge"]


@pytest.mark.parametrize("name", ITEMS)
def test_the_column_of_items_is_found_however_it_is_spelled(tmp_path: Path, name: str) -> None:
    rows = [{"Left": "a", "right ": "b", "WINNER": "left", name: "one"} for _ in range(200)]
    found = rank(write(tmp_path / "one.csv", rows))
    assert [row.ranks for row in found.table] == [(1, 2)] * 2
    assert found.prompts == 1
    assert any("are one document" in note for note in found.notes)
    # A blank cell is a document of its own, and leaves the others as they are.
    found = rank(write(tmp_path / "blank.csv", [*rows, rows[0] | {name: ""}]))
    assert [row.ranks for row in found.table] == [(1, 2)] * 2
    assert found.prompts == 2
    assert any(note.startswith("votes without ") and ": 1;" in note for note in found.notes)


@pytest.mark.parametrize("name", RATERS)
def test_the_column_of_raters_is_found_however_it_is_spelled(tmp_path: Path, name: str) -> None:
    rows = [
        {"left": "a", "right": "b", "winner": "right" if n % 5 == 4 else "left", name: f"r{n % 5}", "item": f"i{n}"}
        for n in range(200)
    ]
    found = rank(write(tmp_path / "five.csv", rows))
    assert (found.raters, found.table[0].ranks) == (5, (1, 2))
    blank = rank(write(tmp_path / "blank.csv", [*rows, rows[0] | {name: "", "item": "i300"}]))
    assert (blank.raters, blank.table[0].ranks) == (6, (1, 2))
    low, lower = found.table[0].win_rate.ci_low, blank.table[0].win_rate.ci_low
    assert low is not None
    assert lower == pytest.approx(low, abs=0.05)


def test_a_blank_document_is_that_of_the_item(tmp_path: Path) -> None:
    vote = {"left": "a", "right": "b", "winner": "left"}
    rows = [vote | {"item": f"i{n % 20}", "document": f"d{n % 2}" if n < 20 else ""} for n in range(40)]
    assert rank(write(tmp_path / "votes.csv", rows)).prompts == 2
    rows += [vote | {"item": "other", "document": ""}] * 2 + [vote | {"item": "", "document": ""}] * 2
    assert rank(write(tmp_path / "votes.csv", rows)).prompts == 5
    found = rank(write(tmp_path / "none.csv", [vote | {"item": ""}] * 20))
    assert found.prompts is None
    assert "no column 'item' or 'document': every vote is treated as a document of its own" in found.notes


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("left,right,winner,Item,item\na,b,left,1,2\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="two columns item"):
        rank(path)


def test_ratings_find_their_columns_and_documents(tmp_path: Path) -> None:
    rows = [
        {"Annotator_ID": f"r{n % 3}", "Question ID": f"i{n // 3}", "Label": n % 2, "Document": "only"}
        for n in range(60)
    ]
    found = agreement(write(tmp_path / "one.csv", rows))
    assert (found.raters, found.items) == (3, 20)
    assert found.scores["krippendorff_alpha"].ci_low is None
    assert any("'document' are one document" in note for note in found.notes)
    alone = agreement(
        write(tmp_path / "alone.csv", [{k: v for k, v in row.items() if k != "Document"} for row in rows])
    )
    assert alone.scores["krippendorff_alpha"].ci_low is not None
    assert any("no column 'document'" in note for note in alone.notes)
    with pytest.raises(SizewiseError, match="two documents of item i0: only and other"):
        agreement(write(tmp_path / "two.csv", [rows[0], rows[1] | {"Document": "other"}, rows[3], rows[4]]))


def test_a_winner_and_a_preference_must_agree(tmp_path: Path) -> None:
    vote = {"left": "a", "right": "b"}
    fits = [("left", 0.9), ("right", 0.2), ("tie", 0.6), ("left", ""), ("", 0.1), ("left", 0.5)]
    found = rank(write(tmp_path / "fits.csv", [vote | {"winner": w, "preference": p} for w, p in fits]))
    assert found.table[0].win_rate.value == pytest.approx(3.3 / 6)
    assert any("both a winner and a preference: 4;" in note for note in found.notes)
    for winner, preference in (("left", 0.1), ("right", 0.9), ("0.8", 0.4)):
        rows = [vote | {"winner": "left", "preference": 0.9}, vote | {"winner": winner, "preference": preference}]
        with pytest.raises(SizewiseError, match=r"Vote 2 of bad.csv .* contradict themselves: 1"):
            rank(write(tmp_path / "bad.csv", rows))


def test_a_candidate_on_few_items_has_no_rank(tmp_path: Path) -> None:
    rows = [{"left": "a", "right": "b", "winner": "left" if n % 5 else "right", "item": f"i{n}"} for n in range(200)]
    few = [{"left": "c", "right": "a", "winner": "left", "item": f"x{n % 2}"} for n in range(50)]
    found = {row.name: row for row in rank(write(tmp_path / "few.csv", rows + few)).table}
    assert found["c"].ranks == (1, 3)
    assert (found["c"].score.ci_low, found["c"].win_rate.ci_low) == (None, None)
    assert found["a"].ranks == (1, 2)
    assert found["b"].ranks == (2, 3)
    notes = rank(tmp_path / "few.csv").notes
    assert "no difference is claimed for candidates with votes on fewer than 8 items: c" in notes


def test_a_candidate_always_on_the_left_is_noted(tmp_path: Path) -> None:
    same = [{"left": "a", "right": "b", "winner": "left"}] * 40
    found = rank(write(tmp_path / "same.csv", same))
    assert any(note.startswith("always on the left: a of b;") for note in found.notes)
    both = rank(write(tmp_path / "both.csv", [*same, {"left": "b", "right": "a", "winner": "right"}]))
    assert not any("always on the left" in note for note in both.notes)


def test_missing_values_are_no_labels(tmp_path: Path) -> None:
    known = ratings(tmp_path / "known.csv", [[1, 1, 2] * 5, [1, 1, None] * 5, [None, 1, 2] * 5])
    written = ratings(tmp_path / "written.csv", [[1, 1, 2] * 5, ["1.0", 1, "nan"] * 5, ["<NA>", 1, "2.0"] * 5])
    found = agreement(written)
    assert found.scores["krippendorff_alpha"].value == agreement(known).scores["krippendorff_alpha"].value == 1
    assert found.labels == ("1", "2")
    assert any("missing value, such as NaN, were left out: 10" in note for note in found.notes)
    words = agreement(ratings(tmp_path / "words.csv", [["joy", "None", "fear"] * 5, ["joy", "None", "joy"] * 5]))
    assert words.labels == ("None", "fear", "joy")
    assert any(note.startswith("counted as labels: 'None';") for note in words.notes)
    with pytest.raises(SizewiseError, match="has no ratings"):
        agreement(ratings(tmp_path / "all.csv", [["nan"] * 3] * 2))


def test_names_that_look_alike_are_noted(tmp_path: Path) -> None:
    rows = [
        {"left": "GPT-4" if n % 2 else "gpt 4", "right": "llama", "winner": "left", "rater": "Ana" if n % 3 else "ana"}
        for n in range(40)
    ]
    assert any(
        note == "candidates that differ only in case or spaces count as different: 'GPT-4', 'gpt 4'"
        for note in rank(write(tmp_path / "votes.csv", rows)).notes
    )
    labels = [{"rater": rater, "item": n, "label": n % 2} for n in range(20) for rater in ("Ana", "ana", "Bo")]
    assert any(
        note == "raters that differ only in case or spaces count as different: 'Ana', 'ana'"
        for note in agreement(write(tmp_path / "labels.csv", labels)).notes
    )
