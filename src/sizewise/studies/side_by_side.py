"""compare_models(): two or more models side by side, every cell with its source, its measurement, or `unknown`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sizewise.errors import SizewiseError
from sizewise.models.identity import identify
from sizewise.models.price_lists import checked_on, list_age_days, today
from sizewise.models.resolving import find_entry, is_retired
from sizewise.models.size import BITS, cache_bytes
from sizewise.records import (
    CacheShape,
    CatalogModel,
    Checkpoint,
    Classifier,
    Dataset,
    MeasuredAttention,
    ModelCell,
    ModelColumn,
    ModelDescription,
    ModelRow,
    SideBySide,
)
from sizewise.store import Saved, Store
from sizewise.studies.measured_points import (
    COST,
    FAIRNESS,
    QUALITY,
    SPEED,
    Evaluated,
    evaluation_rows,
    evaluations_of,
    load_rows,
    unknown,
)
from sizewise.studies.model_subjects import Subject, find_subjects

SIZE, TRAINING = "Size and structure", "Training data"
GROUPS = (SIZE, QUALITY, COST, FAIRNESS, SPEED, TRAINING)
OLD_LIST_DAYS = 90
MAX_PROVIDERS, MAX_TRADEOFFS = 4, 4
PRICES = "https://github.com/pydantic/genai-prices"


def compare_models(names: list[str], *, store: Store | None = None) -> SideBySide:
    """Set models side by side: size, context and expertise, cost, fairness, speed and training data.

    Args:
        names: names in any spelling, URIs, or ids of models that were trained here.
        store: where records live; by default SIZEWISE_HOME.

    Raises:
        UsageError: a name stands for none or several models, or two names for the same one.
        SizewiseError: a record is missing or damaged.
    """
    store = store or Store()
    subjects = find_subjects(names, store)
    evaluated = evaluations_of(subjects, store)
    described = [found[-1].record.model if found else None for found in evaluated.of]
    facts = [_Facts(subject, model, store) for subject, model in zip(subjects, described, strict=True)]
    rows = [
        ModelRow(group=group, title=title, cells=tuple(point(one) for one in facts))
        for group, points in _POINTS.items()
        for title, point in points.items()
    ]
    rows += evaluation_rows(subjects, evaluated, store) + load_rows(subjects, store)
    rows = [row for row in rows if row.title in _ALWAYS or any(cell.kind != "unknown" for cell in row.cells)]
    if not any(row.group == SPEED for row in rows):
        rows.append(ModelRow(group=SPEED, title="Speed", cells=tuple(unknown("not measured here") for _ in facts)))
    return SideBySide(
        models=tuple(one.column() for one in facts),
        points=tuple(sorted(rows, key=lambda row: GROUPS.index(row.group))),
        notes=tuple(_notes(subjects, evaluated)),
        made_on=today(),
        prices_as_of=checked_on(),
        caches=tuple(filter(None, map(_cache_shape, facts))),
        attention=tuple(_tradeoffs(subjects, store)),
    )


_INHERITED = ("context", "modalities", "knowledge_cutoff", "bias")
"""Facts of a base model that hold for what was trained from it."""


class _Facts:
    """What is known of one model beside its measurements."""

    def __init__(self, subject: Subject, model: ModelDescription | None, store: Store) -> None:
        self.subject, self.model, self.store = subject, model, store
        self.entry, self.run = subject.entry, subject.run
        self.base = _base_of(subject)
        self.checkpoint = subject.run.record if subject.run and isinstance(subject.run.record, Checkpoint) else None

    def column(self) -> ModelColumn:
        """Describe the model itself."""
        uris = sorted(self.subject.uris)
        return ModelColumn(
            name=self.subject.name,
            asked=self.subject.asked,
            maker=self.entry.maker if self.entry else "trained here" if self.run else "",
            uri=self.entry.uri if self.entry else uris[0] if uris else self.model.uri if self.model else "",
            retires_on=(self.entry.retires_on or "") if self.entry else "",
            retired=self.entry is not None and is_retired(self.entry),
            trained_here=self.run is not None,
        )

    def published(self, field: str, text: str = "") -> ModelCell:
        """Build the cell of a published fact, with the first source that states it and was read."""
        entry = self.entry or (self.base if field in _INHERITED else None)
        value = getattr(entry, field, None) if entry else None
        if entry is None or value in (None, "", ()):
            return unknown("unknown" if entry is None else "not published, as far as known")
        sources = [one for one in entry.sources if field in [fact.strip() for fact in one.fact.split(",")]]
        best = next((one for one in sources if one.verified), sources[0] if sources else None)
        if not text:
            text = (
                ", ".join(value) if isinstance(value, tuple) else f"{value:,}" if isinstance(value, int) else str(value)
            )
        return ModelCell(
            kind="fact",
            text=text if self.entry is not None else f"{text} (base model)",
            source=best.url if best else "",
            as_of=best.seen if best else "",
            unverified=best is not None and not best.verified,
        )

    def recorded(self, text: str) -> ModelCell:
        """Build the cell of a fact that a record of this store holds."""
        if self.run is not None:
            return ModelCell(kind="computed", text=text, source=self.run.id, as_of=self.run.created[:10])
        return ModelCell(kind="computed", text=text, source=self.model.uri if self.model else "")


def _base_of(subject: Subject) -> CatalogModel | None:
    """Look up the known model that training started from."""
    run = subject.run.record if subject.run is not None else None
    if not isinstance(run, Checkpoint) or run.start == "scratch":
        return None
    return find_entry(run.start)


def _parameters(one: _Facts) -> ModelCell:
    if one.run is not None:
        return one.recorded(f"{_billions(one.run.record.parameters)} (counted)")
    if one.entry is not None and one.entry.parameters:
        active = f", {_billions(one.entry.active_parameters)} active per token" if one.entry.active_parameters else ""
        return one.published("parameters", _billions(one.entry.parameters) + active)
    if one.entry is not None and one.entry.parameters_estimate:
        text = f"not published; estimate: {_billions(one.entry.parameters_estimate)}. {one.entry.parameters_note or ''}"
        return one.published("parameters_estimate", text.strip())
    if one.model is not None and one.model.parameters:
        return one.recorded(f"{_billions(one.model.parameters)} ({one.model.parameters_source or 'counted'})")
    return unknown("not published" if one.entry is not None and one.entry.weights == "closed" else "unknown")


def _architecture(one: _Facts) -> ModelCell:
    if one.checkpoint is not None:
        start = one.checkpoint.start
        return one.recorded(
            "trained from scratch" if start == "scratch" else f"{start}, {one.checkpoint.recipe.method}"
        )
    if one.run is not None and isinstance(one.run.record, Classifier):
        return one.recorded(f"classifier ({one.run.record.recipe.method})")
    return one.published("architecture")


def _attention(one: _Facts) -> ModelCell:
    if one.checkpoint is not None:
        return one.recorded(one.checkpoint.attention)
    found = one.published("attention")
    known = one.model.attention if one.model is not None else ""
    return one.recorded(known) if found.kind == "unknown" and known not in ("", "unknown", "not published") else found


def _license(one: _Facts) -> ModelCell:
    if one.checkpoint is not None:
        return one.recorded(f"on this machine; {one.checkpoint.license}")
    if one.entry is None:
        return one.recorded(one.model.license) if one.model is not None and one.model.license else unknown("unknown")
    if one.entry.weights == "closed":
        return ModelCell(kind="fact", text=f"closed: only through an API of {one.entry.maker} or a reseller",
                         source=one.entry.sources[0].url, as_of=one.entry.sources[0].seen)  # fmt: skip
    found = one.published("license")
    return found if found.kind == "unknown" else found.model_copy(update={"text": f"open; {found.text}"})


def _context(one: _Facts) -> ModelCell:
    config = one.subject.config(one.store) if one.run is not None else None
    longest = (config or {}).get("max_position_embeddings") or (one.model.context if one.model is not None else None)
    found = one.published("context")
    return one.recorded(f"{longest:,}") if longest and (one.run is not None or found.kind == "unknown") else found


def _expertise(one: _Facts) -> ModelCell:
    data = _training_set(one)
    if data is None:
        return one.published("expertise")
    special = one.checkpoint.specialization if one.checkpoint is not None else None
    return one.recorded(f"{data.domain}: {data.name}" + (f". {special.summary}" if special else ""))


def _weights_memory(one: _Facts) -> ModelCell:
    """Compute the memory of the weights in two formats."""
    count = one.run.record.parameters if one.run else one.entry.parameters if one.entry else None
    count = count or (one.model.parameters if one.model else None)
    if not count:
        return unknown("unknown, because the size is")
    text = f"{_gigabytes(count * 2)} in bf16, {_gigabytes(count * BITS['int4'] / 8)} in 4 bits"
    return ModelCell(kind="computed", text=text, source="parameters x bits per weight")


def _price(one: _Facts) -> ModelCell:
    """List what each provider charges; two providers at different prices are both shown."""
    if one.run is not None:
        return ModelCell(kind="computed", text="none per token: it runs on your machines", source="trained here")
    found = identify(one.entry.uri if one.entry else one.model.of if one.model and one.model.of else one.subject.asked)
    if found.retires_on and found.retires_on <= today():
        where, seen = _end_source(one.entry)
        return ModelCell(kind="fact", text=f"no price: shut down on {found.retires_on}", source=where, as_of=seen)
    if not found.prices:
        local = one.entry is not None and one.entry.weights == "open"
        return unknown("no list price known" + ("; weights can be run on your machines" if local else ""))
    shown = [f"{price.provider} {price.input_usd:.3g} in, {price.output_usd:.3g} out" for price in found.prices]
    more = f"; {len(shown) - MAX_PROVIDERS} more providers" if len(shown) > MAX_PROVIDERS else ""
    return ModelCell(
        kind="fact", text="; ".join(shown[:MAX_PROVIDERS]) + more, source=PRICES, as_of=found.prices[0].as_of
    )


def _end(one: _Facts) -> ModelCell:
    if one.entry is None or not one.entry.retires_on:
        return unknown("none announced, as far as known" if one.entry else "doesn't apply")
    words = "was shut down on" if is_retired(one.entry) else "will be shut down on"
    where, seen = _end_source(one.entry)
    return ModelCell(kind="fact", text=f"{words} {one.entry.retires_on}", source=where, as_of=seen)


def _end_source(entry: CatalogModel | None) -> tuple[str, str]:
    """Return the source that states the day of a shutdown, and the day on which it was read, if that is known."""
    stated = [(one.url, one.seen) for one in entry.sources if "retires_on" in one.fact] if entry is not None else []
    return stated[0] if stated else ("list of retired models", "")


def _training_data(one: _Facts) -> ModelCell:
    data = _training_set(one)
    if data is None or one.run is None:
        return one.published("training_data")
    before = one.base.training_data if one.base is not None else None
    documents = sum(size.documents for size in data.splits.values())
    examples = sum(size.examples for size in data.splits.values())
    text = f"{data.name}: {documents:,} documents, {examples:,} examples (all splits)"
    if one.checkpoint is not None:
        base = "" if one.checkpoint.start == "scratch" else f", on top of {one.checkpoint.start}"
        text += f", {one.checkpoint.tokens:,} tokens in {one.checkpoint.epochs:.2g} passes{base}"
    return one.recorded(text + (f", which saw {before}" if before else ""))


def _training_set(one: _Facts) -> Dataset | None:
    if one.run is None:
        return None
    try:
        return one.store.read(Dataset, one.run.record.data)
    except SizewiseError:
        return None


def _training_bias(one: _Facts) -> ModelCell:
    """Report what training did to the effect of swapping groups of people, or what is published."""
    report = one.checkpoint.representation if one.checkpoint is not None else None
    if report is None or report.counterfactual_gap_after is None:
        return one.published("bias")
    before = report.counterfactual_gap_before
    change = f"; {before:.3g} before training" if before is not None else ""
    return one.recorded(
        f"swapping groups of people changes held-out text by {report.counterfactual_gap_after:.3g} bits per byte"
        f"{change} ({report.sentences} sentences, no interval)"
    )


_POINTS: dict[str, dict[str, Callable[[_Facts], ModelCell]]] = {
    SIZE: {
        "Parameters": _parameters,
        "Architecture": _architecture,
        "Attention": _attention,
        "Weights and license": _license,
        "Released": lambda one: (
            one.recorded(f"trained on {one.run.created[:10]}") if one.run is not None else one.published("released")
        ),
    },
    QUALITY: {
        "Context (tokens)": _context,
        "Input": lambda one: one.published("modalities"),
        "Made for": _expertise,
        "Knowledge until": lambda one: one.published("knowledge_cutoff"),
    },
    COST: {
        "Memory of the weights": _weights_memory,
        "Hardware": lambda one: one.published("hardware"),
        "List price (USD per 1M tokens)": _price,
        "Shutdown": _end,
    },
    FAIRNESS: {"Statements about bias": _training_bias},
    TRAINING: {"Trained on": _training_data},
}
_ALWAYS = {"Parameters", "Context (tokens)", "Statements about bias", "Trained on", "List price (USD per 1M tokens)"}
"""Points that are shown although they are unknown for all of the models."""


def _notes(subjects: Sequence[Subject], evaluated: Evaluated) -> list[str]:
    """Collect what a reader must know: how names were understood, old prices, and how to test a difference."""
    notes = [subject.note for subject in subjects if subject.note]
    checked = checked_on()
    if checked:
        days = list_age_days() or 0
        if days > OLD_LIST_DAYS:
            notes.append(f"The price list is {days} days old ({checked}). Check prices with the provider, or run "
                         "`sizewise models --refresh`.")  # fmt: skip
    common = [{saved.record.data: saved.id for saved in found} for found in evaluated.of]
    for data in common[0] if common else ():
        if len(common) > 1 and all(data in of_model for of_model in common):
            ids = " ".join(of_model[data] for of_model in common)
            notes.append(f"All were measured on {data}. Test the differences: sizewise compare {ids}")
    if not any(evaluated.of):
        notes.append("None of these models was measured here. On your own work: sizewise evaluate MODEL --data FILE")
    return notes


def _cache_shape(one: _Facts) -> CacheShape | None:
    """Read the shape of a model's cache from its config; None if it isn't on this machine."""
    config = one.subject.config(one.store)
    if config is None or not config.get("num_hidden_layers"):
        return None
    layers, window = int(config["num_hidden_layers"]), int(config.get("sliding_window") or 0)
    kinds = config.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    windowed = sum(kind == "sliding_attention" for kind in kinds) if window else 0
    full = sum(kind == "full_attention" for kind in kinds)
    try:
        per_block = cache_bytes(config, 1, 2) // max(1, windowed + full)
    except (KeyError, TypeError, ValueError):
        return None
    return CacheShape(
        name=one.subject.name,
        layers=windowed + full,
        window_layers=windowed,
        window=window if windowed else None,
        bytes_per_token=per_block,
    )


def _tradeoffs(subjects: Sequence[Subject], store: Store) -> list[MeasuredAttention]:
    """List measured attention patterns: of the models asked for, else the newest ones."""
    asked = {subject.run.id for subject in subjects if subject.run is not None}
    saved: list[Saved[Checkpoint]] = [one for one in store.saved(Checkpoint) if one.record.attention_tradeoff]
    chosen = sorted(saved, key=lambda one: (one.id in asked, one.created))[-MAX_TRADEOFFS:]
    return [
        MeasuredAttention(
            name=one.id, run=one.id, attention=one.record.attention, tradeoff=one.record.attention_tradeoff
        )
        for one in reversed(chosen)
        if one.record.attention_tradeoff is not None
    ]


def _billions(count: int) -> str:
    """Format a number of parameters: `134.5 million`, `7.24 billion`, `1.6 trillion`."""
    for word, divisor in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if count >= divisor:
            return f"{count / divisor:.4g} {word}"
    return f"{count:,}"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
