"""wav2vec 2.0: hidden stretches of a sound are told from other stretches of it, by codes that are learnt with it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hftransfer.data import sounds
from hftransfer.data.sounds import SoundRow, SoundRows
from hftransfer.errors import HFTransferError
from hftransfer.functional.spans import contrastive, draw_others, hide_spans
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.base import Losses, Objective, rate_at

logger = logging.getLogger("hftransfer")

SPAN = 10  # frames of 20 ms
LONGEST = 250_000  # samples, the paper's; of longer sounds a stretch is drawn
FEWEST_FRAMES = 4  # of a sound: two hidden, two seen
GUMBEL = (2.0, 0.5)  # temperature at the start and the end of the training, falling evenly in its logarithm
COLLAPSED = 1.1  # codes a group on average: one code for everything tells nothing
SHOWN = 32  # held-out sounds on which the codes are counted
SAMPLING_RATE = 16000  # Hz, of a new network
_TRAINING, _FIXED = 0, 1  # separate random streams for masks that change with the epoch and masks that do not


class Wav2Vec2(Objective):
    """Baevski et al. 2020, on transformers' `Wav2Vec2ForPreTraining` with its own loss.

    The default learning rate is the stage's, for going on from a checkpoint; the paper's 5e-4 is for batches of 1.6
    hours. The temperature of the codes is no weight: it follows from the share of the training that is done, so a
    resumed run has it as one that never stopped.
    """

    name = "wav2vec2"
    kind = "sound"
    job = "wav2vec2"
    loss_name = "contrastive and diversity loss"
    unit = "hidden frames"
    title = "Contrastive pretraining on unlabelled sounds"
    citations = ("Baevski et al. 2020, wav2vec 2.0, arXiv:2006.11477",)
    settings = OBJECTIVES["wav2vec2"].settings

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        rates = settings["mask_rate"]
        for rate in rates if isinstance(rates, list | tuple) else [rates]:
            if not 0 < rate < 1:
                raise HFTransferError(f"mask_rate: expected a share between 0 and 1, found {rate}")
        if not config.apply_spec_augment:
            raise HFTransferError("model: its config forbids masking; set config.apply_spec_augment: true")
        if config.mask_feature_prob:
            raise HFTransferError("model: its config hides features too, by chance; set config.mask_feature_prob: 0")
        if hasattr(reader, "num_mel_bins"):
            raise HFTransferError("model: its feature extractor makes spectrograms, and wav2vec2 reads waveforms")

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        from transformers import Wav2Vec2FeatureExtractor

        # networks with a group norm look at the padding, so theirs is not masked: the authors' two ways
        return Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLING_RATE, return_attention_mask=config.feat_extract_norm == "layer"
        )

    def rows(self, content: Any, *, key: str) -> SoundRows:
        rate = self.reader.sampling_rate
        return sounds.readable(content, key=key, sampling_rate=rate, shortest=samples_for(self.network.config) / rate)

    def lengths(self, rows: Any) -> Sequence[int]:
        return [min(len(waveform), LONGEST) for waveform in rows.waveforms]

    @property
    def scheduled(self) -> bool:
        return True  # the temperature always is

    def collator(self, *, fixed: bool) -> "SpanCollator":
        rate = self.options["mask_rate"]
        return SpanCollator(self.reader, self.network.config, mask_rate=rate, seed=self.seed, fixed=fixed)

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch["mask_time_indices"].sum()

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        config, hidden = self.network.config, batch["mask_time_indices"]
        nats, made = self._told(runner, batch)
        sums = nats.new_zeros(len(hidden)).index_add(0, hidden.nonzero()[:, 0], nats)
        number = config.num_codevectors_per_group * config.num_codevector_groups
        unused = (number - made.codevector_perplexity.float()) / number  # of the whole batch, shared by its frames
        counts = hidden.sum(1)
        return Losses(sums + config.diversity_loss_weight * unused * counts, counts)

    def _told(self, runner: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        """Each hidden frame's nats, (hidden frames,), and the network's output. Frames that are seen cost nothing."""
        hidden = batch["mask_time_indices"]
        self.network.set_gumbel_temperature(float(batch["temperature"].mean()))
        inputs = {name: batch[name] for name in ("input_values", "attention_mask") if name in batch}
        made = runner(**inputs, mask_time_indices=hidden)
        targets = made.projected_quantized_states
        nats = contrastive(
            predicted=made.projected_states[hidden],
            true=targets[hidden],
            others=targets.flatten(0, 1)[batch["others"]],  # (hidden frames, negatives, width)
            temperature=self.network.config.contrastive_logits_temperature,
        )
        return nats, made

    @torch.no_grad()
    def show(self, rows: Any) -> dict[str, float]:
        """On a few of these rows: how many codes are in use (perplexity), and the contrastive part of the loss."""
        device = next(self.network.parameters()).device
        batch = self.collator(fixed=True)([rows[i] for i in range(min(SHOWN, len(rows)))])
        batch = {name: value.to(device) for name, value in batch.items()}
        training = self.network.training
        self.network.eval()
        try:
            nats, made = self._told(self.network, batch)
        finally:
            self.network.train(training)
        return {"codes": float(made.codevector_perplexity), "nats": float(nats.mean())}

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        config = self.network.config
        groups, most = config.num_codevector_groups, config.num_codevectors_per_group * config.num_codevector_groups
        if after["codes"] < COLLAPSED * groups:
            logger.warning(
                "wav2vec2: code perplexity %.1f of %d: nearly all sounds got one code, and what was learnt is of "
                "little use; lower the learning rate, or begin with a checkpoint",
                after["codes"],
                most,
            )
        told = {"codes": f"codes in use (perplexity, at most {most})", "nats": "contrastive loss (nats a frame)"}
        values = [[f"{shown[name]:.2f}" for shown in (before, after) if shown] for name in told]
        columns = ["on held-out sounds", *(["before"] if before else []), "after"]
        rows = [[words, *found] for words, found in zip(told.values(), values, strict=True)]
        return {"samples": {"title": "Codes of sounds", "columns": columns, "rows": rows}}


class SpanCollator:
    """Makes padded input_values (rows, samples) of sound rows, with what is hidden and what it is told from.

    Beside `input_values` and perhaps `attention_mask`: mask_time_indices (rows, frames) bool; others (hidden frames,
    negatives), places in the flattened (rows * frames), of the row's own hidden frames; temperature (rows,).

    Stretches, masks and negatives of a row are drawn by a generator keyed on (seed, epoch, row): batch, worker and
    process do not matter. With `fixed` the middle of a long sound stays, and the epoch does not matter either.
    """

    def __init__(
        self, reader: Any, config: Any, *, mask_rate: float | Sequence[float], seed: int, fixed: bool
    ) -> None:
        self.reader, self.config, self.mask_rate = reader, config, mask_rate
        self.seed, self.fixed, self.epoch = seed, fixed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draws anew from now on, unless it is fixed."""
        self.epoch = epoch

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        stream = (self.seed, _FIXED, 0) if self.fixed else (self.seed, _TRAINING, self.epoch)
        rngs = [np.random.default_rng((*stream, int(row["row"]))) for row in rows]
        cut = [self._cut(row, rng) for row, rng in zip(rows, rngs, strict=True)]
        batch = sounds.padded(self.reader, cut)
        frames = num_frames(self.config, batch["input_values"].shape[1])
        hidden = np.zeros((len(rows), frames), dtype=bool)
        others = []
        for place, (row, rng) in enumerate(zip(cut, rngs, strict=True)):
            own = num_frames(self.config, len(row["waveform"]))
            rate = rate_at(self.mask_rate, [rows[place]])
            hidden[place, :own] = hide_spans(own, rate, SPAN, rng)
            others.append(draw_others(hidden[place], self.config.num_negatives, rng) + place * frames)
        start, end = GUMBEL
        temperatures = [start * (end / start) ** float(row.get("progress", 1.0)) for row in rows]
        return {
            **batch,
            "mask_time_indices": torch.from_numpy(hidden),
            "others": torch.from_numpy(np.concatenate(others)),
            "temperature": torch.tensor(temperatures),
        }

    def _cut(self, row: Mapping[str, Any], rng: np.random.Generator) -> SoundRow:
        waveform = row["waveform"]
        spare = max(len(waveform) - LONGEST, 0)
        start = spare // 2 if self.fixed else int(rng.integers(spare + 1))
        return {"waveform": waveform[start : start + LONGEST], "row": row["row"]}


def num_frames(config: Any, samples: int) -> int:
    """How many frames the convolutions make of so many samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def samples_for(config: Any) -> int:
    """How many samples the convolutions need for `FEWEST_FRAMES`."""
    samples = FEWEST_FRAMES
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples
