"""A run folder with rich evidence, hostile text in its labels and samples, and nothing trained."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

HOSTILE = "<script>alert(1)</script>"
LABELS = ["linalg", "fft", "special", "a|b`c", HOSTILE, "optimize", "sparse $x$"]
SECRET = "hf_" + "abcdefghijklmnopqrstuvwx"
PRIVATE = "/home/someone/private/checkpoints"


TRANSDUCTIVE = "transductive: the target texts that training saw, labels unseen"


def _curve(name: str, y: str, points: list[list[float]]) -> dict[str, Any]:
    return {"name": name, "x": "step", "y": y, "points": points}


def _score(
    name: str, rows: int, before: float, after: float, low: float, high: float, protocol: str
) -> dict[str, Any]:
    score = {"name": name, "before": before, "after": after, "difference": after - before, "low": low, "high": high}
    return score | {"rows": rows, "protocol": protocol, "higher_is_better": True}


def _cloud(seed: int, shift: float) -> list[list[float]]:
    generator = random.Random(seed)
    return [
        [generator.gauss(2 * math.cos(k % 7) + shift, 0.4), generator.gauss(2 * math.sin(k % 7) + shift / 2, 0.4)]
        for k in range(140)
    ]


def _counts(right: float) -> list[list[int]]:
    generator = random.Random(3)
    size = len(LABELS)
    table = [[0] * size for _ in LABELS]
    for row in range(size):
        for _ in range(10 + 5 * row):
            table[row][row if generator.random() < right else generator.randrange(size)] += 1
    return table


def pretrain_evidence() -> dict[str, Any]:
    return {
        "stage": "pretrain",
        "id": "pretrain",
        "title": "Continue masked-language pretraining on both domains",
        "seconds": 93.2,
        "settings": {"model": f"{PRIVATE}/bert-small", "objective": "masked_lm", "mask_rate": 0.15, "max_length": 128},
        "notes": ["The new head was fitted first, with the encoder frozen; that is what 'before' means here."],
        "citations": ["Gururangan et al. 2020, Don't Stop Pretraining, arXiv:2004.10964"],
        "verdict": {
            "outcome": "no measurable difference",
            "text": "No measurable difference: the masked-token loss went from 5.91 to 5.88 "
            "(-0.03, 95 % interval -0.08 to +0.02, 224 examples).",
        },
        "comparison": [
            {
                "name": "masked-token loss",
                "before": 5.91,
                "after": 5.88,
                "low": -0.08,
                "high": 0.02,
                "rows": 224,
                "protocol": "held-out texts of both domains, the same masks before and after",
                "higher_is_better": False,
            }
        ],
        "before_name": "head only",
        "after_name": "pretrained",
        "curves": [
            _curve("training", "loss", [[step, 4.9 + 3 / (1 + step / 20)] for step in range(0, 200, 5)]),
            _curve("held out", "loss", [[0, 8.1], [50, 6.2], [100, 5.6], [195, 5.4]]),
        ],
        "samples": {
            "title": "Filled blanks",
            "columns": ["text", "before", "after"],
            "rows": [["Compute the [MASK] of a matrix.", "sum", "inverse"], [f"{HOSTILE} | pipe", "`tick`", "a\nb"]],
        },
    }


def adapt_evidence() -> dict[str, Any]:
    source = dict(zip(LABELS, [97, 120, 310, 150, 160, 90, 127], strict=True))
    target = dict(zip(LABELS, [60, 20, 35, 30, 20, 14, 45], strict=True))
    edges = [0, 16, 32, 64, 96, 128, 192, 256]
    numbers = {key: [k % 7 for k in range(140)] for key in ("source_labels", "target_labels")}
    scores = zip(LABELS, [0.92, 0.81, 0.77, 0.95, 0.6, 0.88, 0.83], strict=True)
    return {
        "stage": "adapt",
        "id": "adapt",
        "title": "Adapt to the unlabelled target (MCC)",
        "seconds": 312.4,
        "settings": {
            "method": "mcc",
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "temperature": 2.5,
            "hub_token": SECRET,
            "training": {
                "learning_rate": 5e-5,
                "num_train_epochs": 4,
                "per_device_train_batch_size": 32,
                "bf16": False,
                "warmup_steps": 0.1,
                "weight_decay": 0.01,
                "lr_scheduler_type": "cosine",
                "max_grad_norm": 1.0,
                "seed": 1,
                "output_dir": f"{PRIVATE}/adapt",
            },
        },
        "notes": ["Target labels never entered training; evaluation read them once.", f"Labels include {HOSTILE}."],
        "citations": ["Jin et al. 2020, Minimum Class Confusion, arXiv:1912.03699"],
        "verdict": {
            "outcome": "helped",
            "text": "Transfer helped: accuracy on the target rose from 0.71 to 0.83 "
            "(+0.12, 95 % interval +0.08 to +0.16, 168 examples).",
        },
        "data": [
            {
                "role": "source",
                "name": "demo/api_docs (scipy)",
                "rows": 1054,
                "labels": source,
                "median_length": 88,
                "lengths": {"unit": "tokens", "edges": edges, "counts": [20, 100, 310, 280, 190, 110, 44]},
            },
            {
                "role": "target",
                "name": "demo/api_docs (torch)",
                "rows": 224,
                "labels": target,
                "median_length": 61,
                "lengths": {"unit": "tokens", "edges": edges, "counts": [22, 54, 70, 40, 20, 12, 6]},
            },
            {"role": "general", "name": "fancyzhx/ag_news", "rows": 500, "labels": None, "split": "train"},
        ],
        "curves": [
            _curve("source loss", "loss", [[step, 1.9 / (1 + step / 30)] for step in range(0, 120, 10)]),
            _curve("adaptation loss", "loss", [[step, 0.8 / (1 + step / 60)] for step in range(0, 120, 10)]),
            _curve("weight", "weight", [[0, 0.0], [60, 0.8], [110, 1.0]]),
        ],
        "comparison": [
            _score("accuracy", 168, 0.7143, 0.8333, 0.08, 0.16, TRANSDUCTIVE),
            _score("macro f1", 168, 0.69, 0.81, 0.06, 0.17, TRANSDUCTIVE),
            _score("accuracy", 56, 0.70, 0.79, -0.01, 0.18, "held out: target texts that no training saw"),
        ],
        "before_name": "source-only",
        "after_name": "adapted",
        "confusion": {"labels": LABELS, "before": _counts(0.65), "after": _counts(0.85)},
        "per_class": [
            {"label": label, "precision": score, "recall": score - 0.04, "f1": score - 0.02, "support": 24}
            for label, score in scores
        ],
        "embedding": {
            "labels": LABELS,
            "before": {"source": _cloud(0, 0.0), "target": _cloud(1, 1.6)} | numbers,
            "after": {"source": _cloud(0, 0.0), "target": _cloud(1, 0.2)} | numbers,
        },
        "log": ["step 10: loss 1.9", f"loaded {PRIVATE}/adapt"],
    }


def write_stage(run: Path, folder: str, evidence: dict[str, Any], metrics: dict[str, float]) -> None:
    (run / folder).mkdir()
    (run / folder / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    (run / folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def write_run(run: Path) -> Path:
    """Two stages, pretrain and adapt, and everything beside them."""
    run.mkdir()
    write_stage(run, "1-pretrain", pretrain_evidence(), {"eval_loss": 5.88, "perplexity": 357.8})
    write_stage(run, "2-adapt", adapt_evidence(), {"accuracy": 0.8333, "macro_f1": 0.81, "rows": 168})
    stages = "- pretrain: {objective: masked_lm}\n- adapt: {method: mcc}\n"
    recipe = f"model: sentence-transformers/all-MiniLM-L6-v2\nstages:\n{stages}"
    (run / "recipe.yaml").write_text(recipe, encoding="utf-8")
    facts = {
        "recipe": "bert_domain_adapt",
        "description": "From documented SciPy to unlabelled PyTorch: does adaptation pay?",
        "command": f"accelerate launch -m hftransfer.recipe bert_domain_adapt --output_dir {PRIVATE}/out",
        "seconds": 431.0,
        "seed": 1,
    }
    (run / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    machine = {"python": "3.11.9", "platform": "Linux x86_64", "cpu": "An eight-core processor", "cpu_count": 8}
    machine |= {"memory_gib": 15.6, "accelerator": "none", "packages": {"torch": "2.13.0", "transformers": "5.23.0"}}
    (run / "environment.json").write_text(json.dumps(machine), encoding="utf-8")
    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A rich run of the test's own, to be changed."""
    return write_run(tmp_path / "bert_domain_adapt")


@pytest.fixture(scope="module")
def shared_run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rich run that the tests of a module only read."""
    return write_run(tmp_path_factory.mktemp("shared") / "bert_domain_adapt")


@pytest.fixture
def bare_run_folder(tmp_path: Path) -> Path:
    """One stage that tells only what it must."""
    run = tmp_path / "bare"
    run.mkdir()
    write_stage(run, "1-finetune", {"stage": "finetune", "id": "finetune", "title": "Fine-tune", "seconds": 2.0}, {})
    return run
