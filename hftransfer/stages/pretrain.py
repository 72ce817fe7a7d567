"""`pretrain`: continue self-supervision on unlabelled texts; compared with the checkpoint before it."""

import math
from typing import Annotated, Any

from pydantic import Field

from hftransfer.runs import Result, StageFolder, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import ManyData, MaxLength, MaxTrainSamples, Model, OutputDir, Seed, Training, merged

TRAINING = {
    "learning_rate": 5e-5,
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}
HEAD_TRAINING = {"learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.01}
BERT = "Devlin et al. 2018, BERT, arXiv:1810.04805"
HELD_OUT_ROWS = 512  # enough for an interval of about 1 %; measuring thousands would cost more than a short training
CONTINUED = "Gururangan et al. 2020, Don't Stop Pretraining, arXiv:2004.10964"


def pretrain(
    model: Model,
    data: ManyData,
    *,
    objective: Annotated[str, OneOf(("masked_lm",)), Field(description="what is predicted")] = "masked_lm",
    mask_rate: Annotated[float, Field(gt=0, lt=1, description="share of tokens that is hidden")] = 0.15,
    whole_word: Annotated[bool, Field(description="hide all pieces of a word together")] = False,
    pack: Annotated[bool, Field(description="fill rows with several documents, kept apart in attention")] = False,
    head_steps: Annotated[
        int, Field(ge=0, description="steps that fit a new head, encoder frozen, before `before` is measured")
    ] = 80,
    max_length: MaxLength = 128,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/pretrain",
) -> Result:
    """Continues masked-LM training on one data set or a list of them, a fifth of the documents held out.

    Held-out loss is measured before and after on the same fixed masks. A checkpoint without a masked-LM head gets one
    that is fitted first while the encoder is frozen: from a random head any training would look like an improvement.

    Returns:
        The folder of an `AutoModelForMaskedLM` (its encoder loads into any task class, pooler included) with its
        tokenizer; `loss`, `perplexity` and `bits_per_byte` `.before` and `.after` on the held-out documents. Bits per
        byte charge every token the mean cost of a masked one, and are comparable across tokenizers.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(pretrain, locals(), "pretrain: ")
    with open_stage(output_dir, identity(pretrain, given, models=["model"], data=["data"])) as folder:
        if not folder.finished:
            _run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's text columns and the model's class, and counts rows and steps."""
    from hftransfer import models
    from hftransfer.trainers.exact import estimated_steps

    cls = models.check(given["model"], "masked_lm")
    parts = _load(given)
    rows = sum(len(part["train"]) for part in parts)
    held_out = sum(len(part["test"]) for part in parts)
    steps = given["head_steps"] + estimated_steps(merged(TRAINING, given["training"]), rows)
    return {"class": cls, "rows": {"documents": rows, "held out": held_out}, "steps": steps}


def _load(given: dict[str, Any]) -> list[Any]:
    from hftransfer import data

    specs = given["data"] if isinstance(given["data"], list) else [given["data"]]
    common = {"seed": given["seed"], "max_samples": given["max_train_samples"]}
    parts = [data.unlabelled(spec, key=f"data[{i}]", **common) for i, spec in enumerate(specs)]
    return [_read(part, i, given["max_train_samples"]) for i, part in enumerate(parts)]


def _read(part: Any, number: int, limit: int | None) -> Any:
    """A stream's first documents, so that no more of it is downloaded than is trained on."""
    from datasets import Dataset, DatasetDict, IterableDataset

    from hftransfer.errors import HFTransferError

    if not isinstance(part["train"], IterableDataset):
        return part
    if limit is None:
        raise HFTransferError(f"data[{number}]: a stream has no end; say how many documents with max_train_samples")
    return DatasetDict({split: Dataset.from_list(list(rows)) for split, rows in part.items()})


def _run(folder: StageFolder, given: dict[str, Any]) -> None:
    from transformers import set_seed

    from hftransfer import data, models, processes
    from hftransfer.trainers.masked_lm import MaskedPositions, check_packing

    parts = _load(given)
    tokenizer = models.tokenizer(given["model"])
    set_seed(given["seed"])
    network, new_head = models.load_reported(given["model"], "masked_lm")
    network.to(processes.state().device)  # "before" is measured where training will run
    texts = {split: [text for part in parts for text in part[split]["text"]] for split in ("train", "test")}
    encode = {"max_length": given["max_length"], "pack": given["pack"]}
    rows = {split: data.encode_documents(texts[split], tokenizer, **encode) for split in texts}
    rows["test"] = _sample(rows["test"], given["seed"])
    masks = {
        "mask_rate": given["mask_rate"],
        "whole_word": given["whole_word"],
        "seed": given["seed"],
        "first_position": models.first_position(network),
    }
    if given["pack"]:
        check_packing(network, masks["first_position"])
    path = folder.begin()
    positions = MaskedPositions(network)
    held_out = _HeldOut(positions, rows["test"], data.MaskedTextCollator(tokenizer, fixed=True, **masks))
    common = {"network": network, "positions": positions, "rows": rows["train"], "seed": given["seed"]}
    collator = data.MaskedTextCollator(tokenizer, fixed=False, **masks)
    training = merged(TRAINING, given["training"])
    curves = {}
    if new_head and given["head_steps"]:
        head = {**training, **HEAD_TRAINING, "max_steps": given["head_steps"]}
        curves["new head, encoder frozen"] = _train(
            collator=collator, training=head, folder=path / "checkpoints" / "head", freeze=True, **common
        )
    before = held_out.measure()
    curves["masked-LM loss"] = _train(
        collator=collator, training=training, folder=path / "checkpoints" / "whole", freeze=False, **common
    )
    after = held_out.measure()
    models.save(network, path, tokenizer)
    cards = _cards(given, parts, tokenizer)
    metrics, evidence = _record(given, cards, rows, before, after, curves, bool(new_head and given["head_steps"]))
    folder.finish(metrics, evidence)


def _sample(rows: Any, seed: int) -> Any:
    import numpy as np

    return rows.select(np.sort(np.random.default_rng(seed).permutation(len(rows))[:HELD_OUT_ROWS]))


def _train(
    *,
    network: Any,
    positions: Any,
    rows: Any,
    collator: Any,
    training: dict[str, Any],
    seed: int,
    folder: Any,
    freeze: bool,
) -> list[dict[str, float]]:
    import contextlib

    from hftransfer.trainers.exact import training_arguments
    from hftransfer.trainers.masked_lm import MaskedLMTrainer
    from hftransfer.tuning import frozen

    with frozen(network.base_model) if freeze else contextlib.nullcontext():
        trainer = MaskedLMTrainer(
            positions=positions,
            model=network,
            args=training_arguments(training, folder, seed),
            train_dataset=rows,
            data_collator=collator,
            lengths=rows["length"],
            epoch_aware=[collator],
            label="fit new head" if freeze else "pretrain",
        )
        return trainer.train_or_resume()


class _HeldOut:
    """The held-out rows under their fixed masks."""

    def __init__(self, positions: Any, rows: Any, collator: Any) -> None:
        self.positions, self.rows, self.collator = positions, rows, collator

    def measure(self) -> Any:
        """(rows, 2): each row's summed nats and masked tokens, on every process alike."""
        import numpy as np

        from hftransfer import processes
        from hftransfer.inference import batches
        from hftransfer.trainers.masked_lm import masked_nats

        state = processes.state()
        order = list(batches(self.rows["length"]))
        mine = order[state.process_index :: state.num_processes]
        found = masked_nats(self.positions, (self.collator([self.rows[i] for i in batch]) for batch in mine))
        indices = [i for batch in mine for i in batch]
        everything = processes.gather(list(zip(indices, found.tolist(), strict=True)))
        return np.array([values for _, values in sorted(everything)])


def _record(
    given: dict[str, Any],
    cards: list[dict[str, Any]],
    rows: Any,
    before: Any,
    after: Any,
    curves: dict[str, Any],
    fitted: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    from hftransfer import comparison
    from hftransfer.functional.perplexity import bits_per_byte, perplexity

    tokens = sum(int(length) for length in rows["test"]["length"])
    special = sum(sum(mask) for mask in rows["test"]["special_tokens_mask"])
    num_bytes = sum(rows["test"]["num_bytes"])
    metrics: dict[str, Any] = {"held_out_rows": len(before), "held_out_masked_tokens": int(before[:, 1].sum())}
    for name, found in (("before", before), ("after", after)):
        mean = float(found[:, 0].sum() / found[:, 1].sum())
        metrics |= {
            f"loss.{name}": mean,
            f"perplexity.{name}": perplexity(mean),
            f"bits_per_byte.{name}": bits_per_byte(mean * (tokens - special), num_bytes),
        }
    share = before[:, 1] / before[:, 1].mean()  # so that the mean over rows is the loss per masked token
    scored = [share * found[:, 0] / found[:, 1].clip(min=1) for found in (before, after)]
    protocol = "documents held out of the same data, same masks"
    line = comparison.compare_scores("masked-LM loss", *scored, protocol=protocol, higher_is_better=False)
    others = [
        {
            "name": name.replace("_", " "),
            "before": metrics[f"{name}.before"],
            "after": metrics[f"{name}.after"],
            "rows": len(before),
            "protocol": protocol,
            "higher_is_better": False,
        }
        for name in ("perplexity", "bits_per_byte")
        if math.isfinite(metrics[f"{name}.before"] + metrics[f"{name}.after"])
    ]
    start = "a new head was fitted first, encoder frozen" if fitted else "the checkpoint brought its head"
    return metrics, {
        "stage": "pretrain",
        "title": "Continue masked-LM pretraining on unlabelled text",
        "settings": given,
        "notes": [f"'before' is fair: {start}", f"{len(rows['train'])} rows, {len(before)} held out"],
        "before_name": "before",
        "after_name": "after",
        "comparison": [line, *others],
        "verdict": comparison.words(line, what="held-out masked-LM loss", subject="Pretraining", unit="rows"),
        "curves": [comparison.loss_curve(name, history) for name, history in curves.items() if history],
        "data": cards,
        "citations": [BERT, CONTINUED],
    }


def _cards(given: dict[str, Any], parts: list[Any], tokenizer: Any) -> list[dict[str, Any]]:
    from hftransfer import data

    specs = given["data"] if isinstance(given["data"], list) else [given["data"]]
    cards = []
    for spec, part in zip(specs, parts, strict=True):
        lengths = [len(ids) for ids in tokenizer(part["train"]["text"][:], verbose=False)["input_ids"]]
        name = data.display_name(data.parse(spec, "data"))
        cards.append(data.describe(part["train"], name=name, role="unlabelled", lengths=lengths))
    return cards
