"""What PEFT says: its errors in one line of ours, its warnings not at all."""

import contextlib
import warnings
from collections.abc import Iterator

from hftransfer.errors import HFTransferError


@contextlib.contextmanager
def told(key: str = "lora") -> Iterator[None]:
    """PEFT's errors as one line about `key`."""
    try:
        yield
    except HFTransferError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ImportError) as error:
        reason = first_line(error)
        hint = "; choose another method, or other lora.target_modules" if "support" in reason else ""
        raise HFTransferError(f"{key}: {reason.rstrip('.')}{hint}") from error


def first_line(error: Exception) -> str:
    """The first line of an error that is not the heading of others."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().endswith(":")]
    return (lines or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """PEFT warns of what it then does rightly (a layer that stores its weights transposed), and of its own calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
