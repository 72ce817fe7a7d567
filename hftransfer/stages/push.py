"""`push`: to the Hub, what a run or a stage left."""

import os
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hftransfer.final import PARTS
from hftransfer.runs import Published
from hftransfer.signatures import OneOf, validate


def _place(value: Any) -> Any:
    value = getattr(value, "path", value)  # a Result
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def push(
    folder: Annotated[
        str,
        BeforeValidator(_place),
        Field(min_length=1, description="a run's folder, a stage's or a Result; in a recipe the run's"),
    ],
    repo_id: Annotated[str, Field(description="NAMESPACE/NAME on the Hub, or NAME under your own")],
    *,
    private: Annotated[bool, Field(description="a new repository is seen by its owners alone")] = True,
    revision: Annotated[str | None, Field(description="branch, made where it is missing; null: main")] = None,
    create_pr: Annotated[bool, Field(description="open a pull request instead of committing")] = False,
    parts: Annotated[
        list[Annotated[str, OneOf(PARTS)]], Field(description="folders beside the checkpoint that go along")
    ] = [],  # noqa: B006 (never changed)
    license: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
            description="as the Hub calls it, like mit; null: that of the checkpoint which this one goes on from",
        ),
    ] = None,
    message: Annotated[str | None, Field(min_length=1, description="of the commit; null: the recipe's name")] = None,
    dry_run: Annotated[bool, Field(description="look at everything and list the files; upload nothing")] = False,
) -> Published | None:
    """Publishes a checkpoint, clusters or vectors on the Hugging Face Hub, with their card, in one commit.

    What goes is built anew from the verified folder: weights, config, reader and code of an architecture of ours;
    clusters as skops; vectors as a data set that `load_dataset` reads; the recipe, the metrics and the report's
    pictures that show no row of the data. It is looked through for tokens, keys and paths of this machine. What is on
    the Hub already is not sent again, and what an earlier push left there and is no more is deleted.

    The token is read from HF_TOKEN, or from where `hf auth login` left it.

    Returns:
        The commit's URL and all files with their sizes; None on all processes but the main one, which alone pushes.

    Raises:
        HFTransferError: in one line, for anything wrong with the folder, the token, the name or the way to the Hub.
            The folder stays as it was.
    """
    given = validate(push, locals(), "push: ")
    from hftransfer import processes

    if not processes.is_main():
        return None
    from hftransfer import hub
    from hftransfer.errors import HFTransferError

    try:
        return hub.publish(given)
    except HFTransferError as error:
        told = str(error)
    raise HFTransferError(f"push: {told}")
