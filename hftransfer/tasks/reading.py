"""Which task data or a checkpoint is for."""

from typing import Any

from torch import nn

from hftransfer import inputs, models
from hftransfer.data import targets
from hftransfer.data.rows import column
from hftransfer.errors import HFTransferError, nearest
from hftransfer.tasks import TASKS, find
from hftransfer.tasks.base import Task

ENDINGS = {"ForTokenClassification": "token_classification", "ForCausalLM": "causal_lm", "LMHeadModel": "causal_lm"}


def read(
    spec: Any, model: Any, *, key: str, seed: int, name: str | None, max_samples: int | None, task_like: Task | None
) -> tuple[Task, Any]:
    """See `tasks.read`."""
    kind = inputs.reads(model) if task_like is None else task_like.kind
    name = name if task_like is None else task_like.name
    if name is not None and kind not in find(name).kinds:
        raise HFTransferError(f"task: {name} is for texts, and the model reads {kind}s; choose another task or model")
    parsed, splits = targets.opened(spec, key, kind)
    if name is None:
        told = targets.told(targets.train_of(splits, parsed).features, parsed, kind)
        name = _unless_whole(told, splits, parsed, kind)
    cls = find(name)
    known = None if task_like is None else task_like.names
    try:
        parts, names = cls.read(parsed, splits, seed=seed, kind=kind, known=known, max_samples=max_samples)
    except HFTransferError as error:
        if name == "single_label_classification" and "holds float" in str(error):
            raise HFTransferError(f"{error}; for numbers set task: regression") from error
        raise
    if task_like is not None:
        return task_like, parts
    return cls(kind, names, inputs.kind_of(models.config_of(model)), padding(model, kind)), parts


def padding(model: Any, kind: str) -> dict[str, int]:
    """The padding token that a decoder's config lacks, or has otherwise than its tokenizer: it would classify that."""
    config = models.config_of(model)
    if kind != "text" or models.pooling(config) != "last":
        return {}
    try:
        token = models.tokenizer(model).pad_token_id
    except HFTransferError:
        if isinstance(model, str):
            raise
        return {}  # a model object of no checkpoint: whoever made it gives its tokenizer too
    if token is None or token == getattr(config, "pad_token_id", None):
        return {}
    if token >= config.vocab_size:
        raise HFTransferError(
            f"model: its tokenizer pads with token {token}, and the network knows {config.vocab_size} tokens; they "
            "are not of one checkpoint"
        )
    return {"pad_token_id": token}


def _unless_whole(name: str, splits: Any, parsed: Any, kind: str) -> str:
    """Numbers that are whole and few are classes, which a csv file with a gap stores as fractions."""
    if name != "regression":
        return name
    train = targets.train_of(splits, parsed)
    values = column(train, targets.label_column(train.features, parsed, kind))
    whole = all(value is not None and float(value).is_integer() for value in values)
    few = len(set(values)) <= max(2, len(values) // 20)
    return "single_label_classification" if whole and few else name


def of_checkpoint(model: Any) -> Task:
    """See `tasks.of_checkpoint`."""
    config, kind = models.config_of(model), inputs.reads(model)
    stored = [type(model).__name__] if isinstance(model, nn.Module) else config.architectures or []
    name = next((name for ending, name in ENDINGS.items() for cls in stored if cls.endswith(ending)), None)
    if name == "causal_lm":
        return find(name)(kind, [])
    if name is None and not any("Classification" in cls for cls in stored):
        raise HFTransferError("model: it has no trained head of a task; finetune or adapt it first")
    name = name or config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    if name not in TASKS:
        raise HFTransferError(f"model: its config says problem_type {name}{nearest(name, TASKS)}")
    return find(name)(kind, [config.id2label[number] for number in range(config.num_labels)], inputs.kind_of(config))
