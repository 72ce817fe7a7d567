"""The floors hold: imports go down only, and each kind of call has one room."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import hftransfer
from hftransfer.signatures import options
from hftransfer.stages import STAGES, verb

PACKAGE = Path(hftransfer.__file__).parent
FLOORS = {"functional": 0, "errors": 0, "trainers": 2, "stages": 3}
FLOORS |= dict.fromkeys(("chain", "manual", "recipe", "embedding", "pushing"), 4)
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {  # what may be called where
    r"\bload_dataset\(": ("data/read.py",),
    r"\.from_pretrained\(": ("models/loading.py", "models/readers.py", "models/classes.py"),
    r"\.requires_grad_\(": ("tuning.py",),
    r"\btorch\.load\(": (),
    r"import pickle|import joblib": (),
    r"yaml\.(unsafe_|full_)?load\((?!text, Loader=_Loader)": (),  # _Loader is a SafeLoader
    r"\bimport sklearn|from sklearn": (
        *("metrics.py", "data/demo.py", "data/palette.py", "functional/few_labels.py"),
        *(f"clusters/{name}.py" for name in ("describe", "methods", "neighbours", "number", "plane")),
        *("clusters/reduce.py", "clusters/scores.py"),
    ),
    r"\bimport peft|from peft": ("adapters/wrapping.py", "adapters/beginning.py", "adapters/saving.py"),
    r"trust_remote_code=": (),
    r"\bHfApi\b": ("hub/remote.py",),
    r"\bTrainer\)|\bTrainer\(": ("trainers/exact.py", "trainers/adaptation.py", "trainers/pretraining.py"),
}


def floor(parts: tuple[str, ...]) -> int:
    return FLOORS.get(parts[0].removesuffix(".py"), 1)


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_imports_go_down_only():
    assert len(FILES) > 50
    wrong = []
    for path in FILES:
        here = path.relative_to(PACKAGE).parts
        if here == ("__init__.py",):
            continue
        for name in imported(path):
            parts = tuple(name.split(".")[1:])
            if name.startswith("hftransfer.") and floor(parts) > floor(here):
                wrong.append(f"{'/'.join(here)} imports {name}")
            if here[0] == "functional" and re.match(
                r"(transformers|datasets|accelerate|peft|huggingface_hub)\b", name
            ):
                wrong.append(f"{'/'.join(here)} imports {name}")
    assert wrong == []


def test_each_kind_of_call_has_one_room():
    wrong = []
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        code = re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text())
        wrong += [f"{name}: {kind}" for kind, rooms in ROOMS.items() if name not in rooms and re.search(kind, code)]
    assert wrong == []


def test_the_public_names_are_complete_sorted_and_documented():
    assert hftransfer.__all__ == sorted(hftransfer.__all__)
    assert set(dir(hftransfer)) == set(hftransfer.__all__)
    for name in hftransfer.__all__:
        assert getattr(hftransfer, name).__doc__, name


def unexplained(function) -> list[str]:
    found = [f"{function.__name__}.{option.name}" for option in options(function) if not option.help]
    return found + [name for option in options(function) if option.block for name in unexplained(option.block)]


def test_every_public_option_is_explained_once():
    verbs = [verb(name) for name in STAGES]
    assert len(verbs) >= 4
    assert [name for function in verbs for name in unexplained(function)] == []


def test_importing_the_package_is_light():
    code = "import sys, hftransfer; assert not {'torch', 'transformers', 'datasets', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
