"""How likely a language model finds the words of a label: the mean over its tokens, so that long labels may compete.

Brown et al. 2020, Language Models are Few-Shot Learners, arXiv:2005.14165.
"""

from torch import Tensor


def mean_log_likelihood(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Of (batch, length, vocabulary) logits, each place's for the token that comes there: (batch,) nats a token.

    Args:
        tokens: (batch, length).
        mask: (batch, length) 1 for the label's tokens, 0 for padding.
    """
    logs = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return (logs * mask).sum(-1) / mask.sum(-1)


def mean_log_share(logits: Tensor, pieces: Tensor) -> Tensor:
    """Of (batch, places, candidates) logits of some candidates, which are likely at their places: (batch,) nats.

    The softmax is over the candidates alone, so that a label of one piece is compared as by its bare logit, and labels
    of different numbers of pieces by a mean share.

    Args:
        pieces: (places,) which candidate comes at each place.
    """
    return logits.float().log_softmax(-1)[:, range(len(pieces)), pieces].mean(-1)
