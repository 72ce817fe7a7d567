"""Every kind of result is pushed and loaded again, in a fresh process that knows nothing but its name."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hub_conftest import turned
from hub_server import CANARY, User, serve
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image
from transformers import pipeline

import hftransfer
from hftransfer import clusters, models
from hftransfer.errors import HFTransferError
from hftransfer.vectors import open_vectors

VIT = {
    "image_size": 16, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
}  # fmt: skip
QUICK = {"max_steps": 2, "per_device_train_batch_size": 4, "bf16": False}
TEXT = "the pan is quiet"

LOADED = """
import json, sys
import numpy as np
import torch
import transformers
from datasets import load_dataset
from huggingface_hub import snapshot_download
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer, pipeline
from transformers.utils import cached_file

TEXT, found = sys.argv[1], {}
torch.set_grad_enabled(False)

def tokens(name):
    return AutoTokenizer.from_pretrained(name)(TEXT, return_tensors="pt")

found["classifier"] = pipeline("text-classification", "me/classifier", top_k=None)([TEXT])[0]
masked = transformers.AutoModelForMaskedLM.from_pretrained("me/masked")
found["masked"] = masked(**tokens("me/masked")).logits.tolist()

config = transformers.AutoConfig.from_pretrained(cached_file("me/adapter", "base_config.json"))
base = transformers.AutoModelForSequenceClassification.from_pretrained("me/masked", config=config)
adapted = PeftModel.from_pretrained(base, "me/adapter").eval()
found["adapter"] = adapted(**tokens("me/adapter")).logits.tolist()

encoder = AutoModel.from_pretrained("me/mae", add_pooling_layer=False)
found["mae"] = encoder(pixel_values=torch.ones(1, 1, 16, 16)).last_hidden_state.tolist()
assert transformers.AutoImageProcessor.from_pretrained("me/mae", backend="pil").size["height"] == 16

lstm = transformers.AutoModelForCausalLM.from_pretrained("me/lstm", trust_remote_code=True)
found["lstm"] = lstm(input_ids=tokens("me/lstm")["input_ids"]).logits.tolist()
found["generator"] = AutoModel.from_pretrained("me/gan", trust_remote_code=True).generate(2, seed=3).tolist()

data = load_dataset("me/vectors", split="train")
found["vectors"] = [data["text"][:], np.array(data["embedding"][:]).tolist()]

import skops.io
groups = skops.io.load(snapshot_download("me/groups") + "/estimator.skops", trusted=[])
found["groups"] = groups.cluster_centers_.tolist()
assert "hftransfer" not in sys.modules  # up to here nothing of it

from hftransfer import clusters
loaded = clusters.load(snapshot_download("me/groups"))
found["predicted"] = loaded.predict(np.array(data["embedding"][:])).tolist()
import hftransfer.gans
found["own"] = AutoModel.from_pretrained("me/gan").generate(2, seed=3).tolist()
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bert):
    """A small result of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    rows = [f"{'pan soup quiet' if row % 2 else 'oven knife noisy'} the {row},{row % 2}" for row in range(60)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    texts = str(folder / "texts.csv")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    images = str(folder / "images")
    common = {"training": QUICK, "seed": 1}
    found = {}

    def to(name):
        return str(folder / name)

    found["classifier"] = hftransfer.finetune(
        str(tiny_bert), texts, max_length=16, early_stopping_patience=None, output_dir=to("classifier"), **common
    )
    found["masked"] = hftransfer.pretrain(
        str(tiny_bert), texts, head_steps=1, max_length=16, output_dir=to("masked"), **common
    )
    vit = {"objective": "mae", "config": VIT, "head_steps": 1}
    found["mae"] = hftransfer.pretrain("scratch/vit_mae", images, output_dir=to("mae"), **vit, **common)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 300}
    lstm = {"objective": "causal_lm", "config": small, "max_length": 16}
    found["lstm"] = hftransfer.pretrain("scratch/lstm", texts, output_dir=to("lstm"), **lstm, **common)
    sizes = {"base_channels": 4, "latent_size": 8}
    game = {"config": sizes, "looks": 1, "quality_rows": 20, "judge": None}
    found["gan"] = hftransfer.gan("scratch/gan_conv", images, output_dir=to("gan"), **game, **common)
    stages = [{"embed": {"data": "$unlabelled"}}, {"cluster": {"k": 2, "map": "pca"}}]
    recipe = {"name": "grouping", "model": str(tiny_bert), "unlabelled": texts, "stages": stages}
    found["groups"] = hftransfer.run(recipe, output_dir=to("grouping"))
    return found


@pytest.fixture(scope="module")
def pushed(made, tmp_path_factory):
    """All of it on one Hub, and what a fresh process made of it."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    with serve() as hub, patch.context() as monkeypatch:
        hub.users[CANARY] = User("me")
        turned(monkeypatch, hub.endpoint, home / "hf")
        monkeypatch.setenv("HF_TOKEN", CANARY)
        for name in ("classifier", "masked", "mae", "lstm", "gan"):
            hftransfer.push(made[name], f"me/{name}")
        # on a checkpoint that the Hub has, or nobody else could put it on anything
        options = {"method": "lora", "merge": False, "max_length": 16, "training": QUICK, "seed": 1}
        folder = made["masked"].path.parent
        texts, place = str(folder / "texts.csv"), str(folder / "adapter")
        made["adapter"] = hftransfer.finetune("me/masked", texts, output_dir=place, **options)
        hftransfer.push(made["adapter"], "me/adapter")
        run = made["groups"].path
        hftransfer.push(run, "me/groups")
        hftransfer.push(run / "1-embed", "me/vectors")
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home / "fresh"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        ran = subprocess.run([sys.executable, "-c", LOADED, TEXT], capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr[-3000:]
        assert CANARY not in ran.stdout + ran.stderr
        yield hub, json.loads(ran.stdout.split("FOUND")[1])


def close(found, expected):
    np.testing.assert_allclose(np.array(found), np.asarray(expected), atol=1e-5)


@torch.no_grad()
def test_texts(made, pushed):
    _, found = pushed
    local = pipeline("text-classification", str(made["classifier"].path), top_k=None)([TEXT])[0]
    assert [one["label"] for one in found["classifier"]] == [one["label"] for one in local]
    close([one["score"] for one in found["classifier"]], [one["score"] for one in local])
    masked = made["masked"]
    close(found["masked"], masked.model().eval()(**masked.tokenizer()(TEXT, return_tensors="pt")).logits)
    adapted = models.load(str(made["adapter"].path), "text_classification").eval()
    close(found["adapter"], adapted(**masked.tokenizer()(TEXT, return_tensors="pt")).logits)
    lstm = made["lstm"]
    close(found["lstm"], lstm.model().eval()(lstm.tokenizer()(TEXT, return_tensors="pt")["input_ids"]).logits)


@torch.no_grad()
def test_images(made, pushed):
    _, found = pushed
    encoder = models.load(str(made["mae"].path), "encoder").eval()
    close(found["mae"], encoder(pixel_values=torch.ones(1, 1, 16, 16)).last_hidden_state)
    samples = models.load(str(made["gan"].path), "encoder").generate(2, seed=3)
    close(found["generator"], samples)
    close(found["own"], samples)


def test_clusters_and_vectors(made, pushed):
    _, found = pushed
    run = made["groups"].path
    vectors = open_vectors(run / "1-embed")
    assert found["vectors"][0] == vectors.dataset()["text"][:]
    close(found["vectors"][1], vectors.array())
    local = clusters.load(run / "2-cluster")
    close(found["groups"], local.centres)
    assert found["predicted"] == local.predict(np.asarray(vectors.array())).tolist()


def test_what_is_in_each_repository(pushed):
    hub, _ = pushed
    records = {"README.md", "all_results.json", "manifest.json"}
    text = {"tokenizer.json", "tokenizer_config.json"}
    network = {"config.json", "model.safetensors"}
    kept = {
        "masked": network | text,
        "mae": network | {"preprocessor_config.json"},
        "adapter": {"adapter_config.json", "adapter_model.safetensors", "base_config.json"} | text,
        "lstm": network | text | {"generation_config.json", "hftransfer_lstm.py"},
        "groups": {"clusters.json", "clusters.safetensors", "estimator.skops", "plane.skops", "recipe.yaml"},
    }
    for name, expected in kept.items():
        files = {file for file in hub.files(f"me/{name}") if not file.startswith("pictures/")}
        assert files - {"reduction.skops"} == expected | records, name
    assert {file for file in hub.files("me/gan") if file.endswith(".py")} == {
        "hftransfer_errors.py",
        *(f"hftransfer_gans_{part}.py" for part in ("base", "config", "conv", "labels", "latents", "layers")),
    }
    vectors = hub.files("me/vectors", kind="datasets")
    assert set(vectors) == records | {"recipe.yaml", "data/train-00000-of-00001.parquet"}


def test_every_card_names_what_it_is(pushed):
    hub, _ = pushed
    task = {"classifier": "text-classification", "masked": "fill-mask", "mae": "image-feature-extraction"}
    task |= {"lstm": "text-generation", "gan": "unconditional-image-generation", "adapter": "text-classification"}
    for name in (*task, "groups"):
        text = hub.files(f"me/{name}")["README.md"].decode()
        assert ModelCard(text).data.pipeline_tag == task.get(name), name
        assert f'model = "me/{name}"' in text, name
        assert ("trust_remote_code=True" in text) == (name in ("lstm", "gan")), name
    card = DatasetCard(hub.files("me/vectors", kind="datasets")["README.md"].decode())
    assert card.data.configs[0]["data_files"][0]["path"] == "data/train-*.parquet"
    assert 'load_dataset("me/vectors"' in card.text


def test_nothing_of_this_machine_is_in_any_of_it(pushed, made):
    hub, _ = pushed
    place = str(made["groups"].path.parent).encode()
    for (kind, id_), _ in hub.repos.items():
        for name, content in hub.files(id_, kind=kind).items():
            assert place not in content and CANARY.encode() not in content, (id_, name)


def test_parts_go_along_when_asked(loopback, made):
    done = hftransfer.push(made["gan"], "me/both", parts=["discriminator"])
    assert {"discriminator/model.safetensors", "discriminator/config.json"} <= set(done.files)
    assert "raw/model.safetensors" not in done.files
    without = hftransfer.push(made["gan"], "me/both")
    assert "discriminator/model.safetensors" in without.deleted
    assert not [name for name in loopback.files("me/both") if name.startswith("discriminator/")]


def test_an_adapter_whose_base_is_not_there_stays(pushed, made, loopback):
    """The Hub of this test has no me/masked."""
    with pytest.raises(HFTransferError, match="the adapter is on 'me/masked', which the Hub does not have"):
        hftransfer.push(made["adapter"], "me/adapter")
    loopback.create("me/masked", files={"config.json": b"{}"})
    assert hftransfer.push(made["adapter"], "me/adapter").added
