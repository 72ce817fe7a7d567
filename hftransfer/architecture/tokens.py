"""Another vocabulary: the embeddings of tokens that both have are carried over, others begin as means of old ones."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft, Weight
from hftransfer.architecture.pieces import ROLES, Pieces
from hftransfer.architecture.table import CARRIED, CHANGED, NEW
from hftransfer.errors import HFTransferError, renamed

_KEY = f"{KEY}.tokenizer"
SPECIAL = ("pad", "eos", "bos", "cls", "sep", "mask")


def replace(draft: Draft, name: str | None) -> None:
    """Gives the network another tokenizer's vocabulary.

    Raises:
        HFTransferError: the network reads no texts, or has no table of the tokens that can be carried over.
    """
    if name is None:
        return
    if draft.kind != "text":
        raise HFTransferError(f"{_KEY}: the model reads {draft.kind}s; remove it")
    old = models.tokenizer(draft.model)
    with renamed("model", _KEY):
        new = models.tokenizer(name)
    draft.reader = _fitted(new, old)
    if new.get_vocab() == old.get_vocab() and new.pad_token_id == old.pad_token_id:
        draft.notes.append(f"the tokenizer {models.public_name(name)} has the same {len(old)} tokens")
        return
    sources = origins(Pieces(old, _KEY), Pieces(new, _KEY))
    tables = _tables(draft)
    for path in tables:
        draft.weights[path] = _rows(draft.weights[path].value, sources)
    draft.fields |= _fields(draft.config, new, len(sources))
    _shift_positions(draft)
    counts = Counter(source.code for source in sources)
    draft.notes.append(
        f"of {len(sources)} tokens of {models.public_name(name)}, carried over: {counts[CARRIED]}; means of the old "
        f"tokens of their text: {counts[CHANGED]}; new: {counts[NEW]}"
    )


class Source(NamedTuple):
    """The old tokens whose mean a new token is, and the code of its origin."""

    ids: list[int]
    code: int


def origins(old: Pieces, new: Pieces) -> list[Source]:
    """For each number of the new vocabulary, the old tokens that it is made of."""
    sources = [Source([], NEW)] * (max(new.vocab.values()) + 1)
    for token, number in new.vocab.items():
        sources[number] = _source(old, new, token)
    for role in reversed(ROLES):  # a token of several roles is what its first one says
        number, same = getattr(new.tokenizer, f"{role}_token_id", None), old.role(role)
        if number is not None and same is not None:
            sources[number] = Source([same], CARRIED)
    return sources


def _source(old: Pieces, new: Pieces, token: str) -> Source:
    if token in new.special or old.kind == new.kind:
        same = old.vocab.get(token)
        if same is not None and (token in new.special) == (token in old.special):
            return Source([same], CARRIED)
    if token in new.special:
        return Source([], NEW)
    piece = new.piece(token)
    same = old.find(piece)
    if same is not None:
        return Source([same], CARRIED)
    cut = old.cut(piece)
    return Source(cut, CHANGED) if cut else Source([], NEW)


def _fitted(new: Any, old: Any) -> Any:
    """The new tokenizer, with what the network decides and not the vocabulary: which inputs, how many, which side."""
    if new.pad_token_id is None:
        raise HFTransferError(f"{_KEY}: it has no padding token; set its pad_token")
    decided = {
        "model_input_names": [name for name in new.model_input_names if name in old.model_input_names],
        "model_max_length": min(new.model_max_length, old.model_max_length),
        "padding_side": old.padding_side,
    }
    for name, value in decided.items():
        setattr(new, name, value)
        new.init_kwargs[name] = value  # what is saved
    return new


def _tables(draft: Draft) -> list[str]:
    """The names of all weights with a row for each token: the embeddings, and what makes logits of tokens."""
    source = draft.source
    embedding, output = source.get_input_embeddings(), source.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or len(embedding.weight) != draft.config.vocab_size:
        raise HFTransferError(f"{_KEY}: {type(source).__name__} has no row of weights for each token; remove it")
    wanted = [embedding.weight, getattr(output, "weight", None), getattr(output, "bias", None)]
    places = {value.data_ptr() for value in wanted if value is not None}
    return [
        name
        for name, value in source.state_dict().items()
        if name in draft.weights and value.data_ptr() in places and len(value) == len(embedding.weight)
    ]


def _rows(table: Tensor, sources: Sequence[Source]) -> Weight:
    """(new tokens, ...) means of the old rows that each token is made of."""
    to = torch.tensor([number for number, source in enumerate(sources) for _ in source.ids], dtype=torch.long)
    of = torch.tensor([one for source in sources for one in source.ids], dtype=torch.long)
    share = torch.tensor([1 / len(source.ids) for source in sources for _ in source.ids])
    flat = table.detach().cpu().float().reshape(len(table), -1)
    made = torch.zeros(len(sources), flat.shape[1]).index_add_(0, to, flat[of] * share[:, None])
    value = made.reshape(len(sources), *table.shape[1:]).to(table)
    origin = torch.tensor([source.code for source in sources], dtype=torch.uint8, device=table.device)
    return Weight(value, origin.reshape(-1, *[1] * (table.dim() - 1)))


def _fields(config: Any, tokenizer: Any, size: int) -> dict[str, Any]:
    fields = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id", None) for name in SPECIAL}
    return {"vocab_size": size, **{name: value for name, value in fields.items() if hasattr(config, name)}}


def _shift_positions(draft: Draft) -> None:
    """RoBERTa's relatives count positions from the padding token's number on: with another number, the rows move."""
    before = models.first_position(draft.source)
    if not before:
        return
    try:
        after = models.first_position(draft.skeleton())
    except HFTransferError as error:
        raise HFTransferError(
            f"{_KEY}: {type(draft.source).__name__} counts positions from the padding token's number on, and this "
            f"tokenizer's is {draft.fields['pad_token_id']}; choose one that numbers it among its first tokens"
        ) from error
    if before == after:
        return
    path = next(n for n, m in draft.source.named_modules() if n.endswith("position_embeddings")) + ".weight"
    old = draft.weights[path].value
    size = len(old) - before + after
    draft.fields["max_position_embeddings"] = size
    value = old.new_zeros(size, old.shape[1])
    value[after:] = old[before:]
    origin = torch.full((size, 1), CARRIED, dtype=torch.uint8, device=old.device)
    origin[:after] = NEW
    draft.weights[path] = Weight(value, origin)
