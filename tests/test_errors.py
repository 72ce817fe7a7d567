"""Bad input: one line that names the key or file, what is wrong and what to do; exit code 2; nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

from hftransfer import models, recipe

CHAIN = """\
model: {model}
source: {source}
target: {target}
stages:
  - finetune: {{data: $source, training: {{max_steps: 1}}, max_length: 16}}
  - adapt: {{training: {{max_steps: 1}}, max_length: 16}}
"""


@pytest.fixture
def yaml_file(tmp_path, tiny_bert, reviews):
    path = tmp_path / "mine.yaml"
    path.write_text(CHAIN.format(model=tiny_bert, source=reviews("source"), target=reviews("target", 60)))
    return path


def fails(capsys, tmp_path, *arguments):
    """The error line of a run that must exit with 2, print one line, and write nothing."""
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        recipe.main([*map(str, arguments), "--output_dir", str(out)])
    printed = [
        line for line in capsys.readouterr().err.splitlines() if line and not line.startswith(("model ", "every"))
    ]
    assert stop.value.code == 2
    assert not out.exists()
    assert len(printed) == 1 and printed[0].startswith("error: "), printed
    return printed[0]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_unknown_recipe_gives_the_nearest(capsys, tmp_path):
    assert "'bert_domain_adept'; did you mean 'bert_domain_adapt'" in fails(capsys, tmp_path, "bert_domain_adept")


def test_a_missing_recipe_file_gives_the_nearest(capsys, tmp_path, yaml_file):
    assert "did you mean 'mine.yaml'" in fails(capsys, tmp_path, tmp_path / "mime.yaml")


@pytest.mark.parametrize(
    "override, expected",
    [
        ("--adpt.method=mcc", "adpt.method: unknown key; did you mean 'adapt'?"),
        ("--adapt.methd=mcc", "adapt.methd: unknown key; did you mean 'method'?"),
        ("--adapt.method=cdam", "adapt.method: there is no 'cdam'; did you mean 'cdan'?"),
        ("--adapt.threshold=high", "adapt.threshold: expected number"),
        ("--adapt.max_length=[1]", "adapt.max_length: expected whole number"),
        ("--adapt.training.learning_rte=1", "has no field 'learning_rte'; did you mean 'learning_rate'?"),
        ("--adapt.training.learning_rate=fast", "field 'learning_rate' takes number, found 'fast'"),
        ("--adapt.training.lr_scheduler_type=cosin", "field 'lr_scheduler_type' takes one of"),
        ("--adapt.training.push_to_hub=true", "cannot be set here: training never uploads"),
        ("--learning_rate=1", "did you mean 'adapt.training.learning_rate'?"),
        ("--adapt.learning_rate=1", "did you mean 'adapt.training.learning_rate'?"),
        ("--adapt.baseline=$nothing", "$nothing is no earlier stage"),
        ("--target=null", "target: not given, and adapt.target needs it; add --target"),
        ("--source.pth=x", "source.pth: unknown key; did you mean 'path'?"),
        ("--seed=-1", "seed: expected whole number"),
    ],
)
def test_overrides(capsys, tmp_path, yaml_file, override, expected):
    assert expected in fails(capsys, tmp_path, yaml_file, override)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("model: x\nstages:\n  - adapt: {method: [}\n", "line 3: not valid YAML"),
        ("seed: 1\nseed: 2\nstages: []\n", "line 2: not valid YAML (key 'seed' given twice)"),
        ("- adapt\n", "a recipe is a mapping"),
        ("model: x\nstages:\n  - adopt: {}\n", "there is no stage 'adopt'; did you mean 'adapt'?"),
        ("model: x\nstage:\n  - adapt: {}\n", "stage: unknown key; did you mean 'stages'?"),
        ("model: x\nstages: null\n", "stages: expected list"),
        ("model: x\nstages: []\n", "stages: a recipe needs at least one"),
        ("model: x\nstages:\n  - adapt: {}\n  - adapt: {}\n", "two are named 'adapt'; give each its own id"),
        ("model: x\nstages:\n  - {adapt: {}, pretrain: {}}\n", "stages[0]: each entry is one verb"),
        ("model: x\nstages:\n  - adapt: {output_dir: here}\n", "adapt.output_dir: the run's output_dir decides it"),
    ],
)
def test_recipe_files(capsys, tmp_path, text, expected):
    assert expected in fails(capsys, tmp_path, write(tmp_path / "bad.yaml", text))


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "empty"),
        ("words,count,label\n1,1,a\n2,2,b\n", "words"),
        ("text,stars\nx,a\ny,b\n", "stars"),
        ("text,label\nx,a\ny,a\nz,a\n", "at least two classes"),
        ("text,label\n1,a\n2,b\n3,a\n", "source: the column 'text' holds int64, not text"),
        ("text,label\nx,a\n,b\ny,a\nz,b\n", "text"),
    ],
    ids=["empty", "no text column", "no label column", "one class", "numbers", "nulls"],
)
def test_source_files(capsys, tmp_path, yaml_file, content, expected):
    path = write(tmp_path / "bad.csv", content)
    line = fails(capsys, tmp_path, yaml_file, "--source", path)
    assert expected in line and ("source" in line or "bad.csv" in line)


def test_a_missing_data_file_gives_the_nearest(capsys, tmp_path, yaml_file):
    assert "source.csv" in fails(capsys, tmp_path, yaml_file, "--source", tmp_path / "sorce.csv")


def test_target_labels_that_the_source_lacks(capsys, tmp_path, yaml_file, reviews):
    line = fails(capsys, tmp_path, yaml_file, "--target", reviews("target", 60, classes=3, name="more"))
    assert "odd" in line and "target" in line


def test_a_model_folder_without_weights(capsys, tmp_path, yaml_file, tiny_bert):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_bert / "config.json").read_text())
    assert "bare has no model.safetensors" in fails(capsys, tmp_path, yaml_file, "--model", folder)


def test_a_model_without_tokenizer(capsys, tmp_path, yaml_file, tiny_bert):
    models.save(models.load(str(tiny_bert), "encoder"), tmp_path / "mute")
    assert "mute has no tokenizer" in fails(capsys, tmp_path, yaml_file, "--model", tmp_path / "mute")


def test_a_model_that_is_nowhere(capsys, tmp_path, yaml_file):
    assert "cannot reach 'nobody/nothing' on the Hub" in fails(capsys, tmp_path, yaml_file, "--model=nobody/nothing")
    assert "there is no folder './nothing'" in fails(capsys, tmp_path, yaml_file, "--model", "./nothing")


def test_a_folder_of_another_recipe(capsys, tmp_path, yaml_file):
    out = tmp_path / "taken"
    out.mkdir()
    (out / "recipe.yaml").write_text("name: gan_digits\nstages: []\n")
    with pytest.raises(SystemExit):
        recipe.main([str(yaml_file), "--output_dir", str(out)])
    assert "belongs to the recipe 'gan_digits'" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["recipe.yaml"]


def test_folders_that_cannot_be_written(capsys, tmp_path, yaml_file):
    file = write(tmp_path / "file", "")
    for folder in (file, file / "below"):
        with pytest.raises(SystemExit):
            recipe.main([str(yaml_file), "--output_dir", str(folder)])
        assert "output_dir: " in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("HFTRANSFER_DEBUG", "1")
    with pytest.raises(ValueError, match="there is no 'nothing'"):
        recipe.main(["nothing"])


def test_in_a_real_process():
    command = [sys.executable, "-m", "hftransfer.recipe", "bert_domain_adapt", "--adapt.method", "cdam"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "error: adapt.method: there is no 'cdam'; did you mean 'cdan'?\n"
