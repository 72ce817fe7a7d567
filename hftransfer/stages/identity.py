"""What makes two runs of a stage the same: its settings, its model's weights, its data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hftransfer
from hftransfer import runs
from hftransfer.signatures import options

PLACES = {"output_dir"}  # where a result lies does not change it


def identity(
    stage: Callable[..., Any],
    given: dict[str, Any],
    *,
    models: Sequence[str],
    data: Sequence[str],
    folders: Sequence[str] = (),
) -> dict[str, Any]:
    """The JSON-able identity of a call. Options named in `models`, `data` and `folders` count by content, not by name.

    A parent's weights count, so a changed parent stage changes every stage after it.
    """
    from hftransfer import models as models_room
    from hftransfer.data import fingerprint

    def content(name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in models:
            return models_room.identity(value)
        if name in data:
            return [fingerprint(spec, name) for spec in (value if isinstance(value, list) else [value])]
        if name in folders:  # of finished stages
            return runs.fingerprint(runs.read_json(Path(value) / runs.MANIFEST).get("files"))
        return value

    names = [option.name for option in options(stage) if option.name not in PLACES]
    found = {name: content(name, given[name]) for name in names}
    return {"stage": stage.__name__, "version": hftransfer.__version__, **found}
