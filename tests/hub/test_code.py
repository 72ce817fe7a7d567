"""Our own architectures where the package is not installed: the code beside the weights, by those who ask for it."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from hftransfer import gans, lstm, models
from hftransfer.hub.code import AUTO_MAPS, add_code

IMAGES = {"image_size": 8, "num_channels": 1, "base_channels": 4}
KINDS = {
    "lstm": lambda: lstm.LSTMForCausalLM(lstm.LSTMConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1)),
    "conv": lambda: gans.GanConvGenerator(gans.GanConvGeneratorConfig(**IMAGES, latent_size=8, num_classes=2)),
    "mlp": lambda: gans.GanMLPGenerator(gans.GanMLPGeneratorConfig(sample_shape=[2], hidden_sizes=[8], latent_size=4)),
    "judge": lambda: gans.GanConvDiscriminator(gans.GanConvDiscriminatorConfig(**IMAGES)),
    "classifier": lambda: gans.GanMLPForImageClassification(
        gans.GanMLPDiscriminatorConfig(sample_shape=[1, 8, 8], hidden_sizes=[8], num_labels=3)
    ),
}
AUTO = {"lstm": "AutoModelForCausalLM", "classifier": "AutoModelForImageClassification"}
# what each says of fixed inputs; run with and without the package
ANSWERS = """
def answer(name, network):
    import torch
    network.eval()
    if name == "lstm":
        return network.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=8, do_sample=False).double()
    if name in ("conv", "mlp"):
        return network.generate(3, seed=5, labels=1 if name == "conv" else None).double()
    images = torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8)
    with torch.no_grad():
        found = network(images)
    return (found if name == "judge" else found.logits).double()
"""
ALONE = f"""
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hftransfer":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refusing())
import json
import transformers
{ANSWERS}
found = {{}}
for name, (folder, auto) in json.loads(sys.argv[1]).items():
    cls = getattr(transformers, auto)
    try:
        cls.from_pretrained(folder)
        raise SystemExit(f"{{name}} needed no trust")
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    network = cls.from_pretrained(folder, trust_remote_code=True)
    assert type(network).__module__.startswith("transformers_modules."), type(network)
    found[name] = answer(name, network).tolist()
    network.save_pretrained(folder + "-again")
print("FOUND" + json.dumps(found))
"""
exec(ANSWERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each kind with its code."""
    torch.manual_seed(0)
    made = {}
    for name, build in KINDS.items():
        folder = made[name] = tmp_path_factory.mktemp("code") / name
        build().save_pretrained(folder)
        add_code(folder)
    return made


def test_without_the_package_they_answer_the_same_when_their_code_is_trusted(folders, tmp_path):
    asked = {name: (str(folder), AUTO.get(name, "AutoModel")) for name, folder in folders.items()}
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(asked)], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.split("FOUND")[1])
    for name, folder in folders.items():
        network = models.load(str(folder), "encoder") if name not in AUTO else _loaded(folder, AUTO[name])
        np.testing.assert_allclose(np.array(found[name]), answer(name, network).numpy(), atol=1e-6)  # noqa: F821


def _loaded(folder, auto):
    import transformers

    return getattr(transformers, auto).from_pretrained(folder)


@pytest.mark.parametrize("name", KINDS)
def test_with_the_package_no_code_of_a_folder_runs(folders, name):
    network = _loaded(folders[name], AUTO.get(name, "AutoModel"))
    assert type(network).__module__.startswith("hftransfer.")


def test_who_trusts_although_the_package_is_there_changes_nothing_for_others(folders):
    trusted = AutoModel.from_pretrained(folders["conv"], trust_remote_code=True)
    assert torch.equal(trusted.generate(2, seed=1), AutoModel.from_pretrained(folders["conv"]).generate(2, seed=1))


@pytest.mark.parametrize("name", KINDS)
def test_files_are_the_same_each_time_and_import_nothing_of_ours(folders, name):
    folder = folders[name]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    added = add_code(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert set(added) == {path.name for path in folder.glob("*.py")}
    for file in added:
        source = (folder / file).read_text()
        assert source.startswith("# hftransfer.") and "Apache-2.0" in source.splitlines()[0]
        assert not re.search(r"^\s*(from|import) hftransfer", source, re.MULTILINE), file
        assert not re.search(r"^Auto\w+\.register", source, re.MULTILINE), file
        compile(source, file, "exec")


def test_a_stage_that_goes_on_leaves_no_map_to_code_that_is_not_there(folders, tmp_path):
    models.save(models.load(str(folders["conv"]), "encoder"), tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text())


def test_every_architecture_of_ours_is_named(tmp_path):
    models.register_own()
    from transformers import CONFIG_MAPPING

    own = {
        name for name, config in CONFIG_MAPPING._extra_content.items() if config.__module__.startswith("hftransfer")
    }
    assert own == set(AUTO_MAPS)
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    assert add_code(tmp_path) == [] and (tmp_path / "config.json").read_bytes() == before
