"""A tokenizer's tokens as text, so that those of different kinds can be compared, and text cut into them.

WordPiece marks what goes on a word (`##ing`), byte-level BPE (`Ġing`) and SentencePiece (`▁ing`) what begins one.
"""

import json
from typing import Any, NamedTuple

from hftransfer.errors import HFTransferError

SPACE = "▁"
ROLES = {  # a special token's role -> the roles that an old one may have had in its place
    "bos": ("bos", "cls"),
    "cls": ("cls", "bos"),
    "eos": ("eos", "sep"),
    "sep": ("sep", "eos"),
    "mask": ("mask",),
    "unk": ("unk",),
    "pad": ("pad",),
}


class Piece(NamedTuple):
    """What a token stands for: whether a word begins with it, and its text as bytes."""

    begins: bool
    text: bytes


class Pieces:
    """The tokens of one tokenizer.

    Raises:
        HFTransferError: it is none of the `tokenizers` library, so its parts cannot be read.
    """

    def __init__(self, tokenizer: Any, key: str) -> None:
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self.backend is None:
            raise HFTransferError(f"{key}: {type(tokenizer).__name__} is no fast tokenizer; choose another")
        self.tokenizer, self.vocab = tokenizer, dict(tokenizer.get_vocab())
        stored = json.loads(self.backend.to_str())
        added = stored["added_tokens"]
        self.special = {token["content"] for token in added if token["special"]} | set(tokenizer.all_special_tokens)
        self.verbatim = {token["content"] for token in added}
        self.prefix = stored["model"].get("continuing_subword_prefix") or ""
        self.kind = _kind(stored, self.vocab)
        self.ids = self._ids()

    def piece(self, token: str) -> Piece:
        """A token as text."""
        if self.kind == "WordPiece" and token not in self.verbatim:
            inside = bool(self.prefix) and token.startswith(self.prefix) and len(token) > len(self.prefix)
            text = (token[len(self.prefix) :] if inside else token).encode()
            return Piece(not inside and not _stands_alone(text), text)  # `.` may follow a word or a space
        text = token.encode()
        if token not in self.verbatim:
            if self.kind == "bytes":
                text = b"".join(_BYTES[c] if c in _BYTES else c.encode() for c in token)
            elif self.kind == "SentencePiece":
                text = _byte(token) or token.replace(SPACE, " ").encode()
        if self.kind == "plain":
            return Piece(True, text)
        return Piece(text.startswith(b" "), text.removeprefix(b" "))

    def find(self, piece: Piece) -> int | None:
        """The number of the token that stands for this piece."""
        found = self.ids.get(piece)
        if found is None and _stands_alone(piece.text):
            found = self.ids.get(Piece(not piece.begins, piece.text))
        return found

    def cut(self, piece: Piece) -> list[int] | None:
        """The numbers of the tokens that this tokenizer makes of a piece; None where it cannot."""
        try:
            text = piece.text.decode()
        except UnicodeDecodeError:  # a part of a character
            return [self.ids[one] for one in _single(piece)] if self.ids.keys() >= set(_single(piece)) else None
        if not text.strip():
            return None
        if self.kind == "WordPiece":
            return self._words(text, piece.begins)
        if self.kind == "plain":
            return None
        mark = {"bytes": "Ġ", "SentencePiece": SPACE}[self.kind] if piece.begins else ""
        spelt = _spelt(text) if self.kind == "bytes" else self._normal(text).replace(" ", SPACE).lstrip(SPACE)
        made = self.backend.model.tokenize(mark + spelt)
        ids = [token.id for token in made]
        return None if not ids or self.tokenizer.unk_token_id in ids else ids

    def role(self, name: str) -> int | None:
        """The number of a special token by its role, or by one that does its work."""
        found = (getattr(self.tokenizer, f"{role}_token_id", None) for role in ROLES[name])
        return next((number for number in found if number is not None), None)

    def _ids(self) -> dict[Piece, int]:
        ids: dict[Piece, int] = {}
        # the shorter first: a WordPiece's `.` is in its texts, its `##.` in none
        for token, number in sorted(self.vocab.items(), key=lambda item: (len(item[0]), item[1])):
            if token not in self.special:
                ids.setdefault(self.piece(token), number)
        return ids

    def _normal(self, text: str) -> str:
        return self.backend.normalizer.normalize_str(text) if self.backend.normalizer is not None else text

    def _words(self, text: str, begins: bool) -> list[int] | None:
        """A WordPiece's longest pieces from the left, of a word or of what goes on one."""
        text = self._normal(text)
        split = self.backend.pre_tokenizer
        words = [word for word, _ in split.pre_tokenize_str(text)] if split is not None else text.split()
        ids: list[int] = []
        for place, word in enumerate(words):
            inside = place == 0 and not begins and not _stands_alone(word.encode())
            while word:
                mark = self.prefix if inside else ""
                size = next((size for size in range(len(word), 0, -1) if mark + word[:size] in self.vocab), 0)
                if not size:
                    return None
                ids.append(self.vocab[mark + word[:size]])
                word, inside = word[size:], True
        return ids or None


def _kind(stored: dict[str, Any], vocab: dict[str, int]) -> str:
    if stored["model"]["type"] == "WordPiece":
        return "WordPiece"
    if '"ByteLevel"' in json.dumps([stored["pre_tokenizer"], stored["decoder"]]):
        return "bytes"
    return "SentencePiece" if any(token.startswith(SPACE) for token in vocab) else "plain"


def _letters() -> dict[str, bytes]:
    """How byte-level BPE writes each byte as a letter: printable ones as they are, the others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): bytes([byte]) for byte in plain} | {
        chr(256 + n): bytes([byte]) for n, byte in enumerate(others)
    }


_BYTES = _letters()
_LETTERS = {byte: letter for letter, byte in _BYTES.items()}


def _spelt(text: str) -> str:
    return "".join(_LETTERS[bytes([byte])] for byte in text.encode())


def _byte(token: str) -> bytes | None:
    """SentencePiece's tokens of single bytes: `<0x0A>`."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            return None
    return None


def _single(piece: Piece) -> list[Piece]:
    spaced = b" " * piece.begins + piece.text
    return [Piece(byte == 32, b"" if byte == 32 else bytes([byte])) for byte in spaced]


def _stands_alone(text: bytes) -> bool:
    """Whether a text is signs or Chinese characters, of which each is a word whatever stands before it."""
    characters = text.decode(errors="replace")
    return bool(characters) and all(not c.isalnum() or _is_chinese(c) for c in characters)


def _is_chinese(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"
