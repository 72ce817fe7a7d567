import math

import pytest
import torch

from hftransfer.functional.interpolation import slerp


def latents(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(2, 6, 8, dtype=dtype)


def test_the_formula_written_out():
    first, second = latents()
    for share in (0.1, 0.5, 0.8):
        angle = torch.acos(torch.nn.functional.cosine_similarity(first, second, dim=-1))[:, None]
        expected = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)
        torch.testing.assert_close(slerp(first, second, share), expected)


def test_ends_and_the_way_back():
    first, second = latents()
    torch.testing.assert_close(slerp(first, second, 0.0), first)
    torch.testing.assert_close(slerp(first, second, 1.0), second)
    torch.testing.assert_close(slerp(first, second, 0.3), slerp(second, first, 0.7))
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    torch.testing.assert_close(slerp(first @ turn, second @ turn, 0.3), slerp(first, second, 0.3) @ turn)


def test_the_path_stays_on_the_sphere_in_equal_steps():
    first, second = (torch.nn.functional.normalize(rows, dim=-1) for rows in latents())
    path = slerp(first[0], second[0], torch.linspace(0, 1, 9, dtype=torch.float64)[:, None])  # (9, 8)
    torch.testing.assert_close(path.norm(dim=-1), torch.ones(9, dtype=torch.float64))
    steps = path.diff(dim=0).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1].expand(8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("away", [0.0, 1e-9, 1e-5, 1e-3])
def test_near_directions_are_a_straight_line(dtype, away):
    first, other = latents(dtype)
    second = 2 * first + away * other
    torch.testing.assert_close(slerp(first, second, 0.25), torch.lerp(first, second, 0.25), atol=1e-5, rtol=1e-5)


def test_opposite_directions_and_the_origin_are_finite():
    first, _ = latents(torch.float32)
    torch.testing.assert_close(slerp(first, -first, 0.25), math.cos(math.pi / 4) * first, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(slerp(first, -first, 1.0), -first)
    assert slerp(first, torch.zeros_like(first), 0.5).isfinite().all()
    assert (slerp(torch.zeros(8), torch.zeros(8), 0.5) == 0).all()
