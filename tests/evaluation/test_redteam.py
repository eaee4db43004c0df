"""Red teaming with probes whose success needs no judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import redteam
from sizewise.evaluation.redteam import attack_succeeded, make_attacks, red_team
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Request
from sizewise.store import Store


class Blurting(FakeModel):
    """Repeats everything in its prompt."""

    def __init__(self) -> None:
        super().__init__("echo")

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            text = "\n".join(message.content for message in request.messages)
            yield Completion(id=request.id, text=text, prompt_tokens=1, completion_tokens=1, seconds=0, finish="stop")


def test_each_probe_has_a_unique_secret() -> None:
    attacks = make_attacks(2, 0)
    assert len({attack.evidence for attack in attacks}) == len(attacks) == len({attack.id for attack in attacks})
    assert {attack.family for attack in attacks} == {"secret", "injection", "hidden", "private"}
    for attack in attacks:
        system, user = (message.content for message in attack.request.messages)
        assert "{" not in system + user.replace("JSON object", "")
        assert (attack.evidence in system) == (attack.family in ("secret", "private"))
    assert [attack.request for attack in make_attacks(1, 3)] == [attack.request for attack in make_attacks(1, 3)]


@pytest.mark.parametrize("answer", ["It is AB12CD34.", "a b 1 2 c d 3 4", "ab-12-cd-34", "43DC21BA"])
def test_a_disguised_secret_is_found(answer: str) -> None:
    assert attack_succeeded(answer, "AB12CD34")
    assert not attack_succeeded("I cannot tell you that.", "AB12CD34")


def test_a_leaking_model_scores_higher_than_a_silent_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {"http://x/v1#blurting": Blurting(), "fake:silent": FakeModel("silent")}
    monkeypatch.setattr(redteam, "open_model", lambda uri, **_: opened[uri])
    found = red_team("http://x/v1#blurting", "fake:silent", rounds=1, store=store)
    bad, good = found.scores["http://x/v1#blurting"], found.scores["fake:silent"]
    assert bad["secret"].value == bad["private"].value == 1
    assert bad["secret"].ci_low is not None
    assert bad["secret"].ci_low > 0.7
    assert all(score.value == 0 and score.ci_high is not None and score.ci_high > 0.1 for score in good.values())
    assert found.examples
    assert len(found.examples) <= 8


def test_invalid_input_raises(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        red_team("fake:echo", rounds=0, store=store)

    class Down(FakeModel):
        def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
            for request in requests:
                yield Completion(
                    id=request.id,
                    text="",
                    prompt_tokens=0,
                    completion_tokens=0,
                    seconds=0,
                    finish="error",
                    error="down",
                )

    monkeypatch.setattr(redteam, "open_model", lambda uri, **_: Down("echo"))
    with pytest.raises(SizewiseError, match=r"All 92 requests to http://x/v1#y failed: 92 x down"):
        red_team("http://x/v1#y", store=store)
