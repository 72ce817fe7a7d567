"""Questions to the Hub: asked again where that may help, bounded in time, and their failures told in one line."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")
Value = TypeVar("Value")

TRIES = 5  # of a request that failed for a reason that may pass
LONGEST_WAIT = 300  # seconds that a Hub which is asked too often may have us wait
SILENCE = 120.0  # seconds without a byte after which a connection counts as broken
STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
RATE = re.compile(r"\bt=(\d+)")


class Problem(Exception):
    """What the Hub or the way to it answered, in words; `status` 0 where no answer came."""

    def __init__(self, told: str, status: int, wait: float | None, code: str) -> None:
        super().__init__(told)
        self.status, self.wait, self.code = status, wait, code

    @property
    def may_pass(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def is_missing(self) -> bool:
        return self.status == 404 or self.code == "RepoNotFound"


def maybe(what: str, ask: Callable[[], Value]) -> Value | None:
    """An answer, or None where the Hub says that there is no such thing."""
    try:
        return _asking(what, ask)
    except Problem as problem:
        if problem.is_missing:
            return None
        told = str(problem)
    return _give_up(what, told)


def asked(
    what: str, ask: Callable[[], Value], *, tries: int = TRIES, meanwhile: Callable[[], Value | None] | None = None
) -> Value:
    """An answer. The error is raised with no exception behind it, whose frames would hold the token."""
    try:
        return _asking(what, ask, tries, meanwhile)
    except Problem as problem:
        told = str(problem)
    return _give_up(what, told)


def _give_up(what: str, told: str) -> NoReturn:
    raise HFTransferError(f"repo_id: the Hub was asked {what}: {told}")


def _asking(
    what: str, ask: Callable[[], Value], tries: int = TRIES, meanwhile: Callable[[], Value | None] | None = None
) -> Value:
    """Asks until there is an answer, or a reason that will not pass.

    `meanwhile` finds the answer to a request that may have been done though it failed.
    """
    unsure = False
    for number in range(tries):
        try:
            with _patience():
                return ask()
        except HFTransferError:
            raise
        except Exception as error:
            problem = problem_of(error)
        # a refusal (412: the parent is no longer the last commit) may be of our own commit, whose answer was lost
        if meanwhile is not None and (problem.may_pass or unsure):
            unsure = True
            with contextlib.suppress(HFTransferError):
                if (found := meanwhile()) is not None:
                    return found
        if not problem.may_pass or number == tries - 1 or (problem.wait or 0) > LONGEST_WAIT:
            raise problem
        wait = problem.wait if problem.wait is not None else 2.0**number
        logger.info("the Hub was asked %s: %s; again in %g s", what, problem, wait)
        time.sleep(wait)
    raise AssertionError("a loop of no tries")


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """A connection on which nothing comes is not waited for without end, as huggingface_hub does."""
    from huggingface_hub import get_session

    client = get_session()
    before = client.timeout
    client.timeout = SILENCE
    try:
        yield
    finally:
        if not client.is_closed:
            client.timeout = before


def endpoint() -> str:
    """Where the Hub is, without a password for the way there."""
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def problem_of(error: BaseException) -> Problem:
    """Any failure of a request in words, without what the request carried."""
    chain: BaseException | None = error
    last = error
    while chain is not None:
        last = chain
        response = getattr(chain, "response", None)
        if response is not None:
            return _refusal(chain, response)
        if isinstance(chain, TimeoutError) or "Timeout" in type(chain).__name__:
            return Problem("no answer in time; try again later", 0, None, "")
        if status := STATUS.search(str(chain)):  # hf_xet's own requests, which it tells of in words
            return _answered(int(status[1]), "", None, "")
        if type(chain).__module__.startswith(("httpx", "httpcore")) or isinstance(chain, ConnectionError):
            return Problem(f"{endpoint()} cannot be reached, or broke off; check the network", 0, None, "")
        chain = chain.__cause__
    told = one_line(error) if last is error else f"{one_line(error)} ({one_line(last)})"
    return Problem(told, 400, None, "")


def _refusal(error: BaseException, response: Any) -> Problem:
    headers = response.headers
    said = one_line(headers.get("X-Error-Message") or getattr(error, "server_message", None) or "")
    limit = RATE.search(headers.get("RateLimit", ""))  # how the Hub says it; others by Retry-After
    wait = limit[1] if limit else headers.get("Retry-After", "")
    seconds = float(wait) if wait.replace(".", "", 1).isdigit() else None
    return _answered(int(response.status_code), said, seconds, headers.get("X-Error-Code") or "")


def _answered(status: int, said: str, seconds: float | None, code: str) -> Problem:
    """An answer that is an error: what the Hub said of it, and what it means as a rule."""
    note = f" ({said})" if said else ""
    told = {
        401: f"it does not know the token{note}; log in anew with `hf auth login`, or set HF_TOKEN",
        403: f"it refuses{note}" if said else "it refuses; the token may not write there",
        404: f"there is no such thing{note}",
        409: f"it is at odds with what is there{note}; push again in a moment",
        412: f"another has committed meanwhile{note}; push again",
        429: f"too many requests{note}" + (f"; it asks to wait {seconds:g} s" if seconds is not None else ""),
    }
    rest = f"it failed{note}" if status >= 500 else f"it refuses{note}"
    return Problem(f"{told.get(status, rest)} [{status}]", status, seconds, code)


def one_line(text: object) -> str:
    """What is asked of an address, which may be signed, is left out."""
    return " ".join(re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", str(text)).split())[:300]
