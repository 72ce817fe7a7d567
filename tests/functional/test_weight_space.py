import pytest
import torch
from torch import nn

from hftransfer.errors import HFTransferError
from hftransfer.functional.weight_space import averaged, greedy_soup, interpolated, moving_average


def state(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).state_dict()  # which counts its batches


def close(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], msg=name)


def test_between_two_networks():
    first, second = state(0), state(1)
    first["1.num_batches_tracked"] += 7
    found = interpolated(first, second, 0.25)
    torch.testing.assert_close(found["0.weight"], 0.75 * first["0.weight"] + 0.25 * second["0.weight"])
    assert found["1.num_batches_tracked"] == 7
    for share, end in ((0.0, first), (1.0, second)):
        ends = interpolated(first, second, share)
        assert all(torch.equal(ends[name], end[name]) for name in end if end[name].is_floating_point())
    close(
        {k: v for k, v in interpolated(first, second, 0.3).items() if "num" not in k},
        {k: v for k, v in interpolated(second, first, 0.7).items() if "num" not in k},
    )


def test_it_is_a_copy_and_a_straight_line():
    first, second = state(0), state(1)
    before = {name: value.clone() for name, value in first.items()}
    middle = interpolated(first, second, 0.5)
    close(interpolated(first, middle, 0.5), interpolated(first, second, 0.25))
    for value in interpolated(first, second, 0.0).values():
        value.zero_()
    assert all(torch.equal(first[name], before[name]) for name in before)


def test_half_precision_is_kept():
    first, second = ({name: value.bfloat16() for name, value in state(seed).items()} for seed in (0, 1))
    found = interpolated(first, second, 0.5)["0.weight"]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, ((first["0.weight"].float() + second["0.weight"].float()) / 2).bfloat16())


@pytest.mark.parametrize("join", [lambda a, b: interpolated(a, b, 0.5), lambda a, b: averaged([a, b])])
def test_networks_that_are_not_alike_are_refused(join):
    first = state(0)
    with pytest.raises(HFTransferError, match=r"0\.bias"):
        join(first, {name: value for name, value in first.items() if name != "0.bias"})
    with pytest.raises(HFTransferError, match=r"0\.weight is \(3, 3\) in one network and \(4, 3\)"):
        join(first, {**first, "0.weight": torch.zeros(4, 3)})
    with pytest.raises(HFTransferError, match="between 0 and 1"):
        interpolated(first, first, 1.5)


def test_the_mean_of_several():
    states = [state(seed) for seed in range(3)]
    found = averaged(states)
    torch.testing.assert_close(found["0.weight"], torch.stack([s["0.weight"] for s in states]).mean(0))
    close(found, averaged(states[::-1]))
    close(averaged(states[:1]), states[0])
    close(averaged(states[:2]), interpolated(states[0], states[1], 0.5))


def test_a_soup_takes_what_does_not_harm():
    asked = []
    worth = {(1, 3): 0.9, (1, 3, 0): 0.85, (1, 3, 2): 0.9}

    def evaluate(chosen):
        asked.append(tuple(chosen))
        return worth[tuple(chosen)]

    assert greedy_soup([0.7, 0.9, 0.2, 0.8], evaluate) == [1, 3, 2]  # as good as before is kept
    assert asked == [(1, 3), (1, 3, 0), (1, 3, 2)]
    assert greedy_soup([0.5], evaluate) == [0]
    assert greedy_soup([0.5, 0.5], lambda chosen: 0.1) == [0]


def test_moving_average_is_the_sum_written_out():
    steps = [state(seed) for seed in range(4)]
    average = {name: value.clone() for name, value in steps[0].items()}
    given = average["0.weight"]
    for number, new in enumerate(steps[1:], 1):
        new["1.num_batches_tracked"] += number
        moving_average(average, new, 0.8)
    weights = [0.8**3, 0.2 * 0.8**2, 0.2 * 0.8, 0.2]
    expected = sum(w * s["0.weight"] for w, s in zip(weights, steps, strict=True))
    torch.testing.assert_close(given, expected)  # in place
    assert average["1.num_batches_tracked"] == 3


def test_moving_average_warms_up():
    average = {"w": torch.zeros(1)}
    for step in range(3):
        moving_average(average, {"w": torch.ones(1)}, 0.999, step)
    assert float(1 - average["w"]) == pytest.approx(1 / 10 * 2 / 11 * 3 / 12)
    late = {"w": torch.zeros(1)}
    moving_average(late, {"w": torch.ones(1)}, 0.9, 10_000)
    assert float(late["w"]) == pytest.approx(0.1)
