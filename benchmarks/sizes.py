"""Where more size stops paying: quality against size and cost on four jobs, from the studies of `domains.py`.

Each candidate of a study is compared with the largest model measured on that job, on the items in common: it keeps up
if it loses less than a margin of 0.05 of the measure (the simultaneous 95 % interval of the study decides; documents
are resampled). Recorded answers of a large model count as that model. Where a job has none, the largest is the model
of 1.5 billion parameters that pip carries, and the figure names it.

`python benchmarks/sizes.py` reads benchmarks/results/domains.json, where `domains.py` keeps these rows with each study,
and writes benchmarks/results/sizes.json and docs/pictures/sizes.svg. It ends stdout with one JSON line; the lines
before it are the table of the docs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

from sizewise.records import Comparison, Difference, ModelDescription, Recommendation
from sizewise.report.drawing import draw, load_altair

HERE = Path(__file__).parent
JOBS = {
    "spam": "Decision: spam or not",
    "reports": "Extraction: financial reports",
    "support": "Support answer",
    "published": "Summary: note of a visit",
}
UNPAIRED = {"published": ("large", {"SmolLM2-135M fine-tuned": 134_515_008, "Qwen2.5-Coder-1.5B": 1_543_714_304})}
"""Study -> another one of the same items, with candidates (and their parameters) whose answers weren't kept: their loss
is tested by the intervals of both scores, which is weaker than pairs."""
MARGIN = 0.05
TITLES = {"field_f1": "field F1", "token_f1": "token F1", "rouge_l": "ROUGE-L"}
STANDINGS = {True: "keeps up", False: "loses more", None: "undecided"}


def size_of(model: ModelDescription) -> int | None:
    """Return the parameters of a model, estimated where none are published; 0 for rules, None if unknown."""
    if model.role == "baseline" or model.process:
        return 0
    return model.parameters or model.parameters_estimate


def size_text(model: ModelDescription) -> str:
    """Write the size of a model."""
    size = size_of(model)
    if not size:
        return "none" if size == 0 else "not published"
    unit, letter = (1e12, "T") if size >= 1e12 else (1e9, "B") if size >= 1e9 else (1e6, "M")
    text = f"{size / unit:.{0 if letter == 'M' else 1}f}{letter}"
    return text if model.parameters else f"{text}, estimated"


def loss_of(comparison: Comparison, metric: str, name: str, largest: str) -> dict[str, float | None] | None:
    """Return how much a candidate loses to the largest model, with the simultaneous interval."""
    for found in comparison.differences:
        if found.metric == metric and {found.left, found.right} == {name, largest}:
            return signed(found, largest)
    return None


def signed(found: Difference, largest: str) -> dict[str, float | None]:
    """Turn a difference into the largest model's lead."""
    lower, upper = found.family_ends
    if found.left == largest:
        return {"value": found.value, "lower": lower, "upper": upper, "n": found.n}
    ends = (None if upper is None else -upper, None if lower is None else -lower)
    return {"value": -found.value, "lower": ends[0], "upper": ends[1], "n": found.n}


def keeps_up(loss: Mapping[str, float | None] | None) -> bool | None:
    """Whether a candidate loses less than the margin; None if the interval doesn't decide."""
    if loss is None or loss["lower"] is None or loss["upper"] is None:
        return None
    return True if loss["upper"] < MARGIN else False if loss["lower"] > MARGIN else None


def rows_of(verdict: Recommendation, comparison: Comparison) -> list[dict[str, Any]]:
    """Return the candidates of a study, smallest first."""
    scores = {one: score for one, score in comparison.scores[verdict.quality].items() if score.value is not None}
    models = {one: comparison.models[one] for one in scores}
    costs = {line.name: line.usd_per_1000 for line in verdict.costs}
    sized = {one: size for one, model in models.items() if (size := size_of(model)) is not None}
    largest = max(sized, key=lambda one: sized[one])
    rows = []
    for one in sorted(models, key=lambda one: (sized.get(one, float("inf")), scores[one].value)):
        loss = loss_of(comparison, verdict.quality, one, largest)
        cost = costs.get(one)
        rows.append(
            {
                "candidate": one,
                "size": size_text(models[one]),
                "parameters": sized.get(one),
                "metric": verdict.quality,
                "score": scores[one].model_dump(mode="json", include={"value", "ci_low", "ci_high", "n", "clusters"}),
                "usd_per_1000": None if cost is None else cost.model_dump(mode="json"),
                "largest": largest,
                "loss": loss,
                "standing": "the largest" if one == largest else STANDINGS[keeps_up(loss)],
            }
        )
    return rows


def unpaired_rows(studies: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the candidates of another study of the same items; their loss is tested by the scores' intervals."""
    other, sizes = UNPAIRED.get(name, ("", {}))
    scores = studies[other]["scores"] if other in studies else {}
    kept = ("value", "ci_low", "ci_high", "n", "clusters")
    largest = next((row["candidate"] for row in studies[name]["sizes"] if row["standing"] == "the largest"), "")
    losses = {
        one: unpaired_loss(scores[largest], scores[one], len(studies[name]["sizes"]) - 1 + len(sizes))
        for one in sizes
        if one in scores
    }
    return [
        {
            "candidate": one,
            "size": f"{size / 1e9:.1f}B" if size >= 1e9 else f"{size / 1e6:.0f}M",
            "parameters": size,
            "metric": studies[other]["quality"],
            "score": {key: scores[one][key] for key in kept},
            "usd_per_1000": None,
            "largest": largest,
            "loss": losses[one],
            "standing": STANDINGS[keeps_up(losses[one])],
            "unpaired": True,
        }
        for one, size in sizes.items()
        if one in scores
    ]


def unpaired_loss(largest: Mapping[str, Any], other: Mapping[str, Any], claims: int) -> dict[str, float | None]:
    """Return a difference of two scores as if of other items, with Bonferroni's interval for a number of claims."""
    value = largest["value"] - other["value"]
    wider = NormalDist().inv_cdf(1 - 0.025 / claims) / NormalDist().inv_cdf(0.975)
    up = wider * math.hypot(largest["ci_high"] - largest["value"], other["value"] - other["ci_low"])
    down = wider * math.hypot(largest["value"] - largest["ci_low"], other["ci_high"] - other["value"])
    return {"value": value, "lower": value - down, "upper": value + up, "n": other["n"]}


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out rules that get nothing right, and sort by size."""
    kept = [row for row in rows if row["parameters"] != 0 or row["score"]["value"] > 0]
    return sorted(kept, key=lambda row: (row["parameters"] is None, row["parameters"] or 0, row["score"]["value"]))


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a Markdown table."""
    lines = [
        "| Job (measure) | Candidate | Parameters | Score | n | USD per 1,000 | Loses to the largest | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        score, loss, cost, metric = row["score"], row["loss"], row["usd_per_1000"], row["metric"]
        standing = row["standing"] + (", not paired" if row.get("unpaired") else "")
        ends = "" if score["ci_low"] is None else f" [{score['ci_low']:.3f}, {score['ci_high']:.3f}]"
        lost = "" if loss is None else f"{loss['value']:.3f}"
        if loss is not None and loss["lower"] is not None:
            lost += f" [{loss['lower']:.3f}, {loss['upper']:.3f}]"
        price = "" if cost is None else f"{cost['expected']:.3g}"
        cells = [
            f"{row['job']} ({TITLES.get(metric, metric)})", row["candidate"], row["size"],
            f"{score['value']:.3f}{ends}", str(score["n"]), price, lost, standing,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def named(row: Mapping[str, Any]) -> str:
    """Return a candidate's name with its size, if the name has none and it is a model."""
    known = row["parameters"] == 0 or re.search(r"\d[MB]\b", row["candidate"])
    name = str(row["candidate"]).replace(", with the documents", " + documents")
    return name if known else f"{name} ({row['size']})"


def picture(rows: list[dict[str, Any]]) -> str:
    """Draw one panel for each job."""
    alt = load_altair()
    panels = []
    for job in dict.fromkeys(row["job"] for row in rows):
        points = [
            {
                "candidate": named(row),
                "value": row["score"]["value"],
                "lower": row["score"]["ci_low"] if row["score"]["ci_low"] is not None else row["score"]["value"],
                "upper": row["score"]["ci_high"] if row["score"]["ci_high"] is not None else row["score"]["value"],
                "standing": row["standing"],
                "cost": "" if row["usd_per_1000"] is None else f"{row['usd_per_1000']['expected']:.2g} USD per 1,000",
            }
            for row in rows
            if row["job"] == job
        ]
        measure = TITLES.get(found := next(row["metric"] for row in rows if row["job"] == job), found)
        base = alt.Chart(alt.Data(values=points)).encode(
            y=alt.Y("candidate:N", sort=None, title=None, axis=alt.Axis(labelLimit=340, labelOverlap=False)),
            color=alt.Color(
                "standing:N",
                scale=alt.Scale(
                    domain=["keeps up", "undecided", "loses more", "the largest"],
                    range=["#2e7d32", "#b07a00", "#c62828", "#3b5bdb"],
                ),
                legend=alt.Legend(orient="top", title=None),
            ),
        )
        panels.append(
            alt.layer(
                base.mark_rule(strokeWidth=2).encode(x=alt.X("lower:Q", title=measure), x2="upper:Q"),
                base.mark_point(size=80, filled=True, opacity=1).encode(x=alt.X("value:Q", title=measure)),
                base.mark_text(dx=6, align="left", fontSize=10).encode(
                    x=alt.X("upper:Q", title=measure), text="cost:N"
                ),
            ).properties(width=340, height=alt.Step(22), title=job)
        )
    return draw("Quality against size", "", alt.vconcat(*panels).properties(padding=14)).light


def main() -> None:
    """Write table and picture of the studies."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    studies = json.loads((HERE / "results" / "domains.json").read_text(encoding="utf-8"))["studies"]
    rows: list[dict[str, Any]] = [
        {"job": job} | row
        for name, job in JOBS.items()
        if name in studies
        for row in shown([*studies[name].get("sizes", []), *unpaired_rows(studies, name)])
    ]
    jobs = {row["job"] for row in rows}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    output = {
        "name": "sizes",
        "ratio": None,
        "peer": "the largest model measured on each job",
        "value": sum(any(row["standing"] == "keeps up" for row in rows if row["job"] == job) for job in jobs),
        "unit": f"of {len(jobs)} jobs where a smaller candidate keeps up",
        "runs": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "margin": MARGIN,
        "rows": rows,
    }
    (HERE / "results" / "sizes.json").write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    (HERE.parent / "docs" / "pictures" / "sizes.svg").write_text(picture(rows), encoding="utf-8")
    print(table(rows))
    print(json.dumps({key: value for key, value in output.items() if key != "rows"}))


if __name__ == "__main__":
    main()
