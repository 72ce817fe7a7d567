"""An encoder used as a decoder and back: which tokens see which is the config's matter, as far as a network asks it.

Nothing is taken for granted of an architecture: a small network of the changed config is run, and it is seen whether
a token's state depends on later tokens.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft
from hftransfer.architecture.layers import DEPTH, depth_fields
from hftransfer.errors import HFTransferError

_KEY = f"{KEY}.is_decoder"
TOKENS = 8  # of the rows that are tried


def turn(draft: Draft, decoder: bool | None) -> None:
    """Makes a network's tokens see only earlier tokens, or all.

    Raises:
        HFTransferError: no field of the config does it, or the job makes no sense of it.
    """
    config = draft.config
    if decoder is None:
        _check_language_model(draft)
        return
    name = type(draft.source).__name__
    if draft.kind != "text":
        raise HFTransferError(f"{_KEY}: {name} reads {draft.kind}s, not texts; remove it")
    if getattr(config, "is_encoder_decoder", False):
        raise HFTransferError(f"{_KEY}: {name} has an encoder and a decoder; remove it")
    if draft.job == "causal_lm" and not decoder:
        raise HFTransferError(f"{_KEY}: a language model that sees the next token need not predict it; remove it")
    fields = next(
        (fields for fields in _candidates(config, decoder) if _sees_ahead(config, fields) == {not decoder}), None
    )
    if fields is None:
        kind = "an encoder" if decoder else "a decoder"
        raise HFTransferError(
            f"{_KEY}: {config.model_type}'s code is {kind}'s whatever its config says, so no plain checkpoint holds "
            f"{'a decoder' if decoder else 'an encoder'} made of it; remove it, or choose another checkpoint"
        )
    draft.fields |= fields
    if draft.job.endswith("_classification") and decoder and not _heard(draft.config, draft.job):
        raise HFTransferError(
            f"{_KEY}: {name} classifies by its first token, which sees no other in a decoder; remove it"
        )
    if decoder and fields:
        _name_ends(draft)
    seen = "no token sees a later one" if decoder else "every token sees later ones too"
    draft.notes.append(f"{seen}{_how(fields)}")


def _how(fields: dict[str, Any]) -> str:
    told = ", ".join(f"{name}: {str(value).lower()}" for name, value in fields.items())
    return f" ({told})" if told else ", as before"


def _candidates(config: Any, decoder: bool) -> Iterator[dict[str, Any]]:
    """Fields that may do it, the usual ones first; none, where it is so already."""
    yield {}
    undone = {} if getattr(config, "is_causal", decoder) == decoder else {"is_causal": decoder}
    if undone:
        yield undone
    if hasattr(config, "is_decoder"):
        yield {"is_decoder": decoder, **undone}
    if hasattr(config, "use_bidirectional_attention"):
        yield {"use_bidirectional_attention": not decoder}
    if not decoder:
        yield {"is_causal": False}


def _check_language_model(draft: Draft) -> None:
    if draft.job == "causal_lm" and True in _sees_ahead(draft.config, {}):
        raise HFTransferError(
            f"{_KEY}: {type(draft.source).__name__} sees the next token, which a language model must predict; set true"
        )


def _name_ends(draft: Draft) -> None:
    """Texts begin and end with the tokens that stood around them (Rothe et al. 2020)."""
    reader = draft.reader = draft.reader or models.tokenizer(draft.model)
    for name, other in (("bos", "cls"), ("eos", "sep")):
        token = getattr(reader, f"{other}_token")
        if getattr(reader, f"{name}_token") is None and token is not None:
            setattr(reader, f"{name}_token", token)
        if hasattr(draft.config, f"{name}_token_id"):
            draft.fields[f"{name}_token_id"] = getattr(reader, f"{name}_token_id")


def _sees_ahead(config: Any, fields: dict[str, Any]) -> set[bool]:
    """Whether a network of this config and fields sees ahead, with and without padding; nothing, if it is none."""
    try:
        config = _small(type(config).from_dict({**config.to_dict(), **fields}))
        with torch.random.fork_rng(devices=[]), models.quiet_transformers():
            network = models.fresh_network(models.class_for("encoder", config), config).float().eval()
            return {_depends(network, config, padded) for padded in (False, True)}
    except Exception:  # of the config's own checks, or a network that wants other inputs
        return set()


def _heard(config: Any, job: str) -> bool:
    """Whether class logits depend on the last token."""
    config = _small(config)
    with torch.random.fork_rng(devices=[]), models.quiet_transformers():
        network = models.fresh_network(models.class_for(job, config), config).float().eval()
        one, other = (network(**inputs).logits for inputs in _inputs(config, padded=False))
    return not _same(one, other)


def _small(config: Any) -> Any:
    """As few blocks as tell."""
    depth = getattr(config, DEPTH, None)
    if not isinstance(depth, int) or depth <= 2:
        return config
    try:
        return type(config).from_dict({**config.to_dict(), **depth_fields(config, range(2))})
    except Exception:  # it does not take other depths
        return config


@torch.no_grad()
def _depends(network: nn.Module, config: Any, padded: bool) -> bool:
    """Whether the states before the last token depend on it."""
    one, other = (network(**inputs).last_hidden_state for inputs in _inputs(config, padded))
    return not _same(one[0, : TOKENS - 1], other[0, : TOKENS - 1])


def _inputs(config: Any, padded: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two rows that differ in their last token; with one more behind it that pads, where asked."""
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    usable = [number for number in range(config.vocab_size) if number not in special][: TOKENS + 1]
    rows = [usable[:TOKENS], [*usable[: TOKENS - 1], usable[-1]]]
    mask = [1] * TOKENS
    if padded:
        pad = getattr(config, "pad_token_id", None)
        rows = [[*row, usable[0] if pad is None else pad] for row in rows]
        mask = [*mask, 0]
    one, other = ({"input_ids": torch.tensor([row]), "attention_mask": torch.tensor([mask])} for row in rows)
    return one, other


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-6 * one.abs().max())
