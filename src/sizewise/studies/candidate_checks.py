"""Check the candidates of a study file before any work: their names, and, without a network, their models."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from sizewise.decisions.scorers import STARTS
from sizewise.errors import UsageError
from sizewise.models import PACKAGED, PROVIDERS, plugins
from sizewise.models.baselines import KINDS as RULES
from sizewise.models.fake import NAMES as FAKES
from sizewise.models.identity import split_recorded
from sizewise.models.opening import EXPECTED
from sizewise.models.recordings import recording_path
from sizewise.records import Candidate, Needs
from sizewise.retrieval import ENCODERS
from sizewise.studies.baselines import NAMES as BASELINES

KINDS = ("pkg", "hf", "run", "gguf", "recorded", "fake", "rag", "http", "https", *RULES, *PROVIDERS)


def check_candidates(candidates: Sequence[Candidate], needs: Needs, where: str) -> None:
    """Check the names and models of candidates, and the names that the needs refer to.

    Raises:
        UsageError: two candidates have the same name, one has the name of a baseline or a model that can't exist, or
            the needs name a candidate that there isn't.
    """
    names = [candidate.name for candidate in candidates]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UsageError(f"Two candidates in {where} are named '{duplicates[0]}'.", "different names", f"fix {where}")
    reserved = {name.casefold(): name for name in BASELINES}
    for name in names:
        if name.strip().casefold() in reserved:
            raise UsageError(
                f"A candidate in {where} is named '{name}', like a baseline that the study adds itself.",
                "another name",
                f"fix {where}",
            )
    _check_needs(names, needs, where)
    for candidate in candidates:
        problem = model_problem(candidate.model)
        if problem:
            raise UsageError(f"The candidate '{candidate.name}' in {where}: {problem[0]}", problem[1], f"fix {where}")


def _check_needs(names: Sequence[str], needs: Needs, where: str) -> None:
    if (needs.incumbent is None) != (needs.max_loss is None):
        absent = "incumbent" if needs.incumbent is None else "max_loss"
        given = "max_loss" if needs.incumbent is None else "incumbent"
        raise UsageError(
            f"{where} [needs] sets {given} without {absent}.",
            "incumbent and max_loss together: the model in use, and how much quality a replacement may lose",
            f"fix {where}",
        )
    if needs.incumbent is not None and needs.min_quality is not None:
        raise UsageError(
            f"{where} [needs] sets min_quality and incumbent, and each asks for another kind of pick.",
            "a minimum score, or the model in use with max_loss",
            f"fix {where}",
        )
    for key, name in {"incumbent": needs.incumbent, "today": needs.today}.items():
        if name is not None and name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"The {key} '{name}' in {where} isn't a candidate.{hint}", ", ".join(names), f"fix {where}"
            )


def model_problem(uri: str) -> tuple[str, str] | None:
    """Find out, without opening anything, that a URI names no model: what is wrong, and what was expected."""
    kind, colon, name = uri.partition(":")
    if uri == "scratch" or uri in STARTS.values() or Path(uri).expanduser().is_dir():
        return None
    if not colon:
        absent = "is a file, not a folder" if Path(uri).is_file() else "doesn't exist"
        return f"the model's folder {uri} {absent}.{_hint(Path(uri).name)}", EXPECTED
    if not name or (kind not in KINDS and kind not in plugins()):
        return f"'{uri}' doesn't name a model.{_hint(uri)}", EXPECTED
    if kind == "rag":
        return model_problem(name.partition(":")[2]) if ":" in name else (f"'{uri}' names no model.", "rag:DATA:MODEL")
    known = {"pkg": [*PACKAGED, *ENCODERS], "fake": [*FAKES]}.get(kind)
    if known is not None and name not in known:
        return f"there is no model '{uri}'.{_hint(uri)}", " or ".join(f"{kind}:{one}" for one in known)
    if kind == "gguf" and not Path(name).expanduser().is_file():
        return f"the file {name} doesn't exist.", "gguf:FILE, one GGUF file"
    if kind == "recorded":
        return _recording_problem(name)
    return None


def _recording_problem(name: str) -> tuple[str, str] | None:
    try:
        path = recording_path(str(split_recorded(name)[0]))
    except UsageError as error:
        return error.what, error.expected
    if path.exists():
        return None
    return f"the file {path} doesn't exist.", "recorded:FILE, a file with the answers"


def _hint(uri: str) -> str:
    known = [f"pkg:{name}" for name in (*PACKAGED, *ENCODERS)] + [f"fake:{name}" for name in FAKES]
    near = get_close_matches(uri, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
