"""Prompts that hold a text, cut so that what stands around the text is whole."""

from collections.abc import Sequence
from typing import Any

from hftransfer.described.labels import TEXT
from hftransfer.errors import HFTransferError


def rows(tokenizer: Any, texts: Sequence[str], template: str, max_length: int, *, least: int = 1) -> list[list[int]]:
    """The tokens of each prompt, at most `max_length`: of a text that is too long, its beginning is kept.

    Args:
        template: with `{text}`.
        least: fewest tokens of a text that must have room.

    Raises:
        HFTransferError: the template leaves no room.
    """
    around = len(tokenizer(template.replace(TEXT, ""))["input_ids"])
    room = max_length - around
    if room < least:
        shown = " ".join(template[:60].split())
        raise HFTransferError(
            f"max_length: '{shown}' takes {around} tokens of {max_length} and leaves no room for a text; raise it"
        )
    made = _encoded(tokenizer, texts, template)
    for row, ids in enumerate(made):
        keep = room
        while len(ids) > max_length:  # pieces may join otherwise where the text is cut
            shorter = beginning(tokenizer, texts[row], keep)
            ids = _encoded(tokenizer, [shorter], template)[0]
            keep -= 1
        made[row] = ids
    return made


def _encoded(tokenizer: Any, texts: Sequence[str], template: str) -> list[list[int]]:
    filled = [template.replace(TEXT, text) for text in texts]
    return [list(ids) for ids in tokenizer(filled)["input_ids"]]


def beginning(tokenizer: Any, text: str, tokens: int) -> str:
    """The start of a text, of so many tokens."""
    if tokens <= 0:
        return ""
    if tokenizer.is_fast:
        made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return text[: made["offset_mapping"][:tokens][-1][1]] if made["input_ids"] else ""
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]))
