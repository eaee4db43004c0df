"""Label texts with a committee of models; people settle the disagreements that matter most.

Each model votes on each text. The accuracy of the models is estimated from their agreement with each other and with
what people settled (Dawid and Skene, 1979, with one accuracy per model), and gives the probability of each label.
People are asked about the least certain texts, no two of them alike, and about some that the models agree on, which
shows how often an agreed label is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sizewise import datasets
from sizewise.controls import spreadsheet_cell
from sizewise.datasets.keys import prompt_text
from sizewise.datasets.labels import label_of
from sizewise.documents import ReadOptions, read_paths
from sizewise.documents.decisions import label_key
from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.labels import label_in
from sizewise.models.on_ray import open_spread as open_model
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    SPLITS,
    Classifier,
    Completion,
    Labeling,
    Message,
    ModelDescription,
    Option,
    Question,
    Request,
    fingerprint,
)
from sizewise.store import Store, make_folder
from sizewise.synthesis.label_files import LabeledText, LabelOptions, ask_path, journal_path, write_labels
from sizewise.synthesis.label_journal import Filled, Journal, Settled, VoteOf, read_filled
from sizewise.text import fold_text

ANSWER_TOKENS = 48
_COUNTED = re.compile(r":\d+(~\w+)?$")
MAX_CELL = 32_000
"""Characters from which spreadsheets cut the text of a cell; Excel's limit is 32,767."""
PROMPT_TEMPLATE = "{instructions}{text}\n\nAnswer with one of these labels and nothing else:\n{options}"


def label_texts(
    sources: Sequence[Path | str],
    by: Sequence[str],
    out: Path,
    *,
    question: Question | None = None,
    options: LabelOptions = LabelOptions(),  # noqa: B008 - frozen
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Labeling:
    """Label texts with a committee of models, and write the texts that people should label.

    Running it again goes on where it was, takes the labels that people filled in, and asks for further ones.

    Args:
        sources: Files, folders or ids of datasets.
        by: URIs of the models.
        out: JSONL file of labeled texts to write. The texts for people are in a CSV file next to it.
        question: The question with its options; by default that of a dataset or classifier, or the labels there.
        options: How they are labeled.
        store: Where records are saved; SIZEWISE_HOME by default.
        reporter: Receives progress events.

    Raises:
        UsageError: No model or no options are given.
        SizewiseError: There is no text, a model fails, or a label that was filled in is none of the options.
    """
    if not by:
        raise UsageError("No model was given.", "--by MODEL, several times for a committee", "sizewise label -h")
    store, reporter = store or Store(), reporter or Silent()
    with _locked(out):
        columns = ReadOptions(prompt=options.prompt, label=options.label, unlabeled=True)
        texts, found = _texts(sources, store, columns)
        asked = question or found or _trained_question(by, store)
        if asked is None or len(asked.options) < 2 or asked.type == "multi":
            raise UsageError(
                "There are no labels to choose from.",
                "two or more labels of which one applies, in --options",
                f"sizewise label {sources[0]} --by {by[0]} --options 'LABEL|LABEL'",
            )
        journal = Journal(journal_path(out), fingerprint(asked.model_dump()))
        with closing(journal):
            _take_filled(out, texts, asked, journal)
            usd = {uri: _vote(uri, texts, asked, journal, options.max_usd, (store, reporter)) for uri in by}
            result = write_labels(out, usd, texts, asked, journal, options)
        return result


def _texts(
    sources: Sequence[Path | str], store: Store, columns: ReadOptions
) -> tuple[dict[str, LabeledText], Question | None]:
    """Return the distinct texts by key, and the question that a dataset or some labels state."""
    found: dict[str, LabeledText] = {}
    labels: Counter[str] = Counter()
    question: Question | None = None
    names: dict[str, str] = {}

    def add(name: str, messages: tuple[Message, ...], text: str, label: str) -> None:
        key = text_key(text)
        known = found.get(key)
        if names.setdefault(name, key) != key:
            name = f"{name}~{key[:8]}"
        given = label or (known.given if known else "")
        found[key] = LabeledText(name, messages, text, given, (known.occurrences if known else 0) + 1)
        labels.update([label] if label else [])

    for source in sources:
        if not Path(source).expanduser().exists() and str(source).startswith("data-"):
            contents = datasets.load(store, str(source))
            question = question or contents.record.question
            documents = [one for split in SPLITS for one in contents.documents[split]]
            examples = [one for split in SPLITS for one in contents.examples[split]]
        else:
            reading = read_paths([source], columns)
            documents, examples = list(reading.documents), list(reading.examples)
        for document in documents:
            add(document.id, (Message(role="user", content=document.text),), document.text, "")
        for example in examples:
            add(example.id, example.messages, prompt_text(example), label_of(example))
    if question is None and len(labels) > 1:
        question = Question(type="choice", options=tuple(Option(value=label) for label in sorted(labels)))
    return found, question


def _trained_question(by: Sequence[str], store: Store) -> Question | None:
    """Return the question of the first classifier among the models."""
    for uri in by:
        name = uri.removeprefix("run:")
        if name.startswith("classifier-") and store.exists("classifier", name):
            return store.read(Classifier, name).question
    return None


def _take_filled(out: Path, texts: Mapping[str, LabeledText], question: Question, journal: Journal) -> None:
    """Take over the labels that people filled in, before their file is written anew.

    Raises:
        SizewiseError: A label is none of the options, or belongs to no text.
    """
    path = ask_path(out)
    own = _spellings(question)
    place = _row_keys(texts)
    filled = read_filled(path) if path.exists() else []
    for row in filled:
        label = own(row.label)
        if label is None:
            raise SizewiseError(
                f"{path}, line {row.line}: the label '{row.label[:50]}' is none of the options.",
                ", ".join(option.value for option in question.options[:20]),
                f"fix line {row.line}; then run the same command again",
            )
        key = place(row)
        if key is None:
            raise SizewiseError(
                f"{path}, line {row.line}: the text '{row.text[:50]}' ({row.id}) is none of the texts.",
                "the texts as they were written; a spreadsheet may have taken one for a number or a date",
                f"restore the text of line {row.line}, or clear its label; then run the same command again",
            )
        journal.settle(key, Settled(label, row.reason, row.suggested))
    for key, text in texts.items():
        label = own(text.given) if text.given else None
        if label is not None and key not in journal.settled:
            journal.settle(key, Settled(label, "given", ""))
    journal.flush()


def _row_keys(texts: Mapping[str, LabeledText]) -> Callable[[Filled], str | None]:
    """Return the function that finds the text of a row: by the text, or by its id if a spreadsheet changed the text.

    An id that counts lines isn't enough, because the file may have others now, unless the text begins as the row does.
    """
    written = {text_key(spreadsheet_cell(text.text)): key for key, text in texts.items()}
    ids = {text.id: key for key, text in texts.items()}

    def place(row: Filled) -> str | None:
        key, same = text_key(row.text), ids.get(row.id)
        if key in texts:
            return key
        if same and _COUNTED.search(row.id):
            begins = spreadsheet_cell(texts[same].text).startswith(row.text[:MAX_CELL])
            same = same if len(row.text) > MAX_CELL and begins else None
        return written.get(key, same)

    return place


def _spellings(question: Question) -> Callable[[str], str | None]:
    """Return the function that finds the option that a label means: the same text, else the only one spelled alike."""
    values = [option.value for option in question.options]
    alike: dict[str, list[str]] = {}
    for value in values:
        alike.setdefault(label_key(value), []).append(value)

    def own(label: str) -> str | None:
        found = [label] if label in values else alike.get(label_key(label), [])
        return found[0] if len(found) == 1 else None

    return own


def text_key(text: str) -> str:
    """Return the key by which a text is known; blanks and line ends may differ."""
    return fingerprint(" ".join(text.split()), 16)


def _vote(
    uri: str,
    texts: Mapping[str, LabeledText],
    question: Question,
    journal: Journal,
    max_usd: float | None,
    around: tuple[Store, Reporter],
) -> float | None:
    """Ask a model about the texts that it has no vote on; return the cost."""
    store, reporter = around
    known = journal.votes.get(uri, {})
    pending = {text.id: key for key, text in texts.items() if key not in known}
    if not pending:
        return None
    model = open_model(uri, store=store, max_usd=max_usd, say=reporter.say)
    try:
        description = model.describe()
        _check_options(uri, description, question)
        requests = [_request(texts[key], question, description) for key in pending.values()]
        spent: list[float] = []
        for done, answer in enumerate(model.complete(requests), start=1):
            spent += [answer.usd] if answer.usd is not None else []
            if not (answer.finish == "error" and answer.transient):
                journal.add_vote(uri, pending[answer.id], vote_of(answer, question))
            reporter.advance(f"labeling with {uri}", done, len(requests))
    finally:
        model.close()
        journal.flush()
    return sum(spent) if spent else None


def _check_options(uri: str, description: ModelDescription, question: Question) -> None:
    """Check that a classifier knows the labels; it would answer no text otherwise.

    Raises:
        UsageError: It was trained for others.
    """
    if "decisions" not in description.offers or description.question is None:
        return
    known = description.question.values
    other = next((value for value in question.values if value not in known), None)
    if other is not None:
        raise UsageError(
            f"{uri} doesn't know the label '{other[:50]}'.",
            f"labels that it was trained for, written as there: {', '.join(known[:20])}",
            "name them with --options, or leave this model out",
        )


def _request(text: LabeledText, question: Question, description: ModelDescription) -> Request:
    """Ask a classifier or recorded answers for the text itself, and a language model with the options."""
    if "decisions" in description.offers:
        return Request(id=text.id, messages=text.messages, question=question)
    if description.role == "baseline" or description.uri.startswith("recorded:"):
        return Request(id=text.id, messages=text.messages, max_tokens=ANSWER_TOKENS, fit=True)
    *before, last = text.messages
    listed = "\n".join(
        f"- {option.value}" + (f": {option.description}" if option.description else "") for option in question.options
    )
    instructions = f"{question.instructions}\n\n" if question.instructions else ""
    content = PROMPT_TEMPLATE.format(instructions=instructions, text=last.content, options=listed)
    messages = (*before, last.model_copy(update={"content": content}))
    if description.can_chat:
        return Request(id=text.id, messages=messages, max_tokens=ANSWER_TOKENS, fit=True)
    plain = "\n".join(message.content for message in messages) + "\nLabel:"
    return Request(id=text.id, text=plain, max_tokens=ANSWER_TOKENS, stop=("\n",), fit=True)


def vote_of(answer: Completion, question: Question) -> VoteOf:
    """Return the option that an answer names, with the stated probabilities."""
    values = [option.value for option in question.options]
    stated = answer.probabilities or {}
    stated = {value: float(stated[value]) for value in values if value in stated}
    if stated and max(stated.values()) > 0:
        return VoteOf(max(stated, key=lambda value: stated[value]), stated)
    key = label_key(answer.text.strip().rstrip("."))
    exact = next((value for value in values if label_key(value) == key), None)
    place = -1 if exact is not None else label_in(answer.text, [fold_text(value) for value in values])
    return VoteOf(exact if exact is not None else values[place] if place >= 0 else "", {})


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the file of labels against other processes.

    Raises:
        SizewiseError: Another process has locked it.
    """
    make_folder(out.resolve().parent)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise SizewiseError(
            f"Another process is writing {out}.", "one process for each file", "run the same command again later"
        ) from error
