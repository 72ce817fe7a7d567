"""Arrays and texts in a form that is small, the same for the same input, and safe inside a page."""

import base64
import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 65_535  # places along an axis: a map 1000 pixels wide can be magnified 65 times before they are seen
# In a page's script element nothing may look like markup, and in a script of its own these two end a line.
_ESCAPES = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


def as_json(value: Any) -> str:
    """Compact JSON that may stand inside a `<script>` element, and in a script as an expression."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def clean(text: str) -> str:
    """Text that UTF-8 can hold: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def array(values: NDArray[Any]) -> list[str]:
    """[kind, base64] of one-dimensional numbers, least significant byte first: `u1`, `u2`, `i4`, `f4` or `f8`."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return [f"{values.dtype.kind}{values.dtype.itemsize}", base64.b64encode(little.tobytes()).decode()]


def codes(values: NDArray[Any], most: int) -> list[str]:
    """Whole numbers from 0 to `most`, in as few bytes as they need."""
    kind = np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.int32
    return array(values.astype(kind))


def places(values: NDArray[Any]) -> dict[str, Any]:
    """One axis of the map, rounded to one of 65 536 places between its least and its largest value."""
    exact = values.astype(np.float64)
    low, high = float(exact.min()), float(exact.max())
    share = (exact - low) / (high - low) if high > low else np.full(len(exact), 0.5)
    return {"low": low, "high": high, "at": array((share * STEPS).round().astype(np.uint16))}


def hash_source(script: str) -> str:
    """The Content-Security-Policy's name for exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
