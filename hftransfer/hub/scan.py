"""Whether a folder may be published: no secret, nothing that looks like a key, no path of this machine.

detect-secrets is made for source code: it reads the lines of text files alone, and what it finds by entropy in a
checkpoint's folder are the hashes of its manifest.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hftransfer.errors import HFTransferError
from hftransfer.hub.inside import Found, look_into, said
from hftransfer.hub.search import ABSOLUTE, PLACE, Kind, Search

SHOWN = 5  # places in a file that are named; the rest is counted
SECRET_NAME = re.compile(
    r".*(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|(ACCESS|ACCOUNT|PRIVATE|SECRET|STORAGE)_KEY)",
    re.IGNORECASE,
)


def findings(folder: Path, secrets: Sequence[str] = ()) -> list[str]:
    """What must not be published, one line each: `README.md line 12: what looks like a GitHub token`.

    Args:
        folder: as it would be uploaded, with everything below it.
        secrets: values that are looked for exactly, also as base64, UTF-16, escaped for JSON or for a URL.

    Returns:
        Sorted by file, empty when it may be published; never quotes what was found.

    Raises:
        HFTransferError: it is no folder.
    """
    if not folder.is_dir():
        raise HFTransferError(f"folder: {folder.name} is none; give the folder that would be uploaded")
    search = Search(secrets, folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [line for name in names for line in _lines(_opened(search, folder / name, name))]


def own_secrets() -> list[str]:
    """Values that this machine keeps secret: the Hub token in use, and what the environment calls a secret."""
    from huggingface_hub import get_token

    named = [value for name, value in sorted(os.environ.items()) if SECRET_NAME.fullmatch(name)]
    values = [value.strip() for value in (get_token() or "", *named)]
    return list(dict.fromkeys(value for value in values if _telling(value)))


def _telling(value: str) -> bool:
    """Whether a value is recognised where it stands: not short, no path, no word or number that could be anything."""
    plain = len(value) < 16 and (value.isalpha() or value.isdigit())
    return len(value) >= 8 and not plain and not Path(value).is_absolute() and not os.path.exists(value)


def _lines(found: Iterator[Found]) -> Iterator[str]:
    spots: dict[tuple[str, str], dict[str, None]] = {}
    for place, spot, what in found:
        spots.setdefault((place, what), {})[spot] = None
    for (place, what), all_spots in spots.items():
        told = spots.get((place, PLACE), {}) if what == ABSOLUTE else {}
        new = [spot for spot in all_spots if spot not in told]
        yield from (f"{place}{spot and ' '}{spot}: {what}" for spot in new[:SHOWN])
        if len(new) > SHOWN:
            yield f"{place}: {what}, {len(new) - SHOWN:,} more times"


def _opened(search: Search, path: Path, name: str) -> Iterator[Found]:
    place = said(search, name)
    for _, what in search(name.encode("utf-8", "replace"), Kind.TEXT):
        yield Found(place, "", f"{what}, in its name")
    try:
        file = path.open("rb")
    except OSError:
        yield Found(place, "", "cannot be read")
        return
    with file:
        yield from look_into(search, file, name, place)
