"""The one exception that users see, and the nearest right name for a wrong one."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class HFTransferError(ValueError):
    """A mistake in what the user gave, told in one line: what was named, what is wrong, what to do.

    The front door prints it without a traceback; in Python it is an ordinary `ValueError`.
    """


def nearest(name: object, options: Iterable[object], prefix: str = "") -> str:
    """Ends an error message: `; did you mean 'x'?` when something is close, else the known names.

    `prefix` comes before the suggested name, where the user must write it.
    """
    names = [str(option) for option in options]
    lowered = {option.lower(): option for option in names}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{prefix}{lowered[close[0]]}'?"
    return f"; known: {', '.join(names)}" if names else ""


@contextlib.contextmanager
def renamed(key: str, to: str) -> Iterator[None]:
    """Errors about `key` name `to` instead: the room that found them knows the general name only."""
    try:
        yield
    except HFTransferError as error:
        text = str(error)
        raise HFTransferError(f"{to}{text.removeprefix(key)}" if text.startswith(f"{key}:") else text) from error
