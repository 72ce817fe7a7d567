"""The front door: overrides, pages, plans, runs."""

import importlib
import importlib.metadata
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
from hftransfer.signatures import options, validate
from hftransfer.stages.adapt import TRAINING

ROOT = Path(__file__).parent.parent
RECIPES = sorted(ROOT.joinpath("recipes").rglob("*.yaml"))
SMALL = {"max_steps": 2, "per_device_train_batch_size": 8}
FILLED = {**TRAINING, **SMALL}  # of adapt
MIN_LR = {"lr_scheduler_kwargs": {"min_lr": 1e-6}}


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
        (
            ["--adapt.training.learning_rate", "5e-5"],
            "adapt",
            "training",
            {**FILLED, "learning_rate": 5e-5},
        ),
        (["adapt.training={max_steps: 7}"], "adapt", "training", {**FILLED, "max_steps": 7}),
        (["--set_seed", "7"], "adapt", "seed", 7),
        (["--seed", "8"], "pretrain", "seed", 8),
        (["--max_train_samples", "9"], "adapt", "max_train_samples", 9),
        (["--adapt.training.warmup_steps", "-1"], "adapt", "training", {**FILLED, "warmup_steps": -1.0}),
        (
            ["--adapt.training.lr_scheduler_kwargs", "{min_lr: 1e-6}"],
            "adapt",
            "training",
            {**FILLED, **MIN_LR},
        ),
        (["--adapt.balanced", "no"], "adapt", "balanced", False),
        (
            ["--adapt", "{method: mmd, training.max_steps: 9}"],
            "adapt",
            "training",
            {**FILLED, "max_steps": 9},
        ),
        (["--adapt.source", "demo/api_docs"], "adapt", "source", "demo/api_docs"),
        (["--adapt.baseline", "null", "--adapt.method", "mmd"], "adapt", "baseline", None),
    ],
)
def test_overrides_reach_the_stage(small, words, stage, key, expected):
    step = next(step for step in resolved(small, *words).steps if step.id == stage)
    assert step.given[key] == expected


def test_every_field_of_training_is_written_out_and_python_calls_are_the_same(small):
    found = resolved(small, "--adapt.training.optim", "sgd")
    written = chain.read_yaml(recipe._resolved(found))["stages"]
    for step, entry in zip(found.steps, written, strict=True):
        home = importlib.import_module(f"hftransfer.stages.{step.verb}")
        own = {"pretrain": "masked_lm", "finetune": "full"}.get(step.verb)
        own = home.DEFAULTS[own] if own else home.TRAINING
        expected = {**own, **SMALL, **({"optim": "sgd"} if step.verb == "adapt" else {})}
        assert step.given["training"] == entry[step.verb]["training"] == expected
        given = {key: value for key, value in expected.items() if key in (*SMALL, "optim")}
        called = validate(step.function, {**step.given, "training": given})
        assert called["training"] == expected
        assert validate(step.function, {**step.given, "training": {}})["training"] == own


def test_overrides_of_data_keep_its_other_fields(small):
    source = resolved(small).top["source"]
    assert resolved(small, "--source.columns.text", "text").top["source"] == {
        "path": source,
        "columns": {"text": "text"},
    }


@pytest.mark.parametrize("first", [["--source"], ["--source.path"]])
@pytest.mark.parametrize("turned", [False, True])
def test_other_data_keeps_nothing_of_the_old_in_any_order(reviews, first, turned):
    mine = reviews("source")
    words = [[*first, mine], ["--source.columns.text", "text"]]
    words = [word for pair in (reversed(words) if turned else words) for word in pair]
    found = resolved(chain.find("bert_domain_adapt"), *words)  # its own source is {path: demo/api_docs, name: scipy}
    assert found.top["source"] == {"path": mine, "columns": {"text": "text"}}


def test_a_mapping_of_files_is_other_data_and_one_of_fields_is_not(reviews):
    shipped = chain.find("bert_domain_adapt")
    mine = {"data_files": reviews("source")}
    assert resolved(shipped, "--source", json.dumps(mine)).top["source"] == mine
    assert resolved(shipped, "--source", "{name: torch}").top["source"] == {"path": "demo/api_docs", "name": "torch"}


def test_data_in_memory_takes_columns_as_a_dotted_key(small):
    rows = Dataset.from_dict({"review": ["a", "b"], "label": ["x", "y"]})
    found = chain.resolve(chain.load(small), {"source": rows, "source.columns.text": "review"})
    assert found.top["source"]["path"] is rows and found.top["source"]["columns"] == {"text": "review"}


def test_a_verb_that_comes_twice_is_addressed_by_id(small):
    raw = chain.load(small)
    raw["stages"].append({"adapt": {"id": "again", "method": "dann"}})
    found = chain.resolve(raw, {"adapt.method": "mmd", "again.weight": 2})
    given = {step.id: step.given for step in found.steps}
    assert (given["adapt"]["method"], given["again"]["method"]) == ("mmd", "dann")
    assert (given["adapt"]["weight"], given["again"]["weight"]) == (None, 2.0)
    assert given["again"]["model"] == "$adapt"
    assert [found.stage_folder(step).name for step in found.steps][-1] == "4-again"


def test_recipe_files_are_yaml_as_editors_read_it():
    numbers = chain.read_yaml("[5e-5, 1.5, -3, .5, 1e5, -.inf, 0]")
    assert numbers == [5e-5, 1.5, -3, 0.5, 1e5, float("-inf"), 0]
    assert [type(number) for number in numbers[:3]] == [float, float, int]
    words = ["no", "on", "010", "2024-01-01", "1:30", "e5", "."]
    assert chain.read_yaml(f"[{', '.join(words)}]") == words
    assert chain.read_yaml("[~, null, '', true, False]") == [None, None, "", True, False]
    assert chain.read_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_the_command_line_wins_over_the_file(small):
    text = small.read_text() + "seed: 5\noutput_dir: here\n"
    small.write_text(text)
    assert (resolved(small).top["seed"], resolved(small, "--seed=6").top["seed"]) == (5, 6)
    assert resolved(small, "--seed=6").top["output_dir"] == "here"
    assert resolved(small, "--output_dir", "there").output_dir == Path("there")
    assert resolved(small, "--output_dir", "~/there").output_dir == Path.home() / "there"


def test_flags_stand_anywhere_with_either_dash():
    assert recipe.parse(["--dry-run", "a.yaml", "--seed", "1"]) == ("a.yaml", {"dry_run"}, {"seed": 1})
    assert recipe.parse(["a.yaml", "--adapt.balanced", "--dry_run"]) == (
        "a.yaml",
        {"dry_run"},
        {"adapt.balanced": True},
    )
    assert recipe.parse(["-h"]) == (None, {"help"}, {})


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
            assert option.name in chain.RUN_OPTIONS or f"--{step.id}.{option.name}" in page
    assert re.search(r"--adapt\.threshold +number > 0 and <= 1 +0\.95", page)


def test_a_dry_run_counts_and_writes_nothing(small, tmp_path, capsys):
    recipe.main([str(small), "--dry_run", "--output_dir", str(tmp_path / "out")])
    page = " ".join(capsys.readouterr().out.split())
    assert "train 64, test 16" in page and "source 64, target 48, target test 12" in page
    assert "BertForMaskedLM" in page
    assert not (tmp_path / "out").exists()


def test_the_console_script_and_the_list():
    (script,) = [s for s in importlib.metadata.entry_points(group="console_scripts") if s.name == "hftransfer"]
    assert script.load() is recipe.main


def test_list_and_usage(capsys):
    recipe.main(["--list"])
    page = " ".join(capsys.readouterr().out.split())
    for path in RECIPES:
        shipped = yaml.safe_load(path.read_text())
        assert f"{path.stem} {shipped['description']} {shipped['time']}" in page
    recipe.main([])
    assert "usage: accelerate launch -m hftransfer.recipe NAME" in capsys.readouterr().out


def test_help_says_every_option_s_type_and_line(small, capsys):
    recipe.main([str(small), "--help", "--adapt.weight", "0.25"])
    page = " ".join(capsys.readouterr().out.split())
    assert "--adapt.weight number >= 0 or null 0.25 of the formula" in page
    assert "--max_train_samples whole number > 0 or null null take a random part" in page
    assert "--pretrain.data data or list of data ['$source', '$target']" in page
    assert "--pretrain.mask_rate number > 0 and < 1 or list or null 0.15 share that is hidden" in page
    assert "--source_only.method one of full, frozen, partial," in page


def misfits(value, schema, whole, place=""):
    """Where a value breaks a JSON schema, as far as the keywords that ours uses go."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in schema:
        tried = [misfits(value, option, whole, place) for option in schema["anyOf"]]
        return [] if [] in tried else min(tried, key=len)
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    kind = schema.get("type")
    if kind and not (value is None if kind == "null" else isinstance(value, kinds[kind])):
        return [f"{place}: {value!r} is no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is not one of {schema['enum']}"]
    found = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{place}: lacks {key}" for key in schema.get("required", []) if key not in value]
        found += [
            f"{place}.{k}: unknown" for k in value if k not in known and not schema.get("additionalProperties", True)
        ]
        found += [
            line for k, item in value.items() if k in known for line in misfits(item, known[k], whole, f"{place}.{k}")
        ]
    if isinstance(value, list) and "items" in schema:
        found += [
            line for i, item in enumerate(value) for line in misfits(item, schema["items"], whole, f"{place}[{i}]")
        ]
    return found


def test_recipes_fit_the_schema_and_mistakes_do_not(small):
    schema = json.loads((ROOT / "recipes/recipe.schema.json").read_text())
    for path in (*RECIPES, small):
        content = chain.read_yaml(path.read_text())
        assert misfits(content, schema, schema) == []
    wrong = [
        {**content, "sede": 1},
        {**content, "seed": "x"},
        {**content, "model": 3},
        {**content, "source": 3},
        {**content, "stages": [{"adapt": {"method": "cdam"}}]},
        {**content, "stages": [{"adapt": {"training": {"learning_rte": 1.0}}}]},
        {**content, "stages": [{"adapt": {"training": {"lr_scheduler_type": "cosin"}}}]},
        {**content, "stages": [{"adapt": {"training": {"seed": 1}}}]},
        {**content, "stages": [{"adopt": {}}]},
        {**content, "stages": [{"pretrain": {"lora": {"alpha": 4}}}]},
        {**content, "stages": [{"pretrain": {"lora": {"r": "many"}}}]},
        {**content, "stages": [{"pretrain": {"lora": {"peft_type": "LOHAA"}}}]},
        {key: value for key, value in content.items() if key != "stages"},
    ]
    assert [example for example in wrong if not misfits(example, schema, schema)] == []
    for lora in ({}, {"r": 4, "use_dora": True}, {"peft_type": "LORA"}, {"peft_type": "LOHA", "alpha": 4}):
        assert misfits({**content, "stages": [{"pretrain": {"lora": lora}}]}, schema, schema) == []


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


def test_a_run_leaves_what_the_readme_draws_and_a_second_one_does_nothing(small, tmp_path, capsys, monkeypatch):
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
    card = (out / "final" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert "base_model" not in card and "Made with hftransfer from <code>tiny_bert</code>" in card
    for page in (card, (out / "report.html").read_text()):
        assert "training.learning_rate" in page and "training.per_device_train_batch_size" in page
    assert not re.findall(r'(?:src|srcset|data)="[^#"]|url\((?!#)', (out / "report.html").read_text())
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    for words in ([str(small), "--output_dir", str(out)], [str(out / "recipe.yaml")]):
        recipe.main(words)
        assert "nothing to do" in capsys.readouterr().err
        assert times == {path: path.stat().st_mtime_ns for path in times}
    assert not (tmp_path / "outputs").exists()


def test_the_resolved_recipe_runs_the_same_again(small, tmp_path):
    first = hftransfer.run(small, output_dir=str(tmp_path / "first"))
    again = hftransfer.run(tmp_path / "first" / "recipe.yaml", output_dir=str(tmp_path / "again"))
    assert (first.path / "model.safetensors").read_bytes() == (again.path / "model.safetensors").read_bytes()
    assert first.metrics == again.metrics


def test_a_resolved_recipe_runs_where_it_lies(small, tmp_path):
    text = recipe._resolved(resolved(small))
    for name in ("run/recipe.yaml", "mine.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "run/recipe.yaml"
    assert resolved(own).output_dir == tmp_path / "run"
    assert resolved(own, "--output_dir", "there").output_dir == Path("there")
    assert resolved(tmp_path / "mine.yaml").output_dir == Path("outputs/small")  # a copy is a recipe of one's own
    assert recipe._resolved(resolved(own)) == text
    small.rename(tmp_path / "run/recipe.yaml")  # written by hand
    assert resolved(own).output_dir == Path("outputs/recipe")


LAUNCH = {"ACCELERATE_MIXED_PRECISION": "no"}
ELASTIC = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "1"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, "python -m"),
        (LAUNCH, "accelerate launch -m"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "accelerate launch --mixed_precision bf16 -m"),
        (LAUNCH | ELASTIC, "accelerate launch --multi_gpu --num_processes 2 -m"),
        (LAUNCH | ELASTIC | {"ACCELERATE_USE_CPU": "True"}, "accelerate launch --cpu --num_processes 2 -m"),
        (ELASTIC, "torchrun --nproc_per_node 2 -m"),
    ],
)
def test_the_command_is_recorded_as_it_was_launched(environment, expected, monkeypatch):
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = recipe._command(["a.yaml", "--source", "my file.csv"])
    assert found == f"{expected} hftransfer.recipe a.yaml --source 'my file.csv'"


def test_a_call_from_python_is_recorded_with_its_overrides():
    rows = Dataset.from_dict({"text": ["a"]})
    overrides = {"seed": 1, "adapt": {"method": "mmd"}, "output_dir": Path("out"), "pretrain.head_steps": 1}
    assert recipe._call("bert_domain_adapt", {**overrides, "source": rows}) == (
        "hftransfer.run('bert_domain_adapt', seed=1, adapt={'method': 'mmd'}, output_dir='out', "
        "source=<Dataset in memory>, **{'pretrain.head_steps': 1})"
    )
    assert recipe._call({"stages": [{"adapt": {"source": rows}}]}, {}) == (
        "hftransfer.run({'stages': [{'adapt': {'source': <Dataset in memory>}}]})"
    )


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
        output_dir=tmp_path / "out",
        **{"pretrain.head_steps": 1},
    )
    assert result.path == tmp_path / "out" / "final"
    assert result.model().config.num_labels == 2
    assert result.metrics["adapt"]["target.agreement"] <= 1
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["stages"][1]["pretrain"]["head_steps"] == 1
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


@pytest.mark.parametrize(
    ("terminal", "environment", "opened"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (False, {"DISPLAY": ":0"}, False),
        (True, {}, False),
        (True, {"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        (True, {"DISPLAY": ":0", "HFTRANSFER_OPEN": "0"}, False),
    ],
)
def test_a_page_is_opened_only_before_a_person_on_a_desktop(monkeypatch, terminal, environment, opened):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "CI", "HFTRANSFER_OPEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert recipe._has_screen() is opened
