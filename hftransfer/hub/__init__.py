"""The Hugging Face Hub: what a finished run or stage left is built anew, looked through, and pushed in one commit."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import runs
from hftransfer.errors import HFTransferError, renamed
from hftransfer.hub import contents, remote, scan
from hftransfer.hub.contents import Kind, Source
from hftransfer.report.card import card_data, linked_base, model_name, use_of
from hftransfer.report.record import RunRecord
from hftransfer.runs import Published

WORK = ".push.partial"  # where it is built, in the folder that it is built of


def publish(given: Mapping[str, Any]) -> Published:
    """Does what `push` was asked for; `given` are its options.

    Raises:
        HFTransferError: in one line. What is on this machine stays as it was, whatever happens.
    """
    source = contents.find(given["folder"])
    contents.check(source, given["parts"])
    target = checked(given, source.kind)
    licence = _licence(given["license"], source.record, source.kind)
    _check_bases(source, given["parts"])
    work = source.root / WORK
    with renamed("output_dir", "folder"), runs.alone(_lock(source)):
        shutil.rmtree(work, ignore_errors=True)
        try:
            files = contents.build(source, work, repo_id=target.id, wanted=given["parts"], licence=licence)
            _refuse(scan.findings(work, scan.own_secrets()))
            remote.check_card((work / "README.md").read_text(encoding="utf-8"), target.kind)
            if given["dry_run"]:
                url, found = target.url, remote.difference(target, work, list(files))
            else:
                message = given["message"] or f"{model_name(source.record)}, by hftransfer"
                url, found = remote.commit(target, work, list(files), message)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Published(target.id, url, files, found.added, found.deleted, given["dry_run"])


def checked(given: Mapping[str, Any], kind: Kind) -> remote.Target:
    """Where a result of a kind would go: everything that can be asked before there is one."""
    return remote.checked(
        given["repo_id"],
        kind=_repo_type(kind),
        private=given["private"],
        revision=given["revision"],
        create_pr=given["create_pr"],
    )


def check_draft(given: Mapping[str, Any], kind: Kind, record: RunRecord) -> None:
    """Looks at what is known of card and recipe before anything has run: for secrets, and whether the Hub takes it.

    Raises:
        HFTransferError: it could not be published, however the run ends.
    """
    with tempfile.TemporaryDirectory(prefix="hftransfer-push-") as work:
        runs.write_json(Path(work) / "recipe.yaml", contents.public(record.recipe))
        _refuse(scan.findings(Path(work), scan.own_secrets()))
    licence = _licence(given["license"], record, kind)
    if kind == "vectors":
        from huggingface_hub import DatasetCardData

        data: Any = DatasetCardData(**licence)
    else:
        data = card_data(record, use_of(record, record.folder), licence)
    remote.check_card(f"---\n{data.to_yaml()}\n---\n", _repo_type(kind))


def _repo_type(kind: Kind) -> str:
    return "dataset" if kind == "vectors" else "model"


def _licence(given: str | None, record: RunRecord, kind: Kind) -> dict[str, str]:
    """The one that was asked for; of a checkpoint without, that of the checkpoint whose weights it goes on from."""
    base = linked_base(record) if kind == "checkpoint" else None
    if given is not None or base is None:
        return {} if given is None else {"license": given}
    return remote.licence_of(base) or _licence_on_disk(base)


def _licence_on_disk(base: str) -> dict[str, str]:
    from huggingface_hub import metadata_load

    from hftransfer import models

    folder = models.on_disk(base)
    if folder is None or not (folder / "README.md").is_file():
        return {}
    return remote.licence_in(metadata_load(folder / "README.md") or {})


def _check_bases(source: Source, parts: Sequence[str]) -> None:
    """An adapter without its base is of no use to anybody."""
    for folder in (source.files, *(source.files / part for part in parts)):
        if base := contents.base_of_adapter(folder):
            check_base(base)


def check_base(base: str) -> None:
    """Raises HFTransferError where the Hub does not have what an adapter is on."""
    if not remote.has_model(base):
        raise HFTransferError(
            f"folder: the adapter is on '{base}', which the Hub does not have; publish that first, or a merged "
            "checkpoint (merge: true)"
        )


def _refuse(findings: Sequence[str]) -> None:
    if findings:
        rest = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
        raise HFTransferError(f"folder: not published, for it holds {'; '.join(findings[:3])}{rest}")


def _lock(source: Source) -> Path:
    """The lock of whoever writes there: of a run its own, of a stage that of its `open_stage`."""
    is_run = (source.root / "recipe.yaml").is_file()
    return source.root / ".lock" if is_run else source.root.parent / f".{source.root.name}.lock"
