"""The source of an architecture of ours, beside its published checkpoint.

Whoever has this package loads the checkpoint by it; whoever has not, by these files, with `trust_remote_code=True`.
"""

import json
import re
from importlib import resources
from pathlib import Path

import hftransfer
from hftransfer import runs


def _judge(name: str) -> dict[str, str]:
    return {
        "AutoConfig": f"{name}DiscriminatorConfig",
        "AutoModel": f"{name}Discriminator",
        "AutoModelForImageClassification": f"{name}ForImageClassification",
    }


# By model type: the module, and what each Auto class loads from it. A config is named where its network imports it:
# of a local folder transformers makes a copy for each module that it is asked for, and a config of another copy would
# be of another class.
AUTO_MAPS = {
    "lstm": (
        "hftransfer.lstm",
        {"AutoConfig": "LSTMConfig", "AutoModel": "LSTMModel", "AutoModelForCausalLM": "LSTMForCausalLM"},
    ),
    "gan_conv_generator": (
        "hftransfer.gans.conv",
        {"AutoConfig": "GanConvGeneratorConfig", "AutoModel": "GanConvGenerator"},
    ),
    "gan_mlp_generator": (
        "hftransfer.gans.mlp",
        {"AutoConfig": "GanMLPGeneratorConfig", "AutoModel": "GanMLPGenerator"},
    ),
    "gan_conv_discriminator": ("hftransfer.gans.conv", _judge("GanConv")),
    "gan_mlp_discriminator": ("hftransfer.gans.mlp", _judge("GanMLP")),
}
OURS = re.compile(r"^( *)from (hftransfer\.[\w.]+) import ", re.MULTILINE)
REGISTERED = re.compile(r"^Auto\w+\.register\(.*\)\n", re.MULTILINE)


def add_code(folder: Path) -> list[str]:
    """Adds the source of an architecture of ours to a checkpoint's folder, and `auto_map` to its config.json.

    Both are written as new files: one that has a second name elsewhere stays what it was there.

    Returns:
        The names of the files that were added, sorted; none for a checkpoint of transformers' own.
    """
    config = runs.read_json(folder / "config.json")
    if config.get("model_type") not in AUTO_MAPS:
        return []
    module, classes = AUTO_MAPS[config["model_type"]]
    files = {f"{_flat(name)}.py": source for name, source in _sources(module).items()}
    for name, source in files.items():
        runs.write_text(folder / name, source)
    config["auto_map"] = {auto: f"{_flat(module)}.{name}" for auto, name in classes.items()}
    ordered = dict(sorted(config.items()))  # as transformers writes it
    runs.write_text(folder / "config.json", json.dumps(ordered, indent=2) + "\n")
    return sorted(files)


def _flat(module: str) -> str:
    """What a module is called where all lie in one folder."""
    return module.replace(".", "_")


def _sources(module: str) -> dict[str, str]:
    """The sources of a module and of all of ours that it imports, as they stand in one folder, by name."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name], imported = _carried(name)
            waiting += imported
    return found


def _carried(module: str) -> tuple[str, list[str]]:
    """A module's source with relative imports of ours, and what these are.

    It registers nothing: transformers does, for the checkpoint that it was asked to trust, and no other.
    """
    path = f"{module.removeprefix('hftransfer.').replace('.', '/')}.py"
    source = resources.files("hftransfer").joinpath(path).read_text(encoding="utf-8")
    imported = [name for _, name in OURS.findall(source)]
    source = OURS.sub(lambda found: f"{found[1]}from .{_flat(found[2])} import ", source)
    head = f"# {module} of hftransfer {hftransfer.__version__}, changed to be used without it. License: Apache-2.0"
    return f"{head}\n{REGISTERED.sub('', source).rstrip()}\n", imported
