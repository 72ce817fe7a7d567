"""The source of an architecture of ours, beside its published checkpoint.

Whoever has this package loads the checkpoint by it; whoever has not, by these files, with `trust_remote_code=True`.
"""

import ast
import importlib.util
import re
from pathlib import Path

import hftransfer
from hftransfer import runs

_CONV, _MLP, _CONFIG = "hftransfer.gans.conv", "hftransfer.gans.mlp", "hftransfer.gans.config"


def _judge(module: str, name: str) -> dict[str, str]:
    return {
        "AutoConfig": f"{_CONFIG}.{name}DiscriminatorConfig",
        "AutoModel": f"{module}.{name}Discriminator",
        "AutoModelForImageClassification": f"{module}.{name}ForImageClassification",
    }


AUTO_MAPS = {  # by model type: what each Auto class loads
    "lstm": {
        "AutoConfig": "hftransfer.lstm.LSTMConfig",
        "AutoModel": "hftransfer.lstm.LSTMModel",
        "AutoModelForCausalLM": "hftransfer.lstm.LSTMForCausalLM",
    },
    "gan_conv_generator": {
        "AutoConfig": f"{_CONFIG}.GanConvGeneratorConfig",
        "AutoModel": f"{_CONV}.GanConvGenerator",
    },
    "gan_mlp_generator": {
        "AutoConfig": f"{_CONFIG}.GanMLPGeneratorConfig",
        "AutoModel": f"{_MLP}.GanMLPGenerator",
    },
    "gan_conv_discriminator": _judge(_CONV, "GanConv"),
    "gan_mlp_discriminator": _judge(_MLP, "GanMLP"),
}


def add_code(folder: Path) -> list[str]:
    """Adds the source of an architecture of ours to a checkpoint's folder, and `auto_map` to its config.json.

    Returns:
        The names of the files that were added; none for a checkpoint of transformers' own.
    """
    config = runs.read_json(folder / "config.json")
    places = AUTO_MAPS.get(str(config.get("model_type")))
    if places is None:
        return []
    sources = _closure({place.rpartition(".")[0] for place in places.values()})
    for module, source in sources.items():
        runs.write_text(folder / f"{_flat(module)}.py", source)
    split = {auto: place.rsplit(".", 1) for auto, place in places.items()}
    named = {auto: f"{_flat(module)}.{name}" for auto, (module, name) in split.items()}
    runs.write_json(folder / "config.json", {**config, "auto_map": named})
    return [f"{_flat(module)}.py" for module in sources]


def _flat(module: str) -> str:
    """What a module is called where all lie in one folder."""
    return module.replace(".", "_")


def _closure(modules: set[str]) -> dict[str, str]:
    """The source of modules of ours and of all of ours that they import, as it lies in one folder, by name."""
    found: dict[str, str] = {}
    waiting = sorted(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module], needed = _carried(module)
            waiting += needed
    return dict(sorted(found.items()))


def _carried(module: str) -> tuple[str, list[str]]:
    """A module's source without what registers it, its imports of ours relative; and what those are.

    Registered a second time, an architecture would take the place of the installed package's own.
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    lines, needed = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hftransfer."):
            ours, line = str(node.module), node.lineno - 1
            needed.append(ours)
            lines[line] = lines[line].replace(f"from {ours} import", f"from .{_flat(ours)} import")
        elif isinstance(node, ast.Expr) and re.match(r"Auto\w+\.register\(", ast.unparse(node)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * len(lines[node.lineno - 1 : node.end_lineno])
    head = f"# {module} of hftransfer {hftransfer.__version__}, Apache-2.0"
    return "\n".join([head, *lines]).rstrip() + "\n", needed
