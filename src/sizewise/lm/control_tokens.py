"""Control tokens take effect when a chat template writes them. In users' text, the same characters stay text.

A message that contains `<|im_end|><|im_start|>system` must not open a new turn. The texts of control tokens in message
contents are therefore replaced by placeholders before the template is rendered, and only those that the template
itself wrote become control tokens. Text without control tokens, which is nearly all text, is encoded as usual.
"""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tokenizers import AddedToken

from sizewise.errors import SizewiseError
from sizewise.lm.template_dates import dated
from sizewise.records.thoughts import THOUGHT_MARKS, THOUGHT_PAIRS

# Users can't forge a placeholder without this number.
_NONCE = secrets.randbits(63)
HIDDEN, ACTING = ":", "="
_HIDDEN = re.compile(f"\ue000{_NONCE}:(\\d+)\ue001")
_BREAK = f"\ue000{_NONCE}|\ue001"
_NORMALIZES = f"\ue000{_NONCE}!\ue001"  # marks a text in which normalization produces control tokens
_PROBES = (("user", "assistant", "user"), ("system", "user"))


def _placeholder(sign: str, token: int) -> str:
    return f"\ue000{_NONCE}{sign}{token}\ue001"


class Rendered(str):
    """Text from `hide` or a chat template: its control tokens take effect, those of users' text are hidden."""

    __slots__ = ()


class Encoded(NamedTuple):
    """Token ids of a text."""

    ids: list[int]
    starts: list[int]
    """First character of each token. Only meaningful for plain text, not for a template's output."""


class _Guard(NamedTuple):
    """Tables to tell control tokens from text, cached per tokenizer."""

    template: Any
    tokens: int
    """Template and number of tokens for which this was built."""
    marks: dict[str, int]
    """Text of each control token -> its id."""
    beginnings: dict[str, list[str]]
    """First two characters -> control tokens that start with them. Gemma has thousands; few texts contain any."""
    normalizer: Any
    """The tokenizer's normalizer; None without one."""
    normalized: list[str]
    """Control tokens as they appear in normalized text, where full-width letters may have become plain ones."""

    def replace(self, text: str, sign: str) -> str:
        """Replace each control token by a placeholder, longest first."""
        candidates = [mark for first, marks in self.beginnings.items() if first in text for mark in marks]
        found = sorted((mark for mark in candidates if mark in text), key=len, reverse=True)
        if not found:
            return text
        return re.sub("|".join(map(re.escape, found)), lambda match: _placeholder(sign, self.marks[match[0]]), text)


_guards: WeakKeyDictionary[Any, _Guard] = WeakKeyDictionary()
_backends: WeakKeyDictionary[Any, tuple[_Guard, Any]] = WeakKeyDictionary()
_readers: WeakKeyDictionary[Any, tuple[_Guard, Any, dict[int, int]]] = WeakKeyDictionary()


_skipped: WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = WeakKeyDictionary()


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode generated tokens without control tokens, except those that separate reasoning from the answer."""
    known = _skipped.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        special |= set(tokenizer.all_special_ids)
        marks = {token for token in special if str(tokenizer.convert_ids_to_tokens(token)) in THOUGHT_MARKS}
        known = _skipped[tokenizer] = (len(tokenizer), frozenset(special - marks))
    kept = [token for token in ids if token not in known[1]]
    return str(tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def has_hidden(text: str) -> bool:
    """Check whether a text from `hide` or a template contains hidden control tokens."""
    return str(_NONCE) in text


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the text and id of each token that users' text must not become."""
    return _guard(tokenizer).marks


def hide(tokenizer: Any, text: str) -> Rendered:
    """Replace the text of each control token by a placeholder that `encode` turns back into text."""
    guard = _guard(tokenizer)
    hidden = guard.replace(text, HIDDEN)
    if hidden == text and guard.normalized:
        plain = guard.normalizer.normalize_str(text)
        if any(mark in plain for mark in guard.normalized):
            inside = len(text) - len(text.lstrip()) + 1  # where a template's trim can't remove it
            return Rendered(text[:inside] + _NORMALIZES + text[inside:])
    return Rendered(hidden)


def hide_answer(tokenizer: Any, text: str) -> Rendered:
    """Hide control tokens in what the model said, except those around the reasoning that it begins with.

    Templates look for them, to leave the reasoning of earlier answers out.
    """
    marks = _guard(tokenizer).marks
    for begin, end in THOUGHT_PAIRS:
        before, opened, rest = text.partition(begin)
        if begin in marks and end in marks and opened and not before.strip() and end in rest:
            thought, _, said = rest.partition(end)
            return Rendered(f"{before}{begin}{hide(tokenizer, thought)}{end}{hide(tokenizer, said)}")
    return hide(tokenizer, text)


def shown(tokenizer: Any, text: str) -> str:
    """Restore hidden control tokens as text."""
    texts = {i: mark for mark, i in _guard(tokenizer).marks.items()}
    return _HIDDEN.sub(lambda found: texts[int(found[1])], text.replace(_NORMALIZES, ""))


def encode(tokenizer: Any, text: Rendered) -> Encoded:
    """Encode text. Control tokens that aren't hidden take effect, hidden ones become text.

    Args:
        tokenizer: the model's tokenizer.
        text: output of `hide`, or a template's rendering of such texts.

    Raises:
        SizewiseError: the tokenizer can't represent a hidden control token as text.
    """
    if str(_NONCE) not in text:
        offsets = tokenizer.is_fast
        plain = tokenizer(str(text), add_special_tokens=False, return_offsets_mapping=offsets, verbose=False)
        return Encoded(list(plain.input_ids), [start for start, _ in plain.offset_mapping] if offsets else [])
    guard, reader, acting = _reader(tokenizer)
    control = set(guard.marks.values()) - {tokenizer.unk_token_id}  # every unknown character becomes this token
    # Control tokens that aren't hidden come from the template.
    text = Rendered(guard.replace(text.replace(_NORMALIZES, ""), ACTING))
    for split in (False, True):  # split the text where the vocabulary would turn it into the control token
        texts = {i: mark[0] + _BREAK + mark[1:] if split else mark for mark, i in guard.marks.items()}
        restored = _HIDDEN.sub(lambda found, texts=texts: texts[int(found[1])], text)  # type: ignore[misc]
        if restored.count(str(_NONCE)) != len(re.findall(f"\ue000{_NONCE}(?:=\\d+|\\|)\ue001", restored)):
            break  # the template cut a placeholder in two
        encoded = reader.encode(restored, add_special_tokens=False)
        if any(
            i in control and not special for i, special in zip(encoded.ids, encoded.special_tokens_mask, strict=True)
        ):
            continue
        return _without_breaks(encoded, acting, reader.token_to_id(_BREAK))
    raise SizewiseError(
        "The text contains a control token that the model's tokenizer or chat template can't represent as text.",
        "text without control tokens",
        f"remove these from the text: {', '.join(list(guard.marks)[:5])}, ...",
    )


def encode_many(tokenizer: Any, texts: Sequence[Rendered], offsets: bool = False) -> list[Encoded]:
    """Encode texts like `encode`, on all processor cores.

    Args:
        tokenizer: the model's tokenizer.
        texts: outputs of `hide`, or a template's renderings of such texts.
        offsets: whether the first character of each token is needed.
    """
    if not tokenizer.is_fast:
        return [encode(tokenizer, text) for text in texts]
    backend = backend_of(tokenizer)
    plain = [i for i, text in enumerate(texts) if str(_NONCE) not in text]
    encode_batch = backend.encode_batch if offsets else backend.encode_batch_fast
    batch = iter(encode_batch([str(texts[i]) for i in plain], add_special_tokens=False))
    found = [
        None if str(_NONCE) in text else _read(next(batch), offsets) for text in texts
    ]  # None: has hidden control tokens, which takes longer
    return [encode(tokenizer, text) if one is None else one for text, one in zip(texts, found, strict=True)]


def _read(encoding: Any, offsets: bool) -> Encoded:
    return Encoded(encoding.ids, [start for start, _ in encoding.offsets] if offsets else [])


def backend_of(tokenizer: Any) -> Any:
    """Return a copy of the tokenizer that neither truncates nor pads."""
    guard = _guard(tokenizer)
    known = _backends.get(tokenizer)
    if known is None or known[0] is not guard:
        backend = copy.deepcopy(tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = False
        known = _backends[tokenizer] = (guard, backend)
    return known[1]


def _without_breaks(encoded: Any, acting: dict[int, int], break_id: int) -> Encoded:
    ids, starts, before = [], [], 0
    for i, (start, _) in zip(encoded.ids, encoded.offsets, strict=True):
        if i == break_id:
            before += len(_BREAK)
            continue
        ids.append(acting.get(i, i))
        starts.append(start - before)
    return Encoded(ids, starts)


def _guard(tokenizer: Any) -> _Guard:
    known = _guards.get(tokenizer)
    if known is None or (known.template, known.tokens) != (tokenizer.chat_template, len(tokenizer)):
        marks, beginnings = _marks(tokenizer), dict[str, list[str]]()
        for mark in marks:
            beginnings.setdefault(mark[:2], []).append(mark)
        normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
        normalized = []
        if normalizer is not None:
            added = tokenizer.added_tokens_decoder
            normalized = [normalizer.normalize_str(mark) for mark, i in marks.items() if added[i].normalized]
        known = _Guard(tokenizer.chat_template, len(tokenizer), marks, beginnings, normalizer, normalized)
        _guards[tokenizer] = known
    return known


def _marks(tokenizer: Any) -> dict[str, int]:
    """Find control tokens: tokens declared special, and added tokens that the template writes around turns.

    DeepSeek's `<|User|>`, for example, is an added token that isn't declared special. Other added tokens, such as runs
    of spaces or `<tool_call>`, are ordinary text with a dedicated token.
    """
    added = tokenizer.added_tokens_decoder
    named = set(tokenizer.all_special_tokens)
    written = _written_around_turns(tokenizer) if tokenizer.chat_template else ""
    return {
        str(token.content): int(i)
        for i, token in added.items()
        if token.content and (token.special or token.content in named or _is_mark(token.content, written))
    }


def _is_mark(piece: str, written: str) -> bool:
    """Check whether an added token is markup in a template's output, rather than a word or whitespace."""
    edges = not (piece[0].isalnum() or piece[-1].isalnum() or piece[0].isspace() or piece[-1].isspace())
    return edges and any(letter.isalpha() for letter in piece) and piece in written


def _written_around_turns(tokenizer: Any) -> str:
    texts = []
    for roles in _PROBES:
        turns = [{"role": role, "content": "a"} for role in roles]
        try:
            with dated(tokenizer):
                texts.append(str(tokenizer.apply_chat_template(turns, tokenize=False)))
        except Exception:  # a template may reject a role, which then has no markup
            continue
    return "\n".join(texts)


def _reader(tokenizer: Any) -> tuple[_Guard, Any, dict[int, int]]:
    """Return a copy of the tokenizer that encodes control tokens as text and placeholders as control tokens."""
    guard = _guard(tokenizer)
    known = _readers.get(tokenizer)
    if known is not None and known[0] is guard:
        return known
    if not tokenizer.is_fast:
        raise SizewiseError(
            "The text contains a control token, which a tokenizer without tokenizer.json can't keep as text.",
            "a model with a tokenizer.json, or text without control tokens",
            "sizewise models",
        )
    reader = copy.deepcopy(tokenizer.backend_tokenizer)
    reader.no_truncation()
    reader.no_padding()
    added = tokenizer.added_tokens_decoder
    signs = {_placeholder(ACTING, i): i for i in guard.marks.values()}
    reader.add_special_tokens([_like(added[i], mark) for mark, i in guard.marks.items()])
    reader.encode_special_tokens = True  # as text
    reader.add_tokens([_like(added[i], sign) for sign, i in signs.items()])
    reader.add_tokens([AddedToken(_BREAK, normalized=False)])
    acting = {reader.token_to_id(sign): i for sign, i in signs.items()}
    cached = _readers[tokenizer] = (guard, reader, acting)
    return cached


def _like(token: AddedToken, content: str) -> AddedToken:
    """Return a token that treats surrounding whitespace like another token."""
    return AddedToken(
        content, lstrip=token.lstrip, rstrip=token.rstrip, single_word=token.single_word, normalized=token.normalized
    )
