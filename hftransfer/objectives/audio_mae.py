"""Masked autoencoder on sound: four patches in five of a spectrogram are hidden, and painted in from the rest."""

from collections.abc import Mapping
from typing import Any

from hftransfer.data import sounds, spectrograms
from hftransfer.errors import HFTransferError
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.mae import MAE
from hftransfer.objectives.masked_patches import geometry


class AudioMAE(MAE):
    """Huang et al. 2022: MAE on log-mel spectrograms, here square ones, on `ViTMAEForPreTraining` with one channel.

    The paper's loss is on patches that are normalised each by itself: `norm_pix_loss: true` in the config.
    """

    name = "audio_mae"
    kind = "sound"  # type: ignore[assignment, unused-ignore]
    job = "audio_mae"
    title = "Masked autoencoding of unlabelled sounds"
    citations = (  # type: ignore[assignment, unused-ignore]
        "Huang et al. 2022, Masked Autoencoders that Listen, arXiv:2207.06405",
        "He et al. 2021, Masked Autoencoders Are Scalable Vision Learners, arXiv:2111.06377",
    )
    settings = OBJECTIVES["audio_mae"].settings

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        super().check(config, reader, settings)
        size, _, channels = geometry(config)
        if channels != 1:
            raise HFTransferError(
                f"model: a spectrogram has one channel and this network takes {channels}; set config.num_channels: 1"
            )
        made = None if reader is None else [getattr(reader, name, None) for name in ("max_length", "num_mel_bins")]
        if made not in (None, [size, size]):
            raise HFTransferError(
                f"model: its feature extractor makes spectrograms of {made[0]} x {made[1]} and its network reads "
                f"{size} x {size}; they are not of one checkpoint"
            )

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        return spectrograms.new_reader(content, geometry(config)[0], key="data")

    def pixel_batch(self) -> spectrograms.SpectrogramBatch:
        return spectrograms.SpectrogramBatch(self.reader)

    def rows(self, content: Any, *, key: str) -> Any:
        heard = sounds.readable(content, key=key, sampling_rate=self.reader.sampling_rate)
        return spectrograms.spectrograms(heard, self.reader)
