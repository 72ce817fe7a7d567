"""Entries of the cache: whole or not there, made once, read without loading."""

import threading

import numpy as np
import pytest

from hftransfer.cache import Cache


class Maker:
    """Counts how often it is asked."""

    def __init__(self, **arrays):
        self.arrays, self.asked = arrays, 0

    def __call__(self):
        self.asked += 1
        return self.arrays


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_made_once_and_read_as_it_was(cache):
    make = Maker(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.array([3, 4]), none=np.zeros((0, 2)))
    for _ in range(2):
        found = Cache(cache.folder).arrays({"x": 1, "y": [1, 2]}, make)
        assert found.keys() == make.arrays.keys()
        for name, array in make.arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert make.asked == 1
    assert isinstance(found["a"], np.memmap) and not found["a"].flags.writeable
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]  # no lock, no partial folder


def test_every_fact_of_the_key_counts(cache):
    first, second = Maker(a=np.zeros(1)), Maker(a=np.ones(1))
    assert cache.arrays({"x": 1}, first)["a"] == 0
    assert cache.arrays({"x": 2}, second)["a"] == 1
    assert cache.arrays({"x": 1}, second)["a"] == 0


def test_pieces_are_joined_as_they_come(cache):
    rng = np.random.default_rng(0)
    pieces = [rng.normal(size=(rows, 4)).astype(np.float32) for rows in (3, 0, 1, 250)]

    def make():
        for number, piece in enumerate(pieces):
            yield "states", piece
            yield "numbers", np.array([number])

    found = cache.arrays({}, make)
    np.testing.assert_array_equal(found["states"], np.concatenate(pieces))
    np.testing.assert_array_equal(found["numbers"], [0, 1, 2, 3])
    with pytest.raises(ValueError, match="does not go on"):
        cache.arrays({"x": 1}, lambda: iter([("a", np.zeros((1, 2))), ("a", np.zeros((1, 3)))]))
    with pytest.raises(ValueError, match="does not go on"):
        cache.arrays({"x": 1}, lambda: iter([("a", np.zeros(1)), ("a", np.zeros(1, dtype=np.float32))]))


def spoil_cut(entry):
    (entry / "a.npy").write_bytes((entry / "a.npy").read_bytes()[:-1])


def spoil_missing(entry):
    (entry / "a.npy").unlink()


def spoil_unfinished(entry):
    (entry / "manifest.json").unlink()


def spoil_header(entry):
    (entry / "a.npy").write_bytes(b"x" * (entry / "a.npy").stat().st_size)


def spoil_key(entry):
    (entry / "key.json").write_text((entry / "key.json").read_text().replace("1", "2"))


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_missing, spoil_unfinished, spoil_header, spoil_key])
def test_a_broken_entry_is_made_again(cache, spoil):
    make = Maker(a=np.arange(100))
    cache.arrays({"x": 1}, make)
    (entry,) = cache.folder.iterdir()
    spoil(entry)
    np.testing.assert_array_equal(cache.arrays({"x": 1}, make)["a"], np.arange(100))
    assert make.asked == 2


def test_what_fails_while_it_is_made_leaves_no_entry(cache):
    def fail():
        yield "a", np.zeros(3)
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        cache.arrays({}, fail)
    make = Maker(a=np.ones(3))
    assert cache.arrays({}, make)["a"].sum() == 3
    assert make.asked == 1 and len(list(cache.folder.iterdir())) == 1


def test_two_at_once_make_it_once(cache):
    started, asked = threading.Event(), []

    def make():
        asked.append(1)
        started.set()
        yield "a", np.zeros(3)
        assert not second.join(0.3)  # which waits meanwhile
        yield "a", np.ones(3)

    found = []
    second = threading.Thread(target=lambda: (started.wait(), found.append(Cache(cache.folder).arrays({}, make))))
    second.start()
    cache.arrays({}, make)
    second.join()
    assert len(asked) == 1 and found[0]["a"].sum() == 3


def test_entries_that_share_facts(cache):
    for number in range(3):
        cache.arrays({"weights": "w", "rows": number}, Maker(a=np.array([number])))
    cache.arrays({"weights": "v", "rows": 0}, Maker(a=np.array([7])))
    assert sorted(int(found["a"][0]) for found in cache.like({"weights": "w"})) == [0, 1, 2]
    assert [int(found["a"][0]) for found in cache.like({"weights": "v"})] == [7]
    assert cache.like({"weights": "u"}) == [] == Cache(cache.folder / "none").like({})
    for entry in cache.folder.iterdir():
        spoil_cut(entry)
    assert cache.like({"weights": "w"}) == []
