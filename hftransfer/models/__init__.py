"""Checkpoints from anywhere, and what every stage needs of a model: its class for a job, its features, its identity.

`from_pretrained(` is called in this room only.
"""

from hftransfer.models.checkpoints import (
    CARRIED,
    SCRATCH,
    Carried,
    Checkpoint,
    identity,
    is_scratch,
    located,
    on_disk,
    public_name,
    resolve,
)
from hftransfer.models.classes import (
    AUTO_CLASSES,
    MASKED_LM_USERS,
    TAKES,
    check,
    class_for,
    config_of,
    fresh_network,
    head_has_bias,
    read_config,
    register_own,
    skeleton,
)
from hftransfer.models.features import classify, features, first_position, last_linear, last_names, pool, pooling
from hftransfer.models.loading import PRETRAINING, classifies, load, load_reported, masked_lm_on, ready, reopen, save
from hftransfer.models.quiet import brief, quiet_transformers
from hftransfer.models.readers import READERS, for_words, hears, reader, tokenizer
from hftransfer.models.sentences import Sentences, sentences

__all__ = [
    "AUTO_CLASSES",
    "CARRIED",
    "MASKED_LM_USERS",
    "PRETRAINING",
    "READERS",
    "SCRATCH",
    "TAKES",
    "Carried",
    "Checkpoint",
    "Sentences",
    "brief",
    "check",
    "class_for",
    "classifies",
    "classify",
    "config_of",
    "features",
    "first_position",
    "for_words",
    "fresh_network",
    "head_has_bias",
    "hears",
    "identity",
    "is_scratch",
    "last_linear",
    "last_names",
    "load",
    "load_reported",
    "located",
    "masked_lm_on",
    "on_disk",
    "pool",
    "pooling",
    "public_name",
    "quiet_transformers",
    "read_config",
    "reader",
    "ready",
    "register_own",
    "reopen",
    "resolve",
    "save",
    "sentences",
    "skeleton",
    "tokenizer",
]
