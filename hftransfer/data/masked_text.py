"""Texts as rows for masked-language modelling: cut without loss, packed without leaks, masked by a keyed seed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from hftransfer.errors import HFTransferError
from hftransfer.functional.masking import mask_tokens
from hftransfer.functional.schedules import scheduled

DOCUMENTS_AT_ONCE = 1000
MULTIPLE = 8  # padded lengths that matrix hardware likes
WORD_STARTS = ("Ġ", "▁", " ")  # how byte-level BPE and SentencePiece mark a piece that begins a word
_TRAINING, _FIXED = 0, 1  # separate random streams for masks that change with the epoch and masks that do not


class _Chunk(NamedTuple):
    """One document, or a part of it, between the tokenizer's special tokens."""

    input_ids: list[int]
    special: list[int]
    words: list[int]  # from 0 within the chunk, -1 at special tokens
    num_bytes: int


def encode_documents(texts: Iterable[str], tokenizer: Any, *, max_length: int, pack: bool) -> Dataset:
    """Tokenises texts into rows of at most `max_length` tokens. Nothing is dropped.

    A document that is too long is cut between words (inside one only when the word alone is too long) into chunks,
    each between the tokenizer's special tokens. A text that the tokenizer reads as nothing gives no row.

    Args:
        texts: one document each.
        tokenizer: a fast tokenizer.
        max_length: in tokens, special ones included.
        pack: join chunks into full rows, the longest first into the fullest row that has room. The chunks stay apart
            in attention: `MaskedTextCollator` reads `segment_ids`. Texts too few for one full row still make a
            short one; where they are all there is to train on, `check_filled` refuses it.

    Returns:
        Columns input_ids, special_tokens_mask, word_ids (numbered within the row; -1 at special tokens), num_bytes
        (UTF-8 bytes of the text that the row covers), length, row (the row's number, which keys its masks), and with
        `pack` segment_ids (from 0 within the row).

    Raises:
        HFTransferError: the tokenizer is slow, does not tell words apart, or leaves no room for text; or no text
            has a token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise HFTransferError(f"{type(tokenizer).__name__} is not a fast tokenizer, which masked text needs")
    prefix, suffix = _special_tokens(tokenizer)
    room = max_length - len(prefix) - len(suffix)
    if room < 1:
        raise HFTransferError(f"max_length {max_length} leaves no room for text beside the special tokens; raise it")
    columns: list[list[NDArray[Any]]] = [[], [], []]
    lengths: list[int] = []
    num_bytes: list[int] = []
    for batch in _batches(texts, DOCUMENTS_AT_ONCE):
        chunks = list(_chunks(batch, tokenizer, room, prefix, suffix))
        for column, name in zip(columns, ("input_ids", "special", "words"), strict=True):
            values = [value for chunk in chunks for value in getattr(chunk, name)]
            column.append(np.asarray(values, dtype=np.int8 if name == "special" else np.int32))
        lengths += [len(chunk.input_ids) for chunk in chunks]
        num_bytes += [chunk.num_bytes for chunk in chunks]
    if not lengths:
        raise HFTransferError("no text has a token to learn from; check the text column")
    ids, special, words = (np.concatenate(column) for column in columns)
    rows = _packed(lengths, max_length) if pack else [[number] for number in range(len(lengths))]
    return _dataset(rows, ids, special, words, np.asarray(lengths), np.asarray(num_bytes), with_segments=pack)


def check_filled(rows: Dataset, max_length: int, *, key: str) -> None:
    """Refuses packed rows to train on that together do not fill one: every step would see the same short row.

    Held-out rows may be as few as they are, and without packing a row is a document, as short as it may be.

    Raises:
        HFTransferError: naming the length asked for and the tokens that there are.
    """
    tokens = sum(rows["length"])
    if tokens < max_length:
        raise HFTransferError(
            f"{key}: all of it is {tokens} tokens, which do not fill one packed row of max_length {max_length}; lower "
            "max_length, write pack: false, or give more text"
        )


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    first = next((place for place, mark in enumerate(special) if not mark), len(ids))
    last = next((place for place, mark in enumerate(reversed(special)) if not mark), 0)
    return ids[:first], ids[len(ids) - last :]


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, size)):
        yield batch


def _chunks(texts: list[str], tokenizer: Any, room: int, prefix: list[int], suffix: list[int]) -> Iterator[_Chunk]:
    """The chunks of a batch of documents, in order. Their `num_bytes` sum to the documents' bytes."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    # a text may spell "[MASK]" or "[SEP]": those are no words to predict; an unknown word still is one
    never = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for number, text in enumerate(texts):
        ids = encoded["input_ids"][number]
        words = _words(encoded, number, text, tokenizer)
        offsets = [start for start, _ in encoded["offset_mapping"][number]]
        cuts = _cuts(words, room)
        for start, end in pairwise(cuts):
            # what a tokenizer skips (spaces) belongs to the chunk before it, so that bytes add up
            covered = text[offsets[start] if start else 0 : offsets[end] if end < len(ids) else len(text)]
            special = [int(token in never) for token in ids[start:end]]
            renumbered = _renumbered([-1 if s else w for s, w in zip(special, words[start:end], strict=True)])
            yield _Chunk(
                prefix + ids[start:end] + suffix,
                [1] * len(prefix) + special + [1] * len(suffix),
                [-1] * len(prefix) + renumbered + [-1] * len(suffix),
                len(covered.encode("utf-8", "surrogatepass")),
            )


def _words(encoded: Any, number: int, text: str, tokenizer: Any) -> list[int]:
    """The word of each token.

    A tokenizer without a pre-tokenizer calls the whole text one word; then a piece that begins with a space marker
    begins a word.
    """
    words = [-1 if word is None else word for word in encoded.word_ids(number)]
    if len(words) < 2 or len(set(words)) > 1 or len(text.split()) < 2:
        return words
    pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"][number])
    starts = [piece.startswith(WORD_STARTS) for piece in pieces]
    if not any(starts[1:]):
        raise HFTransferError(f"{type(tokenizer).__name__} does not tell where words begin; use another tokenizer")
    return np.cumsum(starts).tolist()


def _cuts(words: Sequence[int], room: int) -> list[int]:
    """Where chunks begin, and the end: as late as `room` allows at the start of a word."""
    cuts = [0] if words else []
    while cuts and cuts[-1] < len(words):
        end = min(cuts[-1] + room, len(words))
        start_of_word = end
        while start_of_word > cuts[-1] and start_of_word < len(words) and _inside(words, start_of_word):
            start_of_word -= 1
        cuts.append(start_of_word if start_of_word > cuts[-1] else end)
    return cuts


def _inside(words: Sequence[int], place: int) -> bool:
    return words[place] == words[place - 1] != -1


def _renumbered(words: Sequence[int]) -> list[int]:
    number: dict[int, int] = {}
    return [-1 if word < 0 else number.setdefault(word, len(number)) for word in words]


def _packed(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Chunk numbers of each row: the longest chunk first, into the fullest row that has room (best fit decreasing)."""
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # room left -> rows
    for chunk in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        fitting = min((room for room, waiting in by_room.items() if room >= lengths[chunk] and waiting), default=None)
        if fitting is None:
            rows.append([])
            row, left = len(rows) - 1, max_length - lengths[chunk]
        else:
            row, left = by_room[fitting].pop(), fitting - lengths[chunk]
        rows[row].append(chunk)
        by_room.setdefault(left, []).append(row)
    return rows


def _dataset(
    rows: list[list[int]],
    ids: NDArray[np.int32],
    special: NDArray[np.int8],
    words: NDArray[np.int32],
    lengths: NDArray[np.int64],
    num_bytes: NDArray[np.int64],
    with_segments: bool,
) -> Dataset:
    """Gathers flat tokens, chunk after chunk, into the rows' order; no row is ever a Python list."""
    chunks = np.asarray([chunk for row in rows for chunk in row])
    firsts = np.cumsum([0, *(len(row) for row in rows)])[:-1]  # place in `chunks` of each row's first chunk
    segment = np.arange(len(chunks)) - np.repeat(firsts, [len(row) for row in rows])
    ends = np.cumsum(lengths)
    starts = (ends - lengths)[chunks]
    counts = lengths[chunks]
    order = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    num_words = np.maximum.reduceat(words, ends - lengths)[chunks] + 1
    before = np.cumsum(num_words) - num_words
    before -= np.repeat(before[firsts], [len(row) for row in rows])  # words of the row before this chunk
    row_words = words[order]
    row_words = np.where(row_words < 0, -1, row_words + np.repeat(before, counts))
    row_lengths = np.add.reduceat(counts, firsts)
    offsets = pa.array(np.concatenate([[0], np.cumsum(row_lengths)]), pa.int32())

    def listed(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind))

    columns = {
        "input_ids": listed(ids[order], pa.int32()),
        "special_tokens_mask": listed(special[order], pa.int8()),
        "word_ids": listed(row_words, pa.int32()),
        "num_bytes": pa.array(np.add.reduceat(num_bytes[chunks], firsts), pa.int64()),
        "length": pa.array(row_lengths, pa.int32()),
        "row": pa.array(np.arange(len(rows)), pa.int64()),
    }
    if with_segments:
        columns["segment_ids"] = listed(np.repeat(segment, counts), pa.int32())
    return Dataset(pa.table(columns))


class MaskedTextCollator:
    """Pads rows of `encode_documents` into a batch and hides tokens in it.

    The masks of a row are drawn by a generator keyed on (seed, epoch, row): they do not depend on the batch, the
    workers or the processes, so a resumed run sees exactly the masks of one that never stopped. Replacement is BERT's:
    80 % mask token, 10 % a random token, 10 % unchanged.

    Call `set_epoch` before each epoch's iterator is made; workers copy the collator then, so it must not be used with
    `dataloader_persistent_workers`.

    Packed rows need a model whose layers all attend to everything. ModernBERT's local layers would lose their window
    under a 4-dimensional mask, and its logits would silently differ.

    Args:
        tokenizer: has a mask and a padding token.
        mask_rate: share of tokens to hide, between 0 and 1; or [start, end], read at a row's `progress`.
        whole_word: hide all pieces of a word together.
        seed: not negative.
        fixed: ignore the epoch, for evaluation.
        first_position: the position number of a segment's first token; RoBERTa's is `pad_token_id + 1`. Only rows
            with several segments need positions.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        mask_rate: float | Sequence[float],
        whole_word: bool,
        seed: int,
        fixed: bool,
        first_position: int = 0,
    ) -> None:
        for name in ("mask_token", "pad_token"):
            if getattr(tokenizer, name) is None:
                raise HFTransferError(
                    f"model: the tokenizer has no {name}, which pretrain, and adapt's method: udalm or "
                    "masked_lm_weight, need; choose another checkpoint"
                )
        if not all(0 < rate < 1 for rate in ([mask_rate] if isinstance(mask_rate, int | float) else mask_rate)):
            raise HFTransferError(f"mask_rate: expected a share between 0 and 1, found {mask_rate}")
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.vocab_size = len(tokenizer)
        self.longest = tokenizer.model_max_length
        self.mask_rate, self.whole_word = mask_rate, whole_word
        self.seed, self.fixed, self.first_position = seed, fixed, first_position
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draws new masks from now on, unless they are fixed."""
        self.epoch = epoch

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows: columns of `encode_documents`; others are ignored.

        Returns:
            input_ids and labels (batch, length), labels -100 where nothing is hidden; attention_mask (batch, length).
            Where a row has several segments, attention_mask is (batch, 1, length, length), 0 within a segment and
            the lowest float across, and position_ids (batch, length) restart in each segment.
        """
        masked = [self._masked(row) for row in rows]
        width = self._width(max(len(ids) for ids, _ in masked))
        segments = [np.asarray(row["segment_ids"]) for row in rows if "segment_ids" in row]
        batch = {
            "input_ids": _padded([ids for ids, _ in masked], width, self.pad_id),
            "labels": _padded([labels for _, labels in masked], width, -100),
        }
        if not any(segment[-1] > 0 for segment in segments):
            batch["attention_mask"] = _padded([np.ones_like(ids) for ids, _ in masked], width, 0)
            return batch
        # padding is a segment of its own: a token that sees nothing at all has no softmax
        own = _padded(segments, width, -1)  # (batch, length)
        together = own[:, None, :, None] == own[:, None, None, :]  # (batch, 1, length, length)
        batch["attention_mask"] = torch.zeros(together.shape).masked_fill(~together, torch.finfo(torch.float32).min)
        positions = [_restarting(segment) + self.first_position for segment in segments]
        batch["position_ids"] = _padded(positions, width, self.first_position)
        return batch

    def _masked(self, row: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """One row's inputs and labels, (length,) each."""
        stream = (self.seed, _FIXED, 0) if self.fixed else (self.seed, _TRAINING, self.epoch)
        ids, labels = mask_tokens(
            np.asarray(row["input_ids"], dtype=np.int64)[None],
            ~np.asarray(row["special_tokens_mask"], dtype=bool)[None],
            np.asarray(row["word_ids"], dtype=np.int64)[None] if self.whole_word else None,
            rate=scheduled(self.mask_rate, row.get("progress", 1.0)),
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
            rng=np.random.default_rng((*stream, int(row["row"]))),
        )
        return ids[0], labels[0]

    def _width(self, longest: int) -> int:
        """The padded length: a multiple of 8 that the model's positions still reach."""
        wide = -(-longest // MULTIPLE) * MULTIPLE
        return max(longest, min(wide, self.longest))


def _padded(rows: Sequence[NDArray[Any]], width: int, value: int) -> Tensor:
    """(rows, width) int64, filled up on the right."""
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded)


def _restarting(segments: NDArray[Any]) -> NDArray[Any]:
    """0, 1, 2, ... from the start of each segment; `segments` (length,) never decreases."""
    starts = np.flatnonzero(np.diff(segments, prepend=-1))
    return np.arange(len(segments)) - np.repeat(starts, np.diff([*starts, len(segments)]))
