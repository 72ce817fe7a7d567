"""Quality: real rows score as the floor does, a collapse is seen, and only the generator moves the numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hftransfer import gans, models
from hftransfer.data.samples import Sampled
from hftransfer.errors import HFTransferError
from hftransfer.functional.frechet import frechet_distance
from hftransfer.quality import Quality

OVERLAP = ("precision", "recall", "density", "coverage")
OFFSET, SCALE = [5.0, -3.0], [2.0, 0.5]


class Replay:
    """A generator that makes given samples, in the data's own units, and keeps what it was asked."""

    def __init__(self, samples, shape, classes=0):
        self.samples, self.config = np.asarray(samples), SimpleNamespace(sample_shape=shape, num_classes=classes)

    def generate(self, n, *, seed, labels, output_type):
        assert output_type == "np"
        self.asked = (n, seed, labels)
        return self.samples[:n]


def points(rows, seed):
    """Four modes on a square's corners, in a network's units, with their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 4
    corners = np.array([[-0.6, -0.6], [-0.6, 0.6], [0.6, -0.6], [0.6, 0.6]])
    return torch.tensor(corners[labels] + 0.05 * rng.standard_normal((rows, 2))).float(), torch.tensor(labels)


def mixture(labelled=True):
    """800 rows to train on, 300 held out."""
    (train, train_labels), (test, test_labels) = points(800, 0), points(300, 1)
    labels = (train_labels, test_labels, list("abcd")) if labelled else (None, None, [])
    return Sampled(train, test, *labels, OFFSET, SCALE, [])


def pictures(seed=0, rows=120):
    """Images with a bright half, left or right, and which it is."""
    noise = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 100, (rows, 1, 8, 8), generator=noise)
    labels = torch.randint(0, 2, (rows,), generator=noise)
    for image, label in zip(made, labels, strict=True):
        image[:, :, 4 * int(label) : 4 * int(label) + 4] += 120
    split = rows * 2 // 3
    halves = [(made[part].byte(), labels[part]) for part in (slice(split), slice(split, None))]
    (train, train_labels), (test, test_labels) = halves
    return Sampled(train, test, train_labels, test_labels, ["left", "right"], [], [], [])


def replayed(vectors):
    return Replay(np.asarray(vectors, dtype=float) * SCALE + OFFSET, [2])


@pytest.fixture(scope="module")
def quality():
    return Quality(mixture(), seed=3)


def test_fresh_samples_score_as_the_floor(quality):
    found = quality(replayed(points(300, 2)[0]))
    assert list(found) == ["frechet", "kernel", *OVERLAP, "label_divergence", "modes", "good_share"]
    assert list(quality.floor) == list(found)
    for name, value in found.items():
        assert value == pytest.approx(quality.floor[name], abs=0.06), name
    assert found["modes"] == 4 and found["good_share"] == pytest.approx(1 - np.exp(-4.5), abs=0.02)
    assert found["frechet"] < 0.02 and found["recall"] > 0.9 and found["coverage"] > 0.9


def test_the_held_out_rows_themselves_are_at_no_distance(quality):
    found = quality(replayed(mixture().test))
    assert found["frechet"] == pytest.approx(0, abs=1e-9) and found["label_divergence"] == 0
    assert [found[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_the_floor_is_of_training_rows(quality):
    rows = mixture()
    assert quality.floor == pytest.approx(quality(replayed(rows.train[quality.places])), abs=1e-6)
    assert len(set(quality.places.tolist())) == 300 and quality.floor["frechet"] > 1e-6


def test_a_collapse_loses_modes_and_coverage(quality):
    fresh, labels = points(1200, 2)
    found = quality(replayed(fresh[labels == 0]))
    assert found["modes"] == 1 and found["good_share"] > 0.97 and found["precision"] > 0.9
    assert found["recall"] < 0.3 and found["coverage"] < 0.3
    assert found["label_divergence"] == pytest.approx(np.log(4), abs=0.02)
    assert found["frechet"] > 50 * quality.floor["frechet"] and found["kernel"] > 50 * abs(quality.floor["kernel"])


def test_samples_between_the_modes_are_not_good(quality):
    found = quality(replayed(torch.zeros(300, 2) + 0.01 * torch.randn(300, 2)))
    assert found["modes"] == found["good_share"] == found["precision"] == found["density"] == 0


class Asked(Replay):
    """Makes the mode that it is asked for, or for a share of the samples the next one."""

    def __init__(self, wrong):
        super().__init__([], [2], classes=4)
        self.wrong = wrong

    def generate(self, n, *, seed, labels, output_type):
        fresh, known = points(4 * n, 3)
        turned = (labels + (torch.arange(n) < self.wrong * n)) % 4
        picked = torch.stack([fresh[known == label][place] for place, label in enumerate(turned)])
        return picked.double().numpy() * SCALE + OFFSET


def test_what_was_asked_for_is_compared_with_what_was_made(quality):
    right, wrong = quality(Asked(0.0)), quality(Asked(0.3))
    assert right["asked_accuracy"] == 1 and wrong["asked_accuracy"] == pytest.approx(0.7)
    assert right["label_divergence"] == pytest.approx(wrong["label_divergence"], abs=0.02)  # it sees no difference
    assert quality.real_accuracy == 1
    assert "asked_accuracy" not in quality(replayed(points(300, 2)[0])) | quality.floor


def test_the_classes_of_generated_and_of_held_out_samples_are_counted(quality):
    fresh, labels = points(1200, 2)
    found = quality.classes(replayed(fresh[labels == 2]))
    assert found.names == [*"abcd", "another"]
    assert found.generated == [0, 0, 1, 0, 0] and found.held_out == pytest.approx([0.25, 0.25, 0.25, 0.25, 0])
    assert Quality(mixture(labelled=False)).classes(replayed(fresh)) is None


def test_the_order_of_samples_changes_nothing(quality):
    fresh = points(300, 4)[0]
    one, other = quality(replayed(fresh)), quality(replayed(fresh.flip(0)))
    assert one == pytest.approx(other, abs=1e-9)


def test_units_change_nothing():
    """Millimetres or metres: the numbers are of what the networks see."""
    rows = mixture()
    other = Quality(rows._replace(offset=[0.0, 1e4], scale=[1e-3, 1e3]), seed=3)
    fresh = points(300, 2)[0].double().numpy()
    found = other(Replay(fresh * [1e-3, 1e3] + [0.0, 1e4], [2]))
    expected = Quality(rows, seed=3)(replayed(fresh))
    assert found == pytest.approx(expected, abs=1e-6)


def test_rows_are_as_many_as_are_held_out_or_asked_for():
    rows = mixture()
    assert Quality(rows).n == 300 and Quality(rows, count=50).n == 50
    generator = replayed(points(50, 2)[0])
    Quality(rows, count=50, seed=9)(generator)
    assert generator.asked == (50, 9, None)
    for few in (rows._replace(test=rows.test[:9]), rows._replace(train=rows.train[:9])):
        with pytest.raises(
            HFTransferError, match=r"^data: .* are too few to measure quality on 9 of each; it takes 10$"
        ):
            Quality(few)


def test_a_conditional_generator_is_asked_for_the_data_s_classes():
    rows = mixture()
    rows = rows._replace(train=rows.train[:-1], train_labels=torch.tensor([0] * 600 + [2] * 199))
    generator = replayed(points(300, 2)[0])
    for classes, asked in ((4, True), (0, False), (3, False)):
        generator.config.num_classes = classes
        Quality(rows)(generator)
        labels = generator.asked[2]
        assert (labels is not None) == asked
        if asked:
            assert set(labels.tolist()) == {0, 2} and (labels == 0).float().mean() == pytest.approx(0.75, abs=0.06)


def test_modes_are_of_labelled_vectors_only():
    found = Quality(mixture(labelled=False))
    assert "modes" not in found.floor and "label_divergence" not in found.floor
    assert "modes" not in found.says and "300 held-out vectors" in found.says
    whole = Quality(mixture())
    np.testing.assert_allclose(whole.modes.std, [0.05 * 2.0, 0.05 * 0.5], rtol=0.05)
    assert "modes are the 4 labels" in whole.says and "(2 each)" in whole.says


def test_what_cannot_be_compared_is_refused(quality):
    with pytest.raises(HFTransferError, match=r"^generator: it makes samples of \[3\], and the data are \[2\]"):
        quality(Replay(np.zeros((300, 3)), [3]))
    with pytest.raises(HFTransferError, match=r"^generator: its samples are not finite; it has diverged"):
        quality(Replay(np.full((300, 2), np.nan), [2]))
    with pytest.raises(HFTransferError, match=r"^judge: it sees images"):
        Quality(mixture(), (torch.nn.Linear(1, 1), None, "x"))


# images


def test_images_go_through_the_bytes_that_are_saved():
    rows = pictures()
    real = rows.test.permute(0, 2, 3, 1).numpy() / 255
    found = Quality(rows)
    same = found(Replay(real + 0.4 / 255 * np.where(real < 0.5, 1, -1), [1, 8, 8]))
    assert same["frechet"] == pytest.approx(0, abs=1e-9) and same["coverage"] == 1
    assert "by their own numbers (64 each)" in found.says and "40 held-out images" in found.says
    spread = np.sqrt((rows.train[found.places].flatten(1).numpy() / 255).var(axis=0).mean())
    fake = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1))
    expected = frechet_distance(real.reshape(40, -1) / spread, fake.reshape(40, -1) / 255 / spread)
    assert found(Replay(fake / 255, [1, 8, 8]))["frechet"] == pytest.approx(expected, rel=1e-6)
    # equal but for the pixels that are always dark: they count as the others do, not by how much they vary
    assert found.floor["frechet"] < expected / 5


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """The folder of a network that tells left from right, and of one without a head, with other sizes."""
    folder = tmp_path_factory.mktemp("judges")
    torch.manual_seed(0)
    rows = pictures(seed=5)
    discriminator = gans.new_pair("mlp", [3, 4, 4], 0, {"discriminator": {"hidden_sizes": [12, 6]}})[1]
    models.save(discriminator, folder / "headless")
    discriminator.config.id2label = {0: "right", 1: "left"}
    models.save(discriminator, folder / "named")
    network = models.load(str(folder / "named"), "image_classification")
    reader = models.reader(str(folder / "named"), "image")
    images = [image.permute(1, 2, 0).expand(-1, -1, 3).numpy() for image in rows.train]
    pixels = reader(images, return_tensors="pt")["pixel_values"]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        network(pixels, labels=1 - rows.train_labels).loss.backward()
        optimizer.step()
    models.save(network, folder / "trained", reader)
    return folder


def judge(folder, name):
    return models.load(str(folder / name), "image_classification"), models.reader(str(folder / name), "image"), name


def test_a_judge_sees_images_through_its_own_reader_and_tells_classes(judges):
    rows = pictures()
    found = Quality(rows, judge(judges, "trained"))
    network, reader, _ = judge(judges, "trained")
    images = [image.permute(1, 2, 0).expand(-1, -1, 3).numpy() for image in rows.test]
    with torch.no_grad():
        seen, logits = models.classify(network.eval(), reader(images, return_tensors="pt"))
    np.testing.assert_allclose(np.sort(found.held_out.features, 0), np.sort(seen.numpy(), 0), atol=1e-5)
    assert found.held_out.counts.tolist() == logits.argmax(1).bincount(minlength=2).tolist()
    one_side = (rows.train[rows.train_labels == 0][:1].expand(40, -1, -1, -1).permute(0, 2, 3, 1) / 255).numpy()
    collapsed = found(Replay(one_side, [1, 8, 8]))
    # the judge numbers the classes otherwise than the data
    assert found.classes(Replay(one_side, [1, 8, 8])).generated == [1, 0, 0] and found.real_accuracy > 0.9
    assert collapsed["label_divergence"] > 0.4 > 0.1 > found.floor["label_divergence"]
    assert collapsed["coverage"] < 0.2 < 0.7 < found.floor["coverage"]
    assert "the features of trained (6 each)" in found.says and "label divergence" in found.says
    larger = np.repeat(np.repeat(one_side, 2, axis=1), 2, axis=2)  # another run's generator may make other sizes
    assert found(Replay(larger, [1, 16, 16]))["label_divergence"] == pytest.approx(collapsed["label_divergence"])


@pytest.mark.parametrize("name", ["headless", "named"])
def test_a_head_that_was_never_trained_tells_no_classes(name, judges):
    found = Quality(pictures(), judge(judges, name))
    assert "label_divergence" not in found.floor and "label divergence" not in found.says
    encoder = models.load(str(judges / name), "encoder"), models.reader(str(judges / name), "image"), name
    assert Quality(pictures(), encoder).floor == pytest.approx(found.floor)


def test_other_classes_than_the_data_s_tell_nothing(judges):
    rows = pictures()
    assert "label_divergence" not in Quality(rows._replace(names=["up", "down"]), judge(judges, "trained")).floor
    blind = rows._replace(names=[], train_labels=None, test_labels=None)
    assert "label_divergence" not in Quality(blind, judge(judges, "trained")).floor


def test_a_network_of_ours_is_measured_and_left_as_it_was():
    torch.manual_seed(0)
    rows = pictures()
    generator = gans.new_pair("conv", [1, 8, 8], 2, {"base_channels": 4, "latent_size": 4})[0].train()
    found = Quality(rows)
    one, other = found(generator), found(generator)
    assert one == other and generator.training
    assert one["frechet"] > found.floor["frechet"]
    with torch.no_grad():
        next(generator.parameters()).add_(torch.nan)
    with pytest.raises(HFTransferError, match="diverged"):
        found(generator)
