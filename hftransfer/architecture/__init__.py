"""The same network with changed parts: what its weights can carry over is carried over, and all of it is counted.

The options are `architecture`'s signature. Imports no torch, so that recipes are validated at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

Block = Annotated[int, Field(ge=0)]


def architecture(
    *,
    layers: Annotated[
        Annotated[int, Field(ge=1)] | Literal["every_second"] | Annotated[list[Block], Field(min_length=1)] | None,
        Field(
            description="blocks to keep: so many from the input on; every_second: 0, 2, 4, ...; or their numbers (of "
            "BERT's 12, DistilBERT took 0, 2, 4, 7, 9, 11)"
        ),
    ] = None,
    reinitialize_top: Annotated[
        int, Field(ge=0, description="so many of the kept blocks, from the top, and a pooler begin anew")
    ] = 0,
    head: Annotated[
        Literal["kept", "new", "widened"] | None,
        Field(
            description="the trained classification head there is. kept: its labels must be the data's; new: it is "
            "replaced; widened: labels that it knows keep their rows; null: kept where the labels are the same"
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, Field(description="folder or Hub id of another tokenizer: embeddings of tokens both have are kept")
    ] = None,
    num_channels: Annotated[
        int | None, Field(ge=1, description="of the images that it sees: 1 is grey, 3 RGB")
    ] = None,
    image_size: Annotated[
        int | None, Field(ge=1, description="pixels a side: position embeddings are interpolated")
    ] = None,
    is_decoder: Annotated[
        bool | None, Field(description="true: no token sees a later one; false: every token sees all of them")
    ] = None,
    config: Annotated[
        dict[str, Any], Field(description="other fields of the checkpoint's config.json, by their own names")
    ] = {},  # noqa: B006 - never changed
) -> None:
    """Parts of a network that change before it is trained; only the signature is used.

    Top blocks that begin anew: Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning, arXiv:2006.05987. Fewer
    blocks: Sanh et al. 2019, DistilBERT, arXiv:1910.01108. An encoder as a decoder: Rothe et al. 2020, Leveraging
    Pre-trained Checkpoints for Sequence Generation Tasks, arXiv:1907.12461.
    """


class Changed(NamedTuple):
    """A network with changed parts."""

    network: Any
    reader: Any  # the tokenizer, image processor or feature extractor that fits it
    table: dict[str, Any]  # `summary`'s
    notes: list[str]  # a sentence for each change
    new: list[str]  # names of weights that are new; of a wider head's too, but not of a table with some new tokens


def changed(
    model: Any,
    job: str,
    head: Mapping[str, Any],
    spec: Mapping[str, Any] | None,
    *,
    kind: Literal["text", "image", "sound"],
) -> Changed:
    """A checkpoint's network for a job, with the parts changed that `spec` (options of `architecture`) names.

    New weights are the architecture's own, drawn from torch's global generator.

    Args:
        model: a folder, a Hub id or a model object, which is left alone.
        job: a key of `models.AUTO_CLASSES`.
        head: a classification's fields of the config: num_labels, id2label, label2id, problem_type; empty for others.
        spec: what changes; without anything the network is as `models.load` gives it.
        kind: what the network reads.

    Raises:
        HFTransferError: in one line, for what the network has not, or what a plain checkpoint cannot hold.
    """
    from hftransfer.architecture.changing import change

    return change(model, job, head, spec or {}, kind)


def summary(network: Any, origins: Mapping[str, Any]) -> dict[str, Any]:
    """How many of a network's parameters are carried over, changed and new, part by part; see `table.summary`."""
    from hftransfer.architecture.table import summary

    return summary(network, origins)
