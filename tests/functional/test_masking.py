import numpy as np
import pytest

from hftransfer.functional.masking import mask_tokens

MASK, VOCABULARY = 103, 1000


def batch(rows=200, length=64, seed=0):
    """Token ids with special tokens at both ends and padding, and words of one to four pieces."""
    generator = np.random.default_rng(seed)
    input_ids = generator.integers(200, VOCABULARY, size=(rows, length))
    maskable = np.ones((rows, length), dtype=bool)
    maskable[:, [0, -1]] = False
    maskable[:, 50:] &= generator.random((rows, 1)) < 0.5
    starts = generator.random((rows, length)) < 0.5
    starts[:, ::4] = True
    return input_ids, maskable, np.where(maskable, starts.cumsum(axis=1), -1)


def run(input_ids, maskable, word_ids, rate=0.15, seed=0, **options):
    generator = np.random.default_rng(seed)
    return mask_tokens(
        input_ids, maskable, word_ids, rate=rate, mask_id=MASK, vocab_size=VOCABULARY, rng=generator, **options
    )


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_shares_labels_and_specials(whole_words, rate):
    input_ids, maskable, word_ids = batch()
    original = input_ids.copy()
    inputs, labels = run(input_ids, maskable, word_ids if whole_words else None, rate=rate)
    hidden = labels != -100
    assert (input_ids == original).all() and not hidden[~maskable].any()
    assert (inputs[~hidden] == input_ids[~hidden]).all() and (labels[hidden] == input_ids[hidden]).all()
    assert hidden[maskable].mean() == pytest.approx(rate, abs=0.015)
    masked, kept = inputs[hidden] == MASK, inputs[hidden] == input_ids[hidden]
    assert [masked.mean(), kept.mean(), (~masked & ~kept).mean()] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_words_are_hidden_whole_and_independently_across_rows():
    input_ids, maskable, word_ids = batch()
    _, labels = run(input_ids, maskable, word_ids)
    hidden = labels != -100
    shares = [hidden[row][word_ids[row] == word].mean() for row in range(50) for word in np.unique(word_ids[row])[1:]]
    assert len(shares) > 1000 and set(shares) == {0.0, 1.0}
    assert len({row.tobytes() for row in hidden}) == len(hidden)  # word 7 of two rows is not one word


def test_long_words_are_hidden_as_often_as_short_ones():
    input_ids, maskable, word_ids = batch(rows=2000)
    hidden = run(input_ids, maskable, word_ids)[1] != -100
    lengths = (word_ids[:, :, None] == word_ids[:, None, :]).sum(axis=2)
    for length in (1, 2, 4):
        assert hidden[(lengths == length) & maskable].mean() == pytest.approx(0.15, abs=0.015)


def test_equal_generators_give_equal_masks():
    first, second, other = run(*batch()), run(*batch()), run(*batch(), seed=1)
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all() and (first[1] != other[1]).any()


def test_one_token_or_one_word_is_hidden_where_any_can_be():
    input_ids, maskable = np.full((2, 5), 300), np.zeros((2, 5), dtype=bool)
    assert (run(input_ids, maskable, None)[1] == -100).all()
    maskable[1, 1:4] = True
    for seed in range(20):
        assert (run(input_ids, maskable, None, rate=1e-9, seed=seed)[1] != -100).sum() == 1
        words = np.where(maskable, [0, 7, 7, 7, 0], -1)
        assert (run(input_ids, maskable, words, rate=1e-9, seed=seed)[1] != -100).sum() == 3


def test_replacement_shares_can_be_chosen():
    inputs, labels = run(*batch(), rate=1.0, replace=(1.0, 0.0, 0.0))
    assert (inputs[labels != -100] == MASK).all()
    with pytest.raises(ValueError, match="sum to 1"):
        run(*batch(), replace=(0.8, 0.1, 0.2))
