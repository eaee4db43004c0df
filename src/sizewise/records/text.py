"""Records of text: documents, examples, and datasets of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sizewise.records.base import Record
from sizewise.records.labels import LabelReport, StatedQuestion
from sizewise.records.questions import Question

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DRAFTED = "drafted"
"""Tag of examples that were synthesized from documents."""


def _without_unset(found: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Leave fields out that are unset, so that records and hashes of before keep their bytes."""
    return {key: value for key, value in found.items() if value or key not in names}


class Document(Record):
    """Text with its origin and license."""

    id: str
    """Stable name, unique within a dataset."""
    title: str = ""
    """Human-readable title."""
    text: str
    """The cleaned text; paragraphs are separated by blank lines."""
    origin: str
    """File or package that the text was read from."""
    license: str = "not stated"
    """License of the text, as stated by its source."""
    sha256: str
    """Content hash of `text` in UTF-8."""
    language: str = ""
    """Language of the text as an ISO 639-1 code; empty if unknown."""
    time: str = ""
    """When the text was written, in ISO 8601, if its source states it."""
    group: str = ""
    """What must stay together in one split besides the document itself, such as a customer or an author."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_unset(plain(self), ("language", "time", "group"))


class ToolCall(Record):
    """Call of a function that an assistant message asks for."""

    id: str = ""
    """Id that the result refers to."""
    name: str
    """Name of the function."""
    arguments: str = "{}"
    """Arguments as JSON text."""


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    """Author of the message; `tool` for the result of a call."""
    content: str
    """Text of the message; may be empty if the message consists of tool calls."""
    images: tuple[str, ...] = ()
    """Paths of images attached to the message."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of an assistant message."""
    tool_call_id: str = ""
    """The call that a message of a tool answers."""
    name: str = ""
    """Name of the tool that a message comes from."""
    excluded: bool = False
    """Whether the data exclude this message of the assistant from training (`weight: 0` in OpenAI's format)."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_unset(plain(self), ("images", "tool_calls", "tool_call_id", "name", "excluded"))

    def texts(self) -> list[str]:
        """Return the content, and the names and arguments of tool calls."""
        return [self.content, *(part for call in self.tool_calls for part in (call.name, call.arguments))]

    def map_texts(self, change: Callable[[str], str]) -> Message:
        """Return the message with its content and the arguments of its calls changed."""
        calls = tuple(call.model_copy(update={"arguments": change(call.arguments)}) for call in self.tool_calls)
        return self.model_copy(update={"content": change(self.content), "tool_calls": calls})


class Example(Record):
    """Task example: a conversation and its reference answers."""

    id: str
    """Stable name, unique within a dataset."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """Conversation that the model must continue."""
    references: tuple[str, ...] = ()
    """Reference answers; the first one is used for training. Empty if the row has none: such an example is answered,
    judged and timed, but not trained on or scored against a reference."""
    tags: tuple[str, ...] = ()
    """Labels to slice results by."""
    source: str
    """Id of the source document; an example goes to the split of its source."""
    source_is_document: bool = False
    """While it is read: whether the source was given as a document, not in a column `source`."""
    copy_text: str = ""
    """Answer of the copying baseline; empty for the whole prompt."""
    choices: tuple[str, ...] = ()
    """Answer choices, including the correct one."""
    answer_schema: str = ""
    """JSON Schema that an answer must satisfy, as text."""
    split: Literal["train", "validation", "test"] | None = None
    """Required split of the source, for example for a test set with existing answers; by default a random one."""
    label: str = ""
    """Class of the example, for stratified splits; the reference answer of a classification."""
    group: str = ""
    """What must stay together in one split, such as a customer or a patient."""
    time: str = ""
    """When the example arose, in ISO 8601, for a split by time."""
    rejected: tuple[str, ...] = ()
    """Answers that people preferred less than the references (preference pairs)."""
    tools: str = ""
    """Definitions of the tools that the model may call, as a JSON list."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """Column -> group of people that the example is about, such as an age band. No model sees it; decisions are
    compared between these groups."""
    labels: tuple[str, ...] = ()
    """Labels of an example to which several may apply, in the order of the options."""
    distribution: dict[str, float] = Field(default_factory=dict)
    """Label -> probability or share of the annotators, if the data state it; `label` is the most probable one."""
    question: StatedQuestion | None = None
    """What is asked about the text, if other examples of the dataset ask another question."""

    @model_validator(mode="after")
    def _reference_among_choices(self) -> Example:
        if self.choices and self.references and self.references[0] not in self.choices:
            raise ValueError(f"the reference answer '{self.references[0][:50]}' is not among the choices")
        return self

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_unset(
            plain(self),
            (
                *("choices", "answer_schema", "split", "label", "group", "time", "rejected", "tools"),
                *("source_is_document", "attributes", "labels", "distribution", "question"),
            ),
        )

    @property
    def prompt(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1].content


class RejectedRow(Record):
    """Row of a file that could not be used."""

    file: str
    """Name of the file."""
    line: int
    """First line of the row, counted from 1."""
    reason: str
    """Reason for the rejection."""


class ContaminationEntry(Record):
    """Overlap of one test item with the training text."""

    item: str
    """Id of the passage or example."""
    kind: Literal["passage", "example"]
    """Passage of a document, or example (prompt and reference answers)."""
    exact: bool
    """The whole passage or answer occurs in the training text, ignoring case and punctuation. Answers that are short or
    shared by several prompts don't count."""
    shared_words: int
    """Words in a 13-gram that also occurs in training."""
    edited: bool = False
    """A stretch of the passage or answer is a copy of training text with some words or characters changed."""
    words: int
    """Number of words in the passage or answer."""
    prompt_exact: bool = False
    """The whole prompt occurs in the training text."""
    prompt_shared_words: int = 0
    """Words of the prompt in a 13-gram that also occurs in training; text shared by many prompts doesn't count."""
    prompt_words: int = 0
    """Number of words in the prompt."""
    prompt_edited: bool = False
    """A stretch of the prompt is a copy of training text with some words or characters changed."""
    pair: bool = False
    """A training example has this prompt, perhaps with edits, and one of its reference answers."""
    match: str = ""
    """Training document or example that holds the edited copy."""

    @property
    def prompt_seen(self) -> bool:
        """Whether the prompt, or a passage of it, occurs in the training text."""
        return self.prompt_exact or self.prompt_edited or self.prompt_shared_words > 0

    @property
    def answer_seen(self) -> bool:
        """Whether the passage or a reference answer, or a part of it, occurs in the training text."""
        return self.exact or self.edited or self.shared_words > 0

    @property
    def uncontaminated(self) -> bool:
        """Whether the item shares nothing with training; headline scores use only such items."""
        return not self.answer_seen and not self.prompt_seen


class ContaminationReport(Record):
    """Overlap between the test split and the training split, in total."""

    ngram: int = 13
    """Length of the compared n-grams, in words."""
    passages: int
    """Test passages checked."""
    uncontaminated_passages: int
    """Test passages that share nothing with training."""
    examples: int
    """Test examples checked."""
    uncontaminated_examples: int
    """Test examples whose prompt and reference answers share nothing with training."""
    words: int
    """Words in the test passages."""
    shared_words: int
    """Words of test passages in an n-gram that also occurs in training."""
    exact: int
    """Passages and answers that occur in full in the training text."""
    duplicates_removed: int
    """Removed duplicates: documents with the same text, and examples with the same prompt and answer."""
    prompts: int = 0
    """Test examples whose prompt, or a passage of it, occurs in the training text."""
    answers: int | None = None
    """Test examples with a reference answer that occurs in the training text, in full or in part; labels and canned
    answers don't count."""
    pairs: int | None = None
    """Test examples whose prompt and answer occur together in one training example."""
    edited: int | None = None
    """Passages and examples with an edited copy in the training text."""
    verbatim_answers: int | None = None
    """Test examples with a reference answer that stands word for word in the documents that models study; None where
    the test documents are held out."""

    @model_serializer(mode="wrap")
    def _omit_held_out(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_unset(plain(self), ("verbatim_answers",))


class SplitSize(Record):
    """Size of one split."""

    documents: int
    """Number of documents."""
    characters: int
    """Number of characters in all documents."""
    examples: int
    """Number of examples."""


class Dataset(Record):
    """Documents and examples in train, validation and test splits; the texts are in JSONL files next to the record."""

    name: str
    """Human-readable name."""
    domain: str
    """Application domain, for example medical."""
    sources: tuple[str, ...]
    """Paths or demo names that the dataset was read from."""
    seed: int
    """Seed of the split."""
    splits: dict[Split, SplitSize]
    """Size of each split."""
    contamination: ContaminationReport
    """Overlap of the test split with training."""
    licenses: dict[str, int]
    """License -> number of documents."""
    not_read: dict[str, int] = Field(default_factory=dict)
    """File type -> number of files that were skipped."""
    derived: bool
    """Whether examples were derived from the text because none were given: a language-modeling proxy."""
    notes: tuple[str, ...] = ()
    """Notes about this data for readers of the scores."""
    cautions: tuple[str, ...] = ()
    """Those notes that weaken every comparison on this data."""
    forms: dict[str, int] = Field(default_factory=dict)
    """Detected row format -> number of rows."""
    rejected: int = 0
    """Number of rejected rows; rejected.jsonl next to the record lists them with line and reason."""
    split_by: str = "documents"
    """What is held out for testing: documents, questions, prompts, time, group, given, or test (everything)."""
    near_duplicates: int = 0
    """Documents and examples that resemble an earlier one and stay in its split."""
    languages: dict[str, int] = Field(default_factory=dict)
    """Language as an ISO 639-1 code, or `unknown` -> number of documents and examples."""
    personal_data: dict[str, int] = Field(default_factory=dict)
    """Kind of personal data -> number of documents and examples that hold some; a lower bound."""
    personal_data_choice: str = ""
    """What became of personal data: keep, mask or drop; empty if it was not looked for."""
    origins: dict[str, int] = Field(default_factory=dict)
    """File type, host or package -> number of documents."""
    groups: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Column that names groups of people -> group -> number of test examples."""
    question: Question | None = None
    """The question that every example answers with a label, if the data are a classification."""
    labels: LabelReport | None = None
    """Balance and doubtful labels, if the examples have labels."""
    sha256: str
    """Hash of all documents and examples in their splits."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        inventory = ("cautions", "languages", "personal_data", "personal_data_choice", "origins")
        return _without_unset(plain(self), (*inventory, "groups", "question", "labels"))
