"""Numbers, durations and names as the report and the card say them, and what they must never say."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

SECRET_KEYS = {
    *("token", "hub_token", "hf_token", "push_to_hub_token", "use_auth_token", "password", "api_key"),
    *("storage_options", "download_config", "headers", "authorization", "secret", "credentials"),
}
_TOKEN = re.compile(r"\b(?:hf|api_org)_(?:oauth_|jwt_)?[A-Za-z0-9]{16,}")
_PATH = re.compile(
    r"file://[^\s\"'`<>]+"
    r"|(?<![\w:/.<~-])~?/[^\s/\"'`|<>,;:()]+/[^\s\"'`|<>,;:()]*"  # two parts at least: "n/a" and "/10" are no paths
    r"|(?<!\w)~/[^\s\"'`|<>,;:()]+"
    r"|\b[A-Za-z]:\\[^\s\"'`|<>,;]+"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".gz", ".zst", ".gguf", ".arrow")


def number(value: Any) -> str:
    """A measured number: counts with thousands separators, scores with three decimals, larger ones with one."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def signed(value: float) -> str:
    """A difference, always with its sign (a true minus sign)."""
    sign = "+" if value >= 0 else "\N{MINUS SIGN}"
    return sign + number(abs(value))


def interval(comparison: Mapping[str, Any]) -> str:
    """The 95 % interval of a comparison's difference, `+0.080 to +0.160`; empty where it was not measured."""
    low, high = comparison.get("low"), comparison.get("high")
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def difference(comparison: Mapping[str, Any]) -> float:
    """After minus before, as recorded or else computed."""
    recorded = comparison.get("difference")
    return float(comparison["after"] - comparison["before"]) if recorded is None else float(recorded)


def duration(seconds: float) -> str:
    """`8.4 s`, `5 min 12 s`, `2 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clean(text: object) -> str:
    """Text without control characters (HTML and SVG forbid them) and without anything that looks like a Hub token."""
    return _TOKEN.sub("[token removed]", _CONTROL.sub("", str(text)))


def short(text: object, limit: int = 20) -> str:
    """One line of at most `limit` characters, for the axis of a figure."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def without_paths(text: object) -> str:
    """Text in which every absolute path is replaced by its last part: fit to be published."""
    return _PATH.sub(lambda match: _last_part(match.group().removeprefix("file://")), clean(text))


def paths(text: str) -> list[str]:
    """Every absolute path in a text, as `without_paths` sees them."""
    return _PATH.findall(text)


def one_line(text: object) -> str:
    """Text without paths, on one line."""
    return " ".join(without_paths(text).split())


def hub_id(name: str) -> str | None:
    """The Hub id that a data set's or model's name starts with, or None: a demo, a file or a folder has none."""
    first = re.split(r"[\s(:@,]", name.strip(), maxsplit=1)[0]
    if not _HUB_ID.fullmatch(first) or first.startswith("demo/") or first.lower().endswith(_FILE_SUFFIXES):
        return None
    return None if os.path.exists(first) else first


def public_name(name: object) -> str:
    """A Hub id as it is; a local file or folder by its own name only."""
    text = clean(name).strip()
    if "://" in text:
        text = re.split(r"[?#]", text)[0]  # what is asked of an address may be a signature
    is_file = "/" in text and text.lower().endswith(_FILE_SUFFIXES)
    if " " in text and not is_file and not text.startswith(("/", "~", "./", "../")):
        return text  # a sentence or a name with its configuration; `without_paths` sees to the paths in it
    is_path = text.startswith(("/", "~", "./", "../", "file:")) or "\\" in text or text.count("/") > 1
    if is_path or (text.count("/") == 1 and os.path.exists(text)):
        return _last_part(text)
    return text


def _last_part(path: str) -> str:
    return PureWindowsPath(path.rstrip("/\\")).name or "folder"


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `("training.learning_rate", "5e-05")`, without empty values and without secrets."""
    for key, value in settings.items():
        if str(key).lower() in SECRET_KEYS or value is None or value in ("", [], {}):
            continue
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _setting(value)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(_setting(item) for item in value)
    if isinstance(value, str) and Path(value).is_absolute():
        return clean(Path(value).name)  # where this machine keeps it is nobody's business
    return clean(f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else value)
