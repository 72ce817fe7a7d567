"""`push` from a folder to a Hub on loopback: what arrives, what is sent again, what is refused, what is never said."""

import json
import logging
import shutil
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hub_server import CANARY, Blob, Fault, User
from huggingface_hub import ModelCard, constants

import hftransfer
from hftransfer import processes, runs
from hftransfer.errors import HFTransferError
from hftransfer.hub import asking

OF_STAGE = {
    *("README.md", "all_results.json", "config.json", "manifest.json", "model.safetensors", "recipe.yaml"),
    *("tokenizer.json", "tokenizer_config.json"),
    *(f"pictures/finetune-{name}.png" for name in ("changes", "confusion", "loss")),
}
EXPECTED = OF_STAGE | {"pictures/evaluate-confusion.png"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, repo_id="me/model", **options) -> str:
    with pytest.raises(HFTransferError) as raised:
        hftransfer.push(folder, repo_id, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def untouched(loopback) -> bool:
    """Whether nothing was created, uploaded or committed."""
    return not loopback.asked(r"^(PUT|POST) .*(create|upload|batch|commit|branch)")


def test_what_arrives_is_what_was_built_and_nothing_else(loopback, run_folder, capsys):
    before = contents(run_folder)
    done = hftransfer.push(run_folder, "me/model")
    assert done.repo_id == "me/model" and done.url.startswith(f"{loopback.endpoint}/me/model/commit/")
    files = loopback.files("me/model")
    assert set(files) == set(done.files) == set(done.added) == EXPECTED and done.deleted == []
    assert {name: len(content) for name, content in files.items()} == done.files
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert files[name] == (run_folder / "final" / name).read_bytes()
    assert len(loopback.commits("me/model")) == 1 and loopback.repos["models", "me/model"].private
    assert loopback.commits("me/model")[0].message == "small, by hftransfer"
    assert contents(run_folder) == before  # nothing is left behind, nothing changed
    listed = json.loads(files["manifest.json"])["files"]
    assert set(listed) == EXPECTED - {"manifest.json"}
    blobs = loopback.repos["models", "me/model"].at("main").files
    assert {name: one["sha256"] for name, one in listed.items()} == {name: blobs[name].sha256 for name in listed}


def test_the_card_and_the_recipe_are_fit_to_be_read_by_anybody(loopback, run_folder, tmp_path):
    hftransfer.push(run_folder, "me/model", license="mit")
    files = loopback.files("me/model")
    text = files["README.md"].decode()
    data = ModelCard(text).data
    assert data.license == "mit" and data.pipeline_tag == "text-classification" and "hftransfer" in data.tags
    assert {result.metric_type for result in data.eval_results} >= {"accuracy"}
    assert data.base_model is None  # a folder of this machine is no name on the Hub
    assert 'model = "me/model"' in text and "![Fine-tune on labels: before and after]" in text
    assert "<script>" not in text and "&lt;script&gt;small" in text and "`two`" not in text
    for name, content in files.items():
        assert str(tmp_path).encode() not in content and b"/tmp/" not in content, name
    recipe = yaml.safe_load(files["recipe.yaml"])
    assert recipe["source"] == "reviews.csv" and recipe["model"] == "tiny_bert"
    assert json.loads(files["all_results.json"]) == json.loads((run_folder / "all_results.json").read_text())


def test_the_same_folder_again_is_no_commit(loopback, run_folder):
    hftransfer.push(run_folder, "me/model")
    asked = len(loopback.requests)
    again = hftransfer.push(run_folder, "me/model")
    assert again.added == again.deleted == [] and again.url == f"{loopback.endpoint}/me/model"
    later = loopback.requests[asked:]
    assert not [line for line in later if line.startswith("PUT") or "commit" in line or "preupload" in line]
    assert len(loopback.commits("me/model")) == 1


def test_only_what_changed_is_sent_and_stale_shards_go(loopback, run_folder, tmp_path):
    hftransfer.push(run_folder, "me/model")
    repo = loopback.repos["models", "me/model"]
    shards = {f"model-0000{n}-of-00002.safetensors": Blob(b"old", True) for n in (1, 2)}
    index = {"model.safetensors.index.json": Blob(b"{}", False)}
    loopback.commit(repo, "main", "by hand", {**shards, **index, "notes.txt": Blob(b"mine", False)})
    manifest = json.loads(loopback.files("me/model")["manifest.json"])
    manifest["files"]["merges.txt"] = {"size": 1, "sha256": ""}  # as if an earlier push had left it
    changed = {"merges.txt": Blob(b"x", False), "manifest.json": Blob(json.dumps(manifest).encode(), False)}
    loopback.commit(repo, "main", "an earlier push", changed)
    done = hftransfer.push(run_folder, "me/model")
    assert done.added == ["manifest.json"] and done.deleted == sorted([*shards, *index, "merges.txt"])
    files = loopback.files("me/model")
    assert set(files) == EXPECTED | {"notes.txt"} and files["notes.txt"] == b"mine"
    assert hftransfer.push(run_folder, "me/model").added == []


def test_a_file_of_that_name_which_is_not_ours_lists_nothing(loopback, run_folder):
    loopback.create("me/model", files={"manifest.json": b"[]", "notes.txt": b"mine"})
    assert hftransfer.push(run_folder, "me/model").deleted == []
    assert loopback.files("me/model")["notes.txt"] == b"mine"


def test_a_dry_run_lists_files_and_sizes_and_sends_nothing(loopback, run_folder):
    done = hftransfer.push(run_folder, "me/model", dry_run=True)
    assert set(done.files) == EXPECTED and done.added == sorted(EXPECTED) and done.dry_run
    assert done.files["model.safetensors"] == (run_folder / "final" / "model.safetensors").stat().st_size
    assert untouched(loopback) and not loopback.repos


def test_branches_and_pull_requests(loopback, run_folder):
    assert "create_pr: there is no me/model" in refused(run_folder, create_pr=True)
    loopback.create("me/model")
    hftransfer.push(run_folder, "me/model", revision="trial")
    assert set(loopback.files("me/model", revision="trial")) == EXPECTED and loopback.files("me/model") == {}
    loopback.create("them/theirs", private=False)
    done = hftransfer.push(run_folder, "them/theirs", create_pr=True, private=False)
    assert done.url == f"{loopback.endpoint}/them/theirs/discussions/1"
    assert set(loopback.files("them/theirs", revision="refs/pr/1")) == EXPECTED
    assert loopback.files("them/theirs") == {}
    assert "has no branch 'nowhere'" in refused(
        run_folder, "them/theirs", create_pr=True, private=False, revision="nowhere"
    )


def test_a_name_alone_is_under_your_own(loopback, run_folder):
    assert hftransfer.push(run_folder, "model", private=False).repo_id == "me/model"
    assert not loopback.repos["models", "me/model"].private
    assert 'model = "me/model"' in loopback.files("me/model")["README.md"].decode()


def test_what_is_public_stays_public_only_when_asked(loopback, run_folder):
    loopback.create("me/model", private=False)
    assert "me/model is there and public" in refused(run_folder)
    assert untouched(loopback)
    assert hftransfer.push(run_folder, "me/model", private=False).added


def test_a_result_a_final_folder_and_a_stage_are_folders_too(loopback, run_folder):
    hftransfer.push(run_folder / "final", "me/final")
    hftransfer.push(runs.Result(run_folder / "1-finetune", {}), "me/stage")
    final, stage = loopback.files("me/final"), loopback.files("me/stage")
    assert set(final) == EXPECTED and set(stage) == OF_STAGE
    assert final["model.safetensors"] == stage["model.safetensors"]
    alone = Path(shutil.copytree(run_folder / "1-finetune", run_folder.parent / "verb"))
    hftransfer.push(alone, "me/alone")
    assert set(loopback.files("me/alone")) == OF_STAGE - {"recipe.yaml"}


# -- bad input: nothing is asked that writes, nothing is uploaded


def test_no_token(loopback, run_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token; log in with `hf auth login`, or set HF_TOKEN" in refused(run_folder)
    assert loopback.requests == []


@pytest.mark.parametrize(
    "user, repo_id, says",
    [
        (User("me", role="read"), "me/model", "the token may only read"),
        (User("me"), "them/model", "'them' is owned by another; this token may write to: me"),
        (User("me", orgs={"team": "read"}), "team/model", "your role in 'team' is read"),
        (User("me", role="fineGrained"), "me/model", "the fine-grained token may not write to repositories of 'me'"),
    ],
)
def test_a_token_without_the_right(loopback, run_folder, user, repo_id, says):
    loopback.users = dict.fromkeys(loopback.users, user)
    assert f"push: repo_id: {says}" in refused(run_folder, repo_id)
    assert untouched(loopback)


def test_a_fine_grained_token_with_the_right(loopback, run_folder):
    scope = {"entity": {"type": "user", "name": "me"}, "permissions": ["repo.content.read", "repo.write"]}
    loopback.users = dict.fromkeys(loopback.users, User("me", role="fineGrained", scoped=[scope]))
    assert hftransfer.push(run_folder, "me/model").added


def test_a_token_that_is_read_only_for_what_is_there(loopback, run_folder):
    """The namespace is ours, the repository says no."""
    loopback.create("team/model")
    loopback.users = dict.fromkeys(loopback.users, User("me", orgs={"team": "contributor"}))
    loopback.faults = [Fault("auth-check/write", status=403)]
    assert "the Hub was asked to write to team/model: it refuses" in refused(run_folder, "team/model")
    assert untouched(loopback)


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "me/my model", "me/-x", "me/a--b", "me/x.git", "me/" + "x" * 97, "../x"]
)
def test_names_that_are_none(loopback, run_folder, name):
    assert f"'{name}' is no name of a repository" in refused(run_folder, name)
    assert loopback.requests == []


def test_offline(loopback, run_folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE=1 keeps everything off the Hub" in refused(run_folder)


def test_a_hub_that_is_not_there(loopback, run_folder, monkeypatch):
    from huggingface_hub import hf_api

    monkeypatch.setattr(asking.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached, or broke off" in refused(run_folder)


@pytest.mark.parametrize(
    "license, says",
    [("bogus-1.0", 'card: the Hub does not take its metadata: "license" must be one of'), ("a b", "push: license:")],
)
def test_a_card_that_does_not_validate(loopback, run_folder, license, says):
    assert says in refused(run_folder, license=license)
    assert untouched(loopback)


def test_folders_that_are_not_ours_or_not_complete(loopback, run_folder, tmp_path, tiny_bert):
    assert f"there is no {tmp_path}" in refused(tmp_path / "nowhere")
    assert "was made by no recipe and no verb of hftransfer" in refused(tiny_bert)
    assert "holds no checkpoint, no clusters and no vectors" in refused(run_folder / "2-evaluate")
    weights = run_folder / "final" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert "is not complete; run its recipe again" in refused(run_folder)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is not complete" in refused(run_folder)
    weights.write_bytes(whole)
    shutil.rmtree(run_folder / "2-evaluate")
    assert "is not complete" in refused(run_folder)
    stage = run_folder / "1-finetune"
    (stage / "config.json").write_text("{}")
    assert "is not complete, or was changed since" in refused(stage)
    assert loopback.requests == []


def test_a_run_that_is_at_work(loopback, run_folder):
    with runs.alone(run_folder / ".lock"):
        assert "another run is working in this folder" in refused(run_folder)
    assert untouched(loopback)


@pytest.mark.parametrize(
    "given, says", [({"parts": ["adapter"]}, "has no 'adapter'"), ({"parts": ["adaptor"]}, "adapter")]
)
def test_parts_that_are_not_there(loopback, run_folder, given, says):
    assert says in refused(run_folder, **given)
    assert loopback.requests == []


def test_secrets_in_what_was_made_keep_it_here(loopback, tmp_path, tiny_bert):
    """A label is in the config and in the card."""
    key = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    rows = [f"pan soup {row},{'calm' if row % 2 else key}" for row in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    quick = {"training": {"max_steps": 1, "per_device_train_batch_size": 8}, "max_length": 16}
    made = hftransfer.finetune(str(tiny_bert), str(tmp_path / "rows.csv"), output_dir=str(tmp_path / "made"), **quick)
    told = refused(made)
    assert "not published, for it holds" in told and "GitHub token" in told and key not in told
    assert untouched(loopback) and not list(made.path.glob(".push*"))


def test_only_the_main_process_pushes(loopback, run_folder, monkeypatch):
    monkeypatch.setattr(processes, "is_main", lambda: False)
    assert hftransfer.push(run_folder, "me/model") is None
    assert loopback.requests == []


# -- faults


@pytest.fixture
def waits(monkeypatch):
    """How long was waited, without waiting."""
    from huggingface_hub.utils import _http

    seconds: list[float] = []
    monkeypatch.setattr(asking.time, "sleep", seconds.append)
    monkeypatch.setattr(_http.time, "sleep", seconds.append)
    return seconds


COMMIT, UPLOAD, CREATE, WHO = "POST .*/commit/", "PUT /upload", "POST /api/repos/create", "whoami"
PASSING = {
    "too many, told to wait": (Fault(WHO, status=429, headers={"Retry-After": "7"}), [7]),
    "too many at the commit": (Fault(COMMIT, status=429, headers={"Retry-After": "7"}), [7]),
    "too many at an upload": (Fault(UPLOAD, status=429, headers={"Retry-After": "7"}), [8]),  # huggingface_hub's own
    "500 at the beginning": (Fault(WHO, status=500, times=2), [1, 2]),
    "500 halfway": (Fault(UPLOAD, status=500), [1]),
    "503 at the commit": (Fault(COMMIT, status=503, times=2), [1, 2]),
    "cut while asking": (Fault("validate-yaml", cut="before"), [1]),
    "cut while uploading": (Fault(UPLOAD, cut="before"), [1]),
    "cut before the commit": (Fault(COMMIT, cut="before"), [1]),
    "the answer to an upload is lost": (Fault(UPLOAD, cut="after"), [1]),
    "the answer to the creation is lost": (Fault(CREATE, cut="after"), [1]),
    "the answer to the commit is lost": (Fault(COMMIT, cut="after"), []),  # the Hub is asked whether it is there
    "there meanwhile": (Fault(CREATE, status=409, body={"error": "exists", "url": "x"}, times=0), []),
    "slow": (Fault("whoami|upload|commit", seconds=0.3, times=9), []),
}


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass(loopback, run_folder, waits, name):
    trouble, expected = PASSING[name]
    loopback.faults = [replace(trouble)]
    hftransfer.push(run_folder, "me/model")
    assert set(loopback.files("me/model")) == EXPECTED and len(loopback.commits("me/model")) == 1
    assert waits == expected


def test_somebody_creates_it_meanwhile(loopback, run_folder):
    loopback.faults = [Fault(CREATE, hook=lambda: loopback.create("me/model"))]
    hftransfer.push(run_folder, "me/model")
    assert set(loopback.files("me/model")) == EXPECTED


LASTING = {
    "a token that is not known": (Fault(WHO, status=401), "it does not know the token", [401]),
    "no right to create": (Fault(CREATE, status=403), "to create me/model: it refuses", [403]),
    "no right to commit": (Fault(COMMIT, status=403), "to commit to me/model: it refuses", [403]),
    "a conflict": (Fault(COMMIT, status=409), "it is at odds with what is there", [409]),
    "too many for long": (Fault(WHO, status=429, headers={"Retry-After": "3600"}), "it asks to wait 3600 s", [429]),
    "too many without end": (Fault(WHO, status=429, times=99), "too many requests", [429]),
    "500 without end": (Fault(COMMIT, status=500, times=99), "it failed", [500]),
    "500 halfway without end": (
        Fault(UPLOAD, status=500, times=99),
        "to take the files of me/model: it failed",
        [500],
    ),
    "cut without end": (Fault(COMMIT, cut="before", times=99), "cannot be reached, or broke off", []),
    "too large": (Fault(UPLOAD, status=413), "it refuses", [413]),
}


@pytest.mark.parametrize("name", LASTING)
def test_faults_that_last(loopback, run_folder, waits, name):
    trouble, says, status = LASTING[name]
    before = contents(run_folder)
    loopback.faults = [replace(trouble)]
    told = refused(run_folder)
    assert says in told and all(f"[{number}]" in told for number in status)
    assert contents(run_folder) == before
    assert all(not loopback.commits(id_) for _, id_ in loopback.repos)
    loopback.faults = []
    assert hftransfer.push(run_folder, "me/model").added  # the same call, later


def test_another_commits_meanwhile(loopback, run_folder):
    loopback.create("me/model")
    theirs = {"config.json": Blob(b"theirs", False)}

    def commit():
        loopback.commit(loopback.repos["models", "me/model"], "main", "theirs", theirs)

    loopback.faults = [Fault(COMMIT, hook=commit)]
    assert "another has committed meanwhile" in refused(run_folder)
    assert loopback.files("me/model") == {"config.json": b"theirs"}


def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(loopback, run_folder, waits):
    loopback.create("me/model")
    loopback.faults = [Fault(COMMIT, cut="after")]
    assert "to open a pull request in me/model" in refused(run_folder, create_pr=True)
    assert [name for name in loopback.repos["models", "me/model"].branches if "pr" in name] == ["refs/pr/1"]


def test_a_hub_that_never_answers_is_not_waited_for_without_end(loopback, run_folder, waits, monkeypatch):
    monkeypatch.setattr(asking, "SILENCE", 0.2)
    loopback.faults = [Fault(WHO, seconds=1, times=99)]
    assert "no answer in time" in refused(run_folder)


# -- the token


@pytest.mark.parametrize("trouble", [None, *(name for name in LASTING)])
def test_the_token_is_found_nowhere(loopback, run_folder, waits, tmp_path, monkeypatch, capfd, caplog, trouble):
    """In no file, log, body, output or exception, with the locals of its frames."""
    caplog.set_level(logging.DEBUG)
    if trouble:
        loopback.faults = [replace(LASTING[trouble][0])]
        with pytest.raises(HFTransferError) as raised:
            hftransfer.push(run_folder, "me/model")
        found = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        assert raised.value.__cause__ is None and raised.value.__context__ is None
        assert CANARY not in "".join(found.format())
    else:
        hftransfer.push(run_folder, "me/model")
        assert CANARY.encode() not in b"".join(loopback.files("me/model").values())
    out, err = capfd.readouterr()
    assert CANARY not in out + err + caplog.text
    assert CANARY.encode() not in loopback.received
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
