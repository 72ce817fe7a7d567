"""What `pretrain` does: content and network, held-out losses, a head, the training, the record."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets
from transformers import set_seed

from hftransfer import adapters, data, inference, models, objectives, processes, scratch, tuning, vocabulary
from hftransfer.data.masked_text import check_filled
from hftransfer.errors import HFTransferError, nearest
from hftransfer.objectives.base import Objective
from hftransfer.objectives.text import longest
from hftransfer.runs import StageFolder
from hftransfer.stages import pretraining_record as record
from hftransfer.trainers.exact import estimated_steps, training_arguments
from hftransfer.trainers.pretraining import PretrainingTrainer
from hftransfer.trainers.watching import Watch

HEAD_TRAINING = {"learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.01}
HELD_OUT_ROWS = 512  # enough for an interval of about 1 %; measuring thousands would cost more than a short training
WATCHED_ROWS = 128
EVALUATIONS = 8  # of the watched rows in a training, at most
FEWEST_LOOKS = 3  # that tell whether a curve still falls
WATCHING = 0.1  # of a training's time at most: a row that is only measured costs a third of one that is trained on


class Corpus(NamedTuple):
    """What is read: each data set divided, and the general one."""

    parts: list[Any]  # DatasetDicts of train and test
    general: Any | None

    def content(self, split: str) -> Dataset:
        return concatenate_datasets([part[split] for part in self.parts])


class HeldOut(NamedTuple):
    """Rows that are never trained on. Those that are watched choose when to stop, so others are measured then."""

    measured: Any
    watched: Any
    general: Any | None


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks everything that can be checked without weights, and counts rows and steps."""
    cls, _, name = prepared(given)
    corpus = read(cls, given)
    rows = sum(len(part["train"]) for part in corpus.parts)
    held_out = sum(len(part["test"]) for part in corpus.parts)
    steps = estimated_steps(given["training"], rows) + (0 if starts_anew(given) else given["head_steps"])
    # how many rows texts make is known once they are cut or packed
    counted = cls.kind != "text" or given["training"].get("max_steps", -1) > 0
    return {
        "class": name,
        "rows": {"documents": rows, "held out": held_out},
        "steps": steps if counted else f"{steps} at one document a row",
    }


def prepared(given: Mapping[str, Any]) -> tuple[type[Objective], dict[str, Any], str]:
    """The objective's class, its settings, and the model class's name.

    Raises:
        HFTransferError: when model, objective and options do not go together.
    """
    cls = objectives.find(given["objective"])
    name = models.check(given["model"], cls.job, **given["config"])
    settings = {name: given[name] for name in objectives.OBJECTIVES[given["objective"]].settings}
    config = models.config_of(given["model"], given["config"], cls.job)
    config = cls.new_config(config) if starts_anew(given) else config
    _check_tuning(given, config, cls)
    reader = None if models.is_scratch(given["model"]) else models.reader(given["model"], cls.kind)
    cls.check(config, reader, settings)
    return cls, settings, name


def _check_tuning(given: Mapping[str, Any], config: Any, cls: type[Objective]) -> None:
    """What decides which weights train, tried on a network without weights."""
    if isinstance(given["freeze"], str) and given["freeze"] != "embeddings":
        raise HFTransferError(
            f"freeze: expected embeddings or a number of blocks, found '{given['freeze']}'"
            f"{nearest(given['freeze'], ['embeddings'])}"
        )
    for option in ("freeze", "layer_decay"):
        if given[option] is not None and given["lora"] is not None:
            raise HFTransferError(f"{option}: with lora only the adapters train; remove one of the two")
    network = models.skeleton(config, cls.job)
    if given["freeze"] is not None:
        tuning.lowest(network, given["freeze"])
    if given["layer_decay"] is not None:
        tuning.blocks(network)
    if given["training"].get("gradient_checkpointing") and not network.supports_gradient_checkpointing:
        raise HFTransferError(f"training.gradient_checkpointing: {type(network).__name__} has none; remove it")
    if given["lora"] is not None:
        adapters.check(network, given["lora"], merge=True)
    if given["replay"] and given["general"] is None:
        raise HFTransferError("replay: takes texts from general, which is not given; add general: DATA")
    if given["extend_vocabulary"]:
        _check_extension(given, cls)


def _check_extension(given: Mapping[str, Any], cls: type[Objective]) -> None:
    if cls.kind != "text":
        raise HFTransferError(f"extend_vocabulary: {cls.name} reads no text; remove it")
    if models.is_scratch(given["model"]):
        raise HFTransferError("extend_vocabulary: a new network learns its words anyway; set config.vocab_size")
    for option in ("freeze", "lora"):
        if given[option] is not None:
            raise HFTransferError(f"extend_vocabulary: new words need embeddings that train; remove {option}")


def read(cls: type[Objective], given: Mapping[str, Any]) -> Corpus:
    """Loads and divides the data sets."""
    specs = given["data"] if isinstance(given["data"], list) else [given["data"]]
    common = {"seed": given["seed"], "max_samples": given["max_train_samples"], "kind": cls.kind}
    parts = [
        _drawn(data.unlabelled(spec, key=f"data[{i}]", **common), f"data[{i}]", given) for i, spec in enumerate(specs)
    ]
    if given["general"] is None:
        return Corpus(parts, None)
    return Corpus(parts, _drawn(data.unlabelled(given["general"], key="general", **common), "general", given))


def _drawn(part: Any, key: str, given: Mapping[str, Any]) -> Any:
    """A stream's first documents, so that no more of it is downloaded than is trained on."""
    if not isinstance(part["train"], IterableDataset):
        return part
    if given["max_train_samples"] is None:
        raise HFTransferError(f"{key}: a stream has no end; say how many documents with max_train_samples")
    drawn = {split: list(rows) for split, rows in part.items()}
    for split in [split for split, rows in drawn.items() if not rows]:
        raise HFTransferError(f"{key}: the stream's {split} part has no rows; give more, that are not blank")
    return DatasetDict({split: Dataset.from_list(rows) for split, rows in drawn.items()})


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Trains and records; what can be wrong is found before the folder is begun."""
    cls, settings, _ = prepared(given)
    corpus = read(cls, given)
    set_seed(given["seed"])
    network, reader, new = begin(cls, given, corpus)
    extended = None
    if given["extend_vocabulary"]:
        old = {} if new else _with_old_words(cls(network, reader, settings, seed=given["seed"]), corpus, given)
        extended = vocabulary.extend(network, reader, corpus.content("train")["text"], given["extend_vocabulary"])
        extended |= old
    network.to(processes.state().device)  # "before" is measured where training will run
    objective = cls(network, reader, settings, seed=given["seed"])
    rows = objective.rows(_replayed(corpus, given), key="data")
    if settings.get("pack"):
        check_filled(rows, longest(given["max_length"]), key="data")
    held_out = _held_out(objective, corpus, given)
    path = folder.begin()
    found = record.Found(objective, given, corpus, rows, held_out, extended)
    fitted = bool(new) and not starts_anew(given) and given["head_steps"] > 0
    if fitted:
        head = {**given["training"], **HEAD_TRAINING, "max_steps": given["head_steps"]}
        found.curves["new head, encoder frozen"] = _train(found, head, path / "checkpoints" / "head", head=True)
    found.measure("before")
    found.curves[cls.loss_name] = _train(found, given["training"], path / "checkpoints" / "whole", head=False)
    found.measure("after")
    objective.save(path)
    record.finish(
        folder, found, start="new network" if starts_anew(given) else "fitted head" if fitted else "own head"
    )


def _with_old_words(objective: Objective, corpus: Corpus, given: Mapping[str, Any]) -> dict[str, float]:
    """What held-out text costs before words are added, in the one unit that both vocabularies share."""
    rows = _held_out(objective, corpus, given).measured
    measured = objective.measures(record.mean(inference.costs(objective, rows)), rows)
    return {"bits_per_byte.with_old_words": measured["bits_per_byte"]}


def starts_anew(given: Mapping[str, Any]) -> bool:
    return given["from_scratch"] or models.is_scratch(given["model"])


def begin(cls: type[Objective], given: Mapping[str, Any], corpus: Corpus) -> tuple[Any, Any, list[str]]:
    """The network, its reader, and the names of its weights that no checkpoint gave."""
    if not starts_anew(given):
        network, new = models.load_reported(given["model"], cls.job, **given["config"])
        cls.mend(network, new)
        return network, models.reader(given["model"], cls.kind), new
    config = cls.new_config(models.config_of(given["model"], given["config"], cls.job))
    if models.is_scratch(given["model"]):
        reader = cls.new_reader(config, corpus.content("train"))
        config = scratch.fit_config(config, reader) if cls.kind == "text" else config
    else:
        reader = models.reader(given["model"], cls.kind)
        if cls.kind == "text" and config.vocab_size < len(reader):
            raise HFTransferError(
                f"config.vocab_size: {config.vocab_size} is less than the {len(reader)} tokens of the checkpoint's "
                "tokenizer, which from_scratch keeps"
            )
    network = models.fresh_network(models.class_for(cls.job, config), config)
    new = [name for name, _ in network.named_parameters()]
    cls.mend(network, new)
    return network, reader, new


def _replayed(corpus: Corpus, given: Mapping[str, Any]) -> Dataset:
    """The content to train on, with so much of the general one that it is the share `replay`: of bytes, for text."""
    own = corpus.content("train")
    if not given["replay"]:
        return own
    general = corpus.general["train"]  # type: ignore[index]
    sizes = _sizes(general)
    wanted = _sizes(own).sum() * given["replay"] / (1 - given["replay"])
    rng = np.random.default_rng((given["seed"], len(own)))
    times = int(wanted // sizes.sum()) + 1
    order = np.concatenate([rng.permutation(len(general)) for _ in range(times)])
    taken = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    return concatenate_datasets([own, general.select(order[:taken])])


def _sizes(content: Dataset) -> np.ndarray:
    """How much each row is: a text its bytes, anything else one."""
    if "text" not in content.column_names:
        return np.ones(len(content))
    return np.array([len(text.encode("utf-8", "surrogatepass")) for text in content["text"]], dtype=float)


def _held_out(objective: Objective, corpus: Corpus, given: Mapping[str, Any]) -> HeldOut:
    rows = objective.rows(corpus.content("test"), key="data")
    order = np.random.default_rng(given["seed"]).permutation(len(rows))
    apart = min(WATCHED_ROWS, len(rows) // 4) if given["early_stopping_patience"] else 0
    measured = rows.select(np.sort(order[apart:][:HELD_OUT_ROWS]).tolist())
    watched = rows.select(np.sort(order[: apart or WATCHED_ROWS]).tolist())
    if corpus.general is None:
        return HeldOut(measured, watched, None)
    general = objective.rows(corpus.general["test"], key="general")
    order = np.random.default_rng(given["seed"]).permutation(len(general))
    return HeldOut(measured, watched, general.select(np.sort(order[:HELD_OUT_ROWS]).tolist()))


def _every(steps: int, training: Mapping[str, Any], found: "record.Found") -> int:
    """Steps between two looks at the watched rows: few in a short training, unless they decide when to stop."""
    rows = steps * training["per_device_train_batch_size"] * training.get("gradient_accumulation_steps", 1)
    affordable = int(WATCHING * rows / (len(found.held_out.watched) / 3))
    looks = EVALUATIONS if found.given["early_stopping_patience"] else max(FEWEST_LOOKS, min(EVALUATIONS, affordable))
    return max(1, math.ceil(steps / looks))


def _train(found: "record.Found", training: dict[str, Any], folder: Path, *, head: bool) -> list[dict[str, float]]:
    given, network = found.given, found.objective.network
    still = [network.base_model] if head else []
    if not head and given["freeze"] is not None:
        still = tuning.lowest(network, given["freeze"])
    processes_ = processes.state().num_processes
    total = -(-estimated_steps(training, len(found.rows)) // (1 if training.get("max_steps", -1) > 0 else processes_))
    watching = {} if head else {"eval_strategy": "steps", "eval_steps": _every(total, training, found)}
    with tuning.frozen(*still), adapters.trained(network, None if head else given["lora"]):
        trainer = PretrainingTrainer(
            objective=found.objective,
            rows=found.rows,
            watch=None
            if head
            else Watch(lambda: {"eval_loss": found.watch()}, patience=given["early_stopping_patience"]),
            layer_decay=None if head else given["layer_decay"],
            args=training_arguments({**watching, **training}, folder, given["seed"]),
            eval_dataset=found.held_out.watched,
            label="fit new head" if head else "pretrain",
        )
        history = trainer.train_or_resume()
        if not head:
            found.watched = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
            found.trainable = tuning.trainable(network.parameters())
        return history
