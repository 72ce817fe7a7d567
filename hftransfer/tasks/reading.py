"""Which task data or a checkpoint is for."""

from typing import Any

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
    return cls(kind, names, inputs.kind_of(models.config_of(model)) if task_like is None else task_like.seen), parts


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
    config = models.config_of(model)
    stored = config.architectures or ([type(model).__name__] if not isinstance(model, str) else [])
    kind = inputs.reads(model)
    for ending, name in ENDINGS.items():
        if any(str(cls).endswith(ending) for cls in stored):
            return find(name)(
                kind, [config.id2label[k] for k in range(config.num_labels)] if "Token" in ending else []
            )
    if not any("Classification" in str(cls) for cls in stored):
        raise HFTransferError("model: it has no trained head of a task; finetune or adapt it first")
    problem = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    if problem not in TASKS:
        raise HFTransferError(f"model: its config says problem_type {problem}{nearest(problem, TASKS)}")
    names = [config.id2label[k] for k in range(config.num_labels)]
    return find(problem)(kind, names, inputs.kind_of(config))
