"""What the README tells people to type works."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(tmp_path):
    example = next(block for block in blocks("python") if "hftransfer.adapt(" in block)
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"Transfer (helped|hurt|made no measurable difference)", ran.stdout)
    assert (tmp_path / "outputs/quick/model.safetensors").exists()


def test_the_two_commands_are_the_makefiles():
    commands = re.findall(r"^make (\w+)", blocks("sh")[0], flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    for command in commands:
        shown = subprocess.run(["make", "-n", command], cwd=ROOT, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
    launch = next(line for line in blocks("sh")[1].splitlines() if line.startswith("accelerate launch"))
    assert launch in [line.partition(" ")[2] for line in (ROOT / "Makefile").read_text().splitlines()]


def test_the_demo_writes_where_the_readme_says():
    (folder,) = set(re.findall(r"hftransfer.recipe bert_domain_adapt --output_dir (\S+)", README))
    assert re.search(rf"^`{folder}/` then holds$", README, flags=re.MULTILINE)
    assert f'pipeline("text-classification", "{folder}/final")' in README
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"--output_dir {folder}$", makefile, flags=re.MULTILINE)
    assert f"lands in {folder}/" in makefile
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_recipe_and_file_that_the_readme_names_exists():
    named = re.findall(r"^    ((?:hftransfer|recipes|benchmarks|tests)[\w./]*)", README, flags=re.MULTILINE)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
    modules = {f"hftransfer/{p.name}" for p in (ROOT / "hftransfer").glob("*.py")} - {"hftransfer/__init__.py"}
    assert modules - set(named) - {"hftransfer/errors.py"} == set()


def test_the_overrides_that_the_readme_shows_are_accepted(tmp_path, monkeypatch):
    from hftransfer import chain, recipe

    (tmp_path / "tweets").mkdir()
    (tmp_path / "tweets/a.jsonl").write_text('{"text": "so good", "label": "positive"}\n')
    (tmp_path / "reviews.csv").write_text("review,label\nso good,positive\n")
    monkeypatch.chdir(tmp_path)
    shown = next(block for block in blocks("sh") if "--adapt.method cdan" in block)
    words = [word.strip('"') for word in shown.replace("\\\n", " ").split()]
    name, _, overrides = recipe.parse(words[words.index("hftransfer.recipe") + 1 :])
    resolved = chain.resolve(chain.load(chain.find(name)), overrides)
    adapt = next(step for step in resolved.steps if step.verb == "adapt")
    assert adapt.given["method"] == "cdan"
    assert adapt.given["training"]["num_train_epochs"] == 4
    assert resolved.top["source"] == {"path": "reviews.csv", "columns": {"text": "review"}}


def test_ci_runs_the_readmes_test_command():
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE)
    accelerate = yaml.safe_load((ROOT / "accelerate_config.yaml").read_text())
    assert accelerate["num_processes"] == 1
