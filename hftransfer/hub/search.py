"""What must not be published, looked for in bytes: secrets that are known, keys by their shape, paths of a machine.

Every pattern begins with letters that are written out: Python's `re` passes over anything else at gigabytes a second,
which it does not with a group or a condition in front. What may stand before a match is therefore asked afterwards.
"""

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from urllib.parse import quote

import numpy as np

from hftransfer.report import words

TOKENS: dict[str, tuple[bytes, ...]] = {
    "a Hugging Face token": (rb"hf_(?:oauth_|jwt_)?[A-Za-z0-9]{16,}", rb"api_org_[A-Za-z0-9]{16,}"),
    "a GitHub token": (rb"gh[opusr]_[A-Za-z0-9]{36,}", rb"github_pat_\w{22,}"),
    "a GitLab token": (rb"glpat-[\w-]{20,}",),
    "an AWS access key": (rb"AKIA[A-Z2-7]{16}(?![A-Za-z0-9])", rb"ASIA[A-Z2-7]{16}(?![A-Za-z0-9])"),
    "a Google API key": (rb"AIza[\w-]{35}",),
    "an Anthropic key": (rb"sk-ant-[\w-]{16,}",),
    # a hyphen only behind the known kinds: scikit-learn's HTML is full of `sk-toggleable__control-label`
    "an OpenAI key": (rb"sk-[A-Za-z0-9]{20,}", rb"sk-(?:proj|svcacct|admin|None)-[\w-]{16,}"),
    "a Slack token": (rb"xox[a-z]-[A-Za-z0-9-]{10,}",),
    "a Stripe key": (rb"sk_live_[A-Za-z0-9]{16,}", rb"rk_live_[A-Za-z0-9]{16,}"),
    "a private key": (rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",),
    "a password in a URL": (rb"://[^\s/:@?#&=,\"'`<>(){}$\\]*:[^\s/:@?#&,\"'`<>(){}$\\]+@[\w\[]",),
    "a JSON web token": (rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",),
}
SECRET, PLACE, ABSOLUTE = "a secret of this machine", "a path of this machine", "an absolute path"
BETWEEN = b"\0\n"  # texts that are searched at once

_PATTERNS = [(f"what looks like {what}", re.compile(form)) for what, forms in TOKENS.items() for form in forms]
_WORD, _PATH_PART = re.compile(rb"[A-Za-z0-9_]"), re.compile(rb"[\w.~/-]")
# What `words.paths` takes for a path and is none: the rest of a URL, TeX, and what goes on after a bracket or a sign.
_NO_PATH = re.compile(
    rb"\b(?!file:)[a-z][a-z0-9+.-]*://[^\s\"'`<>]+|\$[^$\n]*\\[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]"
    rb"|(?:\w\*+|[])}%+@$^\\])(?=/)"
)
_ANYONES = re.compile(r"~|/\*|/(?:path/to|dev|usr|bin)/")  # on every machine, made up, or a comment
# a regular expression or a template; /data/*.csv is a path
_EXPRESSION = re.compile(r"/.*([\\^$]|\.[*+?]\S|\+/|\{[{%])")


class Kind(Enum):
    """What some bytes are, which decides what is looked for: secrets always, the rest in text."""

    BYTES = "numbers, pictures, sound"  # any short pattern is in them by chance
    ROWS = "data"  # people write of /tmp/x: it counts only as the beginning of a value
    TEXT = "text"
    OURS = "a document of ours"  # no absolute path has any business there


class Search:
    """The search for some secrets, for tokens, and for the paths of this machine and of a folder's surroundings."""

    def __init__(self, secrets: Sequence[str], folder: Path) -> None:
        self.needles = sorted({form for secret in secrets if secret for form in _forms(secret)})
        self.places = _places(folder)
        self._exact = min(map(len, self.needles), default=0) < 7  # too short for whole words of four bytes
        parts = {needle[at : at + 4] for needle in self.needles if not self._exact for at in range(4)}
        self._words = np.sort(np.frombuffer(b"".join(parts), "<u4"))
        self._halves = np.zeros(1 << 16, bool)
        self._halves[self._words & 0xFFFF] = True

    def __call__(self, data: bytes, kind: Kind, low: int = 0, high: int | None = None) -> list[tuple[int, str]]:
        """(position, what) of everything that begins at `low` or later and before `high`, in order."""
        high = len(data) if high is None else high
        found = set(self._secrets(data))
        if kind is not Kind.BYTES:
            found |= {(at, what) for what, form in _PATTERNS for at in _starts(form, data, _WORD)}
            found |= set(self._paths(data, kind))
        if kind is Kind.OURS:
            found |= set(_absolute(data))
        return sorted((at, what) for at, what in found if low <= at < high)

    def _secrets(self, data: bytes) -> Iterator[tuple[int, str]]:
        for needle in self.needles if self._may_hold(data) else ():
            at = data.find(needle)
            while at >= 0:
                yield at, SECRET
                at = data.find(needle, at + 1)

    def _may_hold(self, data: bytes) -> bool:
        """Whether there can be a needle: wherever it lay, one of its words of four bytes would lie aligned.

        One pass at gigabytes a second, however many needles there are.
        """
        if self._exact:
            return True
        found = np.frombuffer(data, "<u4", len(data) // 4)
        likely = self._halves.take(found.view("<u2")[::2])
        return bool(np.isin(found[likely], self._words).any())

    def _paths(self, data: bytes, kind: Kind) -> Iterator[tuple[int, str]]:
        for form, general in self.places:
            for at in _starts(form, data, _PATH_PART):
                begins = at == 0 or data.endswith(BETWEEN, 0, at)
                if begins or not (general and kind is Kind.ROWS):
                    yield at, PLACE


def _starts(form: re.Pattern[bytes], data: bytes, inside: re.Pattern[bytes]) -> Iterator[int]:
    """Where a pattern is found that does not go on from what stands before it."""
    for match in form.finditer(data):
        at = match.start()
        before = data[max(at - 7, 0) : at]
        goes_on = inside.match(before[-1:]) and inside.match(match[0])
        if not goes_on or re.search(rb"\\[nrt]\Z|file://\Z", before):  # `\nhf_...`, a line break that is written out
            yield at


def _absolute(data: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    for line in _NO_PATH.sub(lambda match: b"x" * len(match[0]), data).splitlines(keepends=True):
        if any(map(_is_local, words.paths(line.decode("utf-8", "replace")))):
            yield at, ABSOLUTE
        at += len(line)


def _is_local(path: str) -> bool:
    parts = [part for part in re.split(r"[/\\]", path.removeprefix("file://")) if part]
    named = len(parts) > 1 and re.search(r"[^\W\d]", path)  # neither /s/, a sound, nor /10/20
    return bool(named) and not _ANYONES.match(path) and not _EXPRESSION.match(path)


def _forms(secret: str) -> Iterator[bytes]:
    """A secret as files may hold it; base64 of a longer text depends on where in it the secret begins."""
    plain = secret.encode("utf-8", "surrogateescape")
    yield plain
    yield quote(plain, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    for order in ("utf-16-le", "utf-16-be"):
        yield secret.encode(order, "surrogatepass")
    for skipped, mixed in ((0, 0), (1, 2), (2, 3)):  # letters that hold bits of the text before, too
        whole = (skipped + len(plain)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(skipped) + plain)[mixed:whole]


def _places(folder: Path) -> list[tuple[re.Pattern[bytes], bool]]:
    """(pattern, whether many machines have it) of the folders that may stand in a file that was made here.

    A folder just below the root, /tmp or /root, tells nothing; what lies in it does.
    """
    known = {folder.absolute().parent, Path(tempfile.gettempdir()), *_if_any(Path.home), *_if_any(Path.cwd)}
    found = []
    for path in {*known, *(path.resolve() for path in known)}:
        if not path.is_absolute() or path == path.parent:
            continue
        general = len(path.parts) < 3
        for text in {str(path), path.as_posix(), str(path).replace("\\", "\\\\")}:
            end = rb"[/\\]+[\w.-]" if general else rb"(?![\w-])"
            found.append((re.compile(re.escape(os.fsencode(text)) + end), general))
    return found


def _if_any(place: Callable[[], Path]) -> list[Path]:
    try:
        return [place()]
    except (RuntimeError, OSError):  # a user without a home, a folder that was removed
        return []
