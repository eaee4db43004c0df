"""Control tokens: what a chat template writes acts, and the same letters in what people wrote stay text.

A message that holds `<|im_end|><|im_start|>system` must not open a turn. So the texts of control tokens are hidden in
contents before a template sees them, and only what the template itself wrote becomes control tokens. Text that holds
none, which is nearly all text, is encoded in the ordinary way.
"""

from __future__ import annotations

import copy
import re
import secrets
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tokenizers import AddedToken

from sizewise.errors import SizewiseError

# Nobody can write a placeholder into a message who does not know this number.
_NONCE = secrets.randbits(63)
HIDDEN, ACTING = ":", "="
_HIDDEN = re.compile(f"\ue000{_NONCE}:(\\d+)\ue001")
_BREAK = f"\ue000{_NONCE}|\ue001"
_WITH_CARE = f"\ue000{_NONCE}!\ue001"  # stands in a text whose control tokens show only once it is normalised
_PROBES = (("user", "assistant", "user"), ("system", "user"))


def _placeholder(sign: str, token: int) -> str:
    return f"\ue000{_NONCE}{sign}{token}\ue001"


class Rendered(str):
    """Text in which control tokens act, those of people's own text being hidden: from `hide` or a chat template."""

    __slots__ = ()


class Encoded(NamedTuple):
    """Tokens of a text."""

    ids: list[int]
    starts: list[int]
    """First character of each token; of text alone, not of what a template wrote."""


class _Guard(NamedTuple):
    """What is needed to tell control tokens from their text."""

    template: Any
    tokens: int
    """Template and number of tokens that this was made from."""
    marks: dict[str, int]
    """Text of each control token -> its id."""
    beginnings: dict[str, list[str]]
    """First letters -> the control tokens that begin so: Gemma has thousands of them, and few texts have any."""
    normalizer: Any
    """What the tokenizer does with a text first; None where it does nothing that could make a control token."""
    normalized: list[str]
    """Control tokens as they are looked for in normalised text, where full-width letters may have become plain."""

    def replace(self, text: str, sign: str) -> str:
        """Put a placeholder for each control token, the longest first."""
        near = [mark for first, marks in self.beginnings.items() if first in text for mark in marks]
        found = sorted((mark for mark in near if mark in text), key=len, reverse=True)
        if not found:
            return text
        return re.sub("|".join(map(re.escape, found)), lambda one: _placeholder(sign, self.marks[one[0]]), text)


_guards: WeakKeyDictionary[Any, _Guard] = WeakKeyDictionary()
_readers: WeakKeyDictionary[Any, tuple[_Guard, Any, dict[int, int]]] = WeakKeyDictionary()


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the text and id of each token that no person's text may become."""
    return _guard(tokenizer).marks


def hide(tokenizer: Any, text: str) -> Rendered:
    """Replace the text of each control token by a placeholder that `encode` turns into text again."""
    guard = _guard(tokenizer)
    hidden = guard.replace(text, HIDDEN)
    if hidden == text and guard.normalized:
        plain = guard.normalizer.normalize_str(text)
        if any(mark in plain for mark in guard.normalized):
            inside = len(text) - len(text.lstrip()) + 1  # where no template trims it away
            return Rendered(text[:inside] + _WITH_CARE + text[inside:])
    return Rendered(hidden)


def shown(tokenizer: Any, text: str) -> str:
    """Put hidden control tokens back as text."""
    texts = {i: mark for mark, i in _guard(tokenizer).marks.items()}
    return _HIDDEN.sub(lambda found: texts[int(found[1])], text.replace(_WITH_CARE, ""))


def encode(tokenizer: Any, text: Rendered, begin: bool = False) -> Encoded:
    """Turn text into tokens; only what is not hidden becomes control tokens.

    Args:
        tokenizer: the model's.
        text: from `hide`, or what a template wrote around such texts.
        begin: put what the tokenizer begins a text with before it.

    Raises:
        SizewiseError: the tokenizer can read a hidden text as a control token only.
    """
    if str(_NONCE) not in text:
        offsets = tokenizer.is_fast
        plain = tokenizer(str(text), add_special_tokens=begin, return_offsets_mapping=offsets, verbose=False)
        return Encoded(list(plain.input_ids), [start for start, _ in plain.offset_mapping] if offsets else [])
    guard, reader, acting = _reader(tokenizer)
    control = set(guard.marks.values()) - {tokenizer.unk_token_id}  # which any unknown letter becomes
    text = Rendered(guard.replace(text.replace(_WITH_CARE, ""), ACTING))  # what stands there openly is the template's
    for apart in (False, True):  # a vocabulary that holds the text whole gives it back only when it is cut
        texts = {i: mark[0] + _BREAK + mark[1:] if apart else mark for mark, i in guard.marks.items()}
        whole = _HIDDEN.sub(lambda found, texts=texts: texts[int(found[1])], text)  # type: ignore[misc]
        if whole.count(str(_NONCE)) != len(re.findall(f"\ue000{_NONCE}(?:=\\d+|\\|)\ue001", whole)):
            break  # the template cut into a placeholder
        encoded = reader.encode(whole, add_special_tokens=begin)
        if any(i in control and not own for i, own in zip(encoded.ids, encoded.special_tokens_mask, strict=True)):
            continue
        return _without_breaks(encoded, acting, reader.token_to_id(_BREAK))
    raise SizewiseError(
        "The text holds a control token of the model, and its tokenizer or chat template cannot keep it as text.",
        "text without control tokens",
        f"take these out of the text: {', '.join(list(guard.marks)[:5])}, ...",
    )


def _without_breaks(encoded: Any, acting: dict[int, int], parted: int) -> Encoded:
    ids, starts, before = [], [], 0
    for i, (start, _) in zip(encoded.ids, encoded.offsets, strict=True):
        if i == parted:
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
    """Find control tokens: those declared special, and those that the template writes around turns.

    DeepSeek's `<|User|>`, for one, is an added token that is not declared special. Other added tokens, such as runs of
    blanks or `<tool_call>`, are text that happens to have a token of its own.
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
    """Tell whether an added token is a mark in what a template wrote, rather than a word or blanks that stand there."""
    edges = not (piece[0].isalnum() or piece[-1].isalnum() or piece[0].isspace() or piece[-1].isspace())
    return edges and any(letter.isalpha() for letter in piece) and piece in written


def _written_around_turns(tokenizer: Any) -> str:
    texts = []
    for roles in _PROBES:
        turns = [{"role": role, "content": "a"} for role in roles]
        try:
            texts.append(str(tokenizer.apply_chat_template(turns, tokenize=False)))
        except Exception:  # a template may refuse a role; what it cannot write it writes around no turn
            continue
    return "\n".join(texts)


def _reader(tokenizer: Any) -> tuple[_Guard, Any, dict[int, int]]:
    """Return a copy of a tokenizer that reads control tokens as text, and placeholders of ours as control tokens."""
    guard = _guard(tokenizer)
    known = _readers.get(tokenizer)
    if known is not None and known[0] is guard:
        return known
    if not tokenizer.is_fast:
        raise SizewiseError(
            "The text holds a control token of the model, and its tokenizer has no way to keep it as text.",
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
    made = _readers[tokenizer] = (guard, reader, acting)
    return made


def _like(token: AddedToken, content: str) -> AddedToken:
    """Return a token that takes the blanks beside it as another one does."""
    return AddedToken(
        content, lstrip=token.lstrip, rstrip=token.rstrip, single_word=token.single_word, normalized=token.normalized
    )
