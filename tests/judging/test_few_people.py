"""Few people, many judge models: validation of judges, and their votes combined with people's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from sizewise.choice import choose
from sizewise.comparison import add_votes, compare
from sizewise.errors import UsageError
from sizewise.judging import Ballot, Opened, RoundDesign, ask_judge, open_round, report, validate_judges
from sizewise.judging.judge_validation import SWAPPED, own_family
from sizewise.judging.llm_judge import Complete
from sizewise.judging.pairs import Judged
from sizewise.records import (
    Comparison,
    Completion,
    JudgeTask,
    JudgeValidation,
    ModelDescription,
    Needs,
    Origin,
    Request,
    Vote,
)
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import Store
from sizewise.studies.audit import audit

CHOICES = ("left", "right", "tie")


def task(number: int, document: int) -> JudgeTask:
    return JudgeTask(
        id=f"t{number}", item=f"i{number}", cluster=f"d{document}", prompt="?", left="small", right="large",
        left_text="one", right_text="two",
    )  # fmt: skip


def vote(of: JudgeTask, rater: str, choice: str, origin: Origin = "person", comment: str = "") -> Judged:
    return of, Vote(task=of.id, rater=rater, origin=origin, choice=choice, comment=comment)


class Judges:
    """A round whose answers are tied with a given frequency; people and judges vote on each task."""

    def __init__(self, ties: float, tasks: int = 60, documents: int | None = None) -> None:
        self.rng = random.Random(0)
        self.tasks = [task(number, number % (documents or tasks)) for number in range(tasks)]
        weights = [(1 - ties) / 2, (1 - ties) / 2, ties]
        self.truth = self.rng.choices(CHOICES, weights, k=tasks)
        self.judged: list[Judged] = []
        for rater in ("x", "y", "z"):
            self.judged += [
                vote(one, rater, self.noisy(choice)) for one, choice in zip(self.tasks, self.truth, strict=True)
            ]

    def noisy(self, choice: str, noise: float = 0.1) -> str:
        return self.rng.choice(CHOICES) if self.rng.random() < noise else choice

    def validated(
        self,
        *judges: Sequence[str],
        swapped: bool = False,
        models: dict[str, ModelDescription] | None = None,
        names: Sequence[str] = (),
    ) -> list[JudgeValidation]:
        comment = f"{SWAPPED}: left, then right" if swapped else ""
        votes = [
            vote(one, names[place] if names else f"judge {place}", choice, "model", comment)
            for place, choices in enumerate(judges)
            for one, choice in zip(self.tasks, choices, strict=True)
        ]
        return validate_judges([*self.judged, *votes], 0.7, closed=True, models=models)


@pytest.mark.parametrize("ties", [0.2, 0.82])
def test_a_judge_that_agrees_beyond_chance_is_validated(ties: float) -> None:
    world = Judges(ties)
    (found,) = world.validated([world.noisy(choice) for choice in world.truth])
    assert found.validated
    assert found.failed == ()
    assert found.kappa is not None
    assert found.kappa.ci_low is not None
    assert found.kappa.ci_low > 0.2


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_where_people_see_ties_a_judge_without_preference_fails_although_it_agrees(choice: str) -> None:
    """82% ties: a judge that always answers "1" is counted as a tie, because it changes its choice with the sides."""
    world = Judges(0.95)
    always_first, indifferent = (
        world.validated([choice] * len(world.tasks), swapped=swapped)[0] for swapped in (True, False)
    )
    for found in (always_first, indifferent):
        assert found.agreement.ci_low is not None
        assert found.agreement.ci_low >= 0.7
        assert not found.validated
        assert "kappa" in found.failed
        assert found.kappa is not None
        assert found.kappa.value == 0
        assert "agreement beyond chance (kappa)" in found.reason
    assert always_first.consistent.value == 0
    assert "consistency" in always_first.failed
    assert "sides swapped" in always_first.reason
    assert indifferent.consistent.value == 1


def test_a_judge_needs_documents_not_only_votes() -> None:
    world = Judges(0.2, documents=MIN_CLUSTERS - 1)
    (found,) = world.validated(world.truth)
    assert not found.validated
    assert found.failed[0] == "votes"
    assert f"at least {MIN_CLUSTERS} source documents ({MIN_CLUSTERS - 1} so far)" in found.reason


def test_the_more_judges_are_asked_the_more_each_must_show() -> None:
    world = Judges(0.2, tasks=150)
    wrong = random.Random(5)
    just = [choice if wrong.random() < 0.81 else CHOICES[0] for choice in world.truth]
    (alone,) = world.validated(just)
    assert alone.validated
    among = world.validated(just, *([world.noisy(choice, 1.0) for choice in world.truth] for _ in range(30)))
    assert among[0].agreement == alone.agreement
    assert not among[0].validated
    assert among[0].judges == 31
    assert "tested at level" in among[0].reason


def model(uri: str, start: str | None = None) -> ModelDescription:
    return ModelDescription(uri=uri, origin="x", license="mit", engine="fake", precision="fp32", start=start)


def test_a_judge_that_favors_its_own_family_more_than_people_do_fails() -> None:
    world = Judges(0.2, tasks=200)
    models = {"small": model("hf:org/other"), "large": model("openai:gpt-4o-mini")}
    favoring = ["right" if choice == "tie" and world.rng.random() < 0.6 else choice for choice in world.truth]
    own, other = (
        world.validated(favoring, models=models, names=[name])[0] for name in ("model openai:gpt-4o", "model x")
    )
    assert own.family == ("large",)
    assert own.self_preference is not None
    assert own.self_preference.value is not None
    assert own.self_preference.value > 0.05
    assert own.failed == ("self_preference",)
    assert "same model family" in own.reason
    assert other.self_preference is None
    assert other.validated
    (fair,) = world.validated(world.truth, models=models, names=["model openai:gpt-4o"])
    assert fair.validated
    assert fair.self_preference is not None


@pytest.mark.parametrize(
    ("judge", "uri", "start", "same"),
    [
        ("openai:gpt-4o", "openai:gpt-4o-mini", None, True),
        ("openai:o3-mini", "azure:gpt-4.1", None, True),
        ("hf:Qwen/Qwen2.5-7B-Instruct", "/runs/17/model", "hf:Qwen/Qwen2.5-0.5B", True),
        ("mistral:mistral-large-latest", "hf:mistralai/Mixtral-8x7B", None, True),
        ("hf:meta-llama/Meta-Llama-3-8B", "ollama:llama3.2:1b", None, True),
        ("anthropic:claude-sonnet-4", "openai:gpt-4o", None, False),
        ("ollama:qwen3:8b", "ollama:llama3.2:1b", None, False),
        ("fake:judge", "recorded:/home/judge/answers.jsonl", None, False),
    ],
)
def test_families_are_told_by_names_and_by_what_a_model_was_trained_from(
    judge: str, uri: str, start: str | None, same: bool
) -> None:
    found = own_family(f"model {judge}", {"candidate": model(uri, start), "baseline": model("recorded:x.jsonl")})
    assert found == (("candidate",) if same else ())


# -- whole rounds ------------------------------------------------------------------------------------------


def by_people(opened: Opened, store: Store, votes: int, seed: int = 1) -> None:
    """Let each rater vote on some tasks: more often for the longer answer."""
    rng = random.Random(seed)
    ballot = Ballot(store, opened.stored.id)
    for invitation in opened.invitations:
        rater = ballot.rater(invitation.token)
        for _ in range(votes):
            if (of := ballot.next_task(rater)) is None:
                break
            longer = "left" if len(of.left_text) > len(of.right_text) else "right"
            opinion = random.Random(of.id)  # that all raters share, nearly always
            choice = longer if opinion.random() < 0.4 else opinion.choice(["left", "right"])
            choice = choice if rng.random() < 0.95 else rng.choice(["left", "right"])
            ballot.vote(rater, Vote(task=of.id, rater=rater.name, origin="person", choice=choice), f"n-{of.id}")
    ballot.close()


def judge_like_people(opened: Opened, store: Store, noise: float) -> Complete:
    """Make a judge that knows what people chose, and votes like them elsewhere; both orders of a pair agree."""
    ballot = Ballot(store, opened.stored.id)
    known = {of.task: of.choice for of in ballot.votes()}
    ballot.close()

    def complete(requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            name, _, order = request.id.partition("|")
            rng = random.Random(name)
            first, second = request.messages[0].content.split("Answer 1:\n")[1].split("\n\nAnswer 2:\n")
            longer_is_first = (len(first) > len(second.split("\n\nVerdict")[0])) == (order == "as is")
            choice = known.get(name) or (
                ("left" if longer_is_first else "right") if rng.random() < 0.5 else rng.choice(["left", "right"])
            )
            if rng.random() < noise:
                choice = rng.choice(["left", "right"])
            verdict = "1" if (choice == "left") == (order == "as is") else "2"
            yield Completion(
                id=request.id, text=verdict, prompt_tokens=9, completion_tokens=1, seconds=0.5, finish="stop"
            )

    return complete


@pytest.fixture
def compared(compared: str, store: Store) -> str:
    """Two of the three candidates."""
    evaluations = store.read(Comparison, compared).evaluations
    return compare({name: evaluations[name] for name in ("right", "half")}, store=store).id


@pytest.fixture
def judged(compared: str, store: Store) -> Opened:
    """A round of two candidates on which three people voted now and then, and a judge model on everything."""
    design = RoundDesign(raters=["a", "b", "c"], items=20, votes_per_item=3)
    opened = open_round([compared], design, store=store)
    by_people(opened, store, votes=99)
    ask_judge(opened.stored.id, "fake:judge", judge_like_people(opened, store, 0.1), more=20, store=store)
    return opened


def test_judges_make_peoples_votes_more_precise_and_leave_them_as_they_are(
    compared: str, judged: Opened, store: Store
) -> None:
    ballot = Ballot(store, judged.stored.id)
    ballot.close_votes()
    ballot.close()
    voted = add_votes(compared, judged.stored.id, store=store)
    found = voted.record
    people = {(d.left, d.right): d for d in found.differences if d.metric == "people"}
    combined = {(d.left, d.right): d for d in found.differences if d.metric == "people_ppi"}
    assert people.keys() == combined.keys()
    for pair, now in combined.items():
        before = people[pair]
        assert now.ci_low is not None
        assert now.ci_high is not None
        assert before.ci_low is not None
        assert before.ci_high is not None
        assert now.ci_high - now.ci_low <= before.ci_high - before.ci_low
        assert now.p is not None
        assert (now.p < 0.05) == (not now.ci_low <= 0 <= now.ci_high)
        assert (now.n, now.clusters) == (before.n, before.clusters)
    assert any(pair.weights for pair in found.combined_votes)
    used = [pair for pair in found.combined_votes if pair.weights]
    assert all(pair.width_ratio < 1 and pair.judged >= MIN_CLUSTERS for pair in used)
    assert any("narrower than with people alone" in note for note in found.notes)
    assert set(found.scores["people_ppi"]) == set(found.scores["people"])
    assert found.judges == report(judged.stored.id, store=store).judges
    chosen = choose(voted.id, store=store)
    assert chosen.record.quality == "people_ppi"
    assert audit(chosen.id, store=store, verify=True).sound
    assert choose(voted.id, Needs(quality="people"), store=store).record.quality == "people"


def test_while_a_round_is_open_the_combination_is_anytime_valid(compared: str, judged: Opened, store: Store) -> None:
    found = add_votes(compared, judged.stored.id, store=store).record
    people = {(d.left, d.right): d for d in found.differences if d.metric == "people"}
    for now in (d for d in found.differences if d.metric == "people_ppi"):
        before = people[now.left, now.right]
        assert now.ci_high is not None
        assert now.ci_low is not None
        assert before.ci_high is not None
        assert before.ci_low is not None
        assert now.ci_high - now.ci_low <= before.ci_high - before.ci_low


def test_judges_alone_never_decide(compared: str, store: Store) -> None:
    """People voted on too few documents: neither their votes nor a combination ranks the candidates."""
    opened = open_round([compared], RoundDesign(raters=["a", "b"], items=20, votes_per_item=2), store=store)
    by_people(opened, store, votes=5)
    ask_judge(opened.stored.id, "fake:judge", judge_like_people(opened, store, 0.0), more=20, store=store)
    voted = add_votes(compared, opened.stored.id, store=store)
    assert "people_ppi" not in voted.record.scores
    assert voted.record.combined_votes == ()
    assert choose(voted.id, store=store).record.quality not in ("people", "people_ppi", "judge_model")
    with pytest.raises(UsageError, match="wasn't measured"):
        choose(voted.id, Needs(quality="people_ppi"), store=store)
