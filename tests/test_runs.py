"""Folders appear complete or not at all, whatever is killed; a lock has one holder."""

import multiprocessing

import pytest

from hftransfer import runs
from hftransfer.errors import HFTransferError

IDENTITY = {"stage": "finetune", "seed": 1}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def begun(folder, identity=IDENTITY):
    """A stage that has trained: its weights and a checkpoint are in the working folder."""
    with runs.open_stage(folder, identity) as stage:
        work = stage.begin()
        (work / "checkpoints" / "checkpoint-3").mkdir(parents=True, exist_ok=True)
        (work / "checkpoints" / "checkpoint-3" / "optimizer.pt").write_bytes(b"moments")
        (work / "model.safetensors").write_bytes(b"weights")
    return stage


def finished(folder, identity=IDENTITY):
    with runs.open_stage(folder, identity) as stage:
        if not stage.finished:
            (stage.begin() / "model.safetensors").write_bytes(b"weights")
            stage.finish({"accuracy": 0.5}, {"stage": "finetune", "title": "Fine-tune"})
    return stage


def test_a_stage_is_done_or_absent(tmp_path):
    stage = begun(tmp_path / "1-finetune")
    assert not stage.path.exists() and stage.work.exists()
    result = finished(tmp_path / "1-finetune").result()
    assert not stage.work.exists() and not result.reused
    assert {path.name for path in result.path.iterdir()} == {
        "model.safetensors",
        "metrics.json",
        "evidence.json",
        "manifest.json",
    }
    assert result.metrics == {"accuracy": 0.5} and result.evidence["id"] == "finetune"


def test_a_done_stage_is_read_and_not_written(tmp_path):
    finished(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]}
    assert finished(tmp_path / "out").result().reused
    assert before == {path: path.stat().st_mtime_ns for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]}


@pytest.mark.parametrize("harm", ["missing", "cut", "altered"])
def test_a_damaged_stage_runs_again(tmp_path, harm):
    weights = finished(tmp_path / "out").path / "model.safetensors"
    if harm == "missing":
        weights.unlink()
    else:
        weights.write_bytes(b"weigh" if harm == "cut" else b"Weights")
    assert not finished(tmp_path / "out").finished
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"files": {"model.saf', '"text"'])
def test_a_manifest_that_says_nothing_verifies_nothing(tmp_path, content):
    folder = finished(tmp_path / "out").path
    (folder / "manifest.json").write_text(content)
    assert runs.verified(folder) is None
    assert not finished(tmp_path / "out").finished


def test_an_interrupted_stage_is_kept_for_the_same_settings_only(tmp_path):
    work = begun(tmp_path / "out").work
    with runs.open_stage(tmp_path / "out", IDENTITY) as stage:
        stage.begin()
    assert (work / "checkpoints" / "checkpoint-3" / "optimizer.pt").exists()
    with runs.open_stage(tmp_path / "out", {**IDENTITY, "seed": 2}) as stage:
        stage.begin()
    assert not (work / "checkpoints").exists()


def test_what_is_deleted_is_said_with_what_has_changed(tmp_path, caplog):
    begun(tmp_path / "out", {**IDENTITY, "training": {"max_steps": 1}, "ema": None})
    with runs.open_stage(tmp_path / "out", {**IDENTITY, "seed": 2, "training": {"max_steps": 2}}) as stage:
        stage.begin()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path / 'out'}: ") and told.endswith("other settings: ema, seed, training")
    (stage.work / "identity.json").unlink()
    begun(tmp_path / "out")
    begun(tmp_path / "out")
    assert [record.getMessage()[-25:] for record in caplog.records[1:]] == ["no record of its settings"]


def test_what_only_measures_deletes_nothing(tmp_path, caplog):
    work = begun(tmp_path / "out", {**IDENTITY, "baseline": None}).work
    with runs.open_stage(tmp_path / "out", {**IDENTITY, "baseline": "a"}) as stage:
        stage.begin(measuring=("baseline",))
        assert (work / "checkpoints" / "checkpoint-3" / "optimizer.pt").exists() and not caplog.records
        stage.finish({}, {"stage": "gan", "title": "A game"})
    with runs.open_stage(tmp_path / "out", {**IDENTITY, "baseline": None}) as stage:
        assert not stage.finished


PLACES = ["shutil.rmtree", "pathlib.Path.unlink", "pathlib.Path.rename", "hftransfer.runs.write_manifest"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("over_an_older_one", [False, True])
def test_a_kill_while_a_stage_finishes_loses_no_training(tmp_path, monkeypatch, place, call, over_an_older_one):
    """Whichever file operation it dies in, the next run finds the checkpoints, or the finished folder."""
    import importlib

    module, _, name = place.rpartition(".")
    owner = importlib.import_module(module) if module != "pathlib.Path" else importlib.import_module("pathlib").Path
    if over_an_older_one:
        finished(tmp_path / "out", {**IDENTITY, "seed": 2})
    begun(tmp_path / "out")
    original, calls = getattr(owner, name), []
    with runs.open_stage(tmp_path / "out", IDENTITY) as stage:
        stage.begin()

        def dying(*arguments, **keywords):
            calls.append(arguments)
            if len(calls) == call:
                raise Killed
            return original(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dying)
            try:
                stage.finish({"accuracy": 0.5}, {"stage": "finetune", "title": "Fine-tune"})
            except Killed:
                pass
            else:
                assert len(calls) < call
    if (tmp_path / "out").exists() and runs.verified(tmp_path / "out")["identity"] != IDENTITY:
        assert stage.work.exists()
    with runs.open_stage(tmp_path / "out", IDENTITY) as again:
        kept = again.work / "checkpoints" / "checkpoint-3" / "optimizer.pt"
        assert again.finished or (runs.read_json(again.work / "identity.json") == IDENTITY and kept.exists())
    if again.finished:
        assert again.result().metrics == {"accuracy": 0.5}
        assert not (again.path / "checkpoints").exists() and not (again.path / "identity.json").exists()
        assert [path.name for path in tmp_path.iterdir() if path.name != ".out.old"] == ["out"]


def test_a_stage_that_works_again_drops_the_record_of_before(tmp_path):
    """A manifest of an earlier end, left beside changed weights, must not make them pass for done."""
    stage = begun(tmp_path / "out")
    runs.write_manifest(stage.work, but=("identity.json", "checkpoints"), identity={**IDENTITY, "seed": 2})
    begun(tmp_path / "out")
    assert not (stage.work / "manifest.json").exists()


def test_replace_folder_leaves_only_the_new_one(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    runs.replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "new"]
    assert (tmp_path / "old" / "new").is_file()


def test_write_text_is_the_old_text_until_it_is_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    runs.write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            runs.write_text(path, "new")
    assert path.read_text() == "old"
    runs.write_text(path, "new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_lock_has_one_holder_in_one_process_too(tmp_path):
    with runs.lock(tmp_path / ".lock"):
        refused = pytest.raises(HFTransferError, match="another run is working in this folder")
        with refused, runs.lock(tmp_path / ".lock"):
            pass
        with runs.lock(tmp_path / ".other"):
            pass
    for _ in range(2):
        with runs.lock(tmp_path / ".lock"):
            pass
    assert not list(tmp_path.iterdir())


def count(folder, rounds):
    """Adds one to a number in a file, `rounds` times, each under the lock."""
    added = 0
    while added < rounds:
        try:
            with runs.lock(folder / ".lock"):
                number = int((folder / "number").read_text())
                (folder / "number").write_text(str(number + 1))
                added += 1
        except HFTransferError:
            pass


def test_a_lock_that_comes_and_goes_never_has_two_holders(tmp_path):
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=count, args=(tmp_path, 100)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "300"


def test_an_error_within_a_stage_frees_the_lock(tmp_path):
    with pytest.raises(RuntimeError), runs.open_stage(tmp_path / "out", IDENTITY):
        raise RuntimeError
    finished(tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HFTransferError, match=r"^output_dir: cannot write to .*file.* \(.+\); choose another folder$"):
        runs.make_folder(tmp_path / "file" / "out")
    with pytest.raises(HFTransferError, match=r"^output_dir: cannot write to"):
        runs.make_folder(tmp_path / "file")


def test_an_identity_is_compared_as_it_is_stored(tmp_path):
    """Tuples become lists and paths text on disk; that is no change of settings."""
    identity = {"labels": ("a", "b"), "path": tmp_path, "weights": {"b": 1, "a": 2.0}}
    finished(tmp_path / "out", identity)
    assert finished(tmp_path / "out", {**identity, "weights": {"a": 2.0, "b": 1}}).finished


@pytest.mark.parametrize("is_file", [True, False])
def test_a_place_that_holds_anything_else_is_refused_and_kept(tmp_path, is_file):
    taken = tmp_path / "documents"
    kept = taken if is_file else taken / "thesis.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("years of work")
    with pytest.raises(HFTransferError, match=r"output_dir: .*holds what no stage wrote"), runs.open_stage(taken, {}):
        pass
    assert kept.read_text() == "years of work"
