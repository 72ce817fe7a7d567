"""Which way fits a checkpoint: by its config, before any weights are read."""

from typing import Any

from torch import nn

from hftransfer import inputs, models, runs
from hftransfer.described import WAYS
from hftransfer.errors import HFTransferError

MASKED = ("BertForPreTraining", "AlbertForPreTraining", "MegatronBertForPreTraining")  # that fill masks, too
CAUSAL = ("ForCausalLM", "LMHeadModel")
INSTEAD = "choose a CLIP or SigLIP checkpoint, or finetune this one on labels"


def chosen(model: Any, asked: str) -> str:
    """The way to ask a checkpoint: what it is made for, or what is asked for.

    Raises:
        HFTransferError: it has not what the way needs; says which way fits.
    """
    fits = fitting(model)
    name = models.public_name(model)
    classes = _classes(model)
    if asked == "auto":
        if classes and "entailment" not in fits:
            raise HFTransferError(
                f"model: {name} tells {_listed(classes)}, and none of them is named entailment; way: similarity takes "
                "its encoder alone, and evaluate measures what it was trained for"
            )
        return fits[0]
    if asked in fits:
        return asked
    if asked == "entailment" and classes:
        raise HFTransferError(
            f"way: entailment needs a class of that name in label2id, and {name} has {_listed(classes)}; way: "
            f"{fits[0]} fits it"
        )
    raise HFTransferError(f"way: {asked} needs {WAYS[asked].needs}, which {name} has not; way: {fits[0]} fits it")


def fitting(model: Any) -> list[str]:
    """The ways that a checkpoint can be asked, what it was made for first.

    Raises:
        HFTransferError: there is none, since it reads no texts.
    """
    config = models.config_of(model)
    if hasattr(config, "vision_config"):
        _check_pair(model, config)
        return ["image_text"]
    kind = inputs.reads(model)
    if kind != "text":
        raise HFTransferError(
            f"model: {models.public_name(model)} reads {kind}s and no texts, so no label can be described to it; "
            f"{INSTEAD}"
        )
    stored = _architectures(model)
    found = []
    if any(name.endswith("ForMaskedLM") or name in MASKED for name in stored):
        found.append("fill_mask")
    if any(name.endswith(CAUSAL) for name in stored):
        found.append("likelihood")
    if entailing(config) is not None and _classes(model):
        found.append("entailment")
    similar = [] if getattr(config, "is_encoder_decoder", False) else ["similarity"]
    return [*similar, *found] if models.sentences(model).pooling else [*found, *similar]


def entailing(config: Any) -> tuple[int, int | None] | None:
    """Places of the classes entailment and contradiction; None where the first is not named."""
    names = {str(name).lower(): place for name, place in (config.label2id or {}).items()}

    def place(*beginnings: str) -> int | None:
        return next((place for name, place in names.items() if name.startswith(beginnings)), None)

    yes = place("entail")
    if yes is None:
        return None
    others = set(names.values()) - {yes}
    return yes, others.pop() if len(others) == 1 else place("contradict")


def _check_pair(model: Any, config: Any) -> None:
    name = models.public_name(model)
    network = models.skeleton(config, "image_text")  # says so where the architecture has none
    if not all(hasattr(network, part) for part in ("logit_scale", "get_image_features", "get_text_features")):
        raise HFTransferError(
            f"model: {name} ({config.model_type}) compares images and texts otherwise than by an angle; {INSTEAD}"
        )


def _classes(model: Any) -> list[str]:
    """The names of what a classifier of texts tells; none where it is none."""
    config = models.config_of(model)
    if not any(name.endswith("ForSequenceClassification") for name in _architectures(model)):
        return []
    return [str(config.id2label[place]) for place in sorted(config.id2label)]


def _architectures(model: Any) -> list[str]:
    """The classes that a checkpoint's weights are of: its own, and that of the pretraining it carries."""
    if isinstance(model, nn.Module):
        return [type(model).__name__]
    checkpoint = models.resolve(model)
    beside = runs.read_json(checkpoint.folder / models.PRETRAINING / "config.json")
    return [*(checkpoint.config().get("architectures") or []), *(beside.get("architectures") or [])]


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
