"""Which words tell a group of texts from the others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ctfidf(counts: NDArray[Any], *, root: bool = False) -> NDArray[np.float64]:
    """Class-based TF-IDF (Grootendorst 2022, BERTopic, arXiv:2203.05794).

    Args:
        counts: (groups, words) how often each word stands in each group's texts.
        root: take the square root of the share, so that a word that is merely frequent counts less (the authors'
            `reduce_frequent_words`).

    Returns:
        (groups, words) the word's share of its group times log(1 + A / the word's count in all groups), where A is
        the mean number of words in a group.
    """
    counts = np.asarray(counts, dtype=np.float64)
    in_group = counts.sum(axis=1, keepdims=True)
    in_all = counts.sum(axis=0, keepdims=True)
    share = np.divide(counts, in_group, out=np.zeros_like(counts), where=in_group > 0)
    rarity = np.log1p(np.divide(in_group.mean(), in_all, out=np.zeros_like(in_all), where=in_all > 0))
    return (np.sqrt(share) if root else share) * rarity
