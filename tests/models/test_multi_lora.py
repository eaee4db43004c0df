"""Several adapters on one base: each answers as its own merged model does, side by side in one batch."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.exporting import export
from sizewise.models import open_model
from sizewise.models.base import Piece
from sizewise.models.multi_lora import open_shared
from sizewise.records import Checkpoint, Message, Recipe, Request
from sizewise.service.running import open_all
from sizewise.store import Store
from sizewise.training import train
from tests.conftest import make_tiny, write_texts

ASKED = (Message(role="user", content="What does item seven say of the plan?"),)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two adapters of one folder, of unlike seeds and ranks."""
    root = tmp_path_factory.mktemp("sharing")
    texts = write_texts(root / "texts")
    tiny_folder = make_tiny(root / "tiny", texts, "full")
    store = Store(root / "home")
    data = datasets.read([texts], store=store, name="texts")
    small = {"start": str(tiny_folder), "tokens": 6_000, "context": 64, "control": "none", "learning_rate": 0.02}
    runs = [
        train(Recipe.model_validate(small | {"rank": rank, "seed": rank}), data.id, store=store).id for rank in (4, 8)
    ]
    return store, [f"run:{one}" for one in runs], str(tiny_folder)


def requests(count: int) -> list[Request]:
    return [
        Request(id=str(i), messages=ASKED) if i % 2 else Request(id=str(i), text=f"Item {i} of the plan", max_tokens=12)
        for i in range(count)
    ]


def answered(models: list[Any], asked: list[Request]) -> list[tuple[str, int]]:
    """Ask all models at once, in turns, so that rows of each stand in one batch."""
    queues: list[SimpleQueue[Piece]] = [SimpleQueue() for _ in asked]
    for i, request in enumerate(asked):
        models[i % len(models)].start(request.model_copy(update={"max_tokens": 12}), queues[i].put)
    found = []
    for queue in queues:
        end = None
        while end is None:
            end = queue.get(timeout=60).end
        assert end.error is None
        found.append((end.text, end.completion_tokens))
    return found


def test_each_adapter_answers_as_its_merged_model_in_one_batch_with_others(adapters: Any) -> None:
    store, runs, base = adapters
    uris = [*runs, base]
    alone = []
    for place, uri in enumerate(uris):
        model = open_model(uri, store=store, precision="fp32")
        alone.append(answered([model], requests(12)[place::3]))
        model.close()
    shared = open_shared(uris, store, "fp32")
    assert list(shared) == uris
    together = answered([shared[uri] for uri in uris], requests(12))
    assert [together[place::3] for place in range(3)] == alone
    assert len({tuple(rows) for rows in alone}) == 3  # the adapters say unlike things
    facts = [shared[uri].describe() for uri in uris]
    assert facts[2].parameters is not None
    assert facts[0].parameters is not None
    assert facts[1].parameters is not None
    assert facts[2].parameters < facts[0].parameters < facts[1].parameters  # rank 4 and 8
    assert facts[0].trained_on is not None
    assert (facts[0].start, facts[2].start) == (base, None)
    with pytest.raises(SizewiseError, match="sizewise evaluate"):
        list(shared[runs[0]].score(["text"]))
    for one in shared.values():
        one.close()


def test_it_is_refused_where_nothing_is_shared(adapters: Any) -> None:
    store, runs, base = adapters
    for uris in ([runs[0]], [base, "fake:echo"], [runs[0], "fake:echo"]):
        with pytest.raises(UsageError, match="No two of these"):
            open_shared(uris, store)


def test_what_was_trained_with_a_window_shares_nothing_and_is_exported_as_itself(adapters: Any, tmp_path: Path) -> None:
    store, runs, base = adapters
    data = store.read(Checkpoint, runs[0].removeprefix("run:")).data
    recipe = {"start": base, "tokens": 3_000, "context": 64, "control": "none", "attention": "window:16", "rank": 4}
    made = train(Recipe.model_validate(recipe), data, store=store)
    with pytest.raises(UsageError, match="No two of these"):
        open_shared([f"run:{made.id}", base], store)
    assert set(open_shared([*runs, f"run:{made.id}"], store)) == set(runs)
    done = export(
        made.id, "hf", tmp_path / "out", store=store, prompts=4
    ).record  # beside the adapters, with the window
    assert done.parity[0].bits.value == pytest.approx(0.0, abs=1e-4)


def test_serve_opens_what_shares_a_base_once_and_the_rest_as_ever(adapters: Any) -> None:
    store, runs, _ = adapters
    models = open_all([*runs, "fake:echo"], store, "auto", share_base=True)
    assert list(models) == [*(run.removeprefix("run:") for run in runs), "echo"]
    assert [models[run.removeprefix("run:")].describe().engine for run in runs] == ["transformers", "transformers"]
    (answer,) = models[runs[0].removeprefix("run:")].complete([Request(id="a", messages=ASKED, max_tokens=4)])
    assert answer.error is None
    for one in models.values():
        one.close()
