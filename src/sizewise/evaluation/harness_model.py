"""Answers the requests of lm-evaluation-harness with any model; needs the extra [harness].

A model on this machine gets exactly the tokens that the harness' own model would get. Other models get texts.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import new_class
from typing import Any, NamedTuple, cast

from sizewise.errors import SizewiseError
from sizewise.evaluation.likelihoods import Continuation, check_numbers, continuation_nats
from sizewise.inquiry import Inquiry, Work, is_refused
from sizewise.models import Model
from sizewise.models.base import TokenRun, count_tokens
from sizewise.records import Message, Request, fingerprint

MAX_TOKENS = 256  # the harness' default
BATCH_TOKENS = 16_384
TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
CONTINUATIONS, ROLLING = "Log-likelihood of continuations", "Log-likelihood of texts"


class Failed(NamedTuple):
    """A request that failed."""

    error: str
    refused_answer: bool
    """Whether the model refused to answer for good, so that the answer may count as wrong."""


class HarnessAdapter:
    """What both adapters share; every result goes to the ledger as it arrives.

    `adapter_for` derives their classes from the harness' own, so that this module can be imported without it.

    Args:
        model: the model.
        inquiry: keeps results and failures.
        matched: tasks that need to know whether a continuation is the greedy answer.
    """

    def __init__(self, model: Model, inquiry: Inquiry, matched: Collection[str]) -> None:
        super().__init__()
        self.model, self.inquiry, self.description = model, inquiry, model.describe()
        self.matched = frozenset(matched)
        self.failed: dict[tuple[str, int], Failed] = {}
        """(task, item) -> the request that failed."""
        self.methods: dict[str, set[str]] = defaultdict(set)
        """Task -> how its requests were really made, as parts of a signature."""
        self.cut: Counter[str] = Counter()
        """Task -> prompts whose beginning was cut to fit the window."""
        self.template = ""
        """Chat template that was applied."""

    def method(self, task: str) -> str:
        """Describe how a task's requests were really made."""
        return "|".join(sorted(self.methods[task]))

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness caches requests."""
        return str(self.description.uri)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate answers, cut where the first stop text begins."""
        seen: Counter[str] = Counter()
        wanted = []
        for instance in requests:
            options = _Generation.of(instance.args[1])
            name = _key(instance)
            if options.temperature:  # a repetition of a sampled request is another request
                seen[name] += 1
                name = f"{name}:{seen[name]}"
            wanted.append(self.request(instance, options, name))
            self.methods[instance.task_name].add(options.words)
        answers = self.answers(requests, wanted)
        return [_until(answers[request.id], request.stop) if request.id in answers else "" for request in wanted]

    def request(self, instance: Any, options: _Generation, name: str) -> Request:
        """Build the request of a generation."""
        raise NotImplementedError

    def answers(self, instances: Sequence[Any], requests: Sequence[Request]) -> dict[str, str]:
        """Ask for answers, and note the items whose request failed."""
        found = self.inquiry.ask(requests, Work("answers", "Generating answers"))
        for instance, request in zip(instances, requests, strict=True):
            self.note_failed(instance, "answers", request.id)
        return {name: answer.text for name, answer in found.items()}

    def note_failed(self, instance: Any, topic: str, name: str) -> None:
        """Note an item with a failed request, whose metrics the harness computes but that isn't scored."""
        found = self.inquiry.found.get((topic, name))
        if found is not None and found.finish == "error":
            wrong = topic == "answers" and is_refused(found)
            self.failed[instance.task_name, instance.doc_id] = Failed(str(found.error), wrong)


class _TextAdapter(HarnessAdapter):
    """Serves a model that takes texts or messages."""

    def __init__(self, model: Model, inquiry: Inquiry, matched: Collection[str]) -> None:
        super().__init__(model, inquiry, matched)
        self._chats: dict[str, list[dict[str, str]]] = {}

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Keep a conversation, which the model gets as messages; its service applies the template."""
        if not self.description.can_chat:
            raise _no_template(self.description.uri)
        text = json.dumps(chat_history, ensure_ascii=False)
        self._chats[text] = chat_history
        self.template = "the service's own"
        return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return a name for the template, which only the service knows."""
        return "the service's own"

    def request(self, instance: Any, options: _Generation, name: str) -> Request:
        """Build a request with messages; a model without a chat template gets the text."""
        context = instance.args[0]
        history = self._chats.get(context) or [{"role": "user", "content": context}]
        messages = tuple(Message.model_validate(turn) for turn in history)
        return options.request(name, messages=messages, text=None if context in self._chats else context)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Compute log-likelihoods of texts; tasks that only score continuations also ask for the greedy answer."""
        self._check()
        scores: dict[str, float] = {}
        for bare in (False, True):
            # As in the harness, only a text with a context gets the start token that the tokenizer adds.
            pairs = {_key(r): r.args for r in requests if bool(r.args[0]) == bare}
            groups = [(key, [Continuation(*pair)]) for key, pair in pairs.items()]
            work = Work(f"bare:{bare}", CONTINUATIONS)
            measured = continuation_nats(self.model, groups, work, self.inquiry, prefix=not bare)
            scores |= {key: -parts[0][0] for key, parts in measured.items()}
            for instance in requests:
                self.note_failed(instance, work.topic, _key(instance))
        for instance in requests:
            signature = self.model.signature()
            if instance.args[0]:
                signature = re.sub(r"prefix:[^|]*", "prefix:the tokenizer's own, if any", signature)
            self.methods[instance.task_name].add(signature)
        matched = [r for r in requests if r.task_name in self.matched]
        limits = count_tokens(self.model, [r.args[1] for r in matched])
        greedy = self.answers(
            matched,
            [
                Request(id=f"greedy:{_key(r)}", text=r.args[0], max_tokens=limit + 4)
                for r, limit in zip(matched, limits, strict=True)
            ],
        )
        return [
            (scores[_key(r)], r.task_name in self.matched and greedy[f"greedy:{_key(r)}"].startswith(r.args[1]))
            for r in requests
        ]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Compute log-likelihoods of whole texts."""
        self._check()
        groups = [(key, [Continuation("", text)]) for key, (text,) in {_key(r): r.args for r in requests}.items()]
        measured = continuation_nats(self.model, groups, Work("rolling", ROLLING), self.inquiry)
        for instance in requests:
            self.note_failed(instance, "rolling", _key(instance))
            self.methods[instance.task_name].add(self.model.signature())
        return [-measured[_key(r)][0][0] for r in requests]

    def _check(self) -> None:
        uri = self.description.uri
        if not self.description.can_score:
            raise SizewiseError(
                f"{uri} returns no log-likelihoods, but this task requires them.",
                "a model on this machine, a server that returns log-likelihoods, or tasks that only generate text",
                "sizewise models",
            )
        if self._chats:
            raise SizewiseError(
                f"{uri} applies its chat template itself, so texts after it can't be scored.",
                "a model on this machine, or tasks that only generate text",
                "the same command without --apply-chat-template",
            )


class _TokenAdapter(HarnessAdapter):
    """Serves a model on this machine with the tokens that the harness' own model would compute with."""

    def __init__(self, model: Model, inquiry: Inquiry, matched: Collection[str]) -> None:
        super().__init__(model, inquiry, matched)
        self._local = cast(Any, model)
        self.tokenizer = self._local.tokenizer
        self.max_length = int(self._local.window)

    @property
    def eot_token_id(self) -> int:
        """Token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Token before a text without a context: bos, or eos without one."""
        from sizewise.lm.tokenizer import begin_ids

        begin = [*begin_ids(self.tokenizer)[-1:], self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        return int(next(token for token in begin if token is not None))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode a text with the tokenizer's own tokens before it, but never twice with those that begin it."""
        from sizewise.lm.tokenizer import begin_ids

        before = begin_ids(self.tokenizer)  # a token after the text would end it
        if add_special_tokens is None:
            begins = self.tokenizer.decode(before[:1] or self.prefix_token_id)
            add_special_tokens = not string.startswith(begins)
        before = before if add_special_tokens else []
        return before + list(self.tokenizer.encode(string, add_special_tokens=False))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Apply the model's own template; one that rejects a system message gets the conversation without it."""
        if not self.description.can_chat:
            raise _no_template(self.description.uri)
        from jinja2.exceptions import TemplateError

        from sizewise.lm.chat_templates import roles_in_parts

        self.template, parts = str(self.tokenizer.chat_template), roles_in_parts(self.tokenizer)
        turns: list[dict[str, Any]] = [
            {**turn, "content": [{"type": "text", "text": turn["content"]}]} if turn["role"] in parts else dict(turn)
            for turn in chat_history
        ]
        more = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **more))
        except TemplateError:
            turns = [turn for turn in turns if turn["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **more))

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the model's own template."""
        return str(self.tokenizer.chat_template or "")

    def request(self, instance: Any, options: _Generation, name: str) -> Request:
        """Build a request of token ids; the beginning of a prompt that is too long is cut."""
        ids = self.tok_encode(instance.args[0])
        room = (self.description.context or self.max_length) - options.max_tokens
        if len(ids) > room > 0:
            self.cut[instance.task_name] += 1
            ids = ids[-room:]
        self._note_prefix(instance, ids)
        stop = (*options.stop, self.tokenizer.decode([self.eot_token_id]))
        return options._replace(stop=tuple(dict.fromkeys(stop))).request(name, ids=tuple(ids))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Compute log-likelihoods of continuations; contexts that they share are computed once."""
        runs = {}
        for instance in requests:
            before, after = self._pair(*instance.args)
            ids = (before + after)[-(self.max_length + 1) :]
            self.cut[instance.task_name] += len(ids) < len(before) + len(after)
            runs[_key(instance)] = TokenRun(ids, len(ids) - len(after))
            self._note_prefix(instance, before, bare=not instance.args[0])
        greedy = any(r.task_name in self.matched for r in requests)
        found = self._scored(runs, Work("continuations", CONTINUATIONS), greedy)
        for instance in requests:
            self.note_failed(instance, "continuations", _key(instance))
        return [found[_key(r)] for r in requests]

    def _pair(self, context: str, text: str) -> tuple[list[int], list[int]]:
        """Encode a context and a continuation."""
        if context:
            bare = context.rstrip()  # as in the harness, blanks between both belong to the continuation
            before = self.tok_encode(bare)
            return before, self.tok_encode(context + text)[len(before) :]
        ids = self.tok_encode(text, add_special_tokens=False)
        return (ids[:1], ids[1:]) if ids[:1] == [self.prefix_token_id] else ([self.prefix_token_id], ids)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Compute log-likelihoods of whole texts over the harness' windows."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        runs, parts = {}, {}
        for instance in requests:
            token_list = self.tok_encode(instance.args[0])
            windows = get_rolling_token_windows(token_list, self.prefix_token_id, self.max_length, 1)
            names = []
            for number, (before, after) in enumerate(map(make_disjoint_window, windows)):
                names.append(f"{_key(instance)}:{number}")
                runs[names[-1]] = TokenRun([*before, *after], len(before))
            parts[_key(instance)] = names
            self._note_prefix(instance, [], bare=True)
        found = self._scored(runs, Work("rolling", ROLLING), False)
        return [sum(found[name][0] for name in parts[_key(r)]) for r in requests]

    def _note_prefix(self, instance: Any, ids: Sequence[int], bare: bool = False) -> None:
        """Note which token a prompt began with that isn't part of its text."""
        first = self.prefix_token_id if bare else (ids[0] if ids else -1)
        token = str(self.tokenizer.convert_ids_to_tokens(first)) if first >= 0 else ""
        added = bare or (first in self.tokenizer.all_special_ids and not instance.args[0].startswith(token))
        kept = self.description
        parts = self.methods[instance.task_name]
        parts.add(f"prefix:{token if added else 'none'}")
        parts.update((f"window:{self.max_length}", f"precision:{kept.precision}", f"engine:{kept.engine}"))

    def _scored(self, runs: Mapping[str, TokenRun], work: Work, greedy: bool) -> dict[str, tuple[float, bool]]:
        """Score what the ledger lacks, in batches that depend only on the runs."""
        ledger, reporter = self.inquiry.ledger, self.inquiry.reporter
        known, done = ledger.entries(work.topic), 0
        for batch in _batches(runs):
            absent = [name for name in batch if name not in known]
            good = [name for name in batch if runs[name].first < len(runs[name].ids)] if absent else []
            for name, scored in zip(good, self._local.score_runs([runs[n] for n in good], greedy=greedy), strict=True):
                check_numbers(self.description, name, scored.nats)
                if name in absent:
                    ledger.append(work.topic, name, {"nats": scored.nats, "greedy": scored.greedy})
            done += len(batch)
            reporter.advance(work.title, done, len(runs), "")
        entries = ledger.entries(work.topic)
        for name in runs:
            if name in entries:
                self.inquiry.add_scored(work.topic, name)
            else:
                self.inquiry.add_failure(work.topic, name, "the continuation has no tokens", transient=False)
        unscored = {"nats": float("nan"), "greedy": False}
        return {
            name: (-float(entry["nats"]), bool(entry["greedy"]))
            for name, entry in ((name, entries.get(name, unscored)) for name in runs)
        }


def adapter_for(model: Model, inquiry: Inquiry, matched: Collection[str]) -> HarnessAdapter:
    """Wrap a model in the interface of lm-evaluation-harness.

    Args:
        model: the model.
        inquiry: keeps results and failures.
        matched: tasks that need to know whether a continuation is the greedy answer.
    """
    from lm_eval.api.model import LM

    kind = _TokenAdapter if hasattr(model, "score_runs") else _TextAdapter
    adapter: HarnessAdapter = new_class("Adapter", (kind, LM))(model, inquiry, matched)
    return adapter


class _Generation(NamedTuple):
    """Options of a generation."""

    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> _Generation:
        """Read the harness' options; like there, a temperature alone samples, and the first token limit counts."""
        until = options.get("until") or []
        limits = [options[name] for name in TOKEN_LIMITS if options.get(name) is not None]
        sampled = options.get("do_sample", float(options.get("temperature") or 0) > 0)
        temperature = float(options.get("temperature") or 1.0) if sampled else 0.0
        return cls(
            tuple(filter(None, [until] if isinstance(until, str) else until)),
            int(limits[0]) if limits else MAX_TOKENS,
            temperature,
            float(options.get("top_p") or 1.0),
        )

    @property
    def words(self) -> str:
        """Part of a signature."""
        how = f"temperature:{self.temperature:g}" if self.temperature else "greedy"
        return f"{how}, max_tokens:{self.max_tokens}"

    def request(self, name: str, **content: Any) -> Request:
        """Build a request with these options."""
        return Request(
            id=name, stop=self.stop, max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p,
            **content,
        )  # fmt: skip


def _until(text: str, stop: Sequence[str]) -> str:
    """Cut an answer where the first stop text begins."""
    for term in stop:
        text = text.split(term)[0]
    return text


def _batches(runs: Mapping[str, TokenRun]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name, run in runs.items():
        batch.append(name)
        size += len(run.ids)
        if size >= BATCH_TOKENS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _key(request: Any) -> str:
    return fingerprint([request.request_type, list(map(str, request.args))], 20)


def _no_template(uri: str) -> SizewiseError:
    return SizewiseError(
        f"{uri} has no chat template.",
        "a model with a chat template",
        "the same command without --apply-chat-template",
    )
