"""What the cases share: the command line in this process, a file read into a dataset, answers measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from sizewise.cli.main import main
from sizewise.datasets import load
from sizewise.evaluation import evaluate
from sizewise.records import SPLITS, Document, Evaluation, Example
from sizewise.store import Store
from tests.cases.speaker import Speaker

PROVIDER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL")


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def whole(self) -> str:
        return f"{self.out}\n{self.err}"

    @property
    def told(self) -> dict[str, Any]:
        """The object of `--json`."""
        return dict(json.loads(self.out))


class Command(Protocol):
    def __call__(self, *arguments: str | Path) -> Said: ...


class Read(NamedTuple):
    """What became of what was read."""

    refused: bool
    said: str
    examples: tuple[Example, ...]
    documents: tuple[Document, ...]
    record: dict[str, Any]
    dataset: str

    @property
    def references(self) -> list[tuple[str, ...]]:
        return [example.references for example in self.examples]

    @property
    def text(self) -> str:
        return "\n".join(document.text for document in self.documents)


ReadIn = Callable[[Path], Read]
Measure = Callable[..., Evaluation]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines as most tools do."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def values(record: Evaluation) -> dict[str, float | None]:
    """Give each metric over all items."""
    return {name.removesuffix("@all"): score.value for name, score in record.scores.items() if name.endswith("@all")}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `sizewise` with arguments; what is no proper ending, as a traceback, fails the test."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["sizewise", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Said(stop.value.code, out, err)

    return run


@pytest.fixture
def read_in(command: Command, store: Store) -> ReadIn:
    """Read a path with `sizewise read`: what is told, and what is then in the dataset."""

    def run(path: Path) -> Read:
        words = command("read", path)
        assert words.code in (0, 1), words.whole
        if words.code:
            return Read(True, words.whole, (), (), {}, "")
        told = command("read", path, "--json").told
        contents = load(store, told["id"])
        record = contents.record.model_dump(mode="json")
        return Read(
            False,
            f"{words.whole}\n{json.dumps(record['notes'], ensure_ascii=False)}",
            tuple(example for split in SPLITS for example in contents.examples[split]),
            tuple(document for split in SPLITS for document in contents.documents[split]),
            record,
            told["id"],
        )

    return run


@pytest.fixture
def measure(tmp_path: Path, store: Store) -> Measure:
    """Measure answers that were recorded for examples."""
    made: list[Path] = []

    def run(rows: Sequence[Mapping[str, Any]], answers: Sequence[str], metrics: Sequence[str]) -> Evaluation:
        folder = tmp_path / f"measured{len(made)}"
        folder.mkdir()
        made.append(folder)
        asked = write_rows(folder / "test.jsonl", [{"id": f"q{i}", **row} for i, row in enumerate(rows)])
        said = write_rows(
            folder / "said.jsonl",
            [{"id": row.get("id", f"q{i}"), "completion": answers[i]} for i, row in enumerate(rows)],
        )
        return evaluate(f"recorded:{said}", asked, metrics, store=store).record

    return run


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Speaker]:
    """A server of OpenAI's format, also for models that are named `openai:NAME`."""
    standing = Speaker()
    for name, value in zip(PROVIDER_VARIABLES, ("none", f"{standing.url}/v1"), strict=True):
        monkeypatch.setenv(name, value)
    yield standing
    standing.close()
