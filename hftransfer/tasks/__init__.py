"""What is learnt from labels, and how it is judged: one file a task, and the table that names them.

The table is light; a task's file is imported when the task is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hftransfer.tasks.base import Task


class Entry(NamedTuple):
    """One line of `TASKS`: where the task is, and what it learns."""

    module: str
    cls: str
    does: str


TASKS = {
    "single_label_classification": Entry("classification", "SingleLabel", "one class a row"),
    "multi_label_classification": Entry("classification", "MultiLabel", "any number of classes a row"),
    "regression": Entry("regression", "Regression", "a number a row"),
    "token_classification": Entry("tokens", "TokenClassification", "a class for each word"),
    "causal_lm": Entry("answers", "Answers", "answers to prompts, by a language model"),
}


def find(name: str) -> "type[Task]":
    """The class of a task."""
    entry = TASKS[name]
    return getattr(importlib.import_module(f"{__name__}.{entry.module}"), entry.cls)


def read(
    spec: Any,
    model: Any,
    *,
    key: str,
    seed: int,
    name: str | None = None,
    max_samples: int | None = None,
    task_like: "Task | None" = None,
) -> "tuple[Task, Any]":
    """Loads labelled data for a checkpoint, and says what the task is.

    Args:
        spec: what `data.parse` takes.
        model: the checkpoint; it decides whether texts, images or sounds are read.
        key: how errors name the data.
        seed: divides data without a test split.
        name: the task; None: told by the label column's type.
        max_samples: at most this many rows to train on.
        task_like: a task whose labels these must be, by name.

    Returns:
        The task, and `train` and `test` rows with their content and `label`.

    Raises:
        HFTransferError: in one line, for anything that makes the data unusable for the task.
    """
    from hftransfer.tasks.reading import read as read_

    return read_(spec, model, key=key, seed=seed, name=name, max_samples=max_samples, task_like=task_like)


def of_checkpoint(model: Any) -> "Task":
    """The task that a trained checkpoint does, by its config.

    Raises:
        HFTransferError: it has no head that a task is judged by.
    """
    from hftransfer.tasks.reading import of_checkpoint as of_checkpoint_

    return of_checkpoint_(model)
