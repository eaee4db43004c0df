"""Routing policies: read and write them, decide per prompt, and replay them on labeled prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Calibration, Policy, Replay
from sizewise.records.upgrades import SCHEMA, upgrade
from sizewise.routing.calibrating import PromptFeatures, prompt_features
from sizewise.routing.drift import drift_p
from sizewise.routing.labeled import group_duplicates, hash_prompt, read_labeled, share_of
from sizewise.store import write_atomically

CONFIDENTIAL = "confidential: stays with the small model"


class Decision(NamedTuple):
    """The model chosen for a prompt, and the reason."""

    model: Literal["small", "large"]
    features: PromptFeatures
    """Features of the prompt."""
    why: str
    may_leave: bool
    """False if the prompt is confidential: no other model may see it under any circumstances."""
    forced: bool = False
    """Whether a rule requires the large model, regardless of the small model's answer."""


def make_policy(
    calibration: Calibration,
    small: str | None = None,
    large: str | None = None,
    confidential: Sequence[str] = (),
    longest: int | None = None,
) -> Policy:
    """Create a policy from a calibration.

    Args:
        calibration: the calibration.
        small: name of the small model; None: any.
        large: name of the large model; None: any.
        confidential: regular expressions for prompts that must stay with the small model.
        longest: maximum characters of a conversation for the small model; None: no limit.

    Raises:
        SizewiseError: the calibration found no threshold.
        UsageError: a rule is not a regular expression.
    """
    if calibration.chosen is None:
        raise SizewiseError(
            "This calibration has no threshold, so a policy cannot be created from it.",
            "a risk that this number of prompts can guarantee",
            "sizewise route calibrate FILE.csv without --out, which lists the risks in reach",
        )
    for rule in confidential:
        _check_rule(rule)
    return Policy(
        small=small,
        large=large,
        threshold=calibration.chosen.threshold,
        confidential=tuple(confidential),
        longest=longest,
        calibration=calibration,
    )


def _check_rule(rule: str) -> None:
    try:
        re.compile(rule)
    except re.error as error:
        message = f"'{rule}' is not a valid regular expression: {error}."
        raise UsageError(message, "a rule such as '(?i)salary'", "--confidential '(?i)salary'") from error


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy as JSON."""
    write_atomically(path, json.dumps({"schema": SCHEMA} | policy.model_dump(mode="json"), indent=1) + "\n")


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        SizewiseError: the file cannot be read, or is not a policy.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        schema = written.pop("schema", 1)  # files in the first schema don't state it
        policy = Policy.model_validate(upgrade(written, schema, "Policy"), extra="ignore")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SizewiseError(
            f"{path} is not a valid policy: {str(error).splitlines()[0]}",
            "a file written with --out",
            "sizewise route calibrate FILE.csv --risk 0.02 --out policy.json",
        ) from error
    for rule in policy.confidential:
        _check_rule(rule)
    return policy


@lru_cache(maxsize=64)
def _compile(rule: str) -> re.Pattern[str]:
    return re.compile(rule)


def decide_prompt(policy: Policy, prompt: str) -> Decision:
    """Decide before generation; needs no model and no network.

    Args:
        policy: the policy.
        prompt: the prompt, or a conversation as text.
    """
    features = prompt_features(policy.calibration, prompt)
    if any(_compile(rule).search(prompt) for rule in policy.confidential):
        return Decision("small", features, CONFIDENTIAL, False)
    if policy.longest is not None and len(prompt) > policy.longest:
        return Decision("large", features, f"longer than {policy.longest:,} characters", True, True)
    reason = f"probability {features.probability:.3f} of an answer as good as the large model's"
    if features.probability >= policy.threshold:
        return Decision("small", features, f"{reason}; threshold {policy.threshold:.3f} reached", True)
    return Decision("large", features, f"{reason}; below the threshold {policy.threshold:.3f}", True)


def replay(path: Path, policy: Policy) -> Replay:
    """Replay a policy on labeled prompts; its calibration prompts are excluded, because they would flatter it.

    Args:
        path: CSV file with `prompt`, `weak_ok`, `strong_ok`.
        policy: the policy.

    Raises:
        SizewiseError: the file has wrong columns or values.
    """
    prompts, weak, strong, _ = read_labeled(path)
    unseen = _unseen(prompts, policy.calibration, path)
    excluded = 0
    if unseen.any():
        excluded = len(prompts) - int(unseen.sum())
        prompts = [prompt for prompt, keep in zip(prompts, unseen, strict=True) if keep]
        weak, strong = weak[unseen], strong[unseen]
    decisions = [decide_prompt(policy, prompt) for prompt in prompts]
    small = np.array([decision.model == "small" for decision in decisions])
    worse = small & (strong > weak)
    best_single = max(float(weak.mean()), float(strong.mean()))
    random = float(small.mean()) * weak.mean() + (1 - float(small.mean())) * strong.mean()
    risk = policy.calibration.risk
    drift = drift_p(policy, [decision.features for decision in decisions])
    share = partial(share_of, distinct=int(group_duplicates(prompts).max()) + 1)
    return Replay(
        source=path.name,
        prompts=len(prompts),
        small_share=share("small_share", small.mean()),
        quality=share("quality", np.where(small, weak, strong).mean()),
        worse=share("worse", worse.mean()),
        best_single=share("best_single", best_single),
        random=share("random", random),
        oracle=share("oracle", np.maximum(weak, strong).mean()),
        calls_saved=share("calls_saved", small.mean()),
        risk=risk,
        kept=None if risk is None or not unseen.any() else bool(worse.mean() <= risk),
        drift=drift,
        shifted=bool(unseen.any()) and drift < policy.drift_p,
        confidential=sum(not decision.may_leave for decision in decisions),
        learnt=excluded,
        new=bool(unseen.any()),
    )


def _unseen(prompts: Sequence[str], calibration: Calibration, path: Path) -> npt.NDArray[np.bool_]:
    """Mark the prompts that the policy was not calibrated on: (prompts,)."""
    if not calibration.marks:  # policies of earlier versions store the file name only
        return np.full(len(prompts), calibration.source != path.name)
    hashes = set(calibration.marks)
    return np.array([hash_prompt(prompt) not in hashes for prompt in prompts])
