"""Masked-image pretraining against the stock pipeline: same images, weights, steps, hyperparameters, in one process.

    python benchmarks/masked_image.py                          # MAE against run_mae.py
    python benchmarks/masked_image.py --objective simmim       # against run_mim.py
    python benchmarks/masked_image.py --ablate                 # what each ingredient gives, one after the other
    python benchmarks/masked_image.py --data demo/varied_digits --size 32 --patch 4 --width 128 --steps 300 --rounds 1

The images are JPEG files of 320 x 240 made of smooth noise, in memory as `datasets` keeps them, or `--data`.

The peer does what transformers' examples do: a `datasets` image is decoded and goes through a crop, a mirror, a tensor
and a normalisation when its row is read (Pillow's, as torchvision does on Pillow images), `run_mim.py` draws its mask
there too, and a stock `Trainer` trains the stock model in fp32. Ours is the pipeline of `pretrain`, in bf16 where the
hardware computes in it.

Both sides begin with the same weights, whose position tables are filled (transformers leaves them at zero), and are
measured on the same hidden patches of the same held-out images. Rounds are interleaved; a speed is the median over
rounds, a ratio the median of the rounds' own ratios. `waits` is the share of training in which the step waits for a
batch.
"""

import argparse
import copy
import functools
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image
from rich.console import Console
from rich.table import Table
from sides import machine, ratio
from transformers import (
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    set_seed,
)

from hftransfer import data, objectives, scratch
from hftransfer.processes import has_bf16
from hftransfer.trainers.exact import training_arguments
from hftransfer.trainers.pretraining import PretrainingTrainer

HELD_OUT_ROWS = 96
PHOTOS, HEIGHT, WIDTH = 512, 240, 320  # made where no data is named


class Setting(NamedTuple):
    """What the sides share."""

    objective: str
    network: Any
    reader: Any
    train: Any  # Dataset of undecoded images
    test: Any
    fields: dict[str, Any]  # of TrainingArguments


Maker = Callable[[Setting, Any, Path], Trainer]


class StockTransform:
    """Rows as `run_mae.py` and `run_mim.py` make them: image by image, when they are read."""

    def __init__(self, setting: Setting) -> None:
        config, reader = setting.network.config, setting.reader
        self.size, self.mode = config.image_size, {1: "L", 3: "RGB"}[config.num_channels]
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (reader.image_mean, reader.image_std))
        self.masks = setting.objective == "simmim"
        self.patches = (config.image_size // config.patch_size) ** 2

    def __call__(self, examples: dict[str, Any]) -> dict[str, Any]:
        examples["pixel_values"] = [self.pixels(image) for image in examples.pop("image")]
        if self.masks:  # as many as SimMIM hides, with blocks of one patch
            examples["mask"] = [self.mask() for _ in examples["pixel_values"]]
        return examples

    def pixels(self, image: Any) -> torch.Tensor:
        image = image.convert(self.mode) if image.mode != self.mode else image
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=self.box(*image.size))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = torch.from_numpy(np.array(image, copy=True)).view(image.height, image.width, -1)
        values = values.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(255)
        return values.clone().sub_(self.mean).div_(self.std)

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        low, high = math.log(3 / 4), math.log(4 / 3)
        for _ in range(10):
            area = width * height * torch.empty(1).uniform_(0.2, 1.0).item()
            ratio = math.exp(torch.empty(1).uniform_(low, high).item())
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                top = torch.randint(0, height - tall + 1, size=(1,)).item()
                left = torch.randint(0, width - wide + 1, size=(1,)).item()
                return left, top, left + wide, top + tall
        return 0, 0, width, height

    def mask(self) -> torch.Tensor:
        mask = np.zeros(self.patches, dtype=int)
        mask[np.random.permutation(self.patches)[: math.ceil(self.patches * 0.6)]] = 1
        return torch.tensor(mask)


def stock(setting: Setting, network: Any, folder: Path) -> Trainer:
    arguments = TrainingArguments(
        **setting.fields,
        output_dir=str(folder),
        use_cpu=not torch.accelerator.is_available(),
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    rows = setting.train.cast_column("image", ImageFeature())
    rows.set_transform(StockTransform(setting))

    def collate(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = {"pixel_values": torch.stack([example["pixel_values"] for example in examples])}
        if "mask" in examples[0]:
            batch["bool_masked_pos"] = torch.stack([example["mask"] for example in examples])
        return batch

    return Trainer(model=network, args=arguments, train_dataset=rows, data_collator=collate)


def ours(setting: Setting, network: Any, folder: Path, **fields: Any) -> Trainer:
    objective = _objective(setting, network)
    return PretrainingTrainer(
        objective=objective,
        rows=objective.rows(setting.train, key="data"),
        args=training_arguments({**setting.fields, **fields}, folder, 0),
        label="ours",
    )


def _objective(setting: Setting, network: Any) -> Any:
    cls = objectives.find(setting.objective)
    return cls(network, setting.reader, cls.settings, seed=0)


COMPARED: dict[str, Maker] = {"peer": stock, "ours": ours}
INGREDIENTS: dict[str, Maker] = {"peer": stock, "+ our rows": functools.partial(ours, bf16=False)}
if has_bf16():
    INGREDIENTS["+ bf16"] = ours


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--objective", choices=["mae", "simmim"], default="mae")
    options.add_argument("--data", help="a data spec instead: a demo, or a folder of images")
    options.add_argument("--size", type=int, default=224, help="of what the network sees, pixels a side")
    options.add_argument("--patch", type=int, default=16)
    options.add_argument("--width", type=int, default=384, help="of the encoder; the decoder has half of it")
    options.add_argument("--depth", type=int, default=4)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--ablate", action="store_true", help="ingredient by ingredient")
    given = options.parse_args()
    sides = INGREDIENTS if given.ablate else COMPARED
    setting = load(given)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, make in sides.items():
            found[name].append(measure(make, setting))
            print(name, {key: round(value, 4) for key, value in found[name][-1].items()}, file=sys.stderr)
    Console(width=110).print(_table(found, given))


def load(given: argparse.Namespace) -> Setting:
    set_seed(0)
    parts = data.unlabelled(given.data, key="data", seed=0, kind="image") if given.data else photos()
    channels = 1 if (given.data or "").startswith("demo/") else 3
    sizes = {"image_size": given.size, "patch_size": given.patch, "num_channels": channels, **_layers(given.width)}
    sizes["num_hidden_layers"] = given.depth
    if given.objective == "mae":
        decoder = {f"decoder_{name}": value for name, value in _layers(given.width // 2).items()}
        network = ViTMAEForPreTraining(ViTMAEConfig(**sizes, **decoder, decoder_num_hidden_layers=2))
    else:
        network = ViTForMaskedImageModeling(ViTConfig(**sizes, encoder_stride=given.patch))
    objectives.find(given.objective).mend(network, [name for name, _ in network.named_parameters()])
    fields = {
        "max_steps": given.steps,
        "per_device_train_batch_size": given.batch,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "adam_beta2": 0.95,
        "warmup_steps": 0.1,
        "save_strategy": "no",
    }
    test = parts["test"].select(range(min(HELD_OUT_ROWS, len(parts["test"]))))
    reader = scratch.image_processor(network.config)
    return Setting(given.objective, network, reader, parts["train"], test, fields)


def _layers(width: int) -> dict[str, int]:
    return {"hidden_size": width, "num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width}


def photos() -> DatasetDict:
    """JPEG files whose decoding costs what a photo's does."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        written = io.BytesIO()
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(written, "JPEG", quality=90)
        rows.append({"bytes": written.getvalue(), "path": None})
    made = Dataset.from_dict({"image": rows}, features=Features({"image": ImageFeature(decode=False)}))
    return made.train_test_split(0.2, seed=0)


def measure(make: Maker, setting: Setting) -> dict[str, float]:
    """Trains a copy of the network: images a second, the share of waiting, the held-out loss."""
    set_seed(0)
    network = copy.deepcopy(setting.network)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, network, Path(folder))
        waited = _time_waiting(trainer)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    images = setting.fields["max_steps"] * setting.fields["per_device_train_batch_size"]
    return {
        "images_per_second": images / seconds,
        "waits": sum(waited) / seconds,
        "held_out_loss": held_out_loss(setting, network),
    }


def _time_waiting(trainer: Any) -> list[float]:
    """The seconds that each step waits for its batches."""
    waited: list[float] = []
    fetch = trainer.get_batch_samples

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return fetch(*arguments, **named)
        finally:
            waited.append(time.perf_counter() - started)

    trainer.get_batch_samples = timed
    return waited


@torch.no_grad()
def held_out_loss(setting: Setting, network: Any) -> float:
    """The same hidden patches of the same held-out images for every side, in fp32."""
    objective = _objective(setting, network.eval())
    rows, collate = objective.rows(setting.test, key="data"), objective.collator(fixed=True)
    batches = [collate([rows[i] for i in range(s, min(s + 64, len(rows)))]) for s in range(0, len(rows), 64)]
    found = [objective.losses(network, batch) for batch in batches]
    return float(sum(losses.sums.sum() for losses in found) / sum(losses.counts.sum() for losses in found))


def _table(found: dict[str, list[dict[str, float]]], given: argparse.Namespace) -> Table:
    title = f"{given.objective}, {given.steps} steps of {given.batch} images of {given.size} x {given.size}, "
    title += f"{given.rounds} rounds, {machine()}, "
    title += f"bf16 {'on' if has_bf16() else 'not in this hardware'}"
    table = Table(title=title, title_justify="left")
    sides = list(found)
    for heading in ("", "images/s", f": {sides[0]}", *([": row above"] if given.ablate else []), "waits", "held-out"):
        table.add_column(heading)
    for place, side in enumerate(sides):
        others = [sides[0], *([sides[max(place - 1, 0)]] if given.ablate else [])]
        speed, waits, loss = (
            statistics.median(run[key] for run in found[side])
            for key in ("images_per_second", "waits", "held_out_loss")
        )
        faster = [f"{ratio(found[side], found[other], 'images_per_second'):.2f}" for other in others]
        table.add_row(side, f"{speed:.0f}", *faster, f"{waits:.1%}", f"{loss:.4f}")
    return table


if __name__ == "__main__":
    main()
