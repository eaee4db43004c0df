"""Models side by side: each cell is a fact with its source, a measurement, a computed value, or unknown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import sizewise.studies.side_by_side as side_by_side
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Evaluation, ModelCell, ModelRow, Needs, SideBySide
from sizewise.report.model_page import cell_text, csv_rows, write_model_page
from sizewise.store import Store
from sizewise.studies.new_models import new_models
from sizewise.studies.proposals import propose
from sizewise.studies.side_by_side import GROUPS, compare_models
from sizewise.studies.tokens import split_sentence
from tests.studies.measured_store import OWN, RUN, evaluation, large, measured_store, score


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return measured_store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def both(store: Store) -> SideBySide:
    return compare_models(["GPT 4o", OWN], store=store)


def row(record: SideBySide, title: str) -> ModelRow:
    return next(one for one in record.points if one.title == title)


def test_all_six_points_are_there_and_every_fact_has_a_source_and_a_day(both: SideBySide) -> None:
    assert list(dict.fromkeys(one.group for one in both.points)) == list(GROUPS)
    assert [one.name for one in both.models] == ["gpt-4o", RUN]
    assert both.models[1].trained_here
    for one in both.points:
        assert len(one.cells) == 2
        for cell in one.cells:
            if cell.kind == "fact":
                assert cell.source
                assert re.fullmatch(r"20\d\d-\d\d-\d\d", cell.as_of), (one.title, cell)
            if cell.kind == "measured":
                assert cell.score
                assert cell.source


def test_measurements_are_the_newest_ones_and_say_where_they_come_from(both: SideBySide, store: Store) -> None:
    chrf = row(both, "chrF")
    assert [cell.source for cell in chrf.cells] == ["evaluation-large", "evaluation-own"]
    assert cell_text(chrf.cells[0]) == "52 [49, 55] (n = 120)"
    assert "measured on d (dataset-" in chrf.note
    bias = row(both, "Stereotype score (SS)")
    assert [cell.kind for cell in bias.cells] == ["unknown", "measured"]
    assert bias.group == "Bias and fairness"
    speed = [one.title for one in both.points if one.group == "Speed for one user and under load"]
    assert any("1 user" in title for title in speed)
    assert any("8 users" in title for title in speed)
    assert any("sizewise compare evaluation-large evaluation-own" in note for note in both.notes)


def test_bias_by_prompting_stands_apart_from_log_likelihoods(tmp_path: Path) -> None:
    store = measured_store(tmp_path)
    own = next(one.record for one in store.saved(Evaluation) if one.id == "evaluation-own").model
    asked = {"signature": "suite:bias|asked for a letter|choices:both orders, control:pairs, v1"}
    for name, model, value in (("asked-large", large(), 0.52), ("asked-own", own, 0.6)):
        scores = [score("stereotype_score", value, 0.05), score("choice_control", 0.9, 0.05)]
        scores = [one.model_copy(update=asked) for one in scores]
        store.write(name, evaluation(model, "suite:bias:1", scores))
    found = row(compare_models(["GPT 4o", OWN], store=store), "Stereotype score (SS)")
    assert [cell.source for cell in found.cells] == ["asked-large", "asked-own"]
    assert found.note == "measured on the suite bias, by prompting"
    assert row(compare_models(["GPT 4o", OWN], store=store), "Control questions").group == "Bias and fairness"


def test_unknown_stays_unknown(both: SideBySide) -> None:
    size = row(both, "Parameters")
    assert cell_text(size.cells[0]) == "unknown (not published)"
    assert size.cells[1].text == "134.5 million (counted)"
    assert row(both, "Memory of the weights").cells[0].kind == "unknown"
    prices = row(both, "List price (USD per 1M tokens)")
    assert prices.cells[0].text == "openai 2.5 in, 10 out"
    assert "your machines" in prices.cells[1].text
    assert row(both, "Shutdown").cells[0].text == "will be shut down on 2027-01-14"


def test_a_model_that_was_shut_down_has_no_price_and_says_so(store: Store) -> None:
    found = compare_models(["GPT-4", "DeepSeek R1"], store=store)
    assert [one.retired for one in found.models] == [True, False]
    price = row(found, "List price (USD per 1M tokens)")
    assert price.cells[0].text == "no price: shut down on 2026-10-23"
    assert "estimate: 1.76 trillion" in row(found, "Parameters").cells[0].text
    assert "671 billion, 37 billion active" in row(found, "Parameters").cells[1].text


def test_two_providers_at_different_prices_are_both_shown(store: Store) -> None:
    price = row(compare_models(["llama 3.1 8b", "gpt-4o"], store=store), "List price (USD per 1M tokens)").cells[0]
    assert len(re.findall(r"[a-z_]+ [\d.]+ in, [\d.]+ out", price.text)) > 1
    assert "more providers" in price.text


def test_other_data_are_named_as_not_comparable(tmp_path: Path) -> None:
    store = measured_store(tmp_path)
    store.write("evaluation-large-2", evaluation(large(), "data-2", [score("bleu", 10.0, 1.0, "BLEU")]))
    own = store.read(type(evaluation(large(), "x", [])), "evaluation-own").model
    store.write("evaluation-own-3", evaluation(own, "data-3", [score("bleu", 9.0, 1.0, "BLEU")]))
    found = row(compare_models(["gpt-4o", RUN], store=store), "BLEU")
    assert "aren't comparable" in found.note
    assert sum("not comparable" in cell.text for cell in found.cells) == 1


def test_a_family_shows_its_current_model_and_says_so(store: Store) -> None:
    found = compare_models(["claude", "mistral 7b"], store=store)
    assert [one.name for one in found.models] == ["claude-opus-5.5", "mistral-7b-instruct-v0.3"]
    assert any("'claude' names" in note and "claude-sonnet-5.5" in note for note in found.notes)


def test_names_that_cant_be_compared_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="are the same model"):
        compare_models(["gpt-4o", "GPT 4o"], store=store)
    with pytest.raises(UsageError, match="doesn't name a model"):
        compare_models(["gpt-4o", "no-such-model-x"], store=store)
    with pytest.raises(UsageError, match=r"names \d+ models"):
        compare_models(["gpt-4o", "sonnet"], store=store)
    with pytest.raises(SizewiseError, match="no run with the id"):
        compare_models(["gpt-4o", "run:nothing"], store=store)
    with pytest.raises(UsageError, match="don't fit"):
        compare_models([f"m{i}" for i in range(7)], store=store)


def test_a_list_of_prices_that_is_200_days_old_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "list_age_days", lambda: 200)
    notes = compare_models(["gpt-4o", "gpt-4o-mini"], store=store).notes
    assert any("200 days old" in note and "sizewise models --refresh" in note for note in notes)


def test_a_cell_has_a_score_or_a_text() -> None:
    with pytest.raises(ValueError, match="a score"):
        ModelCell(kind="measured", text="x")
    with pytest.raises(ValueError, match="has a text"):
        ModelCell(kind="fact")


def test_the_page_holds_everything_and_loads_nothing(both: SideBySide, tmp_path: Path) -> None:
    hostile = both.model_copy(update={"notes": ("</script><script>alert(1)</script>",)})
    page = write_model_page(hostile, tmp_path / "page.html", "Ein <b>Satz</b>", ()).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert not re.search(r'(?:src|href)="(?!https://|#|data:)', page)
    assert not re.search(r'<(?:script|img|link)[^>]*(?:src|href)="http', page)
    assert page.count("<table") == len(GROUPS) + 1
    for text in ("52 [49, 55] (n = 120)", "unknown (not published)", "will be shut down on 2027-01-14", "window 128"):
        assert text in page
    data = json.loads(re.search(r'id="attention-data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert data["sentence"] == "Ein <b>Satz</b>"


def test_the_csv_has_every_cell_unrounded(both: SideBySide) -> None:
    rows = csv_rows(both)
    assert len(rows) == 2 * len(both.points)
    (chrf,) = [one for one in rows if one[1:3] == ["chrF", "gpt-4o"]]
    assert chrf[3:9] == ["measured", "52.0", "49.0", "55.0", "120", "chrF"]


def test_the_tokens_are_those_of_a_model_on_this_machine(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    store = measured_store(tmp_path)
    folder = store.folder("checkpoint", RUN) / "model"
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"small": 0, "models": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({
        "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "sliding_window": 128, "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "max_position_embeddings": 4096,
    }))  # fmt: skip
    found = compare_models(["gpt-4o", RUN], store=store)
    assert split_sentence(found, "small models", store=store) == ("small", " models")
    (shape,) = found.caches
    assert (shape.layers, shape.window_layers, shape.window, shape.bytes_per_token) == (4, 3, 128, 2 * 2 * 16 * 2)
    assert row(found, "Context (tokens)").cells[1].text == "4,096"
    assert found.attention[0].tradeoff.cache_bytes < found.attention[0].tradeoff.full_cache_bytes


def test_new_models_name_the_studies_that_they_might_change(store: Store) -> None:
    found = {one.name: one for one in new_models("2026-09-01", store=store)}
    assert "gpt-6.1-terra" in found
    assert "gpt-4o" not in found
    terra = found["gpt-6.1-terra"]
    assert terra.appeared == "2026-10"
    assert "same family as large (GPT)" in terra.studies["study-1"]
    assert "costs less than large" in terra.studies["study-1"]
    assert new_models("2026-11-29", store=store) == []
    with pytest.raises(UsageError, match="is not a day"):
        new_models("last week", store=store)


def test_proposals_follow_the_needs_and_claim_nothing(store: Store) -> None:
    found = propose("classify support tickets", Needs(), store=store)
    assert found[0].name == "linear classifier"
    assert {one.name for one in found} >= {"smollm2-135m-instruct", "claude-sonnet-5.5"}
    assert all(one.evidence.startswith("not measured on your work") for one in found)
    assert next(one for one in found if one.name == "gpt-4o").evidence.endswith("measured here on 1 other dataset")
    blocked = [bool(one.blockers) for one in found]
    assert blocked == sorted(blocked)
    private = propose("write replies", Needs(local_only=True, excluded_licenses=("Gemma",)), store=store)
    assert "linear classifier" not in {one.name for one in private}
    for one in private:
        hosted = one.memory_bytes is None
        assert any("local_only" in why for why in one.blockers) == hosted
    assert any("is excluded" in why for one in private for why in one.blockers if one.name == "gemma-3-270m")
    tiny = propose("write replies", Needs(max_memory_gb=0.1, min_context_tokens=100_000), store=store)
    assert any("exceed max_memory_gb" in why for one in tiny for why in one.blockers)
    with pytest.raises(UsageError, match="task is empty"):
        propose(" ", Needs(), store=store)
