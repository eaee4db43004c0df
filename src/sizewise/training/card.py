"""The model card of a checkpoint, in the form that model hubs read."""

from __future__ import annotations

from sizewise.records import Checkpoint, Dataset, Score
from sizewise.training.attention_tradeoff import trade_words


def model_card(record: Checkpoint, run_id: str, data: Dataset) -> str:
    """Write the card: what it is, what it was made of and how, what was measured, what it is for.

    Args:
        record: the checkpoint.
        run_id: its id.
        data: the dataset it was trained on.
    """
    recipe = record.recipe
    sections = [
        _front(record, data),
        f"# {run_id}\n\n{record.origin}. Trained by Sizewise on {record.data} ({data.name}, {data.domain}).",
        "## Intended use\n\nWork of the kind that the dataset shows, checked by the evaluations of Sizewise. Not for "
        "decisions about people without a person in charge. What was not measured is not known: bias, harm and "
        "answers outside the domain need evaluations of their own.",
        _data(record, data),
        "## How it was made\n\n"
        + _table(
            {
                "start": record.start,
                "method": recipe.method + (f", rank {recipe.rank}" if recipe.method != "full" else ""),
                "attention": record.attention,
                "parameters": f"{record.parameters:,} ({record.trained_parameters:,} trained)",
                "tokens": f"{record.tokens:,} ({record.epochs:.2f} passes), {record.steps:,} steps",
                "rows": f"{recipe.rows_per_step} of {recipe.context} tokens a step",
                "seed": str(recipe.seed),
                "teacher": recipe.teacher or "none",
                "time": f"{record.seconds / 60:.1f} minutes at {record.tokens_per_s:,.0f} tokens/s",
                "peak memory": f"{record.peak_memory_bytes / 1e9:.1f} GB",
                "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
            }
        ),
        _measured(record),
    ]
    if record.notes:
        sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in record.notes))
    sections.append(
        f"## Reproduce\n\nThe recipe stands in `sizewise.json`. Scores on held-out work: "
        f"`sizewise evaluate run:{run_id} --data {record.data} --metrics bits_per_byte,bleu`."
    )
    return "\n\n".join(sections) + "\n"


def _front(record: Checkpoint, data: Dataset) -> str:
    lines = ["---", "library_name: transformers", "license: other", f'license_name: "{record.license}"']
    if ":" in record.start:
        lines.append(f'base_model: "{record.start}"')
    lines += ["tags:", "- sizewise", f'- "{data.domain}"', "---"]
    return "\n".join(lines)


def _data(record: Checkpoint, data: Dataset) -> str:
    size = data.splits["train"]
    licenses = ", ".join(f"{name} ({count})" for name, count in sorted(data.licenses.items()))
    rows = {
        "documents": f"{size.documents:,} of {record.recipe.document_share:.0%}",
        "examples": f"{size.examples:,}",
        "licences of the documents": licenses or "not stated",
        "licence of the weights": record.license,
    }
    if record.recipe.document_share == 1:
        rows["documents"] = f"{size.documents:,}"
    text = "## Data\n\n" + _table(rows)
    if record.representation:
        named = [
            f"{attribute}: " + ", ".join(f"{group} {count}" for group, count in counts.items())
            for attribute, counts in record.representation.counts.items()
            if any(counts.values())
        ]
        text += f"\n\nGroups of people named in {record.representation.words:,} words of training text: " + (
            "; ".join(named) if named else "none of those that are counted"
        )
        text += f". Balance: {record.representation.balance}."
        if (
            record.representation.counterfactual_gap_after is not None
            and record.representation.counterfactual_gap_before is not None
        ):
            text += (
                f" Change when genders are swapped in {record.representation.sentences} held-out sentences: "
                f"{record.representation.counterfactual_gap_before:.4f} bits per byte before, {record.representation.counterfactual_gap_after:.4f} after."
            )
    return text


def _measured(record: Checkpoint) -> str:
    rows = {
        "validation, bits per byte": f"{record.start_bits_per_byte:.4f} before, {record.best_bits_per_byte:.4f} after"
    }
    if record.attention_tradeoff:
        rows["attention"] = trade_words(record.attention_tradeoff)
    forgetting = record.forgetting
    if forgetting:
        rows[f"control text ({forgetting.control}), bits per byte"] = (
            f"{forgetting.before:.4f} before, {forgetting.after:.4f} after "
            f"({forgetting.bytes:,} bytes; {forgetting.replay_share:.0%} of the rows replayed such text)"
        )
        if forgetting.answers_before is not None and forgetting.answers_after is not None:
            rows[f"{forgetting.questions} general questions, bits per byte of the right answer"] = (
                f"{forgetting.answers_before:.3f} before, {forgetting.answers_after:.3f} after"
            )
    else:
        rows["forgetting"] = "not measured"
    memorised = record.memorization
    if memorised:
        for count, bits in memorised.exposure.items():
            rows[f"exposure of secrets that stood {count} time(s) in the text"] = (
                f"{bits:.1f} bits (chance 1, most {memorised.candidates.bit_length() - 1}); "
                f"{memorised.extracted[count]:.0%} given away"
            )
        rows["membership inference, AUC"] = _score(memorised.membership_auc)
        rows["membership inference, found at 1 % false alarms"] = _score(memorised.membership_tpr)
    else:
        rows["memorization"] = "not measured (no secrets were planted: --canaries)"
    for name, error in record.estimate_error.items():
        rows[f"measured against expected, {name}"] = f"{error:+.0%}"
    return "## Measured\n\n" + _table(rows)


def _score(score: Score) -> str:
    if score.value is None:
        return f"missing: {score.missing_reason}"
    between = f" [{score.ci_low:.3f}, {score.ci_high:.3f}]" if score.ci_low is not None else ""
    return f"{score.value:.3f}{between}, n = {score.n}"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items())]
    )
