"""The Hub's side: who may write where, what lies there, and one commit that brings it to what a folder holds.

`HfApi` is called here only. A token is read by huggingface_hub itself, from HF_TOKEN or from `hf auth login`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hftransfer import runs
from hftransfer.errors import HFTransferError
from hftransfer.hub.asking import asked, endpoint, maybe, one_line

logger = logging.getLogger("hftransfer")

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
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"


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
    if not asked("for a token", get_token):
        raise HFTransferError("repo_id: there is no token; log in with `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    me = asked("who the token belongs to", api.whoami)
    repo_id = repo_id if "/" in repo_id else f"{me.get('name')}/{repo_id}"
    token = (me.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HFTransferError("repo_id: the token may only read; make one that may write, and log in with it")
    target = Target(repo_id, kind, revision or "main", private, create_pr, exists=False)
    info = maybe(f"for {repo_id}", lambda: api.repo_info(repo_id, repo_type=kind))
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
        asked(f"to write to {repo_id}", lambda: api.auth_check(repo_id, repo_type=kind, write=True))
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
        place, given = f"{constants.ENDPOINT}/api/validate-yaml", {"content": content, "repoType": kind}
        answer = get_session().post(place, json=given, headers=build_hf_headers())
        if answer.status_code != 400:  # with 400 it tells what is wrong
            hf_raise_for_status(answer)
        return answer.json()

    wrong = [str(error.get("message")) for error in asked("about the card", ask).get("errors") or []]
    if wrong:
        raise HFTransferError(f"card: the Hub does not take its metadata: {'; '.join(map(one_line, wrong))}")


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

    return maybe(f"for {name}", lambda: HfApi().model_info(name)) is not None


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
    info = maybe(f"for {target.id}", lambda: api.repo_info(target.id, repo_type=target.kind, revision=revision))
    if info is None:
        return {}, None
    if target.private and not info.private:
        raise HFTransferError(f"private: {target.id} has become public meanwhile; nothing is pushed there")
    listed = asked(
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
        found = asked(f"for {runs.MANIFEST}", ask)
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
        asked(
            f"to create {target.id}",
            lambda: api.create_repo(target.id, repo_type=target.kind, private=target.private, exist_ok=True),
        )
        target = replace(target, exists=True)
    found = difference(target, folder, files)
    if found.parent is None and target.create_pr:
        raise HFTransferError(f"revision: {target.id} has no branch '{target.revision}' to open a pull request for")
    if found.parent is None:
        asked(
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
    asked(f"to take the files of {target.id}", lambda: api.preupload_lfs_files(target.id, additions, **place), tries=1)

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
        return asked(f"to open a pull request in {target.id}", send, tries=1), found
    url = asked(f"to commit to {target.id}", send, meanwhile=arrived)
    left = difference(target, folder, files)
    if left.added or left.deleted:
        raise HFTransferError(f"repo_id: {target.id} is not what was pushed; another has written there since")
    return url, found
