"""A recurrent language model as a `transformers` checkpoint: embedding, LSTM layers, softmax tied to the embedding.

After AWD-LSTM (Merity et al. 2017, arXiv:1708.02182), without its weight dropout. Importing this module registers the
model type `lstm` with `AutoConfig`, `AutoModel` and `AutoModelForCausalLM`. Rows are shuffled in training, so no state
flows from one row to the next; within a row it is carried, and begins anew with each packed document.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_sequence, unpack_sequence
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

EMBEDDING_RANGE = 0.1  # AWD-LSTM's own


@strict
class LSTMConfig(PreTrainedConfig):
    """The sizes of an LSTM language model; embedding and states are equally wide, so that the softmax can be tied."""

    model_type = "lstm"
    keys_to_ignore_at_inference = ("past_key_values",)

    vocab_size: int = 8192
    hidden_size: int = 256
    num_hidden_layers: int = 2
    dropout: float | int = 0.1  # of the embedding, between layers, and of the last states
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True


class LSTMState:
    """What a step of generation hands to the next: constant in size, however long the text."""

    is_compileable = False

    def __init__(self, hidden: Tensor, cell: Tensor, seen: int) -> None:
        self.hidden, self.cell, self.seen = hidden, cell, seen  # (layers, batch, width) both

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.seen

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search goes on from other rows."""
        self.hidden, self.cell = (part.index_select(1, beam_idx.to(part.device)) for part in (self.hidden, self.cell))


class LSTMPreTrainedModel(TransformersModel):
    """What the backbone and the language model share: how weights begin."""

    config_class = LSTMConfig
    base_model_prefix = "model"
    input_modalities = ("text",)
    _is_stateful = True  # a state cannot be cut back, as assisted generation would

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Small uniform weights; the forget gate begins open (bias 1), so that gradients reach far back."""
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE)
        elif isinstance(module, nn.LSTM):
            bound = 1 / math.sqrt(module.hidden_size)
            for name, value in module.named_parameters():
                if name.startswith("weight"):
                    init.uniform_(value, -bound, bound)
                else:  # input, forget, cell and output gate; two biases are added
                    gates = torch.zeros_like(value).view(4, -1)
                    gates[1] = float(name.startswith("bias_ih"))
                    init.copy_(value, gates.flatten())
        elif isinstance(module, nn.Linear):
            init.uniform_(module.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE)
            init.zeros_(module.bias)


class LSTMModel(LSTMPreTrainedModel):
    """The backbone: token ids to states."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        between = config.dropout if config.num_hidden_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.hidden_size, config.hidden_size, config.num_hidden_layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: LSTMState | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast:
        """States, (batch, length, width), of `input_ids` or `inputs_embeds`, and the state to go on from.

        Tokens where `attention_mask` (batch, length, or longer by what `past_key_values` has seen) is 0 are passed
        over, wherever they stand; their own states are 0. Without mask and past, the state begins anew where
        `position_ids` do not go on by 1: documents packed into a row do not see each other.
        """
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        embedded = self.dropout(embedded)  # (batch, length, width)
        past = None if past_key_values is None else (past_key_values.hidden, past_key_values.cell)
        starts = real = None
        if attention_mask is not None:
            real = _real(attention_mask[:, -embedded.shape[1] :])
        elif position_ids is not None and past is None:
            starts = _starts(position_ids.expand(embedded.shape[:2]))
        if real is not None:
            states, last = self._passing_over(embedded, past, real)
        elif starts is not None:
            states, last = self._anew(embedded, starts), None
        else:
            states, last = self.lstm(embedded, past)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        seen = embedded.shape[1] + (0 if past_key_values is None else past_key_values.seen)
        state = LSTMState(*last, seen) if use_cache and last is not None else None
        return BaseModelOutputWithPast(last_hidden_state=self.dropout(states), past_key_values=state)

    def _passing_over(
        self, embedded: Tensor, past: tuple[Tensor, Tensor] | None, real: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs each row's real tokens, and tells the state after the last of them."""
        sequences = embedded[real].split(real.sum(1).tolist())
        found, last = self.lstm(pack_sequence(list(sequences), enforce_sorted=False), past)
        run = torch.cat(unpack_sequence(found))  # (real tokens, width)
        states = run.new_zeros(*real.shape, run.shape[-1])
        states[real] = run
        return states, last

    def _anew(self, embedded: Tensor, starts: Tensor) -> Tensor:
        """Runs each document by itself, filled up on the right: on a CPU ten times faster than a packed sequence."""
        lengths = torch.bincount(starts.flatten().cumsum(0) - 1)
        documents = pad_sequence(embedded.flatten(0, 1).split(lengths.tolist()), batch_first=True)
        found, _ = self.lstm(documents)  # (documents, longest, width)
        own = torch.arange(found.shape[1], device=found.device) < lengths[:, None]
        return found[own].view(*starts.shape, -1)


def _real(mask: Tensor) -> Tensor | None:
    """(batch, length) bool, or None where all is real. A row without a real token counts its last."""
    real = mask.bool()
    if bool(real.all()):
        return None
    real = real.clone()
    real[:, -1] |= ~real.any(1)
    return real


def _starts(positions: Tensor) -> Tensor | None:
    """(batch, length) bool, True where a document begins, or None where every row is one."""
    starts = torch.ones_like(positions, dtype=torch.bool)
    starts[:, 1:] = positions.diff(dim=1) != 1
    return starts if bool(starts[:, 1:].any()) else None


class LSTMForCausalLM(LSTMPreTrainedModel, GenerationMixin):
    """The language model: the backbone and a softmax tied to its embedding."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers' own form

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.model = LSTMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `generate` must not make keys and values for it

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: LSTMState | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, (batch, length, vocabulary); `labels` are shifted here, as everywhere in transformers."""
        found = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(found.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **others)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=found.past_key_values)


AutoConfig.register("lstm", LSTMConfig, exist_ok=True)
AutoModel.register(LSTMConfig, LSTMModel, exist_ok=True)
AutoModelForCausalLM.register(LSTMConfig, LSTMForCausalLM, exist_ok=True)
