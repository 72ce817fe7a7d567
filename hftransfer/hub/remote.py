"""The Hub's side: who may write where, what lies there, and one commit that brings it to what a folder holds.

`HfApi` is called here only. A token is read by huggingface_hub itself, from HF_TOKEN or from `hf auth login`.
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hftransfer import runs
from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")
Value = TypeVar("Value")

TRIES = 5  # of a request that failed for a reason that may pass
LONGEST_WAIT = 300  # seconds that a Hub which is asked too often may have us wait
SILENCE = 120.0  # seconds without a byte after which a connection counts as broken
STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
RATE = re.compile(r"\bt=(\d+)")
WRITERS = ("write", "admin", "contributor")  # roles in an organisation
SHARDS = re.compile(r"model-\d{5}-of-\d{5}\.safetensors|model\.safetensors(\.index\.json)?")  # beside a config
# what git takes for the name of a branch
BRANCH = re.compile(r"(?![./-])(?!.*(\.\.|//|@\{|/\.|\.lock(/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![./])")


@dataclass(frozen=True)
class Target:
    """A place on the Hub, and what it was when it was looked at."""

    id: str
    kind: str  # model or dataset
    revision: str
    private: bool
    create_pr: bool
    exists: bool

    @property
    def url(self) -> str:
        return f"{_endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"


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


def checked(repo_id: str, *, kind: str, private: bool, revision: str | None, create_pr: bool) -> Target:
    """The place that a name means, after everything that can be asked without writing has been asked.

    Raises:
        HFTransferError: the Hub is switched off or cannot be reached, there is no token, it may not write there, the
            name is none, or the repository is there and not what was asked for.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if constants.HF_HUB_OFFLINE:
        raise HFTransferError("repo_id: HF_HUB_OFFLINE=1 keeps everything off the Hub; unset it to publish")
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise HFTransferError(
            f"repo_id: '{repo_id}' is no name of a repository; write NAMESPACE/NAME of at most 96 letters, digits, "
            "'-', '_' and '.', which neither begin nor end it"
        ) from None
    if revision is not None and not BRANCH.fullmatch(revision):
        raise HFTransferError(f"revision: '{revision}' is no name of a branch, as git takes them")
    if not _asked("for a token", get_token):
        raise HFTransferError("repo_id: there is no token; log in with `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    me = _asked("who the token belongs to", api.whoami)
    repo_id = repo_id if "/" in repo_id else f"{me.get('name')}/{repo_id}"
    token = (me.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HFTransferError("repo_id: the token may only read; make one that may write, and log in with it")
    target = Target(repo_id, kind, revision or "main", private, create_pr, exists=False)
    info = _maybe(f"for {repo_id}", lambda: api.repo_info(repo_id, repo_type=kind))
    if info is None:
        if create_pr:
            raise HFTransferError(f"create_pr: there is no {repo_id} that a pull request could be opened in")
        _check_right(me, token, repo_id.split("/")[0])
        return target
    if private and not info.private:
        raise HFTransferError(
            f"private: {repo_id} is there and public, and what is pushed would be, too; say private: false"
        )
    if not create_pr:
        _asked(f"to write to {repo_id}", lambda: api.auth_check(repo_id, repo_type=kind, write=True))
        if info.private and not private:
            logger.info("%s is there and private, and stays so", repo_id)
    return replace(target, exists=True, private=bool(info.private))


def _check_right(me: Mapping[str, Any], token: Mapping[str, Any], namespace: str) -> None:
    """Whether a token may make a repository in a namespace, as far as `whoami` tells."""
    orgs = {str(org.get("name")): org.get("roleInOrg") for org in me.get("orgs") or []}
    known = [str(me.get("name")), *orgs]
    if namespace.lower() not in [name.lower() for name in known]:
        raise HFTransferError(
            f"repo_id: '{namespace}' is owned by another; this token may write to: {', '.join(known)}"
        )
    if namespace in orgs and orgs[namespace] not in (*WRITERS, None):
        raise HFTransferError(f"repo_id: your role in '{namespace}' is {orgs[namespace]}, which may not write")
    if token.get("role") == "fineGrained":
        scopes = (token.get("fineGrained") or {}).get("scoped") or []
        own = [one for one in scopes if (one.get("entity") or {}).get("name") == namespace]
        if not any("repo.write" in (one.get("permissions") or []) for one in own):
            raise HFTransferError(
                f"repo_id: the fine-grained token may not write to repositories of '{namespace}'; give it repo.write"
            )


def check_card(content: str, kind: str) -> None:
    """Asks the Hub whether a card's block of metadata is valid, which it asks again when the card is pushed.

    Raises:
        HFTransferError: with what is wrong.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def ask() -> Any:
        place, asked = f"{constants.ENDPOINT}/api/validate-yaml", {"content": content, "repoType": kind}
        answer = get_session().post(place, json=asked, headers=build_hf_headers())
        if answer.status_code != 400:  # with 400 it tells what is wrong
            hf_raise_for_status(answer)
        return answer.json()

    wrong = [str(error.get("message")) for error in _asked("about the card", ask).get("errors") or []]
    if wrong:
        raise HFTransferError(f"card: the Hub does not take its metadata: {'; '.join(map(_one_line, wrong))}")


def licence_of(base: str) -> dict[str, str]:
    """What a checkpoint's card on the Hub says of its licence; empty where there is none or it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        data = getattr(HfApi().model_info(base, timeout=10), "card_data", None)
    except Exception:  # of a checkpoint that was read from this machine, the Hub need not know anything
        return {}
    return licence_in({} if data is None else data.to_dict())


def licence_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The licence in a card's metadata."""
    names = ("license", "license_name", "license_link")
    return {name: str(metadata[name]) for name in names if isinstance(metadata.get(name), str)}


def has_model(name: str) -> bool:
    """Whether the Hub has a model of this name that the token may read."""
    from huggingface_hub import HfApi

    return _maybe(f"for {name}", lambda: HfApi().model_info(name)) is not None


@dataclass(frozen=True)
class Difference:
    """What a commit has to change, on what commit."""

    parent: str | None  # None: the repository or the branch is not there yet
    added: list[str]
    deleted: list[str]


def difference(target: Target, folder: Path, files: Sequence[str]) -> Difference:
    """What of a built folder's files the Hub lacks or has otherwise, and what an earlier push left and is no more.

    That is: what its `manifest.json` lists, and beside new weights those in other shards, which a network would
    be loaded from, too. Files of somebody else stay.
    """
    remote, parent = _tree(target) if target.exists else ({}, None)
    listed = runs.read_json(folder / runs.MANIFEST)["files"]
    added = [name for name in files if not _same(folder / name, listed.get(name, {}), remote.get(name))]
    before = _manifest(target, parent) if parent and runs.MANIFEST in remote else set()
    sharded = any(SHARDS.fullmatch(name) for name in files)
    old = {name for name in remote if name in before or (sharded and SHARDS.fullmatch(name))}
    return Difference(parent, added, sorted(old - set(files)))


def _tree(target: Target) -> tuple[dict[str, Any], str | None]:
    """The files of a revision by name, and its commit."""
    from huggingface_hub import HfApi

    api, revision = HfApi(), target.revision
    info = _maybe(f"for {target.id}", lambda: api.repo_info(target.id, repo_type=target.kind, revision=revision))
    if info is None:
        return {}, None
    if target.private and not info.private:
        raise HFTransferError(f"private: {target.id} has become public meanwhile; nothing is pushed there")
    listed = _asked(
        f"what is in {target.id}",
        lambda: list(api.list_repo_tree(target.id, repo_type=target.kind, revision=info.sha, recursive=True)),
    )
    return {entry.path: entry for entry in listed if hasattr(entry, "blob_id")}, info.sha


def _same(path: Path, facts: Mapping[str, Any], remote: Any) -> bool:
    """Whether a file is the one that the Hub lists, by its hash: git's of a small one, sha256 of a large one.

    The latter is in the manifest, whose `facts` these are.
    """
    from huggingface_hub.utils.sha import git_hash

    if remote is None or remote.size != path.stat().st_size:
        return False
    if remote.lfs is not None:
        return bool(remote.lfs.sha256 == facts.get("sha256"))
    return bool(remote.blob_id == git_hash(path.read_bytes()))


def _manifest(target: Target, revision: str) -> set[str]:
    """The files that an earlier push listed."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def ask() -> Any:
        place = hf_hub_url(target.id, runs.MANIFEST, repo_type=target.kind, revision=revision)
        answer = get_session().get(place, headers=build_hf_headers(), timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        hf_raise_for_status(answer)
        return answer.json()

    try:
        found = _asked(f"for {runs.MANIFEST}", ask)
    except ValueError:  # somebody else's file of that name
        return set()
    ours = isinstance(found, dict) and "hftransfer" in found and isinstance(found.get("files"), dict)
    return set(found["files"]) | {runs.MANIFEST} if ours else set()


def commit(target: Target, folder: Path, files: Sequence[str], message: str) -> tuple[str, Difference]:
    """Makes one commit of a folder, or none where the Hub has it already; creates what is missing for it.

    The commit names its parent, so that another's commit in between is not overwritten. Where its answer is lost, the
    Hub is asked whether it is there.

    Returns:
        The URL of the commit, the pull request or, where nothing changed, the repository; and what was changed.

    Raises:
        HFTransferError: in one line; the Hub then has the old commit, and perhaps a new repository without content.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    if not target.exists:
        _asked(
            f"to create {target.id}",
            lambda: api.create_repo(target.id, repo_type=target.kind, private=target.private, exist_ok=True),
        )
        target = replace(target, exists=True)
    found = difference(target, folder, files)
    if found.parent is None and target.create_pr:
        raise HFTransferError(f"revision: {target.id} has no branch '{target.revision}' to open a pull request for")
    if found.parent is None:
        _asked(
            f"to make the branch {target.revision}",
            lambda: api.create_branch(target.id, repo_type=target.kind, branch=target.revision, exist_ok=True),
        )
        found = difference(target, folder, files)
    if not found.added and not found.deleted:
        return target.url, found
    operations = [
        *(CommitOperationAdd(name, folder / name) for name in found.added),
        *(CommitOperationDelete(name) for name in found.deleted),
    ]
    additions = [one for one in operations if isinstance(one, CommitOperationAdd)]
    place = {"repo_type": target.kind, "revision": target.revision, "create_pr": target.create_pr}
    _asked(
        f"to take the files of {target.id}", lambda: api.preupload_lfs_files(target.id, additions, **place), tries=1
    )

    if ignored := [one.path_in_repo for one in additions if one._should_ignore]:
        raise HFTransferError(f"repo_id: the .gitignore of {target.id} keeps {ignored[0]} out; change it there")

    def send() -> str:
        made = api.create_commit(target.id, operations, commit_message=message, parent_commit=found.parent, **place)
        return str(made.pr_url if target.create_pr else made.commit_url)

    def arrived() -> str | None:
        """Of a commit whose answer did not come; a pull request that is opened twice cannot be told from one."""
        now = difference(target, folder, files)
        return target.url if not now.added and not now.deleted else None

    if target.create_pr:
        return _asked(f"to open a pull request in {target.id}", send, tries=1), found
    url = _asked(f"to commit to {target.id}", send, meanwhile=arrived)
    left = difference(target, folder, files)
    if left.added or left.deleted:
        raise HFTransferError(f"repo_id: {target.id} is not what was pushed; another has written there since")
    return url, found


def _maybe(what: str, ask: Callable[[], Value]) -> Value | None:
    """An answer, or None where the Hub says that there is no such thing."""
    try:
        return _asking(what, ask)
    except Problem as problem:
        if problem.is_missing:
            return None
        told = str(problem)
    return _give_up(what, told)


def _asked(
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
            problem = _problem(error)
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


def _endpoint() -> str:
    """Where the Hub is, without a password for the way there."""
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def _problem(error: BaseException) -> Problem:
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
            return Problem(f"{_endpoint()} cannot be reached, or broke off; check the network", 0, None, "")
        chain = chain.__cause__
    told = _one_line(error) if last is error else f"{_one_line(error)} ({_one_line(last)})"
    return Problem(told, 400, None, "")


def _refusal(error: BaseException, response: Any) -> Problem:
    headers = response.headers
    said = _one_line(headers.get("X-Error-Message") or getattr(error, "server_message", None) or "")
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


def _one_line(text: object) -> str:
    """What is asked of an address, which may be signed, is left out."""
    return " ".join(re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", str(text)).split())[:300]
