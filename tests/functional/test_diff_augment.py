import itertools

import pytest
import torch

from hftransfer.errors import HFTransferError
from hftransfer.functional.diff_augment import OPERATIONS, adapted_p, diff_augment

POLICY = ("color", "translation", "cutout")


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=200, channels=3, size=16, seed=0):
    return torch.rand(n, channels, size, size, generator=noise(seed), dtype=torch.float64) * 2 - 1


def test_the_policy_is_the_table():
    assert tuple(OPERATIONS) == POLICY


@pytest.mark.parametrize("policy", [*[(name,) for name in POLICY], POLICY, POLICY[::-1]])
def test_same_noise_same_result_and_p_zero_is_the_identity(policy):
    given = images()
    first = diff_augment(given, policy, noise())
    assert torch.equal(first, diff_augment(given, policy, noise()))
    assert not torch.equal(first, diff_augment(given, policy, noise(1)))
    assert first.shape == given.shape and first.dtype == given.dtype
    assert torch.equal(diff_augment(given, policy, noise(), p=0.0), given)
    assert torch.equal(diff_augment(given, (), noise()), given)


def test_without_noise_torch_is_asked():
    given = images()
    torch.manual_seed(3)
    first = diff_augment(given, POLICY)
    second = diff_augment(given, POLICY)  # as of real and of fake images in one step
    torch.manual_seed(3)
    assert torch.equal(first, diff_augment(given, POLICY))
    assert not torch.equal(first, second)


def test_images_have_draws_of_their_own():
    alike = images(1).expand(50, -1, -1, -1)
    found = diff_augment(alike, POLICY, noise())
    assert len({tuple(image.flatten().tolist()) for image in found}) == 50
    given = images(50)
    whole, parts = diff_augment(given, POLICY, noise()), noise()
    cut = [diff_augment(part, POLICY, parts) for part in given.split([7, 1, 42])]
    assert torch.equal(torch.cat(cut), whole)


def test_p_is_the_share_and_a_larger_one_adds():
    given = images(2000, size=4)
    changed = [
        (diff_augment(given, ("color",), noise(), p=p) != given).flatten(1).any(1)
        for p in (0.0, 0.3, torch.tensor(0.6), 1.0)
    ]
    shares = [one.double().mean().item() for one in changed]
    assert shares == pytest.approx([0, 0.3, 0.6, 1], abs=0.04)
    assert all((more >= less).all() for less, more in itertools.pairwise(changed))
    several = diff_augment(given, ("color", "color"), noise(), p=0.5)
    assert (several != given).flatten(1).any(1).double().mean().item() == pytest.approx(0.75, abs=0.04)


def test_color_is_affine_within_its_range():
    given = images(2000, size=4)
    found = diff_augment(given, ("color",), noise())
    shift = (found - given).mean((1, 2, 3))  # brightness alone moves the mean of an image
    assert -0.5 <= shift.min() < -0.48 and 0.48 < shift.max() <= 0.5
    assert shift.mean().abs() < 0.02
    grey, was = found.mean(1, keepdim=True), given.mean(1, keepdim=True)
    contrast = grey.flatten(1).std(1) / was.flatten(1).std(1)
    assert 0.5 <= contrast.min() < 0.52 and 1.48 < contrast.max() <= 1.5
    saturation = (found - grey).flatten(1).norm(dim=1) / (given - was).flatten(1).norm(dim=1) / contrast
    assert 0 <= saturation.min() < 0.02 and 1.98 < saturation.max() <= 2
    again = grey + (saturation * contrast)[:, None, None, None] * (given - was)
    torch.testing.assert_close(found, again)


def test_saturation_leaves_one_channel_alone():
    given = images(50, channels=1)
    found = diff_augment(given, ("color",), noise())
    fit = [torch.linalg.lstsq(torch.stack([one.flatten(), torch.ones(256)], 1), two.flatten()[:, None])
           for one, two in zip(given, found, strict=True)]  # fmt: skip
    factors = torch.stack([each.solution[0, 0] for each in fit])
    assert factors.min() >= 0.5 and factors.max() <= 1.5


@pytest.mark.parametrize("size, furthest", [(16, 2), (8, 1), (3, 0)])
def test_translation_moves_by_whole_pixels_and_fills_with_grey(size, furthest):
    given = images(400, size=size) + 3  # nowhere 0
    found = diff_augment(given, ("translation",), noise())
    seen = set()
    for one, two in zip(given, found, strict=True):
        padded = torch.nn.functional.pad(one, [furthest] * 4)
        shifts = [
            (down, right)
            for down in range(-furthest, furthest + 1)
            for right in range(-furthest, furthest + 1)
            if torch.equal(
                two, padded.roll((down, right), (1, 2))[:, furthest : furthest + size, furthest:][..., :size]
            )
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) == (2 * furthest + 1) ** 2


@pytest.mark.parametrize("size", [8, 16, 9])
def test_cutout_removes_one_rectangle_of_half_the_sides(size):
    given = images(1000, size=size) + 3
    found = diff_augment(given, ("cutout",), noise())
    hole = (found == 0).all(1)  # (n, size, size)
    assert torch.equal(found, torch.where(hole[:, None], 0.0, given))
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    full = int(size / 2 + 0.5)
    for side in (rows, columns):
        extent = side.sum(1)
        assert extent.max() == full and extent.min() == (full + 1) // 2
        assert (torch.nn.functional.pad(side, (1, 1)).diff(dim=1).sum(1) == 2).all()  # one beginning, one end
        touched = side.double().mean(0)
        assert touched.min() > 0.2 and torch.allclose(touched, touched.flip(0), atol=0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_pass_and_so_do_theirs(channels):
    given = images(3, channels=channels, size=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: diff_augment(each, POLICY, noise()), given)
    assert torch.autograd.gradgradcheck(lambda each: diff_augment(each, POLICY, noise()).square(), given)
    (slope,) = torch.autograd.grad(diff_augment(given, POLICY, noise(), p=0.0).sum(), given)
    assert (slope == 1).all()


def test_half_precision_is_kept():
    given = images().bfloat16()
    found = diff_augment(given, POLICY, noise())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), diff_augment(given.double(), POLICY, noise()), atol=0.1, rtol=0.1)


def test_the_largest_draw_stays_inside(monkeypatch):
    large = images(1, size=300) + 3
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, 1 - 2**-24))
    for size in range(4, 300):
        given, furthest = large[:, :, :size, :size], int(size / 8 + 0.5)
        found = diff_augment(given, ("translation",))
        assert torch.equal(found[:, :, furthest:, furthest:], given[:, :, : size - furthest, : size - furthest])


def test_what_cannot_be_augmented_is_said():
    with pytest.raises(HFTransferError, match="no operation is named 'colour'; did you mean 'color'"):
        diff_augment(images(), ("colour",))
    with pytest.raises(HFTransferError, match=r"shape \(2,\) are no images"):
        diff_augment(torch.zeros(5, 2), POLICY)


def test_p_follows_the_signs():
    p = torch.tensor(0.5)
    above, below, there = (adapted_p(p, torch.tensor(signs), 64, images_to_one=6400) for signs in (0.9, -0.2, 0.6))
    assert [above.item(), below.item(), there.item()] == pytest.approx([0.51, 0.49, 0.5])
    assert adapted_p(p, torch.tensor(0.7), 64, target=0.8) < p
    assert adapted_p(torch.tensor(0.0), torch.tensor(-1.0), 64) == 0
    assert adapted_p(torch.tensor(1.0), torch.tensor(1.0), 64) == 1
    rising = torch.tensor(0.0)
    for _ in range(500):
        rising = adapted_p(rising, torch.tensor(1.0), 1000)
    assert rising.item() == pytest.approx(1, abs=1e-4)
