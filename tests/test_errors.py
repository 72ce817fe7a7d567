"""Bad input: one line that names the key or file, what is wrong and what to do; exit code 2; nothing written."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from transformers import GPT2Config, GPT2Model

from hftransfer import models, recipe
from hftransfer.data import labelled

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


def refuses(capsys, yaml_file, folder, mode):
    with pytest.raises(SystemExit) as stop:
        recipe.main([str(yaml_file), *mode, "--output_dir", str(folder)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


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
        ("--adapt.methd=mcc", "adapt.methd: unknown key; did you mean 'adapt.method'?"),
        ("--adapt.method=cdam", "adapt.method: there is no 'cdam'; did you mean 'cdan'?"),
        ("--adapt.threshold=high", "adapt.threshold: expected number"),
        ("--adapt.max_length=[1]", "adapt.max_length: expected whole number"),
        ("--adapt.weight=-1", "adapt.weight: expected number >= 0 or null, found -1"),
        ("--adapt.method.x=1", "adapt.method: expected one of source_only, coral,"),
        ("--adapt.max_length.x=1", "adapt.max_length.x: unknown key; 'max_length' is 16 and has no parts"),
        ("--adapt={method: cdam}", "adapt.method: there is no 'cdam'; did you mean 'cdan'?"),
        ("--adapt=cdan", "adapt: expected the stage's options as a mapping, found 'cdan'"),
        (
            "--adapt.training=fast",
            "adapt.training: expected the fields of TrainingArguments as a mapping, found 'fast'",
        ),
        (
            "--adapt.training.learning_rte=1",
            "adapt.training.learning_rte: TrainingArguments has no such field; did you",
        ),
        ("--adapt.training.zzz=1", "adapt.training.zzz: TrainingArguments has no such field"),
        ("--adapt.training.learning_rate=fast", "adapt.training.learning_rate: expected number, found 'fast'"),
        ("--adapt.training.lr_scheduler_type=cosin", "found 'cosin'; did you mean 'cosine'?"),
        (
            "--adapt.training.push_to_hub=true",
            "adapt.training.push_to_hub: cannot be set here: training never uploads",
        ),
        ("--adapt.seed=1", "adapt.seed: the recipe's seed divides the data for every stage; set seed instead"),
        ("--adapt.training.seed=1", "adapt.training.seed: cannot be set here: use the recipe's seed"),
        ("--adapt.training={bf16: true, fp16: true}", "adapt.training: "),
        (
            "--adapt.training.deepspeed=x.json",
            "adapt.training.deepspeed: needs the package deepspeed, which is not installed; type: pip install ",
        ),
        ("--adapt.training.use_liger_kernel", "adapt.training.use_liger_kernel: needs the package liger_kernel"),
        ("--adapt.training.optim=adamw_8bit", "adapt.training.optim: adamw_8bit: You need to install `bitsandbytes`"),
        ("--adapt.training.optim=adamw_anyprecision", "adapt.training.optim: adamw_anyprecision: Please install"),
        ("--adapt.training.optim_args=x", "adapt.training.optim: adamw_torch_fused with optim_args 'x': "),
        ("--adapt.training.fsdp=full_shard", "adapt.training.fsdp: shards a model over several accelerators"),
        ("--adapt.training.lr_scheduler_type=greedy", "training.lr_scheduler_type: lr_scheduler_type greedy requires"),
        ("--adapt.training.accelerator_config=no.json", "adapt.training.accelerator_config: [Errno 2] No such file"),
        (
            "--adapt.training.lr_scheduler_type=cosine_with_min_lr",
            "cosine_with_min_lr with lr_scheduler_kwargs None: ",
        ),
        (
            "--adapt.training.lr_scheduler_kwargs={a: 1}",
            "training.lr_scheduler_type: linear with lr_scheduler_kwargs {'a",
        ),
        ("--adapt.training.per_device_train_batch_size=0", "expected a whole number above 0, found 0"),
        ("--adapt.training.parallelism_config=x", "adapt.training.parallelism_config: cannot be set here: a recipe"),
        ("--adapt.training.optim=adamw_trch", " names, found 'adamw_trch'; did you mean 'adamw_torch'?"),
        ("--adapt.training.optim=quickest", " names, found 'quickest'; the nearest are "),
        ("--adapt.training={a: [}", "adapt.training: '{a: [}' is not a YAML value"),
        ("--learning_rate=1", "did you mean 'adapt.training.learning_rate'?"),
        ("--adapt.learning_rate=1", "did you mean 'adapt.training.learning_rate'?"),
        (
            "--adapt.baseline=$finetun",
            "adapt.baseline: $finetun is no earlier stage that makes a checkpoint; did you mean",
        ),
        ("--adapt.baseline=$adapt", "adapt.baseline: $adapt is no earlier stage"),
        ("--adapt.baseline=7", "adapt.baseline: expected a Hub id, a folder or a model object, found 7"),
        ("--adapt.source=$finetune", "adapt.source: $finetune is no data of the recipe; known: $source, $target"),
        ("--adapt.source.split=x", "adapt.source.split: 'source' is $source here; set source.split"),
        ("--model=7", "model: expected a Hub id, a folder or a model object, found 7"),
        ("--model.name=x", "model.name: unknown key"),
        ("--source=7", "source: expected a Hub id"),
        ("--finetune.data=[a.csv, b.csv]", "finetune.data: expected a Hub id"),
        ("--source.columns.txt=x", "source.columns: there is no role 'txt'; did you mean 'text'?"),
        ("--target=null", "target: not given, and adapt.target needs it; add --target"),
        ("--source.pth=x", "source.pth: unknown key; did you mean 'path'?"),
        ("--finetune.method=ful", "finetune.method: there is no 'ful'; did you mean 'full'?"),
        ("--finetune.trainable=2", "finetune.trainable: method full has no such option; remove it"),
        ("--finetune.lora.r=2", "finetune.lora: method full trains no adapter; set method: lora, or remove it"),
        ("--finetune.near.l2=1", "finetune.near.l2: unknown key; known: l2_sp, l2_sp_head, ema, wise_ft, soup"),
        ("--finetune.near.wise_ft=2", "finetune.near.wise_ft: expected"),
        ("--finetune.near.wise_ft=best", "finetune.near.wise_ft: a new head has no start to go back to; use method: "),
        ("--finetune.loss.focal=-1", "finetune.loss.focal: expected number >= 0, found -1"),
        ("--finetune.layer_decay=2", "finetune.layer_decay: expected number"),
        ("--finetune.folds=1", "finetune.folds: expected whole number >= 2"),
        ("--finetune.max_length=65", "finetune.max_length: 65 tokens are more than the 64 positions of this bert"),
        ("--seed=-1", "seed: expected whole number >= 0, found -1"),
        ("--seed.x=1", "seed.x: unknown key; 'seed' is 42 and has no parts"),
        ("--=1", "'--=1': expected --key value"),
        ("another", "'another': expected --key value or key=value after the recipe's name"),
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
        (
            "model: x\nstages:\n  - {adapt: {}, pretrain: {}}\n",
            "stages[0]: expected one verb with its options indented",
        ),
        ("model: x\nstages: [finetune]\n", "stages[0]: expected a verb with its options, like `finetune: {}`"),
        ("model: x\nstages:\n  - adapt: fast\n", "stages[0].adapt: expected options as a mapping, found 'fast'"),
        ("model: x\nstages:\n  - adapt: {id: a.b}\n", "stages[0].adapt.id: expected a name of letters"),
        ("model: x\nstages:\n  - adapt: {id: source}\n", "stages[0].adapt.id: 'source' is a field of the recipe"),
        ("model: x\n? [a, b]\n: 1\n", "line 2: not valid YAML (found unhashable key)"),
        ("model: x\n1: y\nstages:\n  - adapt: {}\n", "1: unknown key"),
        ("", "a recipe is a mapping with a list of stages, found NoneType"),
        ("model: x\nstages:\n  - adapt: {output_dir: here}\n", "adapt.output_dir: the run's output_dir decides it"),
    ],
)
def test_recipe_files(capsys, tmp_path, text, expected):
    assert expected in fails(capsys, tmp_path, write(tmp_path / "bad.yaml", text))


def test_files_that_are_no_recipes(capsys, tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    assert "latin.yaml: not valid YAML" in fails(capsys, tmp_path, tmp_path / "latin.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "recipe: no file" in fails(capsys, tmp_path, tmp_path / "folder.yaml")


def test_options_without_a_recipe(capsys, tmp_path):
    line = fails(capsys, tmp_path)
    assert "recipe: none is named; write its name before the options; known: " in line and "bert_domain_adapt" in line


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "empty"),
        ("words,count,label\n1,1,a\n2,2,b\n", "words"),
        ("text,stars\nx,a\ny,b\n", "stars"),
        ("text,label\nx,a\ny,a\nz,a\n", "at least two classes"),
        ("text,label\n1,a\n2,b\n3,a\n", "source: the column 'text' holds int64, not text"),
        ("text,label\nx,a\n,b\ny,a\nz,b\n", "text"),
        ("text,label\nx,a\nNA,b\ny,a\nz,b\n", "keep_default_na: false"),
        ("text,label\nx,a\ny,null\ny,a\nz,b\n", "keep_default_na: false"),
    ],
    ids=["empty", "no text column", "no label column", "one class", "numbers", "nulls", "NA", "null label"],
)
def test_source_files(capsys, tmp_path, yaml_file, content, expected):
    path = write(tmp_path / "bad.csv", content)
    line = fails(capsys, tmp_path, yaml_file, "--source", path)
    assert expected in line and ("source" in line or "bad.csv" in line)


def test_words_that_pandas_reads_as_missing_are_read_as_the_error_says(tmp_path):
    path = write(tmp_path / "words.csv", "text,label\nNA,None\nnull,a\nx,None\ny,a\n")
    parts = labelled({"path": str(path), "keep_default_na": False}, key="source", seed=1)
    rows = [(row["text"], row["label"]) for part in parts.values() for row in part]
    names = parts["train"].features["label"].names
    assert sorted((text, names[label]) for text, label in rows) == [
        ("NA", "None"),
        ("null", "a"),
        ("x", "None"),
        ("y", "a"),
    ]


def test_a_missing_data_file_gives_the_nearest(capsys, tmp_path, yaml_file):
    assert "source.csv" in fails(capsys, tmp_path, yaml_file, "--source", tmp_path / "sorce.csv")


def test_target_labels_that_the_source_lacks(capsys, tmp_path, yaml_file, reviews):
    line = fails(capsys, tmp_path, yaml_file, "--target", reviews("target", 60, classes=3, name="more"))
    assert "odd" in line and "target" in line


def test_the_key_is_the_recipe_s_where_a_stage_reads_the_recipe_s_data(capsys, tmp_path, yaml_file):
    texts = write(tmp_path / "numbers.csv", "text,label\n1,calm\n2,loud\n")
    line = fails(capsys, tmp_path, yaml_file, "--target", texts)
    assert line.startswith("error: target: the column 'text' holds int64, not text")
    line = fails(capsys, tmp_path, yaml_file, f"--adapt.target={texts}")
    assert line.startswith("error: adapt.target: the column 'text' holds int64, not text")


def test_data_that_is_nowhere(capsys, tmp_path, yaml_file):
    line = fails(capsys, tmp_path, yaml_file, "--source=nobody/nothing")
    assert "source: nothing local is named 'nobody/nothing', and the Hub has no such dataset or cannot be" in line


def test_no_network_is_found_out_by_one_try(capsys, tmp_path, yaml_file, monkeypatch):
    class ConnectError(Exception):
        """What the Hub's client raises when no connection can be made."""

    class Session:
        tries = 0

        def head(self, address, timeout):
            Session.tries += 1
            raise ConnectError("no route")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    for place in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(place, "HF_HUB_OFFLINE", False)
    started = time.monotonic()
    assert "cannot be reached" in fails(capsys, tmp_path, yaml_file, "--source=nobody/nothing")
    assert Session.tries == 1
    assert time.monotonic() - started < 10  # six tries with their pauses take over 20 s
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_a_model_folder_without_weights(capsys, tmp_path, yaml_file, tiny_bert):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_bert / "config.json").read_text())
    assert "bare has no model.safetensors" in fails(capsys, tmp_path, yaml_file, "--model", folder)


@pytest.mark.parametrize("mode", [[], ["--dry_run"]], ids=["run", "dry run"])
def test_an_adapter_without_its_base(capsys, tmp_path, yaml_file, mode):
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder / "adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "gone"}')
    line = fails(capsys, tmp_path, yaml_file, "--model", folder, *mode)
    assert "model: mine is an adapter without adapter_model.safetensors" in line
    (folder / "adapter_model.safetensors").write_bytes(b"")
    line = fails(capsys, tmp_path, yaml_file, "--model", folder, *mode)
    assert (
        "model: mine is an adapter of 'gone', which is neither beside it nor on the Hub; put that folder beside"
        in line
    )


def test_a_model_without_tokenizer(capsys, tmp_path, yaml_file, tiny_bert):
    models.save(models.load(str(tiny_bert), "encoder"), tmp_path / "mute")
    assert "mute has no tokenizer" in fails(capsys, tmp_path, yaml_file, "--model", tmp_path / "mute")


@pytest.mark.parametrize(
    "file, content, expected",
    [
        ("model.safetensors", None, "model: broken: model.safetensors cannot be read"),
        ("config.json", "{", "model: broken: config.json cannot be read"),
        ("config.json", "{}", "model: broken: config.json cannot be read"),
        ("tokenizer.json", "{}", "model: broken: its tokenizer cannot be read"),
    ],
)
def test_broken_model_files(capsys, tmp_path, yaml_file, tiny_bert, file, content, expected):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_bert, folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2] if content is None else content.encode())
    assert expected in fails(capsys, tmp_path, yaml_file, "--model", folder)
    assert expected.replace("model: ", "adapt.baseline: ") in fails(
        capsys, tmp_path, yaml_file, "--adapt.baseline", folder
    )


def test_a_model_without_masked_words_names_what_asks_for_them(capsys, tmp_path, yaml_file, word_tokenizer):
    config = GPT2Config(vocab_size=80, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    models.save(GPT2Model(config), tmp_path / "gpt")
    word_tokenizer.save_pretrained(tmp_path / "gpt")
    for asked in ("--adapt.method=udalm", "--adapt.masked_lm_weight=0.5"):
        line = fails(capsys, tmp_path, yaml_file, "--model", tmp_path / "gpt", asked)
        assert line.startswith("error: adapt.model: gpt2 has no AutoModelForMaskedLM class, which pretrain, and")
        assert "adapt's method: udalm or masked_lm_weight, need" in line


def test_a_model_that_is_nowhere(capsys, tmp_path, yaml_file):
    assert "cannot reach 'nobody/nothing' on the Hub" in fails(capsys, tmp_path, yaml_file, "--model=nobody/nothing")
    assert "there is no folder './nothing'" in fails(capsys, tmp_path, yaml_file, "--model", "./nothing")


@pytest.mark.parametrize("mode", [[], ["--dry_run"]], ids=["run", "dry run"])
def test_a_folder_of_another_recipe(capsys, tmp_path, yaml_file, mode):
    out = tmp_path / "taken"
    out.mkdir()
    (out / "recipe.yaml").write_text("name: gan_digits\nstages: []\n")
    assert "belongs to the recipe 'gan_digits'" in refuses(capsys, yaml_file, out, mode)
    assert [path.name for path in out.iterdir()] == ["recipe.yaml"]


def test_a_final_folder_that_is_not_ours_is_kept(capsys, tmp_path, yaml_file):
    (tmp_path / "thesis" / "final").mkdir(parents=True)
    assert "holds a 'final' that no recipe made" in refuses(capsys, yaml_file, tmp_path / "thesis", [])
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["final"]


@pytest.mark.parametrize("mode", [[], ["--dry_run"]], ids=["run", "dry run"])
def test_folders_that_cannot_be_written(capsys, tmp_path, yaml_file, mode, monkeypatch):
    file = write(tmp_path / "file", "")
    for folder in (file, file / "below"):
        assert f"output_dir: {file} is a file" in refuses(capsys, yaml_file, folder, mode)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert f"output_dir: cannot write to {tmp_path}" in refuses(capsys, yaml_file, tmp_path / "out", mode)
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("HFTRANSFER_DEBUG", "1")
    with pytest.raises(ValueError, match="there is no 'nothing'"):
        recipe.main(["nothing"])


def test_in_a_real_process():
    command = [sys.executable, "-m", "hftransfer.recipe", "bert_domain_adapt", "--adapt.method", "cdam"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "error: adapt.method: there is no 'cdam'; did you mean 'cdan'?\n"
