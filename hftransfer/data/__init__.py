"""Data: what a spec means (`spec`), reading and dividing it (`load`), the embedded data (`demo`), masked text.

The names below are imported on first use, so that `import hftransfer.data` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hftransfer.data.spec import DataSpec, Spec, display_name, parse

if TYPE_CHECKING:
    from hftransfer.data.cards import describe, fingerprint
    from hftransfer.data.load import labelled, target, unlabelled
    from hftransfer.data.masked_text import MaskedTextCollator, encode_documents

__all__ = [
    "DataSpec",
    "MaskedTextCollator",
    "Spec",
    "describe",
    "display_name",
    "encode_documents",
    "fingerprint",
    "labelled",
    "parse",
    "target",
    "unlabelled",
]

_HOMES = {
    "describe": "cards",
    "fingerprint": "cards",
    "labelled": "load",
    "target": "load",
    "unlabelled": "load",
    "MaskedTextCollator": "masked_text",
    "encode_documents": "masked_text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hftransfer.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hftransfer.data.{_HOMES[name]}"), name)
