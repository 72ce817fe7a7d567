"""Language-modelling losses in units that people compare."""

import math


def perplexity(mean_nats: float) -> float:
    """exp of the mean loss a token; comparable only under one tokenizer and one mask rate. Infinite on overflow."""
    try:
        return math.exp(mean_nats)
    except OverflowError:
        return math.inf


def bits_per_byte(total_nats: float, num_bytes: int) -> float:
    """The summed loss in bits, over the UTF-8 bytes of the text predicted; comparable across tokenizers."""
    return total_nats / (math.log(2) * num_bytes)
