"""The page and the card of a generator: how its training ended, its samples, what its numbers are of."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from hftransfer import gans, report
from hftransfer.models import quiet_transformers
from hftransfer.report import gan_pictures
from hftransfer.report.results import SAMPLES
from hftransfer.stages.gan import QUALITIES

FEATURES = "the features of a small classifier of the data's labels (accuracy 0.950 on held-out rows)"
METRICS = {
    "frechet": 0.56, "kernel": 0.006, "precision": 0.71, "raw.frechet": 0.9, "floor.frechet": 0.44,
    "floor.precision": 0.82, "train_rows": 1437, "test_rows": 360, "quality_rows": 350, "parameters": 1000,
}  # fmt: skip
TOLD = {
    "converged": "Converged: frechet was best at step 1500 and gained nothing after.",
    "collapsed": "Collapsed: samples differ a quarter as much as the data.",
    "diverged": "Diverged: loss is nan at step 12.",
    "undecided": "Undecided: 2 evaluations of quality are too few to tell.",
}
TABLE = {
    "title": "Quality on held-out samples",
    "columns": ["samples of", "frechet ↓"],
    "rows": [["generator", 0.56], ["as many | real", "0.44"]],
}


def written(run: Path, outcome: str = "converged", **changes: Any) -> Path:
    """A run of one game, with a sheet and an animation."""
    evidence = {
        "stage": "gan",
        "id": "gan",
        "title": "A generator against a discriminator: hinge",
        "seconds": 100.0,
        "settings": {"model": "scratch/gan_conv", "loss": "hinge"},
        "outcome": {"outcome": outcome, "text": TOLD[outcome]},
        "features": FEATURES,
        "data": [{"role": "learnt from", "name": "demo/digits", "rows": 1437}],
        "tables": [TABLE],
        "curves": [{"name": "generator", "x": "step", "y": "loss", "points": [[0, 1.0], [10, 0.7]]}],
        "pictures": [
            {"file": "samples.png", "caption": "samples of the kept generator, not chosen"},
            {"file": "training.gif", "caption": "the same latents over the training"},
        ],
        **changes,
    }
    folder = run / "1-gan"
    folder.mkdir(parents=True)
    (folder / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    (run / "recipe.yaml").write_text("model: scratch/gan_conv\n", encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    (folder / "samples.png").write_bytes(gan_pictures.sheet(images))
    (folder / "training.gif").write_bytes(gan_pictures.animation([(0, images), (10, images // 2)]))
    return run


def generator(final: Path, shape: tuple[int, ...] = (1, 8, 8), classes: int = 0) -> Any:
    """A tiny one, saved as a stage saves it."""
    torch.manual_seed(0)
    config = {"base_channels": 4, "latent_size": 6} if len(shape) == 3 else {"latent_size": 6}
    network, _ = gans.new_pair("conv" if len(shape) == 3 else "mlp", shape, classes, config)
    with quiet_transformers():
        network.save_pretrained(final)
    return network.eval()


def card_of(run: Path) -> str:
    return report.card(run, run / "final").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("outcome", "look"),
    [("converged", "helped"), ("collapsed", "hurt"), ("diverged", "hurt"), ("undecided", "level")],
)
def test_how_a_training_ended_is_shown_like_a_verdict(tmp_path: Path, outcome: str, look: str) -> None:
    run = written(tmp_path / "run", outcome)
    page = report.render(run).read_text(encoding="utf-8")
    rest = TOLD[outcome].partition(": ")[2]
    told = (
        f'<div class="verdict {look}"><strong>{outcome.capitalize()}</strong><p>{rest[0].upper()}{rest[1:]}</p></div>'
    )
    assert told in page
    assert '<h2 id="result-title">Did it converge?</h2>' in page and "transfer help" not in page
    assert report.summary(run)[0].endswith(TOLD[outcome])
    assert outcome in [str(cell) for cell in report.summary_table(run).columns[-1].cells]
    card = card_of(run)
    assert f"**{TOLD[outcome]}**" in card
    limits = {"collapsed": "fewer kinds", "diverged": "of no use", "undecided": "did not clearly converge"}
    assert [said for said in limits.values() if said in card] == [limits[o] for o in limits if o == outcome]


def test_a_page_of_several_stages_asks_whether_transfer_helped(run_folder: Path) -> None:
    written(run_folder / "aside")
    (run_folder / "aside" / "1-gan").rename(run_folder / "3-gan")
    page = report.render(run_folder).read_text(encoding="utf-8")
    assert "Did it help?" in page and "did transfer help?" in page and "<strong>Converged</strong>" in page


def test_sheets_and_animations_are_in_the_page(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    page = report.render(run).read_text(encoding="utf-8")
    images = re.findall(r'<img class="stored"( style="max-width:\d+px")? alt="" src="data:image/(\w+);base64,', page)
    assert [kind for _, kind in images] == ["png", "gif"]
    assert images[0][0] == f' style="max-width:{2 * 10 + 8 * 84 - 4}px"'  # never larger than it is
    assert "the same latents over the training" in page


def test_quality_stands_with_the_outcome(tmp_path: Path) -> None:
    page = report.render(written(tmp_path / "run")).read_text(encoding="utf-8")
    assert page.count("<caption>Quality on held-out samples</caption>") == 1 and 'id="tables"' not in page
    assert page.index("<strong>Converged</strong>") < page.index("<caption>Quality") < page.index('id="plan"')


def test_a_card_shows_samples_and_what_the_numbers_are_of(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    generator(run / "final")
    assert "samples.png" not in card_of(run)
    (run / "final" / "samples.png").write_bytes((run / "1-gan" / "samples.png").read_bytes())
    card = card_of(run)
    data = ModelCard(card).data
    assert "![Samples, not chosen](samples.png)" in card
    assert (data.pipeline_tag, data.library_name, data.base_model) == (
        "unconditional-image-generation", "hftransfer", None,
    )  # fmt: skip
    assert "gan" in data.tags
    found = {result.metric_name: (result.metric_type, result.metric_value) for result in data.eval_results}
    assert found == {
        f"Frechet distance ({FEATURES}; real samples: 0.440)": ("frechet_distance", 0.56),
        f"kernel distance ({FEATURES})": ("kernel_distance", 0.006),
        f"sample precision ({FEATURES}; real samples: 0.820)": ("sample_precision", 0.71),
    }
    assert {result.dataset_split for result in data.eval_results} == {"held out"}
    assert "|samples of |" in card.replace("| ", "|") and "as many &#124; real" in card
    assert "Evaluated on 350 images of demo/digits" in card
    assert "memorised some of the 1,437 images" in card
    assert "Making new images like those of demo/digits." in card
    assert "against the one before it" not in card


@pytest.mark.parametrize(
    ("shape", "classes", "tag"),
    [((1, 8, 8), 0, "unconditional-image-generation"), ((3, 8, 8), 3, "unconditional-image-generation"),
     ((2,), 0, None)],
)  # fmt: skip
def test_the_snippet_makes_the_generator_s_samples(
    tmp_path: Path, shape: tuple[int, ...], classes: int, tag: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written(tmp_path / "run")
    network = generator(run / "final", shape, classes)
    card = card_of(run)
    assert ModelCard(card).data.pipeline_tag == tag
    (snippet,) = re.findall(r"## How to load it\n\n```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.chdir(run / "final")
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        exec(snippet, names)
    image = len(shape) == 3
    expected = network.generate(16, seed=0, labels=0 if classes else None, output_type="pil" if image else "pt")
    for one, other in zip(names["samples"], expected, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_all_qualities_of_the_stage_are_in_the_card() -> None:
    assert list(SAMPLES) == list(QUALITIES)
