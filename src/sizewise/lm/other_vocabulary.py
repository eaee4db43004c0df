"""A teacher with another vocabulary: its likeliest next tokens, turned into tokens of the student.

Before each token that the student predicts, the teacher has read the same text up to its own last boundary. Of its
likeliest tokens there, those count that go on like the text since that boundary; what remains of each begins with a
token of the student, which gets its probability. Where the teacher's token ends inside the text's
next one, that one gets it. Both read a row's text from its first byte, as far as the teacher's context goes; what
follows a control token isn't taught.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sizewise.errors import SizewiseError
from sizewise.lm.execution import execution_of
from sizewise.lm.loss import SoftTargets, likeliest
from sizewise.lm.packing import NO_TARGET, Rows
from sizewise.lm.token_bytes import spelled, spells, token_bytes
from sizewise.lm.tokenizer import prefix_ids, text_ids

K = 32  # likeliest tokens of the teacher, and most tokens of the student that they become
MIN_MASS = 0.01  # probability of the teacher's tokens that go on like the text; below it, the text alone counts
MAX_KEPT = 2**28  # bytes of targets that stay in memory for the next pass over the text
Targets = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


class OtherVocabulary:
    """Soft targets for packed rows from a teacher whose tokenizer isn't the student's (a `loop.Teacher`).

    Args:
        network: the teacher, in evaluation.
        tokenizer: its tokenizer.
        student: the student's tokenizer.
        share: weight of the teacher's distribution in the loss.

    Raises:
        SizewiseError: the tokens of one of them don't spell the text that they encode.
    """

    def __init__(self, network: Any, tokenizer: Any, student: Any, share: float) -> None:
        self._network, self._tokenizer, self._share = network, tokenizer, share
        self._pieces, self._own = token_bytes(tokenizer), token_bytes(student)
        for name, one, pieces in (("teacher", tokenizer, self._pieces), ("student", student, self._own)):
            if not spells(one, pieces):
                raise SizewiseError(
                    f"The tokens of the {name} don't spell the text that they encode, so the teacher's can't be turned "
                    "into the student's.",
                    "byte-level or SentencePiece tokenizers that don't change the text",
                    "sizewise train scratch --tokenizer URI gives the student the teacher's tokenizer",
                )
        self._ids = {piece: number for number, piece in reversed(list(enumerate(self._own))) if piece is not None}
        self._longest = max(map(len, self._ids), default=0)
        self._firsts: dict[bytes, int | None] = {}
        self._kept: dict[bytes, Targets] = {}
        self._free = MAX_KEPT
        self._asked = self._taught = 0

    @property
    def taught(self) -> float:
        """Share of the tokens so far that the teacher taught; of the others, only the text was learned."""
        return self._taught / max(1, self._asked)

    def __call__(self, rows: Rows) -> SoftTargets:
        """Compute the targets of the predicted positions, row by row."""
        ids, weights = [np.zeros((0, K), np.int32)], [np.zeros((0, K), np.float32)]
        for row, segments in enumerate(rows.segments):
            for segment in range(1, int(segments.max(initial=0)) + 1):
                inside = np.flatnonzero(segments == segment)
                predicted = rows.targets[row, inside[:-1]] != NO_TARGET
                targets = self._of_text(rows.ids[row, inside].astype(np.int32))
                ids.append(targets[0][predicted])
                weights.append(targets[1][predicted])
        device = execution_of(self._network).device
        found = torch.from_numpy(np.concatenate(ids)).long(), torch.from_numpy(np.concatenate(weights))
        return SoftTargets(found[0].to(device), found[1].to(device), self._share)

    def _of_text(self, ids: npt.NDArray[np.int32]) -> Targets:
        """Return the targets of all tokens of a text but the first."""
        key = ids.tobytes()
        if (found := self._kept.get(key)) is None:
            found = self._compute(ids.tolist())
            size = found[0].nbytes + found[1].nbytes
            if size <= self._free:
                self._kept[key], self._free = found, self._free - size
        return found

    def _compute(self, ids: list[int]) -> Targets:
        certain = [_padded({token: 1.0}) for token in ids[1:]]
        self._asked += len(certain)
        pieces = [self._own[token] for token in ids]
        first = next((number for number, piece in enumerate(pieces) if piece), len(ids))
        end = next((number for number in range(first, len(ids)) if pieces[number] is None), len(ids))
        data = b"".join(piece or b"" for piece in pieces[first:end])
        read = text_ids(self._tokenizer, data.decode(errors="replace"))
        written = spelled(read, self._pieces)
        if data and written in (data, b" " + data):  # else a letter was cut, or their tokenizer changes this text
            starts = list(accumulate((len(self._pieces[token] or b"") for token in read), initial=0))
            best, probabilities = self._likeliest(read)
            data, at = written, len(written) - len(data)  # some tokenizers put a space before a text
            for number in range(first, end):
                place, piece = bisect_right(starts, at) - 1, pieces[number] or b""
                if number and place < len(best):
                    candidates = zip(best[place], probabilities[place], strict=True)
                    known = {self._pieces[token] or b"": probability for token, probability in candidates}
                    own = self._as_own(known, data[starts[place] : at], piece, ids[number])
                    certain[number - 1] = _padded(own or {ids[number]: 1.0})
                    self._taught += bool(own)
                at += len(piece)
        return (
            np.array([targets for targets, _ in certain], np.int32).reshape(-1, K),
            np.array([weights for _, weights in certain], np.float32).reshape(-1, K),
        )

    @torch.inference_mode()
    def _likeliest(self, read: Sequence[int]) -> tuple[list[list[int]], list[list[float]]]:
        """Return the teacher's likeliest tokens at each of its tokens, and their probabilities."""
        prefix, execution = prefix_ids(self._tokenizer), execution_of(self._network)
        ids = [*prefix, *read[:-1]][: execution.context]
        inputs = torch.tensor([ids], device=execution.device)
        hidden = execution.hidden_states(input_ids=inputs, use_cache=False)[0, len(prefix) - 1 :]
        best, probabilities = likeliest(hidden, execution.head, K, size=min(len(self._pieces), execution.head.size))
        return best.tolist(), probabilities.tolist()

    def _as_own(self, known: dict[bytes, float], read: bytes, piece: bytes, token: int) -> dict[int, float]:
        """Turn the teacher's likeliest tokens into tokens of the student.

        Args:
            known: bytes of the teacher's likeliest tokens -> probability.
            read: the text since the teacher's boundary.
            piece: the student's next token in the text, as bytes.
            token: its id.

        Returns:
            Token -> probability; nothing where hardly any of them goes on like the text.
        """
        found: dict[int, float] = defaultdict(float)
        for other, probability in known.items():
            rest = other[len(read) :]
            if not rest or not other.startswith(read):
                continue
            first = token if piece.startswith(rest) else self._first(rest)
            if first is not None:
                found[first] += probability
        total = sum(found.values())
        return {one: value / total for one, value in found.items()} if total >= MIN_MASS else {}

    def _first(self, rest: bytes) -> int | None:
        """Return the student's longest token that begins some bytes; None if it has none."""
        if rest not in self._firsts:
            sizes = range(min(self._longest, len(rest)), 0, -1)
            self._firsts[rest] = next((self._ids[rest[:size]] for size in sizes if rest[:size] in self._ids), None)
        return self._firsts[rest]


def _padded(found: dict[int, float]) -> tuple[list[int], list[float]]:
    """Pad tokens to K with other tokens, of weight zero."""
    others = [token for token in range(2 * K) if token not in found][: K - len(found)]
    return [*found, *others], [*found.values(), *(0.0 for _ in others)]
