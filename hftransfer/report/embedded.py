"""How vectors were made, and the line of Python that makes more of them."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer import runs
from hftransfer.data.spec import VECTORS
from hftransfer.report import words

_ENDING = re.compile(r"[`<>|\[\]]")  # what could end a block of code, or be read as markup
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class Embedded:
    """What a folder that `embed` left tells of itself."""

    info: Mapping[str, Any]  # vectors.json
    settings: Mapping[str, Any]  # options of the verb

    @property
    def kind(self) -> str:
        """text, image or sound."""
        return str(self.info.get("kind") or "text")

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint's Hub id; None of a folder, which is told by its last part, and of an object."""
        name = str(self.info.get("model") or "")
        asked = self.settings.get("model") == name
        return name if asked and _HUB_ID.fullmatch(name) and not os.path.exists(name) else None

    @property
    def prompt(self) -> str | None:
        """What was put before each text; None where the checkpoint has nothing of the kind."""
        prompt = self.info.get("prompt") or ""
        return prompt if prompt or self.settings.get("prompt") is not None else None

    def options(self) -> dict[str, Any]:
        """Of `hftransfer.embed`: what the checkpoint would settle by itself, too."""
        info, own = self.info, self.info.get("pooling") == "own"
        found = {
            "pooling": None if own else info.get("pooling"),
            "layers": list(info.get("layers") or ()) or None,
            "normalize": info.get("normalized"),
            "prompt": self.prompt,
            "truncate_dim": self.settings.get("truncate_dim"),
            "max_length": info.get("max_length"),
            "bf16": self.settings.get("bf16"),
        }
        return {name: value for name, value in found.items() if value is not None}

    def call(self, data: str) -> str:
        """`hftransfer.embed(...)` of the data that the expression `data` names."""
        model = literal(self.checkpoint or str(self.info.get("model") or "checkpoint"))
        unknown = "" if self.checkpoint else "  # the checkpoint's folder, or its id on the Hub"
        lines = [f"{model},{unknown}", f"{data},", 'returns="array",']
        lines += [f"{name}={_python(value)}," for name, value in self.options().items()]
        return "hftransfer.embed(\n    " + "\n    ".join(lines) + "\n)"


def read(folder: Path) -> Embedded | None:
    """What `embed` left in a stage's folder; None where it left nothing."""
    info = runs.read_json(folder / VECTORS)
    return Embedded(info, runs.read_json(folder / "evidence.json").get("settings") or {}) if info else None


def behind(clusters: Path) -> Embedded | None:
    """What the clusters in a stage's folder were made of; None of a table's numbers, or where it lies no more.

    A run folder may have moved since: the stage of the same name beside the clusters counts, too.
    """
    data = (runs.read_json(clusters / "evidence.json").get("settings") or {}).get("data")
    path = data.get("path") if isinstance(data, Mapping) else data
    if not isinstance(path, str):
        return None
    return read(Path(path).expanduser()) or read(clusters.resolve().parent / Path(path).name)


def literal(text: str) -> str:
    """A Python string, without a path and without what could end the block of code around it."""
    written = json.dumps(words.without_paths(text), ensure_ascii=False)
    return _ENDING.sub(lambda mark: f"\\x{ord(mark.group()):02x}", written)


def _python(value: Any) -> str:
    return literal(value) if isinstance(value, str) else repr(value)
