"""Samples to learn to make: images of one size or scaled vectors, and labels only where they may be read."""

import io

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as pillow
from sklearn.datasets import load_digits

from hftransfer.data import targets
from hftransfer.data.images import readable
from hftransfer.data.samples import read_samples
from hftransfer.errors import HFTransferError
from hftransfer.tasks.classification import SingleLabel

RNG = np.random.default_rng(0)


def images(*shapes, label=None, colour=False):
    """A data set of noise; every shape is (height, width)."""
    made = [
        pillow.fromarray(RNG.integers(0, 256, (*shape, 3) if colour else shape, dtype=np.uint8)) for shape in shapes
    ]
    features = {"image": Image()}
    columns = {"image": made}
    if label is not None:
        features["label"], columns["label"] = ClassLabel(names=["no", "yes"]), label
    return Dataset.from_dict(columns, features=Features(features))


def vectors(numbers, **columns):
    """A data set of lists of fractions."""
    features = {"vector": List(Value("float64")), **{name: Value(kind) for name, (kind, _) in columns.items()}}
    return Dataset.from_dict(
        {"vector": numbers, **{n: v for n, (_, v) in columns.items()}}, features=Features(features)
    )


def loaded(spec, **options):
    return read_samples(spec, key="data", seed=1, **options)


def refused(spec, **options):
    with pytest.raises(HFTransferError) as error:
        loaded(spec, **options)
    message = str(error.value)
    assert message.startswith("data") and "\n" not in message
    return message


def test_images_are_held_as_they_are():
    found = loaded("demo/digits", labelled=True)
    assert found.train.dtype == torch.uint8 and found.train.shape[1:] == found.test.shape[1:] == (1, 8, 8)
    assert len(found.train) + len(found.test) == 1797 and len(found.test) == pytest.approx(359, abs=5)
    assert found.names == [str(digit) for digit in range(10)] and found.offset == found.scale == found.notes == []
    given = load_digits()
    pixels = torch.from_numpy((given.images * (255 / 16)).round()).byte()[:, None]  # (n, 1, 8, 8)
    known = {tuple(one.flatten().tolist()): int(label) for one, label in zip(pixels, given.target, strict=True)}
    for some, labels in ((found.train, found.train_labels), (found.test, found.test_labels)):
        assert [known[tuple(one.flatten().tolist())] for one in some] == labels.tolist()
    shares = torch.bincount(found.test_labels).float() / torch.bincount(found.train_labels)
    assert shares.min() > 0.23 and shares.max() < 0.27  # a fifth of each class


def test_the_same_rows_are_held_out_as_where_a_classifier_is_trained():
    found = loaded("demo/digits", labelled=None, max_samples=100)
    parsed, splits = targets.opened("demo/digits", "data", "image")
    parts, _ = SingleLabel.read(parsed, splits, seed=1, kind="image", known=None, max_samples=100)
    assert len(found.train) == 100
    for name, pixels, labels in (("train", found.train, found.train_labels), ("test", found.test, found.test_labels)):
        assert parts[name]["label"][:] == labels.tolist()
        assert np.array_equal(readable(parts[name], key="data", channels=1)[7]["pixels"][:, :, 0], pixels[7, 0])


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_labels_are_not_looked_at_unless_they_may_be(kind):
    shapes, numbers = [(8, 8)] * 30, RNG.normal(size=(30, 3))
    pictures = images(*shapes)
    labels = [[row % 2 for row in range(30)], [row // 15 for row in range(30)], [None] * 30, [-1] * 30]

    def read(label, **options):
        named = ClassLabel(names=["no", "yes"])
        made = pictures if kind == "images" else vectors(numbers)
        return loaded(made.add_column("label", label, feature=named) if label else made, **options)

    plain = read(None)
    for label in labels:
        found = read(label, labelled=False)
        assert torch.equal(found.train, plain.train) and torch.equal(found.test, plain.test)
        assert found.train_labels is found.test_labels is None and found.names == []
    for label in labels[:2]:
        for wanted in (True, None):
            assert read(label, labelled=wanted).names == ["no", "yes"]
    without = read(labels[2], labelled=None)
    assert torch.equal(without.train, plain.train) and without.train_labels is None
    assert "labels are not used: 30 of 30 rows" in without.notes[0]
    with pytest.raises(HFTransferError, match=r"^data: 30 of 30 rows of .* have no label"):
        read(labels[2], labelled=True)
    with pytest.raises(HFTransferError, match=r"^data: cannot tell which column of .* is the label"):
        read(None, labelled=True)


def test_its_own_test_split_is_held_out():
    parts = DatasetDict(train=vectors([[0.0, 1.0], [1.0, 3.0]]), test=vectors([[0.5, 2.0], [9.0, 2.0], [0.5, 1.0]]))
    found = loaded(parts)
    torch.testing.assert_close(found.train, torch.tensor([[-0.9, -0.9], [0.9, 0.9]]))
    torch.testing.assert_close(found.test[0], torch.zeros(2))
    assert len(found.test) == 3 and "1 of 3 held-out rows lie beyond" in found.notes[-1]


def test_a_test_split_without_labels_is_held_out_where_none_are_read():
    def part(rows, label):
        named = ClassLabel(names=["no", "yes"])
        return vectors(RNG.normal(size=(rows, 2))).add_column("label", label, feature=named)

    parts = DatasetDict(train=part(20, [0, 1] * 10), test=part(7, [-1] * 7))
    assert len(loaded(parts, labelled=False).test) == 7
    assert len(loaded(parts, labelled=True).test) == 4  # a fifth of the others, as for a classifier


def test_scaling_is_undone_by_what_is_told():
    numbers = RNG.normal(size=(200, 3)) * [1e-3, 1, 1e6] + [5, 0, -3e6]
    numbers[:, 1] = 7
    found = loaded(vectors(numbers))
    assert found.train.dtype == torch.float32 and found.train.abs().max() <= 0.9 + 1e-6
    made = torch.cat([found.train, found.test]).double().numpy() * found.scale + found.offset
    order = np.lexsort(made.T[[0]]), np.lexsort(numbers.T[[0]])
    assert (np.abs(made[order[0]] - numbers[order[1]]) <= [1e-9, 1e-9, 1]).all()
    np.testing.assert_allclose(found.train.amax(0)[[0, 2]], 0.9)
    np.testing.assert_allclose(found.train.amin(0)[[0, 2]], -0.9)
    assert any(note == "the same in all training rows: vector[1]" for note in found.notes)


def test_columns_of_fractions_are_a_vector(tmp_path):
    file = tmp_path / "flowers.csv"
    lines = [f"{row},{row / 7},{'ab'[row % 2]},{row * 0.5}" for row in range(40)]
    file.write_text("\n".join(["id,width,species,length", *lines]))
    found = loaded({"path": str(file), "columns": {"label": "species"}}, labelled=True)
    assert found.train.shape == (32, 2) and found.names == ["a", "b"]
    made = found.train.double().numpy() * found.scale + found.offset
    np.testing.assert_allclose(made[:, 1], 3.5 * made[:, 0], atol=1e-4)
    assert (np.rint(made[:, 1] * 2) % 2 == found.train_labels.numpy()).all()
    assert found.notes[-1] == "columns that are no part of the vectors: id"
    assert "width from 0 to" in found.notes[0]


def test_a_column_of_lists_is_told_by_its_name_or_by_being_the_only_one():
    numbers = RNG.normal(size=(20, 2))
    one = vectors(numbers).rename_column("vector", "anything")
    assert torch.equal(loaded(one).train, loaded(vectors(numbers)).train)
    two = vectors(numbers).add_column("other", numbers.tolist())
    assert torch.equal(loaded(two).train, loaded(vectors(numbers)).train)
    unclear = two.rename_column("vector", "one")
    assert "write columns: {image: NAME} or {vector: NAME}" in refused(unclear)
    told = loaded({"path": unclear, "columns": {"vector": "one"}})
    assert torch.equal(told.train, loaded(vectors(numbers)).train)
    assert "did you mean 'one'" in refused({"path": unclear, "columns": {"vector": "on"}})


def test_a_column_of_vectors_wins_over_images_when_it_is_named():
    both = images(*[(8, 8)] * 10).add_column("vector", RNG.normal(size=(10, 2)).tolist())
    assert loaded(both).train.ndim == 4
    assert loaded({"path": both, "columns": {"vector": "vector"}}).train.shape == (8, 2)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "row 3 of 'dataset in memory' has nan in vector[1]"),
        (float("inf"), "row 3 of 'dataset in memory' has inf in vector[1]"),
        (None, "row 3 of 'dataset in memory' has nothing in vector[1]"),
    ],
)
def test_numbers_must_be_finite(value, told):
    numbers = [[float(row), 1.0] for row in range(5)]
    numbers[2][1] = value
    assert told in refused(vectors(numbers))


def test_vectors_must_be_of_one_length_and_there():
    assert "row 2 of 'dataset in memory' has a vector of 3 numbers and the first one has 2" in refused(
        vectors([[1.0, 2.0], [1.0, 2.0, 3.0]])
    )
    assert "row 2 of 'dataset in memory' has no vector" in refused(vectors([[1.0, 2.0], None]))
    assert "has no vector" in refused(vectors([[], []]))


def test_texts_are_refused():
    assert "columns found: text, label; write" in refused(Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}))
    assert "demo/api_docs holds texts" in refused("demo/api_docs")
    named = {"path": vectors([[1.0], [2.0]], score=("float64", [0.0, 1.0])), "columns": {"vector": "score"}}
    assert "data.columns.vector: the column 'score' holds float64, not lists of numbers" in refused(named)


def test_grey_images_are_told_by_their_pixels():
    grey = images(*[(16, 16)] * 10)
    as_colour = Dataset.from_dict(
        {"image": [image.convert("RGB") for image in grey["image"]]}, Features(image=Image())
    )
    found = loaded(as_colour)
    assert found.train.shape[1:] == (1, 16, 16) and torch.equal(found.train, loaded(grey).train)
    three = loaded(grey, num_channels=3)
    assert torch.equal(three.train, found.train.expand(-1, 3, -1, -1)) and three.notes == [
        "all images are read in colour"
    ]
    colour = images(*[(16, 16)] * 10, colour=True)
    assert loaded(colour).train.shape[1:] == (3, 16, 16)
    one = loaded(colour, num_channels=1)
    assert one.train.shape[1:] == (1, 16, 16) and one.notes == ["all images are read in grey"]


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ([(20, 20)] * 6, "the images are 20 x 20 pixels, .* write image_size: 16 or 32 to scale them$"),
        ([(16, 20)] * 6, "the images are 20 x 16 pixels, .* image_size: 16 or 32"),
        ([(4, 4)] * 6, "the images are 4 x 4 pixels, .* image_size: 8 or 16"),
        ([(100, 70)] * 5 + [(16, 16)] * 5, "the images have 2 sizes, .* image_size: "),
    ],
)
def test_sizes_that_no_network_makes_are_named(shapes, told):
    with pytest.raises(HFTransferError, match=f"^data: {told}"):
        loaded(images(*shapes))
    found = loaded(images(*shapes), image_size=8)
    assert found.train.shape[1:] == (1, 8, 8)
    assert found.notes[0].startswith(f"{len(shapes)} of {len(shapes)} images are scaled to 8 x 8 pixels")
    assert found.notes[0].endswith("square") == any(height != width for height, width in shapes)


def test_images_are_scaled_as_image_processors_do():
    made = images(*[(30, 20)] * 5, colour=True)
    found = loaded(made, image_size=16)
    scaled = [
        np.asarray(image.resize((16, 16), pillow.Resampling.BILINEAR)).transpose(2, 0, 1) for image in made["image"]
    ]
    for one in torch.cat([found.train, found.test]).numpy():
        assert any(np.array_equal(one, other) for other in scaled)
    assert loaded(images(*[(8, 8)] * 5), image_size=8).notes == []


def test_images_that_do_not_decode_are_left_out_with_their_labels():
    rows = [{"bytes": png(RNG.integers(0, 256, (8, 8), dtype=np.uint8)), "path": None} for _ in range(20)]
    whole = Dataset.from_dict(
        {"image": rows, "label": [row % 2 for row in range(20)]},
        features=Features({"image": Image(), "label": ClassLabel(names=["no", "yes"])}),
    )
    kept = loaded(whole, labelled=True)
    place = next(i for i, row in enumerate(rows) if np.array_equal(pixels_of(row), kept.train[3, 0].numpy()))
    rows[place] = {"bytes": b"no image", "path": None}
    broken = Dataset.from_dict({"image": rows, "label": whole["label"][:]}, features=whole.features)
    found = loaded(broken, labelled=True)
    without = [row for row in range(len(kept.train)) if row != 3]
    assert torch.equal(found.train, kept.train[without]) and torch.equal(
        found.train_labels, kept.train_labels[without]
    )
    assert found.notes == ["1 of 20 images do not decode and are left out"]


def png(pixels):
    written = io.BytesIO()
    pillow.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def pixels_of(row):
    return np.asarray(pillow.open(io.BytesIO(row["bytes"])))


def test_a_folder_of_images_has_its_names(pictures):
    found = loaded(pictures, labelled=True, image_size=16)
    assert found.names == ["bright", "dark"] and found.train.shape == (24, 1, 16, 16)
    means = found.train.float().mean((1, 2, 3))
    assert ((means < 100) == (found.train_labels == 1)).all()
