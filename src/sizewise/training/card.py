"""Model card of a checkpoint, in the format of model hubs."""

from __future__ import annotations

from sizewise.records import Checkpoint, Dataset, Score
from sizewise.training.attention_tradeoff import format_tradeoff
from sizewise.training.specialization import describe_specialization


def model_card(record: Checkpoint, run_id: str, data: Dataset) -> str:
    """Format the card: intended use, training data, training procedure, and measurements.

    Args:
        record: the checkpoint.
        run_id: id of the checkpoint.
        data: the dataset that it was trained on.
    """
    recipe = record.recipe
    sections = [
        _front(record, data),
        f"# {run_id}\n\n{record.origin}. Trained by Sizewise on {record.data} ({data.name}, {data.domain}).",
        "## Intended use\n\nTasks like those in the dataset, after an evaluation with Sizewise. Not for decisions "
        "about people without human oversight. Bias, harm and answers outside the domain need separate evaluations.",
        _data(record, data),
        "## Training\n\n"
        + _table(
            {
                "start": record.start,
                "method": recipe.method + (f", rank {recipe.rank}" if recipe.method != "full" else ""),
                "attention": record.attention,
                "parameters": f"{record.parameters:,} ({record.trained_parameters:,} trained)",
                "tokens": f"{record.tokens:,} ({record.epochs:.2f} epochs), {record.steps:,} steps",
                "batch": f"{recipe.rows_per_step} rows of {recipe.context} tokens per step",
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
        f"## Reproduce\n\nThe recipe is in `sizewise.json`. Scores on held-out data: "
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
    share = record.recipe.document_share
    rows = {
        "documents": f"{size.documents:,}" if share == 1 else f"{share:.0%} of {size.documents:,}",
        "examples": f"{size.examples:,}",
        "licenses of the documents": licenses or "not stated",
        "license of the weights": record.license,
    }
    text = "## Data\n\n" + _table(rows)
    if record.representation:
        named = [
            f"{attribute}: " + ", ".join(f"{group} {count}" for group, count in counts.items())
            for attribute, counts in record.representation.counts.items()
            if any(counts.values())
        ]
        text += f"\n\nGroups of people named in {record.representation.words:,} words of training text: " + (
            "; ".join(named) if named else "none of the counted groups"
        )
        text += f". Balance: {record.representation.balance}."
        before, after = (
            record.representation.counterfactual_gap_before,
            record.representation.counterfactual_gap_after,
        )
        if before is not None and after is not None:
            text += (
                f" Change when genders are swapped in {record.representation.sentences} held-out sentences: "
                f"{before:.4f} bits per byte before, {after:.4f} after."
            )
    return text


def _measured(record: Checkpoint) -> str:
    rows = {
        "validation, bits per byte": f"{record.start_bits_per_byte:.4f} before, {record.best_bits_per_byte:.4f} after"
    }
    if record.validation:
        what = "held-out answers" if record.validation.kind == "answers" else "pieces of held-out text"
        rows["change of validation, bits per byte"] = f"{_score(record.validation.change)} {what}"
    if record.attention_tradeoff:
        rows["attention"] = format_tradeoff(record.attention_tradeoff)
    forgetting = record.forgetting
    if forgetting and forgetting.before is not None and forgetting.after is not None:
        rows[f"control text ({forgetting.control}), bits per byte"] = (
            f"{forgetting.before:.4f} before, {forgetting.after:.4f} after{_change(forgetting.change)} "
            f"({forgetting.bytes:,} bytes; {forgetting.replay_share:.0%} of the training rows replayed such text)"
        )
    if forgetting and forgetting.answers_before is not None and forgetting.answers_after is not None:
        rows[f"{forgetting.questions} general questions, bits per byte of the reference answer"] = (
            f"{forgetting.answers_before:.3f} before, {forgetting.answers_after:.3f} after"
            f"{_change(forgetting.answers_change)}"
        )
    if not forgetting:
        rows["forgetting"] = "not measured"
    rows["specialization"] = describe_specialization(record)
    if record.specialization:
        difference = record.specialization.difference
        rows["gain in the domain over general knowledge, bits per byte"] = _score(difference)
    memorized = record.memorization
    if memorized:
        for count, exposure in memorized.exposure_scores.items():
            rows[f"exposure of canaries that were in the text {count} time(s)"] = (
                f"{_score(exposure)} (bits; chance 1, maximum {memorized.candidates.bit_length() - 1}); "
                f"extracted {_score(memorized.extracted_scores[count])}"
            )
        rows["membership inference, AUC"] = _score(memorized.membership_auc)
        rows["membership inference, TPR at 1 % FPR"] = _score(memorized.membership_tpr)
        rows["memorization was tested on the weights"] = memorized.weights
    else:
        rows["memorization"] = "not measured (train with --canaries)"
    for name, error in record.estimate_error.items():
        rows[f"measured compared with estimate, {name}"] = f"{error:+z.0%}"
    return "## Measured\n\n" + _table(rows)


def _change(score: Score | None) -> str:
    return f", change {_score(score)}" if score is not None else ""


def _score(score: Score) -> str:
    if score.value is None:
        return f"not available: {score.missing_reason}"
    between = f" [{score.ci_low:.3f}, {score.ci_high:.3f}]" if score.ci_low is not None else ""
    between += f" (no interval: {score.ci_missing_reason})" if score.ci_missing_reason else ""
    return f"{score.value:.3f}{between}, n = {score.n}"


def _table(rows: dict[str, str]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items())]
    )
