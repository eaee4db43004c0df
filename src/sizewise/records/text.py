"""Records of text: documents, examples, and the dataset made of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sizewise.records.base import Record

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Document(Record):
    """A text with where it came from and under which licence."""

    id: str
    """Stable name, unique within a dataset."""
    title: str = ""
    """What a person would call it."""
    text: str
    """The cleaned text; paragraphs are separated by blank lines."""
    origin: str
    """File or package that it was read from."""
    license: str = "not stated"
    """Licence of the text, as stated by its source."""
    sha256: str
    """Content hash of `text` in UTF-8."""


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """What is said."""
    images: tuple[str, ...] = ()
    """Paths of images that are shown with it."""

    @model_serializer(mode="wrap")
    def _without_no_images(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        if not self.images:
            found.pop("images", None)
        return found


class Example(Record):
    """A piece of the job: what is asked and the answers that count as right."""

    id: str
    """Stable name, unique within a dataset."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The conversation that the model must continue."""
    references: tuple[str, ...] = Field(min_length=1)
    """Right answers; the first is used for training."""
    tags: tuple[str, ...] = ()
    """Labels to slice results by."""
    source: str
    """Id of the document that the example was drawn from; the split follows it."""
    copy_text: str = ""
    """What somebody who only copies would answer (empty: the whole prompt): the trivial baseline."""
    choices: tuple[str, ...] = ()
    """Answers that could be chosen, the right one among them."""
    answer_schema: str = ""
    """JSON Schema that an answer must keep, as text."""
    split: Literal["train", "validation", "test"] | None = None
    """Where its source must go, if that is not left to chance: for a test set that somebody has already answered."""

    @model_validator(mode="after")
    def _right_choice(self) -> Example:
        if self.choices and self.references[0] not in self.choices:
            raise ValueError(f"the right answer '{self.references[0][:50]}' is not among the choices")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        for name in ("choices", "answer_schema", "split"):
            if not found.get(name):
                found.pop(name, None)
        return found

    @property
    def prompt(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1].content


class RejectedRow(Record):
    """A row of a file that could not be used."""

    file: str
    """Name of the file."""
    line: int
    """Line at which the row begins, counted from 1."""
    reason: str
    """Why it could not be used."""


class ContaminationEntry(Record):
    """What one test item shares with the training text."""

    item: str
    """Id of the passage or example."""
    kind: Literal["passage", "example"]
    """Whether it is a passage of a document, or an example, of which prompt and answers were looked at."""
    exact: bool
    """The whole passage or answer stands in the training text (compared without case and punctuation); of answers those
    that are short or given to several prompts do not count."""
    shared_words: int
    """Words that lie in a 13-gram also seen in training."""
    edited: bool = False
    """At least 13 words, and a quarter of its runs of seven words also seen in training: a lightly edited copy."""
    words: int
    """Words of the passage or of the answer."""
    prompt_exact: bool = False
    """The whole prompt of an example stands in the training text."""
    prompt_shared_words: int = 0
    """Words of the prompt that lie in a 13-gram also seen in training; what many prompts share does not count."""
    prompt_words: int = 0
    """Words of the prompt."""

    @property
    def prompt_seen(self) -> bool:
        """True if the prompt, whole or a passage of it, stands in the training text."""
        return self.prompt_exact or self.prompt_shared_words > 0

    @property
    def uncontaminated(self) -> bool:
        """True if nothing is shared: the headline is measured on such items."""
        return not self.exact and not self.edited and self.shared_words == 0 and not self.prompt_seen


class ContaminationReport(Record):
    """Overlap between the test split and the training split, in sums."""

    ngram: int = 13
    """Length in words of the n-grams compared."""
    passages: int
    """Test passages looked at."""
    uncontaminated_passages: int
    """Test passages that share nothing with training."""
    examples: int
    """Test examples looked at."""
    uncontaminated_examples: int
    """Test examples whose prompt and reference answers share nothing with training."""
    words: int
    """Words in the test passages."""
    shared_words: int
    """Words in test passages that lie in an n-gram seen in training."""
    exact: int
    """Passages and answers that stand whole in the training text."""
    duplicates_removed: int
    """Documents with the text of another, and examples with the prompt and the answer of another, that were removed."""
    prompts: int = 0
    """Test examples whose prompt, whole or a passage of it, stands in the training text."""


class SplitSize(Record):
    """How much text and how many examples one split holds."""

    documents: int
    """Number of documents."""
    characters: int
    """Characters in all documents."""
    examples: int
    """Number of examples."""


class Dataset(Record):
    """Documents and examples in train, validation and test; the texts lie in JSONL files beside it."""

    name: str
    """What a person would call it."""
    domain: str
    """Field of work, for example medical."""
    sources: tuple[str, ...]
    """Paths or demo names that were read."""
    seed: int
    """Seed of the split."""
    splits: dict[Split, SplitSize]
    """Size of each split."""
    contamination: ContaminationReport
    """What the test split shares with training."""
    licenses: dict[str, int]
    """Licence -> number of documents under it."""
    not_read: dict[str, int] = Field(default_factory=dict)
    """File kind -> number of files that were found and not read."""
    derived: bool
    """True if no examples were given and they were derived from the text: then they measure familiarity, not a job."""
    notes: tuple[str, ...] = ()
    """What a reader of the scores should know about this data."""
    forms: dict[str, int] = Field(default_factory=dict)
    """Form of rows, as recognised -> number of rows."""
    rejected: int = 0
    """Rows that could not be used; they lie in rejected.jsonl beside the record, each with line and reason."""
    sha256: str
    """Hash over all documents and examples in their splits."""
