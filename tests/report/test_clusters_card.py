"""What a card tells of clusters: lines that run, the stages that they come from, no text of the data."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from hftransfer import report
from hftransfer.report import embedded, grouped, snippets
from hftransfer.report.limits import limits, makes_clusters
from hftransfer.report.record import read_run
from hftransfer.stages.cluster import cluster
from hftransfer.stages.embed import embed

TEXTS = [f"{word} {thing}" for word in ("quiet", "noisy") for thing in ("pan", "oven", "knife", "soup", "tree") * 3]
METHODS = {"kmeans": {"k": 2}, "ward": {"method": "ward", "k": 3}, "hdbscan": {"method": "hdbscan"}}
NAME = "an/encoder"  # a Hub id that the vectors are said to be by


def rewrite(file: Path, change: Any) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def shared(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an embed and three ways of grouping, to be copied."""
    run = tmp_path_factory.mktemp("clusters") / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"recipe": "group_it", "seed": 3}))
    (run / "recipe.yaml").write_text("model: scratch/bert\nstages: []\n")
    data = Dataset.from_dict({"text": TEXTS, "label": ["calm"] * 15 + ["loud"] * 15})
    made = embed(str(tiny_bert), data, output_dir=str(run / "1-embed"), bf16=False, normalize=True).path
    for number, (name, options) in enumerate(METHODS.items()):
        fields = {"estimator": {"min_cluster_size": 3}} if name == "hdbscan" else {}
        cluster(str(made), map="pca", components=4, output_dir=str(run / f"{number + 2}-{name}"), **options, **fields)
    return run


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "moved"))


def shown(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch, **changes: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    found: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), found)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_the_lines_run_where_no_checkpoint_is_known(name, run, monkeypatch, capsys):
    (folder,) = run.glob(f"*-{name}")
    use = snippets.use_of(folder)
    assert use is not None
    assert (use.task, use.library, use.reads) == ("other", "hftransfer", "texts")
    assert use.tags == (("clustering",) if name == "ward" else ("clustering", "skops"))
    found = shown(folder, use.snippet, monkeypatch)
    assert found["vectors"].shape == (1, 32)
    assert f"its {found['found'].fitted.k} clusters" in use.does
    assert capsys.readouterr().out.count("\n") == (1 if name == "ward" else 2)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_is_placed_where_it_was(name, run, tiny_bert, monkeypatch, tmp_path):
    (folder,) = run.glob(f"*-{name}")
    rewrite(run / "1-embed" / "vectors.json", lambda info: info.update(model=NAME))
    rewrite(run / "1-embed" / "evidence.json", lambda evidence: evidence["settings"].update(model=NAME))
    rewrite(folder / "evidence.json", lambda evidence: evidence["settings"].update(data="/gone/1-embed"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    use = snippets.use_of(folder)
    assert use is not None and f'"{NAME}"' in use.snippet
    changes = {f'"{NAME}"': repr(str(tiny_bert)), '["A text to place."]': repr(TEXTS)}
    found = shown(folder, use.snippet, monkeypatch, **changes)
    assigned = pq.read_table(folder / "assignments.parquet")["cluster"].to_pylist()
    assert found["found"].predict(found["vectors"]).tolist() == assigned
    if name == "kmeans":
        np.testing.assert_array_equal(found["estimator"].predict(found["reduced"]), assigned)


def test_images_and_a_table_are_placed(run, monkeypatch, tmp_path):
    (folder,) = run.glob("*-kmeans")
    made = embedded.Embedded({"model": NAME, "kind": "image", "pooling": "cls"}, {"model": NAME})
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(tmp_path / "eyes")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "eyes")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    code = snippets.placing(folder, made).snippet
    assert 'pooling="cls"' in code
    found = shown(folder, code, monkeypatch, **{f'"{NAME}"': repr(str(tmp_path / "eyes"))})
    assert found["vectors"].shape == (1, 32)
    rows = Dataset.from_dict({"a": np.r_[np.zeros(8), np.ones(8)], "b": np.arange(16) / 100})
    alone = cluster(rows, k=2, output_dir=str(tmp_path / "2-cluster")).path
    use = snippets.use_of(alone)
    assert use is not None and use.reads == "rows" and embedded.behind(alone) is None
    assert shown(alone, use.snippet, monkeypatch)["vectors"].shape == (1, 2)


def test_the_record_is_narrowed_to_the_clusters(run, tmp_path):
    record = read_run(run)
    for name in METHODS:
        (folder,) = run.glob(f"*-{name}")
        staged = tmp_path / name
        staged.mkdir()
        shutil.copy(folder / "clusters.json", staged)
        found = grouped.narrowed(record, staged)
        assert [stage.folder.name for stage in found.stages] == ["1-embed", folder.name] and makes_clusters(found)
    assert grouped.narrowed(record, run / "1-embed") is record
    shutil.rmtree(run / "1-embed")
    assert [stage.folder.name for stage in grouped.narrowed(read_run(run), staged).stages] == [folder.name]


def test_names_and_limits_are_told_and_texts_are_not(run, tmp_path):
    record = read_run(run)
    found = grouped.narrowed(record, run / "2-kmeans")
    (table,) = grouped.tables(found.stages[-1])
    names = json.loads((run / "2-kmeans" / "clusters.json").read_text())["names"]
    assert table["columns"] == ["cluster", "rows", "most frequent label", "its share"]
    assert [row[0] for row in table["rows"]] == names and sum(row[1] for row in table["rows"]) == len(TEXTS)
    assert grouped.tables(found.stages[0]) == []
    told = list(limits(found, "texts"))
    assert any("vectors of 32 numbers" in line for line in told) and any(
        "Names are the words" in line for line in told
    )
    assert any("also where it is like none" in line for line in told)
    assert not any("checkpoint against" in line or "no labels" in line for line in told)
    density = list(limits(grouped.narrowed(record, run / "4-hdbscan"), "texts"))
    assert not any("also where it is like none" in line for line in density)


def test_the_card_of_a_run_that_left_clusters(run):
    rewrite(run / "2-kmeans" / "clusters.json", lambda info: info.update(names=["<script>", "[x](javascript:1)"]))
    rewrite(
        run / "2-kmeans" / "evidence.json",
        lambda evidence: evidence["tables"][0].update(
            rows=[["<script>", 15, "`a`|", "1%", "x"], ["[x](javascript:1)", 15, "", "1%", ""]]
        ),
    )
    text = report.card(run, run / "2-kmeans").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.library_name == "hftransfer" and card.data.pipeline_tag is None
    assert {"clustering", "skops", "kmeans"} <= set(card.data.tags)
    assert "clusters.load(folder)" in text and "No measurement of this checkpoint" not in text
    for raw in ("<script", "](javascript", "`a`", str(run.parent), "explore.html"):
        assert raw not in text
