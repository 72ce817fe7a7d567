"""What a push must not do: publish what is not its own, destroy what is another's, take a folder for a name."""

import os
import shutil

import pytest
import yaml
from hub_server import Fault, User
from huggingface_hub import ModelCard, constants

import hftransfer
from hftransfer import chain, pushing
from hftransfer.errors import HFTransferError
from hftransfer.hub import asking, contents, remote

QUICK = {"max_length": 16, "training": {"max_steps": 1, "per_device_train_batch_size": 8}}


def test_what_came_into_the_folder_later_stays(loopback, run_folder, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    final = run_folder / "final"
    (final / "customers.txt").write_text("Jane Doe")
    (final / "link.txt").symlink_to(tmp_path / "diary.txt")
    shutil.copy(final / "model.safetensors", final / "stray.safetensors")
    hftransfer.push(run_folder, "me/model")
    assert not {"customers.txt", "link.txt", "stray.safetensors"} & set(loopback.files("me/model"))


def test_a_file_that_became_a_link_stays(loopback, run_folder, tmp_path):
    weights = run_folder / "final" / "model.safetensors"
    shutil.move(weights, tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    hftransfer.push(run_folder, "me/model")
    assert "model.safetensors" not in loopback.files("me/model")


def test_weights_of_others_in_folders_of_theirs_stay(loopback, run_folder):
    theirs = dict.fromkeys(
        ("vae/model-00001-of-00002.safetensors", "onnx/model.safetensors.index.json", "2_Dense/model.safetensors"),
        b"theirs",
    )
    loopback.create("me/model", files=theirs)
    assert hftransfer.push(run_folder, "me/model").deleted == []
    assert theirs.items() <= loopback.files("me/model").items()


def test_vectors_and_clusters_delete_no_weights(loopback, run_folder):
    loopback.create("me/model", files={"model.safetensors": b"theirs"})
    target = remote.checked("me/model", kind="model", private=True, revision=None, create_pr=False)
    (run_folder / "manifest.json").write_text('{"files": {}}')
    assert remote.difference(target, run_folder, ["manifest.json"]).deleted == []


def test_no_file_of_the_run_changes_not_even_its_rights(loopback, run_folder):
    weights = run_folder / "final" / "model.safetensors"
    weights.chmod(0o600)
    before = {path: (path.stat().st_mode, path.read_bytes()) for path in run_folder.rglob("*") if path.is_file()}
    hftransfer.push(run_folder, "me/model")
    assert {
        path: (path.stat().st_mode, path.read_bytes()) for path in run_folder.rglob("*") if path.is_file()
    } == before


def test_a_folder_is_never_read_as_a_name_on_the_hub(loopback, tmp_path, tiny_bert, reviews, monkeypatch):
    """A relative folder, pushed from elsewhere, while the Hub has a model of that name and another licence."""
    shutil.copytree(tiny_bert, tmp_path / "models" / "mine")
    loopback.create("models/mine", private=False, files={"README.md": b"---\nlicense: mit\n---\n"})
    monkeypatch.chdir(tmp_path)
    raw = {"name": "small", "model": "models/mine", "stages": [{"finetune": {"data": reviews("source", 50), **QUICK}}]}
    hftransfer.run(raw, output_dir="out")
    made = hftransfer.finetune("models/mine", reviews("source", 50), output_dir="verb", **QUICK)
    monkeypatch.chdir(os.sep)
    for folder in (tmp_path / "out", tmp_path / made.path):
        hftransfer.push(folder, "me/model")
        files = loopback.files("me/model")
        data = ModelCard(files["README.md"].decode()).data
        assert data.base_model is None and data.license is None
        assert b"models/mine" not in b"".join(files.values())


def test_an_adapter_on_a_folder_that_is_called_like_a_name_on_the_hub(
    loopback, tmp_path, tiny_bert, reviews, monkeypatch
):
    shutil.copytree(tiny_bert, tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    lora = {"method": "lora", "merge": False}
    made = hftransfer.finetune("gpt2", reviews("source", 50), output_dir="adapter", **lora, **QUICK)
    shutil.move(tmp_path / "gpt2", tmp_path / "away")
    with pytest.raises(HFTransferError, match="is on 'gpt2', a folder that the Hub does not have"):
        hftransfer.push(made, "me/adapter")


def test_an_adapter_whose_base_the_hub_lacks_is_told_before_it_is_trained(loopback, tmp_path, reviews):
    options = {"data": reviews("source", 50), "method": "lora", "merge": False, **QUICK}
    raw = {"name": "small", "model": "somebody/model", "stages": [{"finetune": options}]}
    with pytest.raises(
        HFTransferError, match=r"push\.folder: the adapter is on 'somebody/model', which the Hub does not"
    ):
        hftransfer.run(raw, output_dir=str(tmp_path / "out"), push={"repo_id": "me/model"})
    options |= {"method": "full", "merge": True}
    with pytest.raises(HFTransferError, match=r"push\.parts: 'finetune' leaves no 'adapter'"):
        hftransfer.run(raw, output_dir=str(tmp_path / "out"), push={"repo_id": "me/model", "parts": ["adapter"]})
    assert not (tmp_path / "out").exists()


def test_credentials_in_a_data_spec_are_published_nowhere():
    secret = {"key": "AKxx", "secret": "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"}
    spec = {"path": "csv", "data_files": "https://data.example/a.csv?sig=Zm9vYmFy", "storage_options": secret}
    assert contents.public({"source": spec}) == {"source": {"path": "csv", "data_files": "a.csv"}}


def test_it_becomes_public_meanwhile(loopback, run_folder):
    repo = loopback.create("me/model")
    loopback.faults = [Fault("validate-yaml", hook=lambda: setattr(repo, "private", False))]
    with pytest.raises(HFTransferError, match="me/model has become public meanwhile"):
        hftransfer.push(run_folder, "me/model")
    loopback.faults = [Fault("repos/create", hook=lambda: loopback.create("me/new", private=False))]
    with pytest.raises(HFTransferError, match="me/new has become public meanwhile"):
        hftransfer.push(run_folder, "me/new")
    assert loopback.files("me/model") == loopback.files("me/new") == {}


@pytest.mark.parametrize("create_pr", [False, True])
def test_what_a_gitignore_would_keep_out_is_told(loopback, run_folder, create_pr):
    loopback.create("me/model")
    loopback.ignored = r".*\.safetensors"
    with pytest.raises(HFTransferError, match=r"the \.gitignore of me/model keeps model\.safetensors out"):
        hftransfer.push(run_folder, "me/model", create_pr=create_pr)
    assert loopback.files("me/model") == {}


def test_a_tree_of_many_pages(loopback, run_folder):
    hftransfer.push(run_folder, "me/model")
    loopback.page = 3
    assert hftransfer.push(run_folder, "me/model").added == []


@pytest.mark.parametrize("name", ["a..b", "-x", "v 1", "x.lock", "a//b", ".x", "x/", "a~1", "x@{1}"])
def test_names_that_are_no_branch(loopback, run_folder, name):
    with pytest.raises(HFTransferError, match="is no name of a branch"):
        hftransfer.push(run_folder, "me/model", revision=name)
    assert loopback.requests == []


def test_a_branch_with_a_slash_of_a_new_repository(loopback, run_folder):
    hftransfer.push(run_folder, "me/model", revision="feature/x")
    assert "config.json" in loopback.files("me/model", revision="feature/x")


def test_a_token_for_one_repository_makes_no_other(loopback, run_folder):
    scope = {"entity": {"type": "model", "name": "me/other"}, "permissions": ["repo.write"]}
    loopback.users = dict.fromkeys(loopback.users, User("me", role="fineGrained", scoped=[scope]))
    with pytest.raises(HFTransferError, match="may not write to repositories of 'me'"):
        hftransfer.push(run_folder, "me/new")


def test_who_may_write_to_what_is_there_is_not_asked_of_whoami(loopback, run_folder):
    """A role of an organisation that a resource group raises: the Hub's own answer counts."""
    loopback.create("team/model")
    loopback.users = dict.fromkeys(loopback.users, User("me", orgs={"team": "write"}))
    loopback.faults = [
        Fault("whoami", status=200, body={"name": "me", "orgs": [{"name": "team", "roleInOrg": "read"}]})
    ]
    assert hftransfer.push(run_folder, "team/model").added


def test_how_long_the_hub_itself_says_to_wait(loopback, run_folder, monkeypatch):
    waits = []
    monkeypatch.setattr(asking.time, "sleep", waits.append)
    loopback.faults = [Fault("whoami", status=429, headers={"RateLimit": '"api";r=0;t=40'})]
    hftransfer.push(run_folder, "me/model")
    assert waits == [40]


@pytest.mark.parametrize("status, says", [(403, "it refuses"), (401, "it does not know the token")])
def test_a_refusal_on_the_way_of_xet_is_told_as_one(loopback, run_folder, monkeypatch, status, says):
    """The real hf_xet, which this Hub gives no token to write with."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    loopback.faults = [Fault("xet-write-token", status=status, times=99)]
    with pytest.raises(HFTransferError, match=says) as raised:
        hftransfer.push(run_folder, "me/model")
    assert f"[{status}]" in str(raised.value) and not loopback.commits("me/model")


def test_what_was_asked_of_an_address_is_not_told():
    error = RuntimeError("PUT https://store.example/blob?X-Amz-Signature=0123 failed")
    assert str(asking.problem_of(error)) == "PUT https://store.example/blob failed"


def test_a_password_on_the_way_to_the_hub_is_not_told(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://bob:secret@127.0.0.1:9")
    assert "secret" not in str(asking.problem_of(ConnectionError()))


@pytest.mark.parametrize("message", ["fix: v2 # 3", "2024", "null", "it's", "[a"])
def test_the_command_that_pushes_again_is_read_as_it_was_meant(tmp_path, message):
    import shlex

    from hftransfer import recipe

    raw = {
        "name": "x",
        "output_dir": str(tmp_path / "a b"),
        "stages": [{"gan": {"model": "scratch/gan_mlp", "data": "demo/mixture"}}],
    }
    made = chain.resolve(raw, {"push.repo_id": "2024", "push.message": message, "push.parts": ["raw"]})
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "recipe.yaml").write_text(yaml.safe_dump(raw))
    words = shlex.split(pushing.again(made.pushes[0], made))
    name, _, overrides = recipe.parse(words[3:])
    again = chain.resolve(chain.load(chain.find(name)), overrides)
    assert again.pushes[0].given == made.pushes[0].given


def test_a_key_in_the_recipe_is_told_before_anything_is_trained(loopback, tmp_path, tiny_bert, reviews):
    raw = {
        "name": "small",
        "model": str(tiny_bert),
        "stages": [{"finetune": {"data": reviews("source", 50), **QUICK}}],
    }
    raw["description"] = "with ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    with pytest.raises(
        HFTransferError, match=r"push\.folder: not published, for it holds recipe\.yaml .*GitHub token"
    ):
        hftransfer.run(raw, output_dir=str(tmp_path / "out"), push={"repo_id": "me/model"})
    assert not (tmp_path / "out").exists() and not loopback.repos
