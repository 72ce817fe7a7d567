"""What `gan` looks at while the players play: quality at intervals, and the samples of the same latents."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from hftransfer import processes
from hftransfer.quality import Quality
from hftransfer.stages import gan_shown
from hftransfer.trainers.gan_model import GanModel


class Looks:
    """Quality at intervals, of the average and of the generator itself, and the samples of the same latents."""

    def __init__(self, model: GanModel, quality: Quality, folder: Path, seed: int) -> None:
        self.model, self.quality, self.folder, self.seed = model, quality, folder, seed

    def measure(self) -> dict[str, float]:
        found = {f"eval_{name}": value for name, value in self.quality(self.model.averaged()).items()}
        if self.model.generator_ema is not None:
            raw = self.quality(self.model.generator)
            found |= {f"eval_raw_{name}": value for name, value in raw.items()}
        return found

    def draw(self, step: int) -> None:
        """Writes the samples of a step; what a resumed training draws again is the same."""
        if processes.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self.folder / f"{step:08d}.npy", gan_shown.shown(self.model.averaged(), self.seed))

    def frames(self) -> list[tuple[int, np.ndarray]]:
        """(step, samples) of all looks."""
        return [(int(path.stem), np.load(path)) for path in sorted(self.folder.glob("*.npy"))]


class FirstLook(TrainerCallback):
    """Draws samples before the first step, and at each evaluation."""

    def __init__(self, looking: Looks) -> None:
        self.looking = looking

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.looking.draw(0)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.looking.draw(state.global_step)
