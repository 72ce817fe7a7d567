"""Two players in one module, whose `forward` is a player's whole move: losses and penalties are computed inside.

So a move is one forward and one backward, which is what DistributedDataParallel synchronises and autocast wraps; a
method called beside `forward` would escape both. One module is one `model.safetensors`, one optimizer, one checkpoint.
"""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer import tuning
from hftransfer.errors import HFTransferError
from hftransfer.functional.diff_augment import OPERATIONS, adapted_p, diff_augment
from hftransfer.functional.gradient_penalty import gradient_penalty, zero_centred
from hftransfer.trainers.gan_draws import Draws
from hftransfer.trainers.gan_players import Game

BATCH_NORM = nn.modules.batchnorm._BatchNorm

# the logit between real and fake; None: only differences count, and it lies half-way between the means
MIDDLES: dict[str, float | None] = {
    "minimax": 0.0,
    "non_saturating": 0.0,
    "least_squares": 0.5,
    "hinge": 0.0,
    "wasserstein_gp": None,
    "r3gan": None,
}


class GanModel(nn.Module):
    """A generator, a discriminator, the generator's moving average (None without one), and the game they play.

    The generator maps latents (n, latent_size) and labels (n,) or None to samples, and has `latents(n, noise)`; the
    discriminator maps samples and labels to logits (n,), and has `stages()`, from the sample up.

    Raises:
        HFTransferError: when more stages are to be frozen than can be.
    """

    accepts_loss_kwargs = False  # a mean over the batch, whatever Trainer counts

    def __init__(self, generator: nn.Module, discriminator: nn.Module, game: Game) -> None:
        super().__init__()
        self.generator, self.discriminator, self.game = generator, discriminator, game
        self.generator_ema = None if game.ema is None else copy.deepcopy(generator)
        if self.generator_ema is not None:
            tuning.train(self.generator_ema.parameters(), False)
        self._still = self._frozen_stages()
        normalised = any(isinstance(module, BATCH_NORM) for module in discriminator.modules())
        if normalised and game.penalized[0]:
            raise HFTransferError(
                f"penalty: {game.penalized[0]} holds for each row alone, and the discriminator's batch_norm mixes "
                "them; turn it off"
            )
        # Whether real and fake samples go through the discriminator one after the other. At once is faster, but batch
        # norm would see through it, and R1 would find slopes at the fake samples that nobody asked for.
        self.apart = normalised or game.penalized[0] == "r1"
        # persistent, so that a checkpoint holds it; adaptive strength begins with none
        self.register_buffer("augment_p", torch.tensor(0.0 if game.augment_p is None else game.augment_p))
        self.train()

    def _frozen_stages(self) -> list[nn.Module]:
        """FreezeD (Mo et al. 2020, arXiv:2002.10964): what is next to the sample stays as it was learnt elsewhere."""
        stages = list(self.discriminator.stages()) if self.game.freeze else []
        if self.game.freeze > len(stages):
            raise HFTransferError(f"freeze: the discriminator has {len(stages)} stages, not {self.game.freeze}")
        still = stages[: self.game.freeze]
        for stage in still:
            tuning.train(stage.parameters(), False)
        if not tuning.trainable(self.discriminator.parameters()):
            raise HFTransferError(f"freeze: {self.game.freeze} stages are all of the discriminator; freeze fewer")
        return still

    def train(self, mode: bool = True) -> "GanModel":
        """The average only follows, and what is frozen keeps its statistics too."""
        super().train(mode)
        for module in (self.generator_ema, *self._still):
            if module is not None:
                module.eval()
        return self

    def forward(
        self,
        pixel_values: Tensor,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        player: str,
        draws: Draws | None = None,
    ) -> dict[str, Tensor]:
        """One player's loss, `loss`, and what is to be watched, detached.

        Args:
            pixel_values: real samples, (n, ...).
            latents: (n, latent_size).
            labels: (n,) of the real samples; the fake ones are made with the same.
            player: whose move it is. The caller holds the other one's weights still.
            draws: where random numbers come from; by default torch's own generator.
        """
        draws = Draws(tuple(torch.randint(2**31, (3,)).tolist())) if draws is None else draws
        move = self._discriminator_move if player == "discriminator" else self._generator_move
        return move(pixel_values, latents, labels, draws)

    def _discriminator_move(
        self, real: Tensor, latents: Tensor, labels: Tensor | None, draws: Draws
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.generator(latents, labels)
        real, fake = self._seen(real, "real", draws).detach(), self._seen(fake, "fake", draws).detach()
        inputs = [real, fake] if self.apart else [torch.cat([real, fake])]
        tuning.train(inputs[:1], self.game.penalized[0] in ("r1", "r1_r2"))
        judged = [
            self.discriminator(some, None if labels is None else labels.repeat(len(some) // len(labels)))
            for some in inputs
        ]
        real_logits, fake_logits = torch.cat(judged).chunk(2)
        loss = self.game.formula.discriminator(real_logits, fake_logits)
        found = {"discriminator_loss": loss.detach(), **self._sided(real_logits.detach(), fake_logits.detach())}
        penalty = self._penalty(inputs[0], judged[0], (real, fake, labels), draws)
        if penalty is not None:
            loss, found["penalty"] = loss + penalty, penalty.detach()
        return {"loss": loss, **found}

    def _penalty(self, inputs: Tensor, logits: Tensor, samples: tuple[Any, Any, Any], draws: Draws) -> Tensor | None:
        """The penalty with its weight; `inputs` are the real samples for R1, for R1 and R2 those and the fake ones."""
        (kind, weight), (real, fake, labels) = self.game.penalized, samples
        with torch.autocast(inputs.device.type, enabled=False):  # slopes of slopes in full precision
            if kind == "gradient":
                critic = functools.partial(self.discriminator, labels=labels)
                return weight * gradient_penalty(critic, real, fake, draws.mix(real))
            if kind == "r1":
                return weight / 2 * zero_centred(logits, inputs)
            if kind == "r1_r2":  # of as many rows each: half of the sum is the mean over all
                return weight * zero_centred(logits, inputs)
        return None

    def _sided(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """How often each kind lies on its side of the middle; ties count half."""
        middle = MIDDLES[self.game.loss]
        between = (real.mean() + fake.mean()) / 2 if middle is None else middle
        signs = torch.sign(real - between).float().mean()
        return {
            "signs": signs,  # what adaptive augmentation follows
            "accuracy_real": (1 + signs) / 2,
            "accuracy_fake": (1 - torch.sign(fake - between).float().mean()) / 2,
        }

    def _generator_move(self, real: Tensor, latents: Tensor, labels: Tensor | None, draws: Draws) -> dict[str, Tensor]:
        fake_logits = self.discriminator(self._seen(self.generator(latents, labels), "fake", draws), labels)
        real_logits = None
        if self.game.formula.paired:
            with torch.no_grad():
                real_logits = self.discriminator(self._seen(real, "real", draws), labels)
        return {"loss": self.game.formula.generator(real_logits, fake_logits)}

    def _seen(self, samples: Tensor, purpose: str, draws: Draws) -> Tensor:
        """What the discriminator is shown."""
        policy = self.game.augment
        if not policy:
            return samples
        width = sum(1 + OPERATIONS[name].draws for name in policy if name in OPERATIONS)
        return diff_augment(samples, policy, draws.noise(purpose, width), self.augment_p)

    @torch.no_grad()
    def adapt(self, signs: Tensor, images: int) -> None:
        """Moves an adaptive strength by what the discriminator made of this many real images."""
        self.augment_p.copy_(adapted_p(self.augment_p, signs, images, images_to_one=self.game.augment_images))

    def averaged(self) -> Any:
        """The generator to use: the moving average, where there is one."""
        return self.generator if self.generator_ema is None else self.generator_ema
