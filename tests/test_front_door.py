"""The front door: overrides, pages, plans, runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

import hftransfer
from hftransfer import chain, recipe
from hftransfer.signatures import options

ROOT = Path(__file__).parent.parent
RECIPES = sorted(ROOT.joinpath("recipes").rglob("*.yaml"))
SMALL = {"max_steps": 2, "per_device_train_batch_size": 8}


@pytest.fixture
def small(tmp_path, tiny_bert, reviews):
    """The main recipe's chain on tiny data."""
    training = {"training": SMALL, "max_length": 16}
    stages = [
        {"finetune": {"id": "source_only", "model": "$model", "data": "$source", **training}},
        {"pretrain": {"model": "$model", "data": ["$source", "$target"], "head_steps": 2, **training}},
        {"adapt": {"baseline": "$source_only", **training}},
    ]
    raw = {"description": "small", "model": str(tiny_bert), "source": reviews("source"), "stages": stages}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**raw, "target": reviews("target", 60)}))
    return path


def resolved(path, *words):
    _, _, overrides = recipe.parse(words)
    return chain.resolve(chain.load(path), overrides)


@pytest.mark.parametrize(
    "words, stage, key, expected",
    [
        (["--adapt.method", "cdan"], "adapt", "method", "cdan"),
        (["--adapt.method=cdan"], "adapt", "method", "cdan"),
        (["adapt.method=cdan"], "adapt", "method", "cdan"),
        (["--adapt.weight", "null"], "adapt", "weight", None),
        (["--adapt.weight", "5e-1"], "adapt", "weight", 0.5),
        (["--adapt.balanced", "false"], "adapt", "balanced", False),
        (["--pretrain.pack"], "pretrain", "pack", True),
        (["--pretrain.data", "[$target]"], "pretrain", "data", ["$target"]),
        (["--adapt.training.learning_rate", "5e-5"], "adapt", "training", {**SMALL, "learning_rate": 5e-5}),
        (["adapt.training={max_steps: 7}"], "adapt", "training", {**SMALL, "max_steps": 7}),
        (["--source_only.seed", "7"], "source_only", "seed", 7),
        (["--set_seed", "7"], "adapt", "seed", 7),
        (["--seed", "8"], "pretrain", "seed", 8),
        (["--max_train_samples", "9"], "adapt", "max_train_samples", 9),
    ],
)
def test_overrides_reach_the_stage(small, words, stage, key, expected):
    step = next(step for step in resolved(small, *words).steps if step.id == stage)
    assert step.given[key] == expected


def test_overrides_of_data_keep_its_other_fields(small):
    source = resolved(small).top["source"]
    assert resolved(small, "--source.columns.text", "text").top["source"] == {
        "path": source,
        "columns": {"text": "text"},
    }


def test_the_chain_hands_models_on(small):
    steps = {step.id: step.given for step in resolved(small).steps}
    assert steps["source_only"]["model"] == "$model"
    assert steps["adapt"]["model"] == "$pretrain"


def test_pages_and_validation_import_no_torch(small):
    code = (
        "import sys; from hftransfer import recipe, chain\n"
        "recipe.main(['--list']); recipe.main(['bert_domain_adapt', '--help'])\n"
        f"chain.resolve(chain.load(chain.find({str(small)!r})), {{}})\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'matplotlib', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert ran.returncode == 0, ran.stderr
    assert "bert_domain_adapt" in ran.stdout


def test_help_names_every_option_with_its_default(capsys):
    recipe.main(["bert_domain_adapt", "--help"])
    page = capsys.readouterr().out
    for step in chain.resolve(chain.load(chain.find("bert_domain_adapt")), {}).steps:
        for option in options(step.function):
            assert option.name == "output_dir" or f"--{step.id}.{option.name}" in page
    assert re.search(r"--adapt\.threshold +number > 0 <= 1 +0\.95", page)


def test_a_dry_run_counts_and_writes_nothing(small, tmp_path, capsys):
    recipe.main([str(small), "--dry_run", "--output_dir", str(tmp_path / "out")])
    page = " ".join(capsys.readouterr().out.split())
    assert "train 64, test 16" in page and "source 64, target 48, target test 12" in page
    assert "BertForMaskedLM" in page
    assert not (tmp_path / "out").exists()


def test_every_shipped_recipe_validates_and_says_what_it_is():
    assert len(RECIPES) >= 1
    for path in RECIPES:
        text = path.read_text()
        assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
        assert f"hftransfer.recipe {path.stem}" in text
        found = chain.resolve(chain.load(path), {})
        assert found.top["description"] and found.top["time"]


def test_the_schema_is_current(capsys):
    recipe.main(["schema"])
    assert capsys.readouterr().out == (ROOT / "recipes/recipe.schema.json").read_text()


def test_a_run_leaves_what_the_readme_draws_and_a_second_one_does_nothing(small, tmp_path, capsys):
    out = tmp_path / "out"
    recipe.main([str(small), "--output_dir", str(out)])
    shown = capsys.readouterr().out
    assert "source_only" in shown or "Adapt" in shown
    assert str(out / "report.html") in shown.replace("\n", "")
    names = {path.name for path in out.iterdir()}
    assert {
        "1-source_only",
        "2-pretrain",
        "3-adapt",
        "recipe.yaml",
        "all_results.json",
        "report.html",
        "final",
    } <= names
    results = json.loads((out / "all_results.json").read_text())
    assert set(results) == {"source_only", "pretrain", "adapt"}
    model = AutoModelForSequenceClassification.from_pretrained(out / "final")
    assert model.config.id2label == {0: "calm", 1: "loud"}
    assert str(tmp_path) not in (out / "final" / "README.md").read_text()
    assert not re.findall(r'(?:src|srcset|data)="[^#"]|url\((?!#)', (out / "report.html").read_text())
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    recipe.main([str(small), "--output_dir", str(out)])
    assert "nothing to do" in capsys.readouterr().err
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_the_resolved_recipe_runs_the_same_again(small, tmp_path):
    first = hftransfer.run(small, output_dir=str(tmp_path / "first"))
    again = hftransfer.run(tmp_path / "first" / "recipe.yaml", output_dir=str(tmp_path / "again"))
    assert (first.path / "model.safetensors").read_bytes() == (again.path / "model.safetensors").read_bytes()
    assert first.metrics == again.metrics


def test_changed_settings_run_their_stage_and_those_after_it(small, tmp_path, capsys):
    out = tmp_path / "out"
    recipe.main([str(small), "--output_dir", str(out)])
    before = {path.name: (path / "manifest.json").stat().st_mtime_ns for path in out.glob("[0-9]-*")}
    recipe.main([str(small), "--output_dir", str(out), "--pretrain.mask_rate", "0.3"])
    after = {path.name: (path / "manifest.json").stat().st_mtime_ns for path in out.glob("[0-9]-*")}
    assert [name for name in sorted(before) if before[name] != after[name]] == ["2-pretrain", "3-adapt"]


def test_run_takes_objects_and_nested_overrides(small, tmp_path, reviews):
    rows = {"text": ["so quiet a pan", "a noisy oven"] * 20, "label": ["calm", "loud"] * 20}
    result = hftransfer.run(
        str(small),
        source=Dataset.from_dict(rows),
        adapt={"method": "coral", "training": {"max_steps": 1}},
        output_dir=str(tmp_path / "out"),
    )
    assert result.path == tmp_path / "out" / "final"
    assert result.model().config.num_labels == 2
    assert result.metrics["adapt"]["target.agreement"] <= 1
    assert "in memory" in (tmp_path / "out" / "recipe.yaml").read_text()


def test_it_launches_through_accelerate_without_its_warnings(small, tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["accelerate", "launch", "--config_file", str(ROOT / "accelerate_config.yaml"), "-m", "hftransfer.recipe"]
    ran = subprocess.run(
        [*words, str(small), "--dry_run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert "defaults used instead" not in ran.stderr and "Warning" not in ran.stderr
    assert "the plan" in ran.stdout
