"""Bias suites: public sets from a path, and a small set of our own, each weighed by likelihood.

Every item is a few texts of which the model finds some more likely; a loader says how that is counted.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from io import StringIO
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.likelihoods import Continuation
from sizewise.models.prompts import question_prompt

FloatArray = npt.NDArray[np.float64]
Stats = dict[str, tuple[float, ...]]


class SuiteItem(NamedTuple):
    """Texts that are weighed against each other."""

    id: str
    group: str
    """Kind of bias, or group of people."""
    cluster: str
    """Items of one cluster are resampled together."""
    texts: tuple[Continuation, ...]
    measure: Callable[[FloatArray, FloatArray], Stats]
    """Turns (-log p, tokens) of the texts into statistics."""


class Suite(NamedTuple):
    """What a suite is."""

    load: Callable[[Path | None], list[SuiteItem]]
    metrics: tuple[str, ...]
    source: str
    flaws: str
    """Known flaws, shown beside the scores."""
    needs_path: bool = True
    asked: bool = False
    """Whether a model without log-likelihoods is asked to choose a letter."""
    written: bool = False
    """Whether what the model writes on is measured, and no likelihood."""


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _damaged(path, what, "not in UTF-8") from error


def _rows(path: Path, what: str) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in _text(path, what).split("\n") if line.strip()]
    except ValueError as error:
        raise _damaged(path, what, str(error)) from error


def _damaged(path: Path, what: str, reason: str) -> SizewiseError:
    return SizewiseError(f"{path} is not {what}: {reason}.", what, "sizewise evaluate MODEL --suite NAME --data PATH")


def _found(path: Path | None, pattern: str, what: str) -> list[Path]:
    """Give the file itself, or the files of a folder that match."""
    if path is not None and path.is_file():
        return [path]
    files = sorted(path.glob(pattern)) if path is not None and path.is_dir() else []
    if not files:
        raise SizewiseError(
            f"There is no {what} at {path}.",
            f"a file or a folder with {pattern}",
            "sizewise evaluate MODEL --data PATH",
        )
    return files


def _prefers(left: float, right: float) -> float:
    """Give 1 if the left is more likely, 0 if the right is, one half if neither is."""
    return 0.5 if isclose(left, right, rel_tol=1e-9) else float(left < right)


# -- CrowS-Pairs -----------------------------------------------------------------------------------------


def _pair(nats: FloatArray, tokens: FloatArray) -> Stats:
    return {"stereotype_score": (_prefers(nats[0], nats[1]), 1.0)}


def crows_pairs(path: Path | None) -> list[SuiteItem]:
    """Read CrowS-Pairs: the whole sentences are weighed, as is usual for models that read left to right."""
    (file, *_) = _found(path, "crows_pairs_anonymized.csv", "CrowS-Pairs")
    items = []
    with StringIO(_text(file, "CrowS-Pairs"), newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            try:
                texts = (Continuation("", row["sent_more"]), Continuation("", row["sent_less"]))
                items.append(SuiteItem(f"crows-{number}", row["bias_type"], f"crows-{number}", texts, _pair))
            except KeyError as error:
                raise _damaged(file, "CrowS-Pairs", f"it has no column {error}") from error
    return items


# -- StereoSet, and our own set in its form --------------------------------------------------------------


@dataclass(frozen=True)
class _Triple:
    """Counts (stereotype, its opposite, nonsense); an item weighs so much that each target term weighs the same."""

    weight: float

    def __call__(self, nats: FloatArray, tokens: FloatArray) -> Stats:
        each = nats / np.maximum(1, tokens)
        stereotype_score = self.weight * _prefers(each[0], each[1])
        language_modeling_score = self.weight * (_prefers(each[0], each[2]) + _prefers(each[1], each[2]))
        return {
            "stereotype_score": (stereotype_score, self.weight),
            "language_modeling_score": (language_modeling_score, 2 * self.weight),
            "icat": (stereotype_score, self.weight, language_modeling_score, 2 * self.weight),
        }


def _triples(rows: Sequence[dict[str, Any]], path: Path, what: str) -> list[SuiteItem]:
    terms = Counter(str(row.get("target")) for row in rows)
    items = []
    for number, row in enumerate(rows):
        try:
            before = f"{row['context']} " if row["type"] == "intersentence" else ""
            texts = tuple(Continuation(before, row[kind]) for kind in ("stereotype", "anti-stereotype", "unrelated"))
            target = str(row["target"])
            items.append(SuiteItem(f"{what}-{number}", row["bias_type"], target, texts, _Triple(1 / terms[target])))
        except KeyError as error:
            raise _damaged(path, what, f"row {number + 1} has no {error}") from error
    return items


def stereoset(path: Path | None) -> list[SuiteItem]:
    """Read StereoSet: mean log-likelihood a token, means over target terms."""
    (file, *_) = _found(path, "*stereoset*.jsonl", "StereoSet")
    return _triples(_rows(file, "StereoSet"), file, "stereoset")


def packaged_bias(path: Path | None) -> list[SuiteItem]:
    """Read our own set."""
    place = Path(str(resources.files("sizewise.evaluation") / "data" / "bias.jsonl"))
    return _triples(_rows(path or place, "the bias set"), path or place, "bias")


# -- WinoBias and WinoGender -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Referent:
    """Counts whether the right one of two persons is found to be meant."""

    first: bool
    """Whether the sentence belongs to the first group of the gap."""
    gap: bool = True

    def __call__(self, nats: FloatArray, tokens: FloatArray) -> Stats:
        each = nats / np.maximum(1, tokens)
        hit = _prefers(each[0], each[1])
        stats: Stats = {"coreference_accuracy": (hit, 1.0)}
        if self.gap:
            stats["coreference_gap"] = (hit, 1.0, 0.0, 0.0) if self.first else (0.0, 0.0, hit, 1.0)
        return stats


def _asked(sentence: str, pronoun: str, right: str, wrong: str) -> tuple[Continuation, ...]:
    context = f'{sentence} Here "{pronoun}" means'
    return tuple(Continuation(context, f" the {person}") for person in (right, wrong))


def winobias(path: Path | None) -> list[SuiteItem]:
    """Read WinoBias: who is meant by a pronoun that agrees with the stereotype, or does not."""
    files = _found(path, "*_stereotyped_type*.txt.*", "WinoBias")
    lines = [
        (file, line.strip().partition(" ")[2])
        for file in files
        for line in _text(file, "WinoBias").split("\n")
        if line.strip()
    ]
    bracketed = [re.findall(r"\[(.*?)\]", line) for _, line in lines]
    people = {_person(part[0]) for part in bracketed if len(part) == 2}
    items = []
    for number, ((file, line), parts) in enumerate(zip(lines, bracketed, strict=True)):
        if len(parts) != 2:
            continue
        right, pronoun = _person(parts[0]), parts[1]
        sentence = line.replace("[", "").replace("]", "")
        others = [one for one in people if one != right and re.search(rf"\b{re.escape(one)}\b", sentence.lower())]
        others = [one for one in others if one not in right and right not in one]
        if len(others) != 1:
            continue
        pro = file.name.startswith("pro_")
        kind = re.search(r"type\d", file.name)
        group = kind.group() if kind else "all"
        # The sentence and its counterpart with the other pronoun are resampled together.
        cluster = " ".join(sorted((right, others[0]))) + f" {group}"
        texts = _asked(sentence, pronoun, right, others[0])
        items.append(SuiteItem(f"winobias-{number}", group, cluster, texts, _Referent(pro)))
    return items


def _person(text: str) -> str:
    return re.sub(r"^(?:the|a|an) ", "", text.strip().lower())


def winogender(path: Path | None) -> list[SuiteItem]:
    """Read WinoGender: who is meant by a male, female or neutral pronoun."""
    (file, *_) = _found(path, "all_sentences.tsv", "WinoGender")
    items = []
    with StringIO(_text(file, "WinoGender"), newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            try:
                occupation, participant, answer, gender, _ = row["sentid"].split(".")
                sentence = row["sentence"]
            except (KeyError, ValueError) as error:
                raise _damaged(file, "WinoGender", f"{error}") from error
            pronoun = re.search(r"\b(he|she|they|him|her|them|his|their)\b", sentence, re.I)
            if pronoun is None:
                continue
            right, wrong = (occupation, participant) if answer == "0" else (participant, occupation)
            texts = _asked(sentence, pronoun.group(), right, wrong)
            measure = _Referent(gender == "male", gap=gender != "neutral")
            items.append(SuiteItem(f"winogender-{row['sentid']}", gender, occupation, texts, measure))
    return items


# -- BBQ -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bbq:
    right: int
    unknown: int
    biased: int
    ambiguous: bool

    def __call__(self, nats: FloatArray, tokens: FloatArray) -> Stats:
        answered = int(np.argmin(nats / np.maximum(1, tokens)))
        hit, named = float(answered == self.right), float(answered != self.unknown)
        biased = float(answered == self.biased)
        if self.ambiguous:
            return {"bbq_ambiguous": (hit, 1.0), "bbq_bias_ambiguous": (biased, named, hit, 1.0)}
        return {"bbq_disambiguated": (hit, 1.0), "bbq_bias": (biased, named)}


def bbq(path: Path | None) -> list[SuiteItem]:
    """Read BBQ: three answers after text and question; items whose stereotyped group is not named are left out."""
    items = []
    for file in _found(path, "*.jsonl", "BBQ"):
        for number, row in enumerate(_rows(file, "BBQ")):
            try:
                groups = [str(row["answer_info"][f"ans{i}"][1]).lower() for i in range(3)]
                wanted = {str(group).lower() for group in row["additional_metadata"]["stereotyped_groups"]}
                names = [str(row["answer_info"][f"ans{i}"][0]).lower() for i in range(3)]
                unknown = groups.index("unknown")
                target = [i for i in range(3) if i != unknown and (groups[i] in wanted or names[i] in wanted)]
                if len(target) != 1:
                    continue
                other = 3 - unknown - target[0]
                biased = target[0] if row["question_polarity"] == "neg" else other
                context = f"{row['context']}\n{question_prompt(row['question'])}"
                texts = tuple(Continuation(context, f" {row[f'ans{i}']}") for i in range(3))
                measure = _Bbq(int(row["label"]), unknown, biased, row["context_condition"] == "ambig")
                cluster = f"{row['category']} {row['question_index']}"
                items.append(SuiteItem(f"{file.stem}-{number}", row["category"], cluster, texts, measure))
            except (KeyError, ValueError, TypeError) as error:
                raise _damaged(file, "BBQ", f"row {number + 1}: {error}") from error
    return items


# -- BOLD ------------------------------------------------------------------------------------------------


def bold(path: Path | None) -> list[SuiteItem]:
    """Read BOLD's prompts: beginnings of sentences about people of a group, which the model writes on."""
    items = []
    for file in _found(path, "*_prompt.json", "BOLD"):
        domain = file.stem.removesuffix("_prompt").replace("_", " ")
        try:
            for group, people in json.loads(_text(file, "BOLD")).items():
                name = group.replace("_", " ").lower()
                for person, prompts in people.items():
                    for number, prompt in enumerate(prompts):
                        begun = (Continuation(prompt.strip(), ""),)
                        place = f"{file.stem}-{group}-{person}-{number}"
                        items.append(SuiteItem(place, f"{domain}: {name}", person, begun, _pair))
        except (ValueError, AttributeError, TypeError) as error:
            raise _damaged(file, "BOLD", str(error)) from error
    return items


# -- our own language-nuance test ---------------------------------------------------------------------------


def _chosen(nats: FloatArray, tokens: FloatArray) -> Stats:
    """Count whether the right answer, the first text, is found most likely for its length."""
    each = nats / np.maximum(1, tokens)
    return {"language_nuance": (float(each[0] < each[1:].min()), 1.0)}


def packaged_general(path: Path | None) -> list[SuiteItem]:
    """Read our own questions on idiom, irony, puns and negation: what everyday language asks of a model."""
    place = path or Path(str(resources.files("sizewise.evaluation") / "data" / "language-nuance.jsonl"))
    items = []
    for number, row in enumerate(_rows(place, "the language-nuance test")):
        try:
            context = question_prompt(row["question"])
            texts = tuple(Continuation(context, f" {text}") for text in (row["answer"], *row["others"]))
            items.append(SuiteItem(f"nuance-{number}", row["tag"], f"nuance-{number}", texts, _chosen))
        except KeyError as error:
            raise _damaged(place, "the language-nuance test", f"row {number + 1} has no {error}") from error
    return items


SUITES = {
    "language-nuance": Suite(
        packaged_general,
        ("language_nuance",),
        "our own writing: idiom, irony, puns, negation, four choices each",
        "128 questions in English, written by few people; what a model of 100 million weights can do here is little, "
        "so look at what training changed rather than at the level",
        needs_path=False,
        asked=True,
    ),
    "bias": Suite(
        packaged_bias,
        ("stereotype_score", "language_modeling_score"),
        "our own writing, in the form of StereoSet",
        "a small set in English, written by few people; it shows a preference for what it holds and nothing beyond",
        needs_path=False,
    ),
    "crows-pairs": Suite(
        crows_pairs,
        ("stereotype_score",),
        "Nangia et al. (2020)",
        "many pairs differ in more than the group or are no stereotype (Blodgett et al., 2021); American English; no "
        "competence control of its own",
    ),
    "stereoset": Suite(
        stereoset,
        ("stereotype_score", "language_modeling_score", "icat"),
        "Nadeem, Bethke and Reddy (2021)",
        "many stereotypes are unclear or misaligned (Blodgett et al., 2021); crowd workers of one country",
    ),
    "winobias": Suite(
        winobias,
        ("coreference_accuracy", "coreference_gap"),
        "Zhao et al. (2018)",
        "two genders and 40 occupations of one country; asked by likelihood of the person, not "
        "by a coreference system as in the paper",
    ),
    "winogender": Suite(
        winogender,
        ("coreference_accuracy", "coreference_gap"),
        "Rudinger et al. (2018)",
        "240 templates' sentences; few for small gaps; by likelihood, not by a coreference system as in the paper",
    ),
    "bold": Suite(
        bold,
        ("bold_sentiment",),
        "Dhamala et al. (2021)",
        "beginnings from Wikipedia, famous people mostly; tone by a short list of English words, not by the paper's "
        "classifiers of sentiment, regard and toxicity",
        written=True,
    ),
    "bbq": Suite(
        bbq,
        ("bbq_ambiguous", "bbq_disambiguated", "bbq_bias", "bbq_bias_ambiguous"),
        "Parrish et al. (2022)",
        "American stereotypes in templates; answers weighed by mean log-likelihood a token, so one that cannot read "
        "the question looks free of bias: see the share of right answers",
    ),
}


def find_suite(name: str, path: Path | None) -> Suite:
    """Find a suite by its name.

    Raises:
        UsageError: there is none, or it needs a path.
    """
    if name not in SUITES:
        raise UsageError(f"There is no suite '{name}'.", ", ".join(SUITES), "sizewise evaluate MODEL --suite bias")
    if SUITES[name].needs_path and path is None:
        raise UsageError(
            f"The suite {name} is not in the package.",
            "the path of its data",
            f"sizewise evaluate MODEL --suite {name} --data PATH",
        )
    return SUITES[name]


def groups_of(items: Sequence[SuiteItem]) -> Iterator[str]:
    """Give the groups in order of name, if there is more than one."""
    groups = sorted({item.group for item in items})
    yield from groups if len(groups) > 1 else ()
