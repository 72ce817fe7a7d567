"""`adapt`: labels in the source domain, none in the target; compared on the target with not adapting."""

from typing import Annotated, Any

from pydantic import Field

from hftransfer.errors import HFTransferError, renamed
from hftransfer.functional import ADAPTATION
from hftransfer.runs import Result, StageFolder, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, MaxTrainSamples, Model, OutputDir, Seed, Training, merged

TRAINING = {
    "learning_rate": 2e-4,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 16,  # of each domain
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


def adapt(
    model: Model,
    source: Data,
    target: Data,
    *,
    method: Annotated[str, OneOf(tuple(ADAPTATION)), Field(description="the formula that aligns the domains")] = "mcc",
    weight: Annotated[float | None, Field(ge=0, description="of the formula; null: as published")] = None,
    weight_warmup: Annotated[
        float, Field(ge=0, le=1, description="fraction of training over which the weight grows from 0")
    ] = 0.0,
    threshold: Annotated[float, Field(gt=0, le=1, description="confidence that makes a pseudo-label")] = 0.95,
    balanced: Annotated[bool, Field(description="sample classes evenly, the target by pseudo-labels")] = True,
    prior_correction: Annotated[
        str, OneOf(("none", "bbse", "em")), Field(description="re-weight the classes to the target's estimated shares")
    ] = "none",
    masked_lm_weight: Annotated[float, Field(ge=0, description="adds masked LM on the target to any method")] = 0.0,
    masked_lm_model: Annotated[
        Model | None, Field(description="checkpoint whose masked-LM head is used; null: model")
    ] = None,
    baseline: Annotated[
        Model | None, Field(description="source-only classifier to compare with; null: model, or trained")
    ] = None,
    max_length: MaxLength = 128,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/adapt",
) -> Result:
    """Adapts a text classifier to a target domain whose labels it never sees.

    What it is compared with, on the target's labels, is the source-only classifier: `baseline` when given, else
    `model` when that already classifies the source's labels, else one trained here with the same settings.

    Returns:
        The folder of an `AutoModelForSequenceClassification` with its tokenizer. Metrics end in `.source_only` and
        `.adapted`, on the target's training texts (`transductive`) and on texts never seen (`inductive`); without
        target labels only `agreement` and the source's own metrics are there.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(adapt, locals(), "adapt: ")
    names = identity(adapt, given, models=["model", "baseline", "masked_lm_model"], data=["source", "target"])
    with open_stage(output_dir, names) as folder:
        if not folder.finished:
            _run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks both domains' columns and labels and the model's classes, and counts rows and steps."""
    from hftransfer import models
    from hftransfer.trainers.exact import estimated_steps

    cls = models.check(given["model"], "text_classification")
    if given["baseline"] is not None:
        with renamed("model", "baseline"):
            models.check(given["baseline"], "text_classification")
    if given["prior_correction"] != "none" and not models.head_has_bias(given["model"]):
        raise HFTransferError(f"prior_correction: the head of {cls} has no bias to hold it; use none")
    if _reads_masked(given):
        if models.tokenizer(given["model"]).mask_token is None:
            key = "method" if given["method"] == "udalm" else "masked_lm_weight"
            raise HFTransferError(f"{key}: masked LM hides words, and the model's tokenizer has no mask token")
        given_head = given["masked_lm_model"] is not None
        with renamed("model", "masked_lm_model" if given_head else "model"):
            models.check(given["masked_lm_model"] if given_head else given["model"], "masked_lm")
    source, texts, evaluation = _load(given)
    evaluation()  # a target label that the source lacks is an error now, not after training
    rows = len(source["train"])
    steps = estimated_steps(merged(TRAINING, given["training"]), rows)
    counts = {"source": rows, "target": len(texts["train"]), "target test": len(texts["test"])}
    return {"class": cls, "rows": counts, "steps": steps}


def _load(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    from hftransfer import data
    from hftransfer.data import text

    common = {"seed": given["seed"], "max_samples": given["max_train_samples"]}
    source = data.labelled(given["source"], key="source", **common)
    names = text.label_names(source["train"])
    texts, evaluation = data.target(given["target"], key="target", label_names=names, **common)
    return source, texts, evaluation


def _reads_masked(given: dict[str, Any]) -> bool:
    return given["method"] == "udalm" or given["masked_lm_weight"] > 0


def _run(folder: StageFolder, given: dict[str, Any]) -> None:
    from hftransfer import comparison, models
    from hftransfer.data import text

    source, texts, evaluation = _load(given)
    names = text.label_names(source["train"])
    tokenizer = models.tokenizer(given["model"])
    rows = {
        "source": text.tokenize(source["train"], tokenizer, given["max_length"]),
        "source test": text.tokenize(source["test"], tokenizer, given["max_length"]),
        "target": text.tokenize(texts["train"], tokenizer, given["max_length"]),
        "target test": text.tokenize(texts["test"], tokenizer, given["max_length"]),
    }
    path = folder.begin()
    before, curve_before = _source_only(given, names, rows, tokenizer, path)
    found_before = _predictions(before, tokenizer, rows)
    del before
    after, curve_after = _adapted(given, names, rows, texts, tokenizer, path)
    if given["prior_correction"] != "none":
        _correct_prior(after, given, rows, tokenizer)
    found_after = _predictions(after, tokenizer, rows)
    models.save(after, path, tokenizer)
    evidence = {
        "stage": "adapt",
        "title": f"Adapt to the unlabelled target ({given['method']})",
        "settings": given,
        "data": _cards(given, source, texts, rows),
        "curves": [
            comparison.loss_curve(f"{name} loss", curve)
            for name, curve in (("source-only", curve_before), ("adapted", curve_after))
            if curve
        ],
        "citations": [ADAPTATION[name].paper for name in _formulas(given)],
    }
    metrics, measured = _measured(source, evaluation(), found_before, found_after)
    folder.finish(metrics, {**evidence, **measured})


def _formulas(given: dict[str, Any]) -> list[str]:
    used = [given["method"]] + (["udalm"] if given["masked_lm_weight"] > 0 else [])
    return [name for name in dict.fromkeys(used) if ADAPTATION[name].paper]


def _cards(given: dict[str, Any], source: Any, texts: Any, rows: dict[str, Any]) -> list[dict[str, Any]]:
    from hftransfer import data
    from hftransfer.data import text

    parts = (("source", source["train"], "source"), ("target", texts["train"], "target"))
    return [
        data.describe(
            part, name=data.display_name(data.parse(given[role], role)), role=role, lengths=text.lengths(rows[key])
        )
        for role, part, key in parts
    ]


TRANSDUCTIVE = "transductive: target texts that training saw, without their labels"
INDUCTIVE = "inductive: target texts that this training never saw"


def _measured(source: Any, labelled: Any, before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and evidence of two models on the target; the only place where the target's labels are read."""
    import numpy as np

    from hftransfer import comparison, metrics
    from hftransfer.data import text

    names = text.label_names(source["test"])
    true_source = text.labels(source["test"])
    both = {
        which: np.concatenate([found[part].classes for part in ("target", "target test")])
        for which, found in (("before", before), ("after", after))
    }
    agreement = float((both["before"] == both["after"]).mean())
    numbers: dict[str, Any] = {"target.agreement": agreement}
    for which, found in (("source_only", before), ("adapted", after)):
        scores = metrics.score(found["source test"].probabilities, true_source)
        numbers |= {f"source.{name}.{which}": value for name, value in scores.items()}
    true = (
        None
        if labelled is None
        else {"target": text.labels(labelled["train"]), "target test": text.labels(labelled["test"])}
    )
    everything = None if true is None else np.concatenate(list(true.values()))
    evidence: dict[str, Any] = {
        "before_name": "source-only",
        "after_name": "adapted",
        "embedding": comparison.pictures(before, after, true_source, everything, names),
        "notes": [f"the two models agree on {agreement:.1%} of the target's texts"],
    }
    if true is None or everything is None:
        evidence["notes"].append("the target has no labels, so whether transfer helped was not measured")
        return numbers, evidence
    lines = []
    for protocol, part, key in ((TRANSDUCTIVE, "target", "transductive"), (INDUCTIVE, "target test", "inductive")):
        lines += comparison.compare_classifiers(
            before[part].classes, after[part].classes, true[part], protocol=protocol
        )
        for which, found in (("source_only", before), ("adapted", after)):
            scores = metrics.score(found[part].probabilities, true[part])
            numbers |= {f"{key}.{name}.{which}": value for name, value in scores.items()}
    lines = (
        comparison.compare_classifiers(both["before"], both["after"], everything, protocol="both: all target texts")
        + lines
    )
    numbers |= {
        f"target.{line['name'].replace(' ', '_')}.{which}": line[side]
        for line in lines[:2]
        for which, side in (("source_only", "before"), ("adapted", "after"))
    }
    confusion = {side: metrics.confusion(found, everything, len(names)) for side, found in both.items()}
    return numbers, {
        **evidence,
        "comparison": lines,
        "verdict": comparison.words(lines[0], what="accuracy on the target", subject="Transfer"),
        "confusion": {"labels": names, **confusion},
        "per_class": metrics.per_class(both["after"], everything, names),
    }


def _predictions(network: Any, tokenizer: Any, rows: dict[str, Any]) -> dict[str, Any]:
    from hftransfer.inference import predict

    return {part: predict(network, tokenizer, rows[part]) for part in ("source test", "target", "target test")}


def _source_only(
    given: dict[str, Any], names: list[str], rows: dict[str, Any], tokenizer: Any, path: Any
) -> tuple[Any, list[dict[str, float]]]:
    """The classifier that adaptation is compared with, and its loss history when it was trained here."""
    from transformers import set_seed

    from hftransfer import models
    from hftransfer.data import text
    from hftransfer.trainers.classifier import train_classifier

    ready = given["baseline"] if given["baseline"] is not None else given["model"]
    set_seed(given["seed"])
    if models.classifies(ready, names):
        return models.load(ready, "text_classification"), []
    network = models.load(ready, "text_classification", **text.id2label(names))
    history = train_classifier(
        network,
        rows["source"],
        text.collator(tokenizer),
        training=merged(TRAINING, given["training"]),
        lengths=text.lengths(rows["source"]),
        balanced=text.labels(rows["source"]) if given["balanced"] else None,
        seed=given["seed"],
        folder=path / "checkpoints" / "source_only",
        label="source-only",
    )
    return network, history


def _adapted(
    given: dict[str, Any], names: list[str], rows: dict[str, Any], texts: Any, tokenizer: Any, path: Any
) -> tuple[Any, list[dict[str, float]]]:
    from transformers import set_seed

    from hftransfer import models
    from hftransfer.data import text
    from hftransfer.inference import predict
    from hftransfer.trainers import adaptation
    from hftransfer.trainers.exact import training_arguments

    set_seed(given["seed"])
    cold = not models.classifies(given["model"], names)
    labels = text.id2label(names) if cold else {}
    network = models.load(given["model"], "text_classification", **labels)
    masked_rows, masking, masked_lm = _masked_parts(given, network, texts, tokenizer)
    model = adaptation.AdaptationModel(
        network,
        method=given["method"],
        weight=given["weight"],
        weight_warmup=given["weight_warmup"],
        threshold=given["threshold"],
        masked_lm=masked_lm,
        masked_lm_weight=given["masked_lm_weight"],
    )
    trainer = adaptation.AdaptationTrainer(
        model=model,
        args=training_arguments(merged(TRAINING, given["training"]), path / "checkpoints" / "adapted", given["seed"]),
        train_dataset=adaptation.Pairs(rows["source"], rows["target"], masked_rows),
        data_collator=adaptation.AdaptationCollator(tokenizer, with_target=model.sees_target, masking=masking),
        predict_target=(lambda: predict(network, tokenizer, rows["target"]).classes) if given["balanced"] else None,
        cold=cold,
        epoch_aware=[masking] if masking else [],
        label=f"adapt ({given['method']})",
    )
    return network, trainer.train_or_resume()


def _masked_parts(given: dict[str, Any], network: Any, texts: Any, tokenizer: Any) -> tuple[Any, Any, Any]:
    """The target's texts cut for masked LM, their collator, and the head on the classifier's own encoder."""
    if not _reads_masked(given):
        return None, None, None
    from hftransfer import models
    from hftransfer.data import MaskedTextCollator, encode_documents

    masked = encode_documents(texts["train"]["text"], tokenizer, max_length=given["max_length"], pack=False)
    masking = MaskedTextCollator(tokenizer, mask_rate=0.15, whole_word=False, seed=given["seed"], fixed=False)
    reference = given["masked_lm_model"] if given["masked_lm_model"] is not None else given["model"]
    return masked, masking, models.masked_lm_on(network, reference)


def _correct_prior(network: Any, given: dict[str, Any], rows: dict[str, Any], tokenizer: Any) -> None:
    """Folds the target's estimated class shares into the last layer's bias, so that a plain checkpoint holds them."""
    import numpy as np
    import torch

    from hftransfer import metrics, models
    from hftransfer.data import text
    from hftransfer.functional.label_shift import bbse, em_prior
    from hftransfer.inference import predict

    held_out, target = (predict(network, tokenizer, rows[part]) for part in ("source test", "target"))
    classes = network.config.num_labels
    # what the classifier takes for granted is what it was trained on, which sampling may have made even
    assumed = np.bincount(text.labels(rows["source"]), minlength=classes) / len(rows["source"])
    if given["balanced"]:
        assumed = (assumed > 0) / np.count_nonzero(assumed)
    if given["prior_correction"] == "bbse":
        joint = metrics.confusion(held_out.classes, text.labels(rows["source test"]), classes)
        prior_target = bbse(joint, np.bincount(target.classes, minlength=classes))
    else:
        prior_target = em_prior(target.probabilities, assumed)
    ratio = np.log(prior_target.clip(1e-3)) - np.log(assumed.clip(1e-3))
    layer = models.last_linear(network)
    with torch.no_grad():
        layer.bias += torch.as_tensor(ratio, dtype=layer.bias.dtype, device=layer.bias.device)
