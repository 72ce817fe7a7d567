"""What a checkpoint's folder holds that goes with it: into a run's `final/`, and from there to the Hub."""

import os
import re
import shutil
from collections.abc import Container, Sequence
from pathlib import Path

PARTS = ("adapter", "discriminator", "pretraining", "raw")  # folders beside a checkpoint, each a checkpoint of its own
SHIPPED = re.compile(  # by allow-list: records, pickles and what a library leaves by itself stay where they are
    r".*\.(safetensors|jinja|model|txt)|samples\.png|(config|generation_config|tokenizer|tokenizer_config|vocab|merges|"
    r"special_tokens_map|added_tokens|preprocessor_config|adapter_config|base_config|model\.safetensors\.index)\.json"
)


def fill(
    folder: Path, checkpoint: Path, parts: Sequence[str], *, known: Container[str] | None = None, link: bool = False
) -> None:
    """Makes `folder` with a checkpoint's files and those of its parts that there are.

    With `known` only files of these names (`adapter/config.json`), none that came there later. With `link` large files
    are not copied where the file system can give them a second name.
    """
    for part in ("", *(part for part in parts if (checkpoint / part).is_dir())):
        (folder / part).mkdir()
        for path in (checkpoint / part).iterdir():
            listed = known is None or path.relative_to(checkpoint).as_posix() in known
            if listed and path.is_file() and not path.is_symlink() and SHIPPED.fullmatch(path.name):
                take(path, folder / part / path.name, link=link)


def take(path: Path, target: Path, *, link: bool) -> None:
    """Copies a file, or gives it a second name."""
    if link:
        try:
            return os.link(path, target)
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(path, target)
    return None
