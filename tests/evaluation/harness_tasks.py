"""Twelve small tasks in the harness' own form, with local data: one for each kind of request, metric and prompt."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.conftest import NOUNS, VERBS

HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/{data}.jsonl, train: {folder}/{data}_shots.jsonl}}
test_split: test
metadata: {{version: 3}}
"""
CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\n'
SHOTS = "num_fewshot: 2\nfewshot_split: train\n"
ACC = "metric_list:\n  - metric: acc\n  - metric: acc_norm\n"
WRITE = (
    "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
    'generation_kwargs: {until: ["."], max_gen_toks: 12, do_sample: false}\n'
)
EXACT = "metric_list:\n  - metric: exact_match\n    ignore_case: true\n"
FILTERS = """filter_list:
  - name: first-word
    filter:
      - {function: regex, regex_pattern: "([A-Za-z]+)"}
      - {function: take_first}
  - name: number
    filter:
      - {function: regex, regex_pattern: "([0-9]+)", group_select: -1}
      - {function: take_first}
"""
TASKS = {
    "by_index": ("items", CHOICE + "doc_to_target: right\n" + ACC),
    "by_text": ("items", CHOICE + "doc_to_target: '{{answer}}'\n" + ACC),
    "with_shots": ("items", CHOICE + "doc_to_target: right\n" + SHOTS + ACC),
    "first_shots": (
        "labels",
        CHOICE + "doc_to_target: right\nnum_fewshot: 3\nfewshot_config: {split: train, sampler: first_n}\n" + ACC,
    ),
    "labels_f1": (
        "labels",
        CHOICE + "doc_to_target: right\nmetric_list:\n  - metric: f1\n  - metric: acc\n",
    ),
    "no_context": ("items", CHOICE.replace("{{question}}", "") + "doc_to_target: right\ntarget_delimiter: ''\n" + ACC),
    "writes": ("items", WRITE + EXACT),
    "filtered": ("items", WRITE + FILTERS + EXACT),
    "writes_after_shots": ("items", WRITE + SHOTS + EXACT + "  - metric: bleu\n  - metric: chrf\n"),
    "ends": (
        "items",
        "output_type: loglikelihood\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        "metric_list:\n  - metric: perplexity\n  - metric: acc\n",
    ),
    "split_word": (
        "items",
        "output_type: loglikelihood\ndoc_to_text: 'A {{answer[:3]}}'\n"
        "doc_to_target: '{{answer[3:]}} of the plan and the record'\n"
        "target_delimiter: ''\nmetric_list:\n  - metric: perplexity\n",
    ),
    "texts": (
        "items",
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list:\n  - metric: word_perplexity\n  - metric: byte_perplexity\n  - metric: bits_per_byte\n",
    ),
}
UNSCORABLE = (
    "output_type: loglikelihood\ndoc_to_text: 'A {{answer[:3]}}'\n"
    "doc_to_target: '{{answer[3:]}}{% if right == 0 %} of the plan and the record{% endif %}'\n"
    "target_delimiter: ''\nmetric_list:\n  - metric: perplexity\n"
)
"""The end of a word may have no token of its own; the harness' model stops at such an item."""
GROUPS = {
    "choices_group": "group: choices_group\ntask: [by_index, labels_f1]\n"
    "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n",
    "means_group": "group: means_group\ntask: [by_text, first_shots]\n"
    "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: false\n",
}
TAG = "written"


def write_tasks(folder: Path, items: int = 24) -> Path:
    """Write the tasks, two groups, a tag and their data into a folder."""
    folder.mkdir()
    rng = random.Random(5)
    for name, size in (("items", items), ("items_shots", 6), ("labels", 10), ("labels_shots", 6)):
        rows = []
        for number in range(size):
            choices = rng.sample(NOUNS, 3) if name.startswith("items") else ["no", "yes"]
            right = rng.randrange(len(choices))
            question = f"Which {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} of {number}? Answer:"
            text = " ".join(f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} it." for _ in range(rng.choice([3, 40])))
            rows.append(
                {"question": question, "choices": choices, "right": right, "answer": choices[right], "text": text}
            )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, (data, body) in TASKS.items():
        head = HEAD.format(name=name, folder=folder, data=data) + (f"tag: {TAG}\n" if "writes" in name else "")
        (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    (folder / "unscorable.yaml").write_text(
        HEAD.format(name="unscorable", folder=folder, data="items") + UNSCORABLE, encoding="utf-8"
    )
    for name, body in GROUPS.items():
        (folder / f"{name}.yaml").write_text(body, encoding="utf-8")
    return folder
