"""Texts as rows for next-token training: every token predicted once, packed without leaks, ends marked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from hftransfer.data.masked_text import DOCUMENTS_AT_ONCE, MULTIPLE, _batches, _packed, _padded, _restarting
from hftransfer.errors import HFTransferError

IGNORED = -100  # the label of a place that predicts nothing


class _Chunk(NamedTuple):
    """One document, or a part of it; its first token is context, the others are predicted."""

    input_ids: list[int]
    num_bytes: int


def encode_causal(texts: Iterable[str], tokenizer: Any, *, max_length: int, pack: bool) -> Dataset:
    """Tokenises texts into rows of at most `max_length` tokens, so that each token is predicted exactly once.

    A document becomes its beginning token (where the tokenizer has one), its text and its end token. Without a
    beginning token the first token of a document is predicted from nothing, so it is context only: it costs nothing,
    and its bytes are not counted. A document that is too long is cut; each further part begins with the last token of
    the part before, as context, so that no prediction is lost at a cut and no false beginning is learned.

    Args:
        texts: one document each.
        tokenizer: a fast tokenizer with an end token.
        max_length: in tokens.
        pack: join documents into full rows, the longest first into the fullest row that has room. `CausalTextCollator`
            keeps them apart. Texts too few for one full row still make a short one; where they are all there is to
            train on, `masked_text.check_filled` refuses it.

    Returns:
        Columns input_ids, num_bytes (UTF-8 bytes of the text that the row predicts; an end token has none), length,
        row (the row's number), and with `pack` segment_ids (from 0 within the row, one number a document).

    Raises:
        HFTransferError: the tokenizer is slow or has no end token, a row has no room for a prediction, or no text has
            two tokens.
    """
    begin, end = _ends(tokenizer)
    if max_length < 2:
        raise HFTransferError(f"max_length {max_length} leaves no token to predict; raise it")
    flat: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    num_bytes: list[int] = []
    for batch in _batches(texts, DOCUMENTS_AT_ONCE):
        chunks = list(_chunks(batch, tokenizer, begin, end, max_length))
        flat.append(np.asarray([token for chunk in chunks for token in chunk.input_ids], dtype=np.int32))
        lengths += [len(chunk.input_ids) for chunk in chunks]
        num_bytes += [chunk.num_bytes for chunk in chunks]
    if not lengths:
        raise HFTransferError("no text has a token to predict; check the text column")
    rows = _packed(lengths, max_length) if pack else [[number] for number in range(len(lengths))]
    return _dataset(rows, np.concatenate(flat), np.asarray(lengths), np.asarray(num_bytes), with_segments=pack)


def _ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens before and after a document; BERT's tokenizers call them [CLS] and [SEP]."""
    if not getattr(tokenizer, "is_fast", False):
        raise HFTransferError(f"{type(tokenizer).__name__} is not a fast tokenizer, which causal text needs")
    begins = [i for i in (tokenizer.bos_token_id, tokenizer.cls_token_id) if i is not None]
    ends = [i for i in (tokenizer.eos_token_id, tokenizer.sep_token_id) if i is not None]
    if not ends:
        raise HFTransferError(
            f"{type(tokenizer).__name__} has no end token, without which no model learns to stop; set its eos_token"
        )
    return begins[:1], ends[:1]


def _chunks(texts: list[str], tokenizer: Any, begin: list[int], end: list[int], max_length: int) -> Iterator[_Chunk]:
    """The parts of a batch of documents, in order."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for number, text in enumerate(texts):
        ids = encoded["input_ids"][number]
        if not ids:
            continue  # an end without a beginning teaches nothing
        offsets = encoded["offset_mapping"][number]
        whole = begin + ids + end
        for start in range(0, len(whole) - 1, max_length - 1):
            part = whole[start : start + max_length]
            places = (start + 1 - len(begin), start + len(part) - len(begin))  # of the predicted, among `ids`
            yield _Chunk(part, _bytes_between(text, offsets, *places))


def _bytes_between(text: str, offsets: list[tuple[int, int]], first: int, last: int) -> int:
    """UTF-8 bytes of the tokens `first` to `last`, excluded; what a tokenizer skips belongs to the token before it."""

    def place(token: int) -> int:
        if token <= 0:
            return 0
        return offsets[token][0] if token < len(offsets) else len(text)

    return len(text[place(first) : place(last)].encode("utf-8", "surrogatepass"))


def _dataset(
    rows: list[list[int]],
    ids: NDArray[np.int32],
    lengths: NDArray[np.int64],
    num_bytes: NDArray[np.int64],
    with_segments: bool,
) -> Dataset:
    """Gathers flat tokens, chunk after chunk, into the rows' order; no row is ever a Python list."""
    sizes = [len(row) for row in rows]
    chunks = np.asarray([chunk for row in rows for chunk in row])
    firsts = np.cumsum([0, *sizes])[:-1]  # place in `chunks` of each row's first chunk
    counts = lengths[chunks]
    starts = (np.cumsum(lengths) - lengths)[chunks]
    order = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    row_lengths = np.add.reduceat(counts, firsts)
    offsets = pa.array(np.concatenate([[0], np.cumsum(row_lengths)]), pa.int32())
    columns = {
        "input_ids": pa.ListArray.from_arrays(offsets, pa.array(ids[order], pa.int32())),
        "num_bytes": pa.array(np.add.reduceat(num_bytes[chunks], firsts), pa.int64()),
        "length": pa.array(row_lengths, pa.int32()),
        "row": pa.array(np.arange(len(rows)), pa.int64()),
    }
    if with_segments:
        segments = np.repeat(np.arange(len(chunks)) - np.repeat(firsts, sizes), counts)
        columns["segment_ids"] = pa.ListArray.from_arrays(offsets, pa.array(segments, pa.int32()))
    return Dataset(pa.table(columns))


def predicted(rows: Any) -> int:
    """How many tokens a `Dataset` of `encode_causal` predicts: all but the first of each document or part."""
    documents = sum(ids[-1] + 1 for ids in rows["segment_ids"]) if "segment_ids" in rows.column_names else len(rows)
    return int(sum(rows["length"])) - int(documents)


class CausalTextCollator:
    """Pads rows of `encode_causal` into a batch and finds the next token of each place. Nothing in it is random.

    No attention mask is made. In a causal model nothing sees what lies to its right, where the padding is; and
    transformers keeps packed documents apart by their restarting positions only where there is no mask (and no
    cache), under eager, SDPA and flash attention and in sliding windows alike.
    """

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        """`max_length` is what no row is padded beyond, where the model's positions may end."""
        pads = [i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None]
        self.pad_id, self.max_length = pads[0], max_length

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has the same batches' content."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows: columns of `encode_causal`; others are ignored.

        Returns:
            input_ids (batch, length); shift_labels (batch, length), the token that follows, -100 where it is padding
            or another document's (the name is transformers' own for labels that are shifted already); and where a
            row has several documents, position_ids (batch, length), which restart in each.
        """
        tokens = [np.asarray(row["input_ids"]) for row in rows]
        segments = [np.asarray(row["segment_ids"]) for row in rows if "segment_ids" in row]
        width = self._width(max(len(ids) for ids in tokens))
        batch = {
            "input_ids": _padded(tokens, width, self.pad_id),
            "shift_labels": _padded([np.append(ids[1:], IGNORED) for ids in tokens], width, IGNORED),
        }
        if any(segment[-1] > 0 for segment in segments):
            own = _padded(segments, width, -1)
            last = own != torch.roll(own, -1, dims=1)  # of its document; a row's very last place is ignored anyway
            batch["shift_labels"][last] = IGNORED
            # each place of padding is at position 0: a document of its own
            batch["position_ids"] = _padded([_restarting(segment) for segment in segments], width, 0)
        return batch

    def _width(self, longest: int) -> int:
        """The padded length: a multiple of 8 within `max_length`."""
        wide = -(-longest // MULTIPLE) * MULTIPLE
        return max(longest, min(wide, self.max_length))
