"""`cluster` from data to a folder: what it leaves, what it refuses, and new rows among earlier clusters."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score

import hftransfer
from hftransfer import chain, clusters
from hftransfer.errors import HFTransferError
from hftransfer.stages.embed import embed

FILES = {"assignments.parquet", "clusters.json", "explore.html", "clusters.png", "metrics.json", "evidence.json"}


def group(data, folder, **options):
    return hftransfer.cluster(data, output_dir=str(folder), **{"seed": 1, **options})


def assigned(result):
    return Dataset.from_parquet(str(result.path / "assignments.parquet"))


@pytest.fixture
def blobs(tmp_path):
    """A csv file of points around three centres in five dimensions, with a label and a column of names."""
    points, labels = make_blobs(90, centers=3, n_features=5, cluster_std=0.5, random_state=3)
    path = tmp_path / "points.csv"
    lines = [",".join([*(f"{x:.6f}" for x in point), "abc"[label], f"row {row}"])
             for row, (point, label) in enumerate(zip(points, labels, strict=True))]  # fmt: skip
    path.write_text("\n".join(["a,b,c,d,e,label,name", *lines]) + "\n")
    return str(path)


def test_the_classic_picture(tmp_path):
    result = group("demo/blobs", tmp_path / "out")
    points, labels = make_blobs(300, centers=4, cluster_std=0.6, random_state=0)
    found = assigned(result)
    assert result.metrics["k"] == 4 and result.metrics["adjusted_rand"] == result.metrics["matched_accuracy"] == 1
    assert adjusted_rand_score(labels, found["cluster"][:]) == 1
    np.testing.assert_allclose(np.stack([found["x"][:], found["y"][:]], axis=1), points)
    names = {path.name for path in result.path.iterdir()}
    assert names >= FILES | {"number.png", "clusters.safetensors"} and "dendrogram.png" not in names
    evidence = result.evidence
    assert evidence["outcome"]["text"].startswith("4 clusters: among 300 rows")
    assert any("silhouette 4; gap 4; stability 4; they agree" in note for note in evidence["notes"])
    assert [page["file"] for page in evidence["pages"]] == ["explore.html"]


@pytest.mark.parametrize("method", ["kmeans", "minibatch_kmeans", "ward", "average", "complete", "hdbscan"])
def test_every_method_finds_what_is_apart_and_says_so_again(blobs, tmp_path, method):
    options = {} if method == "hdbscan" else {"k": 3}
    result = group(blobs, tmp_path / "out", method=method, **options)
    assert result.metrics["adjusted_rand"] > 0.95 and result.metrics["k"] == 3
    assert (result.path / "dendrogram.png").exists() == (method in ("ward", "average", "complete"))
    labels = assigned(result)["cluster"][:]
    assert np.bincount(np.array(labels)[np.array(labels) >= 0]).tolist() == sorted(
        np.bincount(np.array(labels)[np.array(labels) >= 0]), reverse=True
    )
    code = (
        "import sys, numpy, hftransfer.clusters as clusters; from datasets import load_dataset; "
        "data = load_dataset('csv', data_files=sys.argv[2])['train']; "
        "points = numpy.array([data[name][:] for name in 'abcde']).T; "
        "print(clusters.load(sys.argv[1]).predict(points).tolist())"
    )
    command = [sys.executable, "-c", code, str(result.path), blobs]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout.splitlines()[-1]) == labels


def test_new_rows_land_in_the_same_picture(blobs, tmp_path):
    first = group(blobs, tmp_path / "first", k=3, components=3, map="tsne")
    again = group(blobs, tmp_path / "again", fitted=str(first.path))
    one, other = assigned(first), assigned(again)
    assert one["cluster"][:] == other["cluster"][:] and one["name"][:] == other["name"][:]
    for axis in "xy":
        np.testing.assert_allclose(one[axis][:], other[axis][:], atol=1e-6)
    opened = clusters.load(first.path)
    assert len(opened.names) == 3 and opened.centres.shape == (3, 3)
    assert any("nothing was fitted" in note for note in again.evidence["notes"])
    with pytest.raises(HFTransferError, match=r"5 numbers.*2|2 numbers.*5"):
        group("demo/blobs", tmp_path / "no", fitted=str(first.path))
    with pytest.raises(HFTransferError, match=r"fitted: .* holds no clusters; give a folder that `cluster` left"):
        group(blobs, tmp_path / "no", fitted=str(tmp_path))


def test_texts_are_named_by_their_words(tiny_bert, reviews, tmp_path):
    vectors = embed(str(tiny_bert), reviews("source", 60), output_dir=str(tmp_path / "vectors"), bf16=False)
    result = group(str(vectors.path), tmp_path / "out", k=2, method="spherical_kmeans")
    words = {word for name in clusters.load(result.path).names for word in name.split(", ")}
    assert words <= {"kitchen", "pan", "oven", "the", "knife", "soup", "very", "quiet", "gentle", "still", "noisy",
                     "shouting", "roaring"}  # fmt: skip
    titles = [table["title"] for table in result.evidence["tables"]]
    assert titles[0].startswith("Clusters, the largest first") and any("Near-duplicates" in title for title in titles)
    assert result.evidence["data"][0]["labels"].keys() == {"calm", "loud"}
    page = (result.path / "explore.html").read_text()
    assert "kitchen" in page and "http-equiv" in page


def test_images_have_a_contact_sheet(painted, tmp_path):
    from hftransfer import gans

    _, judge = gans.new_pair("conv", [1, 8, 8], 0, {"base_channels": 4})
    judge.save_pretrained(tmp_path / "judge")
    vectors = embed(str(tmp_path / "judge"), painted(12, (8, 8)), output_dir=str(tmp_path / "vectors"), bf16=False)
    result = group(str(vectors.path), tmp_path / "out", k=2)
    assert result.metrics["adjusted_rand"] == 1  # bright and dark
    assert (result.path / "sheet.png").exists()


def test_a_chain_embeds_and_groups(tiny_bert, reviews, tmp_path):
    recipe = {
        "name": "chain",
        "model": str(tiny_bert),
        "unlabelled": reviews("source", 40),
        "stages": [
            {"embed": {"data": "$unlabelled", "bf16": False}},
            {"cluster": {"k": 2, "map": "pca"}},
            {"cluster": {"id": "again", "fitted": "$cluster"}},
        ],
    }
    resolved = chain.resolve(recipe, {})
    assert resolved.steps[1].given["data"] == resolved.steps[2].given["data"] == "$embed"
    result = hftransfer.run(recipe, output_dir=str(tmp_path / "out"))
    assert result.metrics["cluster"]["k"] == 2 and result.metrics["again"]["rows"] == 40
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What was found?" in page and 'href="2-cluster/explore.html"' in page
    assert not (tmp_path / "out" / "final").exists()
    with pytest.raises(
        HFTransferError, match=r"cluster\.data: \$embeds is no data of the recipe and no earlier stage"
    ):
        chain.resolve({**recipe, "stages": [*recipe["stages"][:1], {"cluster": {"data": "$embeds"}}]}, {})
    wrong = [recipe["stages"][0], {"finetune": {"data": "$embed"}}]
    with pytest.raises(HFTransferError, match=r"finetune\.data: \$embed is no data of the recipe"):
        chain.resolve({**recipe, "stages": wrong}, {})


def test_components_by_share_and_by_likelihood(tmp_path):
    digits = load_digits()
    data = Dataset.from_dict({"vector": digits.data[:300].tolist(), "label": digits.target[:300].tolist()})
    share = group(data, tmp_path / "share", k=10, components=0.9, map="pca")
    likely = group(data, tmp_path / "likely", k=10, components="likelihood", map="pca")
    for result in (share, likely):
        assert (result.path / "explained.png").exists() and result.metrics["adjusted_rand"] > 0.4
    assert any("principal components" in note and "9" in note for note in share.evidence["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 91}, r"k: 91 clusters of 90 rows"),
        ({"k": 1}, r"cluster: k: "),
        ({"method": "kmean"}, r"there is no 'kmean'; did you mean 'kmeans'\?"),
        ({"distance": 2.0}, r"distance: kmeans has no hierarchy to cut; use ward, average, complete, or k"),
        ({"method": "ward", "distance": 2.0, "k": 3}, r"distance: k is given too"),
        ({"method": "hdbscan", "k": 3}, r"k: hdbscan finds its own number; set estimator\.min_cluster_size"),
        ({"k": 3, "estimator": {"n_inits": 3}}, r"estimator\.n_inits: .*did you mean 'n_init'\?"),
        ({"components": "most"}, r"components: expected a number, a share of the variance or likelihood"),
        ({"try_k": [9, 3]}, r"try_k: expected the fewest first"),
        ({"map": "umap"}, r"umap"),
    ],
)
def test_mistakes_are_told_in_a_line(blobs, tmp_path, options, message):
    if "map" in options and __import__("importlib.util").util.find_spec("umap"):
        pytest.skip("umap-learn is installed")
    with pytest.raises(HFTransferError, match=message) as error:
        group(blobs, tmp_path / "out", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0]] * 30, r"all rows are the same|differ"),
        ([[1.0, 2.0]] * 15 + [[2.0, 1.0]] * 15, r"k: 3 clusters.*2|2 .*differ"),
        ([[1.0, 2.0], [2.0, float("nan")]] * 9, r"row 2 of .* has nan in"),
        ([[1.0, 2.0]], r"k: 3 clusters of 1 rows"),
    ],
)
def test_rows_that_cannot_be_grouped(tmp_path, rows, message):
    with pytest.raises(HFTransferError, match=message) as error:
        group(Dataset.from_dict({"vector": rows}), tmp_path / "out", k=3)
    assert "\n" not in str(error.value)


def test_texts_are_no_vectors(reviews, tmp_path):
    with pytest.raises(HFTransferError, match=r"holds no vectors .*embed it first"):
        group(reviews("source", 9), tmp_path / "out")


def test_few_new_rows_and_clusters_that_get_none(tiny_bert, reviews, tmp_path):
    many = embed(str(tiny_bert), reviews("source", 40), output_dir=str(tmp_path / "many"), bf16=False)
    one = embed(str(tiny_bert), reviews("source", 1, name="one"), output_dir=str(tmp_path / "one"), bf16=False)
    first = group(str(many.path), tmp_path / "first", k=3, method="ward")
    found = group(str(one.path), tmp_path / "found", fitted=str(first.path))
    assert found.metrics["rows"] == 1 and found.evidence["title"] == "Clusters: ward"
    assert [row[1] for row in found.evidence["tables"][0]["rows"]].count(0) == 2
    with pytest.raises(HFTransferError, match=r"k: nothing is fitted beside fitted, which has its own"):
        group(str(one.path), tmp_path / "no", fitted=str(first.path), k=2)


def test_labels_that_are_missing_in_some_rows_judge_the_others(tmp_path):
    points, labels = make_blobs(60, centers=3, cluster_std=0.3, random_state=5)
    some = [None if row % 5 == 0 else "abc"[label] for row, label in enumerate(labels)]
    data = Dataset.from_dict({"vector": points.tolist(), "label": some, "cluster": ["mine"] * 60, "when": [[1]] * 60})
    result = group(data, tmp_path / "out", k=3)
    assert result.metrics["adjusted_rand"] == result.metrics["matched_accuracy"] == 1
    assert "labels of the 48 rows that have one" in result.evidence["outcome"]["text"]
    page = (result.path / "explore.html").read_text()
    names = json.loads(page.split('id="data">')[1].split("</script>")[0])["columns"]
    assert [column["name"] for column in names] == [
        "cluster", "distance from the middle", "label", "cluster (of the data)", "when"
    ]  # fmt: skip


def test_rows_have_the_datas_numbers_everywhere(tiny_bert, tmp_path):
    words = ["quiet soup", "", "noisy pan", " ", "the oven", None, "a knife"] * 6
    vectors = embed(str(tiny_bert), Dataset.from_dict({"text": words}), output_dir=str(tmp_path / "v"), bf16=False)
    result = group(str(vectors.path), tmp_path / "out", k=2, near_duplicates=0.999)
    kept = [row for row, text in enumerate(words) if (text or "").strip()]
    assert assigned(result)["row"][:] == kept
    near = next(table for table in result.evidence["tables"] if "Near-dup" in table["title"])
    told = [[int(row) for row in line[0].split(", ")] for line in near["rows"]]
    assert all(len({words[row] for row in rows}) == 1 for rows in told) and told


def test_units_do_not_matter_to_standardized_numbers(blobs, tmp_path):
    text = (tmp_path / "points.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]
    wide = ["a,b,c,d,e,f,label", *(f"{float(r[0]) * 1e4},{','.join(r[1:5])},7.5,{r[5]}" for r in rows)]
    (tmp_path / "wide.csv").write_text("\n".join(wide) + "\n")
    plain = group(str(tmp_path / "wide.csv"), tmp_path / "plain", k=3)
    assert any("widest decide; standardize: true" in note for note in plain.evidence["notes"])
    assert any("the same in all rows, and so without effect: f" in note for note in plain.evidence["notes"])
    even = group(str(tmp_path / "wide.csv"), tmp_path / "even", k=3, standardize=True)
    assert even.metrics["adjusted_rand"] == 1 and not any("widest" in note for note in even.evidence["notes"])
    again = group(str(tmp_path / "wide.csv"), tmp_path / "again", fitted=str(even.path))
    assert assigned(again)["cluster"][:] == assigned(even)["cluster"][:]


def test_the_options_name_what_the_library_has():
    from hftransfer.clusters import methods, plane, reduce
    from hftransfer.stages import cluster as signature

    assert signature.METHODS == methods.METHODS
    assert signature.REDUCTIONS == reduce.REDUCTIONS and signature.MAPS == plane.PLANES
