"""Find the evaluation that measured a model, so that by default it is served with the measured prompt form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.models import Model
from sizewise.models.opening import LLAMACPP_SUFFIX, OPENVINO_SUFFIX
from sizewise.progress import Reporter
from sizewise.records import Evaluation, ModelDescription, Study
from sizewise.store import Saved, Store


class Served(NamedTuple):
    """Models to serve."""

    uris: list[str]
    evaluations: list[str]
    """Evaluations whose prompt form is used because their study recommends the model."""


def resolve_studies(given: Sequence[str], store: Store) -> Served:
    """Replace studies by the models that they recommend.

    Args:
        given: model URIs and ids of studies.
        store: where the studies are stored.

    Raises:
        UsageError: a study recommends no single model that can be served.
    """
    uris: list[str] = []
    evaluations: list[str] = []
    for uri in given:
        if uri.startswith("study-") and store.exists("study", uri):
            model, evaluation = _recommended(uri, store.read(Study, uri))
            uris.append(model)
            evaluations += [evaluation] if evaluation else []
        else:
            uris.append(uri)
    return Served(uris, evaluations)


def _recommended(study_id: str, study: Study) -> tuple[str, str | None]:
    """Return the URI of the model that a study recommends, and the evaluation that measured it."""
    name = study.pick or study.provisional
    if study.outcome == "fall_back" or name is None:
        two = study.outcome == "fall_back"
        raise UsageError(
            f"The study '{study.name}' recommends {'two models with a routing policy' if two else 'no model'} "
            f"({study.outcome}).",
            "a study that picks one model",
            "sizewise serve SMALL LARGE --policy FILE" if two else f"sizewise serve --study {study_id}",
        )
    if name in study.checkpoints:
        uri = f"run:{study.checkpoints[name]}"
    elif name in study.classifiers:
        uri = f"run:{study.classifiers[name]}"
    else:
        uri = next(candidate.model for candidate in study.candidates if candidate.name == name)
        if any(candidate.retrieve for candidate in study.candidates if candidate.name == name):
            uri = f"rag:{study.dataset}:{uri}"
    if uri.startswith("recorded:"):
        raise UsageError(
            f"The study '{study.name}' recommends {name}, whose answers are recorded in a file.",
            "a model that can answer",
            "sizewise serve MODEL --as-measured EVAL",
        )
    return uri, study.evaluations.get(name)


def latest_evaluation(description: ModelDescription, store: Store) -> Saved[Evaluation] | None:
    """Return the newest evaluation of a model's answers in its present state; None if there is none.

    Of an adapted model, evaluations on its own dataset come first.
    """
    found = [
        saved
        for saved in store.saved(Evaluation)
        if saved.record.prompting is not None
        and saved.record.model.uri == description.uri
        and _state(saved.record.model) == _state(description)
    ]

    def order(saved: Saved[Evaluation]) -> tuple[bool, str]:
        record = saved.record
        return record.data == description.trained_on, record.conditions.started if record.conditions else ""

    return max(found, key=order, default=None)


def _state(description: ModelDescription) -> str:
    return description.revision.removesuffix(OPENVINO_SUFFIX).removesuffix(LLAMACPP_SUFFIX)


def implied_evaluations(
    models: dict[str, Model], chosen: Sequence[str], store: Store, reporter: Reporter, own_prompt: bool
) -> list[str]:
    """Return the evaluations whose prompt form adapted models get, unless others were chosen for them.

    Models that were not trained here keep their own form; if it wasn't the measured one, a line says so.

    Args:
        models: models by name.
        chosen: evaluations that were chosen, which take precedence.
        store: where evaluations are stored.
        reporter: receives a line for each model that is not served as measured.
        own_prompt: serve every model in its own prompt form.
    """
    decided = {store.read(Evaluation, one).model.uri for one in chosen if store.exists("evaluation", one)}
    implied = []
    for name, model in models.items():
        description = model.describe()
        if description.uri in decided or not (description.local or description.uri.startswith("run:")):
            continue
        saved = latest_evaluation(description, store)
        if saved is None or saved.record.prompting is None:
            continue
        if description.uri.startswith("run:") and not own_prompt:
            implied.append(saved.id)
        elif saved.record.prompting.form != "chat":
            reporter.say(
                f"{name} is served in its own prompt form, which {saved.id} didn't measure: it measured "
                f"{saved.record.prompting.shots} few-shot examples. --as-measured {saved.id} serves that form."
            )
    return implied
