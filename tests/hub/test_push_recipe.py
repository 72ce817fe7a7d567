"""`--push.repo_id` of any recipe: asked about before anything is trained, and done when everything is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import CANARY, Fault, User, serve

import hftransfer
from hftransfer import chain, recipe
from hftransfer.errors import HFTransferError

TEXT = "the pan is quiet"
PREDICT = """
import json, sys
from transformers import pipeline
print("FOUND" + json.dumps(pipeline("text-classification", sys.argv[1], top_k=None)([sys.argv[2]])))
"""
STEPS = {"max_steps": 1, "per_device_train_batch_size": 8}


@pytest.fixture
def texts(reviews):
    return reviews("source", 50)


@pytest.fixture
def small(tmp_path, tiny_bert, texts):
    """A recipe of one short training, as a file."""
    stages = [{"finetune": {"data": "$source", "max_length": 16, "training": STEPS}}]
    raw = {"description": "small", "model": str(tiny_bert), "source": texts, "stages": stages}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def told(*words) -> str:
    """The one line that the front door ends with."""
    overrides = recipe.parse(words)
    with pytest.raises(HFTransferError) as raised:
        recipe._run(chain.resolve(chain.load(Path(overrides[0])), overrides[2]), "command")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def run(*words, environment) -> subprocess.CompletedProcess:
    return subprocess.run([*words], capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture
def hub(tmp_path):
    """A Hub, and the environment of a process that knows it."""
    with serve() as made:
        made.users[CANARY] = User("me")
        made.environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | {
            "HF_ENDPOINT": made.endpoint,
            "HF_TOKEN": CANARY,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        yield made


def test_the_main_recipe_publishes_and_a_fresh_process_predicts_the_same(hub, tmp_path, tiny_bert, reviews):
    """As the README has it, on tiny data."""
    quick = [f"--{stage}.training.max_steps=1" for stage in ("source_only", "pretrain", "fitted", "adapt")]
    short = [f"--{stage}.max_length=16" for stage in ("source_only", "pretrain", "fitted", "adapt")]
    out = tmp_path / "out"
    words = ["accelerate", "launch", "--quiet", "--cpu", "-m", "hftransfer.recipe", "bert_domain_adapt"]
    words += ["--model", str(tiny_bert), "--source", reviews("source"), "--target", reviews("target", 60)]
    words += [*quick, *short, "--pretrain.head_steps=1", "--output_dir", str(out), "--push.repo_id", "me/model"]
    ran = run(*words, environment=hub.environment | {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"})
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert re.search(rf"^hub:    {hub.endpoint}/me/model/commit/\w+$", ran.stdout, re.MULTILINE)
    assert "me/model: pushed" in ran.stdout and "model.safetensors" in ran.stdout
    files = hub.files("me/model")
    assert files["model.safetensors"] == (out / "final" / "model.safetensors").read_bytes()
    assert len(hub.commits("me/model")) == 1 and "push" not in (out / "recipe.yaml").read_text()
    answers = [run(sys.executable, "-c", PREDICT, name, TEXT, environment=hub.environment)
               for name in ("me/model", str(out / "final"))]  # fmt: skip
    assert all(answer.returncode == 0 for answer in answers), answers[0].stderr
    there, here = (json.loads(answer.stdout.split("FOUND")[1]) for answer in answers)
    assert there == here
    again = run("hftransfer", str(out / "recipe.yaml"), "--push.repo_id", "me/model", environment=hub.environment)
    assert again.returncode == 0 and "me/model: pushed: nothing new" in again.stdout
    assert "nothing to do" in again.stderr and len(hub.commits("me/model")) == 1
    said = "".join(text for one in (ran, again, *answers) for text in (one.stdout, one.stderr))
    assert CANARY not in said and CANARY.encode() not in hub.received
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert kept == []


def test_a_failed_push_says_the_command_that_pushes_again(hub, small, tmp_path):
    hub.faults = [Fault("POST .*/commit/", status=403, times=99)]
    out = tmp_path / "the run"
    words = [small, "--output_dir", str(out), "--push.repo_id", "me/model", "--push.private", "false"]
    ran = run(sys.executable, "-m", "hftransfer.recipe", *words, environment=hub.environment)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("error: push.repo_id: the Hub was asked to commit to me/model: it refuses")
    assert f"everything is in {out}, push it again with: " in line
    assert (out / "final" / "model.safetensors").is_file() and not list(out.glob(".push*"))
    hub.faults = []
    command = line.split("again with: ")[1]
    again = subprocess.run(command, shell=True, capture_output=True, text=True, env=hub.environment, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr  # nothing is trained twice
    assert hub.files("me/model") and not hub.repos["models", "me/model"].private


@pytest.mark.parametrize(
    "words, user, says",
    [
        (["--push.repo_id", "a/b/c"], User("me"), "push.repo_id: 'a/b/c' is no name of a repository"),
        (["--push.repo_id", "them/model"], User("me"), "push.repo_id: 'them' is owned by another"),
        (["--push.repo_id", "me/model"], User("me", role="read"), "push.repo_id: the token may only read"),
        (["--push.repo_id", "me/model"], None, "push.repo_id: the Hub was asked who the token belongs to"),
        (["--push.repo_id", "me/model", "--push.license", "bogus"], User("me"), "push: card: the Hub does not take"),
        (
            ["--push.repo_id", "me/model", "--push.create_pr", "true"],
            User("me"),
            "push.create_pr: there is no me/model",
        ),
        (
            ["--push.repo_id", "me/model", "--push.parts", "[raw]"],
            User("me"),
            "push.parts: 'finetune' leaves no 'raw'",
        ),
        (["--push.repo_id", "me/model", "--push.folder", "nowhere"], User("me"), "push.folder: there is no nowhere"),
        (
            ["--push.repo_id", "me/model", "--push.folder", "$adapt"],
            User("me"),
            "push.folder: $adapt is no earlier stage",
        ),
        (["--push.repo", "me/model"], User("me"), "push.repo: unknown key; did you mean 'push.repo_id'?"),
        (["--push.private", "false"], User("me"), "push.repo_id: required, and not given"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_anything_is_trained(loopback, small, tmp_path, words, user, says):
    loopback.users = {} if user is None else dict.fromkeys(loopback.users, user)
    out = tmp_path / "out"
    assert told(small, "--output_dir", str(out), *words).startswith(says)
    assert not out.exists() and not loopback.repos


def test_no_token_and_offline_are_told_before_anything_is_trained(loopback, small, tmp_path, monkeypatch):
    words = [small, "--output_dir", str(tmp_path / "out"), "--push.repo_id", "me/model"]
    monkeypatch.delenv("HF_TOKEN")
    assert told(*words).startswith("push.repo_id: there is no token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert told(*words).startswith("push.repo_id: HF_HUB_OFFLINE=1 keeps everything off the Hub")
    assert not (tmp_path / "out").exists()


def test_an_adapter_on_a_folder_is_told_before_it_is_trained(loopback, small, tmp_path):
    words = ["--finetune.method", "lora", "--finetune.merge", "false", "--push.repo_id", "me/adapter"]
    assert told(small, "--output_dir", str(tmp_path / "out"), *words).startswith(
        "push.folder: the adapter of 'finetune' would be on a checkpoint that the Hub does not have"
    )
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_makes_nothing_has_nothing_to_push(loopback, tmp_path, tiny_bert, texts):
    raw = {"name": "told", "model": str(tiny_bert), "source": texts, "stages": [{"evaluate": {"data": "$source"}}]}
    with pytest.raises(HFTransferError, match=r"push\.folder: 'told' makes no checkpoint, no clusters and no vectors"):
        hftransfer.run(raw, output_dir=str(tmp_path / "out"), push={"repo_id": "me/model"})
    with pytest.raises(HFTransferError, match="a recipe that only pushes makes nothing"):
        hftransfer.run({"stages": [{"push": {"repo_id": "me/model", "folder": "x"}}]})


def test_a_dry_run_of_a_recipe(loopback, small, tmp_path, capsys):
    words = [small, "--output_dir", str(tmp_path / "out"), "--push.repo_id", "me/model"]
    recipe.main([*words, "--dry_run"])
    first = capsys.readouterr()
    assert f"{loopback.endpoint}/me/model (private, new)" in first.out.replace("\n", "")
    assert "push: its files are listed when the run is complete" in first.err
    recipe.main([*words, "--push.dry_run", "true"])
    assert "me/model: would be pushed: " in capsys.readouterr().out
    recipe.main([*words, "--dry_run"])
    last = capsys.readouterr().out
    assert "me/model: would be pushed: " in last and "model.safetensors" in last and "kB" in last
    assert not loopback.repos


def test_stages_of_a_recipe_are_pushed_by_name(loopback, tmp_path, tiny_bert, texts):
    """Two pushes, one of them written first: they are done when everything else is."""
    stages = [
        {"push": {"id": "share", "repo_id": "me/vectors", "folder": "$embed"}},
        {"embed": {"data": "$unlabelled"}},
        {"cluster": {"k": 2, "map": "pca"}},
        {"push": {"repo_id": "me/groups", "private": False}},
    ]
    raw = {"name": "grouping", "model": str(tiny_bert), "unlabelled": texts, "stages": stages}
    hftransfer.run(raw, output_dir=str(tmp_path / "out"))
    assert set(loopback.repos) == {("datasets", "me/vectors"), ("models", "me/groups")}
    assert loopback.repos["datasets", "me/vectors"].private and not loopback.repos["models", "me/groups"].private
    assert "clusters.json" in loopback.files("me/groups")
    assert "data/train-00000-of-00001.parquet" in loopback.files("me/vectors", kind="datasets")
    assert [path.name for path in sorted((tmp_path / "out").glob("[0-9]-*"))] == ["1-embed", "2-cluster"]


def test_every_recipe_takes_it():
    for name in chain.names():
        found = chain.resolve(chain.load(chain.find(name)), {"push.repo_id": "me/model"})
        (push,) = found.pushes
        assert push.given["repo_id"] == "me/model" and push.given["folder"] == str(found.output_dir)
        assert chain.resolve(chain.load(chain.find(name)), {}).pushes == ()
