"""The source beside a checkpoint of our own: whoever has no hftransfer loads it as whoever has."""

import ast
import builtins
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING
from transformers.dynamic_module_utils import get_imports, get_relative_import_files
from transformers.models.auto import modeling_auto

import hftransfer
from hftransfer import gans, models, scratch
from hftransfer.hub import scan
from hftransfer.hub.code import AUTO_MAPS, add_code
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM
from hftransfer.models import quiet_transformers

LOADED = {  # what is published, and the classes that load it
    "lstm": ("AutoModelForCausalLM", "AutoModel"),
    "conv_generator": ("AutoModel",),
    "mlp_generator": ("AutoModel",),
    "vector_generator": ("AutoModel",),
    "conv_discriminator": ("AutoModel",),
    "mlp_discriminator": ("AutoModel",),
    "conv_classifier": ("AutoModelForImageClassification", "AutoModel"),
    "mlp_classifier": ("AutoModelForImageClassification", "AutoModel"),
}
CASES = [(name, auto) for name, autos in LOADED.items() for auto in autos]
NEEDED = {"torch", "transformers", "numpy", "huggingface_hub"}  # transformers brings the last two
REVISION = "0123456789abcdef0123456789abcdef01234567"
MLP = {"generator": {"hidden_sizes": [8, 12]}, "discriminator": {"hidden_sizes": [12, 8], "spectral_norm": True}}
CONV = {"base_channels": 4, "max_channels": 8, "discriminator": {"spectral_norm": True}}
TEXT, GREEDY = "a quiet kitchen", {"max_new_tokens": 5, "do_sample": False}


def outputs(network):
    """Weights, and what they make of inputs that come of a seed; a process without hftransfer runs these lines too."""
    config, noise = network.config, torch.Generator().manual_seed(0)
    found = {f"weights.{name}": value for name, value in network.state_dict().items()}
    with torch.no_grad():
        if config.model_type == "lstm":
            ids = torch.randint(config.vocab_size, (2, 5), generator=noise)
            found["states"] = network(input_ids=ids)[0]
            if network.can_generate():
                given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
                found["tokens"] = network.generate(ids, **given)
        elif "generator" in config.model_type:
            found["samples"] = network.generate(5, seed=3, truncation=1.5)
        else:
            samples = torch.rand(3, *config.sample_shape, generator=noise)
            made = network(samples, torch.arange(3) if config.num_classes else None)
            found["logits"] = made["logits"] if isinstance(made, dict) else made
            found["features"] = getattr(network, "discriminator", network).features(samples)
    return {name: value.clone().contiguous() for name, value in found.items()}


STRANGER = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hftransfer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import torch, transformers
from safetensors.torch import save_file

told, trusted = {"refused": [], "classes": {}}, {"trust_remote_code": True}

def ask():
    for place in (*(f"me/{name}" for name in LOADED), *places.values()):
        for answer in ({}, {"trust_remote_code": False}):
            try:
                transformers.AutoModel.from_pretrained(place, **answer)
            except ValueError as error:
                told["refused"].append(str(error))

ask()
for name, auto in CASES:
    cls = getattr(transformers, auto)
    for way, place in (("hub", f"me/{name}"), ("folder", places[name]), ("again", f"again/{name}")):
        network = cls.from_pretrained(place, **trusted).eval()
        save_file(outputs(network), f"{name}-{auto}-{way}.safetensors")
        origin = [type(network).__name__, type(network).__module__]
        told["classes"][f"{name}-{auto}-{way}"] = [*origin, type(network.config) is network.config_class]
        if way == "folder" and auto == LOADED[name][0]:
            network.save_pretrained(f"again/{name}")
part = transformers.AutoModel.from_pretrained("me/conv_generator", subfolder="discriminator", **trusted)
save_file(outputs(part.eval()), "part.safetensors")
told["text"] = transformers.pipeline("text-generation", "me/lstm", **trusted)(TEXT, **GREEDY)
told["labels"] = transformers.pipeline("image-classification", "me/conv_classifier", **trusted)("picture.png")
ask()  # that one was trusted is no trust in the next
told["here"] = [name for name in sys.modules if name.partition(".")[0] == "hftransfer"]

del sys.meta_path[0]  # installed after all, and imported into the same process
import hftransfer.gans, hftransfer.lstm

told["after"] = [type(transformers.AutoModel.from_pretrained(place)).__module__ for place in places.values()]
json.dump(told, open("told.json", "w"))
"""


def networks():
    """Small ones, whose singular vectors and running statistics have moved."""
    torch.manual_seed(0)
    reader = scratch.learn_tokenizer([TEXT] * 3, 300, masked=False, max_length=32)
    config = scratch.fit_config(LSTMConfig(hidden_size=12), reader)
    vectors = gans.GanMLPGeneratorConfig(sample_shape=[2], hidden_sizes=[8], scale=[2.0, 3.0], offset=[1.0, -1.0])
    made = {"lstm": (LSTMForCausalLM(config), reader), "vector_generator": (gans.GanMLPGenerator(vectors), None)}
    classes = {"conv": gans.GanConvForImageClassification, "mlp": gans.GanMLPForImageClassification}
    for kind, shape, sizes in (("conv", [3, 16, 16], CONV), ("mlp", [1, 8, 8], MLP)):
        generator, discriminator = gans.new_pair(kind, shape, 3, {"latent_size": 6, **sizes})
        for _ in range(3):
            labels = torch.arange(6) % 3
            discriminator(generator(torch.randn(6, 6), labels), labels)
        config = type(discriminator.config).from_dict(discriminator.config.to_dict())
        config.id2label = dict(enumerate(("ä", "b", "c")))
        classifier = classes[kind](config)
        classifier.discriminator.load_state_dict(discriminator.state_dict())
        made |= {f"{kind}_generator": (generator, None), f"{kind}_discriminator": (discriminator, None)}
        made[f"{kind}_classifier"] = (classifier, scratch.image_processor(config))
    return made


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What would be published, as it lies in the cache of whoever has downloaded it."""
    cache = tmp_path_factory.mktemp("home") / "hub"
    places = {name: cache / f"models--me--{name}" / "snapshots" / REVISION for name in LOADED}
    for name, (network, reader) in networks().items():
        models.save(network.eval(), places[name], reader)
        (places[name].parents[1] / "refs").mkdir()
        (places[name].parents[1] / "refs" / "main").write_text(REVISION)
    shutil.copytree(places["conv_discriminator"], places["conv_generator"] / "discriminator")
    for place in (*places.values(), places["conv_generator"] / "discriminator"):
        add_code(place)
    return places


@pytest.fixture(scope="module")
def stranger(published, tmp_path_factory):
    """What a process without hftransfer tells, and the folder with what its networks made."""
    work = tmp_path_factory.mktemp("stranger")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(work / "picture.png")
    cache = published["lstm"].parents[2]
    homes = {"HF_HOME": cache.parent, "HF_HUB_CACHE": cache, "HF_MODULES_CACHE": work / "modules"}
    given = {name: globals()[name] for name in ("LOADED", "CASES", "TEXT", "GREEDY")}
    given["places"] = {name: str(place) for name, place in published.items()}
    lines = ["import json, sys", *(f"{name} = {value!r}" for name, value in given.items())]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, inspect.getsource(outputs), STRANGER])],
        cwd=work,
        env={**os.environ, **{name: str(place) for name, place in homes.items()}, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads((work / "told.json").read_text()), work


@pytest.fixture
def asked_nothing(monkeypatch):
    def refuse(*_):
        raise AssertionError("a question")

    monkeypatch.setattr(builtins, "input", refuse)


def opened(place, auto, **options):
    with quiet_transformers():
        return getattr(transformers, auto).from_pretrained(place, **options).eval()


def same(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        exact = {"rtol": 0, "atol": 0} if name.startswith("weights.") else {}
        torch.testing.assert_close(found[name], value, **exact)


@pytest.mark.parametrize(("name", "auto"), CASES)
def test_a_stranger_loads_the_same_network(name, auto, published, stranger):
    """From the Hub, from a folder, and from what it saved itself."""
    told, work = stranger
    network = opened(published[name], auto)
    assert type(network).__module__.startswith("hftransfer.")
    for way in ("hub", "folder", "again"):
        cls, module, one_config = told["classes"][f"{name}-{auto}-{way}"]
        assert cls == type(network).__name__ and module.startswith("transformers_modules.")
        assert one_config or way == "again"  # transformers names the config's own file there
        same(load_file(work / f"{name}-{auto}-{way}.safetensors"), outputs(network))


def test_a_stranger_uses_pipelines_and_folders_inside(published, stranger):
    told, work = stranger
    same(load_file(work / "part.safetensors"), outputs(opened(published["conv_discriminator"], "AutoModel")))
    with quiet_transformers():
        text = transformers.pipeline("text-generation", str(published["lstm"]))(TEXT, **GREEDY)
        pictures = transformers.pipeline("image-classification", str(published["conv_classifier"]))
    assert told["text"] == text and text[0]["generated_text"].startswith(TEXT)
    labels = pictures(str(work / "picture.png"))
    assert [one["label"] for one in told["labels"]] == [one["label"] for one in labels]
    assert {one["label"] for one in labels} == {"ä", "b", "c"}
    np.testing.assert_allclose([one["score"] for one in told["labels"]], [one["score"] for one in labels], rtol=1e-5)


def test_a_stranger_must_trust(stranger):
    told, _ = stranger
    ways = 2 * 2 * 2  # from the Hub and a folder, by two answers, before and after it was trusted
    assert len(told["refused"]) == ways * len(LOADED)
    assert all("trust_remote_code=True" in error for error in told["refused"])
    assert told["here"] == []


def test_hftransfer_takes_over_where_it_is_imported_later(stranger):
    assert {module.partition(".")[0] for module in stranger[0]["after"]} == {"hftransfer"}


@pytest.mark.parametrize(("name", "auto"), CASES)
def test_with_hftransfer_nothing_is_trusted_nor_asked(name, auto, published, asked_nothing):
    for trust in ({}, {"trust_remote_code": True}):
        network = opened(published[name], auto, **trust)
        assert type(network).__module__.startswith("hftransfer.")
        assert type(network.config).__module__.startswith("hftransfer.")
    assert not any(module.startswith("transformers_modules") for module in sys.modules)
    assert type(models.reopen(published[name])).__name__ == network.config.architectures[0]


def test_a_stage_goes_on_from_what_was_published(published, tmp_path, asked_nothing):
    options = {"method": "frozen", "max_train_samples": 40, "output_dir": str(tmp_path / "out")}
    result = hftransfer.finetune(str(published["mlp_discriminator"]), "demo/digits", **options)
    assert "auto_map" not in json.loads((result.path / "config.json").read_text())  # the code did not go along
    assert type(result.model()) is gans.GanMLPForImageClassification
    add_code(result.path)
    for file in published["mlp_discriminator"].glob("*.py"):
        assert (result.path / file.name).read_bytes() == file.read_bytes()


def test_auto_map_says_what_is_registered():
    """All of our model types, and every Auto class that takes one."""
    ours = {name for name in CONFIG_MAPPING if CONFIG_MAPPING[name].__module__.startswith("hftransfer.")}
    assert set(AUTO_MAPS) == ours
    autos = {name: cls for name, cls in vars(modeling_auto).items() if name.startswith("Auto")}
    mappings = {name: getattr(cls, "_model_mapping", None) or {} for name, cls in autos.items()}
    for model_type in ours:
        config = CONFIG_MAPPING[model_type]
        module, classes = AUTO_MAPS[model_type]
        taking = {auto: mapping[config] for auto, mapping in mappings.items() if config in mapping}
        assert classes == {auto: cls.__name__ for auto, cls in {"AutoConfig": config, **taking}.items()}
        assert all(getattr(sys.modules[module], cls.__name__) is cls for cls in taking.values())


@pytest.mark.parametrize("name", LOADED)
def test_the_files_are_complete_and_need_nothing_unusual(name, published):
    folder = published[name]
    module = json.loads((folder / "config.json").read_text())["auto_map"]["AutoConfig"].partition(".")[0]
    files = {file.name for file in folder.glob("*.py")}
    followed = {Path(file).name for file in get_relative_import_files(folder / f"{module}.py")}
    assert files == {f"{module}.py"} | followed
    for file in files:
        text = (folder / file).read_text(encoding="utf-8")
        head = text.splitlines()[0]
        assert head.startswith("# hftransfer.") and hftransfer.__version__ in head and "Apache-2.0" in head
        assert set(get_imports(folder / file)) <= {*sys.stdlib_module_names, *NEEDED}  # hftransfer is not among them
        called = [ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        assert not any(call.endswith(".register") for call in called)


@pytest.mark.parametrize("name", LOADED)
def test_only_these_files_are_added_and_twice_is_once(name, published, tmp_path):
    network, reader = networks()[name]
    models.save(network, tmp_path / "stage", reader)
    shutil.copytree(tmp_path / "stage", tmp_path / "built", copy_function=os.link)
    before = contents(tmp_path / "stage")
    added = add_code(tmp_path / "built")
    once = contents(tmp_path / "built")
    assert contents(tmp_path / "stage") == before  # the built folder's files have second names there
    assert added == sorted(set(once) - set(before)) and all(file.endswith(".py") for file in added)
    assert {file for file in before if once[file] != before[file]} == {"config.json"}
    config = json.loads(once["config.json"])
    del config["auto_map"]
    assert json.dumps(config, indent=2) + "\n" == before["config.json"].decode()
    assert add_code(tmp_path / "built") == added and contents(tmp_path / "built") == once
    assert once == {file: content for file, content in contents(published[name]).items() if "/" not in file}
    assert scan.findings(tmp_path / "built") == []


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_checkpoint_of_transformers_own_stays_as_it_is(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    before = contents(folder)
    assert add_code(folder) == [] and contents(folder) == before
    (tmp_path / "adapter").mkdir()
    assert add_code(tmp_path / "adapter") == []
