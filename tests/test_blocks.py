"""Options that are mappings with options of their own."""

import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import Field
from rich.console import Console

from hftransfer import chain, manual, recipe
from hftransfer.errors import HFTransferError
from hftransfer.signatures import Block, json_schema, options, validate
from hftransfer.wording import type_name


def vocabulary(
    *,
    words: Annotated[int, Field(ge=0, description="how many words")],
    keep: Annotated[bool, Field(description="the old ones too")] = True,
) -> None:
    """Only the signature is used."""


def architecture(
    *,
    layers: Annotated[int | None, Field(gt=0, description="how many layers are kept")] = None,
    rates: Annotated[list[float], Field(description="a list")] = [0.5],  # noqa: B006
    vocabulary: Annotated[dict[str, Any] | None, Block(vocabulary), Field(description="other words")] = None,
) -> None:
    """Only the signature is used."""


Architecture = Annotated[dict[str, Any], Block(architecture)]


def stage(
    model: str,
    *,
    architecture: Annotated[Architecture | None, Field(description="changed parts")] = None,
    seed: int = 1,
    max_train_samples: int | None = None,
) -> None:
    """A stage."""


FILLED = {"layers": 3, "rates": [0.5], "vocabulary": None}


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, None),
        ({"architecture": None}, None),
        ({"architecture": {}}, {}),
        ({"architecture": {"layers": 3}}, FILLED),
        ({"architecture": {"layers": "3", "rates": ["1"]}}, {**FILLED, "rates": [1.0]}),
        (
            {"architecture": {"vocabulary": {"words": 7}}},
            {**FILLED, "layers": None, "vocabulary": {"words": 7, "keep": True}},
        ),
    ],
)
def test_what_is_not_given_in_a_block_is_its_function_s(given, expected):
    found = validate(stage, {"model": "x", **given})
    assert found["architecture"] == expected
    assert validate(stage, found) == found


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"layerz": 3}, "layerz: unknown key; did you mean 'layers'?"),
        ({"zzz": 3}, "zzz: unknown key; known: layers, rates, vocabulary"),
        ({"layers": 0}, "layers: expected whole number > 0 or null, found 0"),
        ({"layers": None, "rates": "x"}, "rates: expected list, found 'x'"),
        ({"vocabulary": {"keep": True}}, "vocabulary.words: required, and not given"),
        ({"vocabulary": {"words": 1, "keeps": 1}}, "vocabulary.keeps: unknown key; did you mean 'keep'?"),
        ({"vocabulary": 5}, "vocabulary: expected a mapping of words, keep; found 5"),
    ],
)
@pytest.mark.parametrize("prefix", ["stage.", "stage: "])
def test_mistakes_in_a_block_are_named_by_their_whole_key(given, expected, prefix):
    with pytest.raises(HFTransferError) as error:
        validate(stage, {"model": "x", "architecture": given}, prefix)
    assert str(error.value) == f"{prefix}architecture.{expected}"


def test_a_block_that_is_no_mapping():
    with pytest.raises(
        HFTransferError, match="architecture: expected a mapping of layers, rates, vocabulary; found 3"
    ):
        validate(stage, {"model": "x", "architecture": 3})


@pytest.fixture
def resolved(monkeypatch):
    monkeypatch.setattr(chain, "verb", lambda name: stage)

    def resolve(*words):
        _, _, overrides = recipe.parse(words)
        return chain.resolve({"name": "n", "model": "x", "stages": [{"finetune": None}]}, overrides)

    return resolve


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--finetune.architecture.layers", "3"], FILLED),
        (["--finetune.architecture", "null", "--finetune.architecture.layers", "3"], FILLED),
        (["--finetune.architecture", "{layers: 2, rates: [1]}", "--finetune.architecture.layers", "3"], None),
        (["finetune.architecture.vocabulary.words=7"], {"vocabulary": {"words": 7, "keep": True}, "layers": None}),
        (["--finetune.architecture={}"], {}),
    ],
)
def test_overrides_reach_into_blocks(resolved, words, expected):
    expected = {**FILLED, "rates": [1.0]} if expected is None else {**FILLED, **expected} if expected else {}
    assert resolved(*words).steps[0].given["architecture"] == expected


def test_a_wrong_override_names_its_whole_key(resolved):
    with pytest.raises(HFTransferError, match=r"finetune\.architecture\.layerz: unknown key; did you mean 'layers'\?"):
        resolved("--finetune.architecture.layerz", "3")


@pytest.mark.parametrize("words, value", [([], "null"), (["--finetune.architecture.layers=3"], "3")])
def test_help_has_a_line_for_each_option_of_a_block(resolved, monkeypatch, words, value):
    console = Console(width=200, record=True)
    with console.capture() as page:
        console.print(manual.help_page(resolved(*words)), markup=False)
    lines = [" ".join(line.split()) for line in page.get().splitlines()]
    assert any(line.startswith("--finetune.architecture mapping or null") for line in lines)
    assert f"--finetune.architecture.layers whole number > 0 or null {value} how many layers are kept" in lines
    assert "--finetune.architecture.vocabulary mapping or null null other words" in lines
    assert "--finetune.architecture.vocabulary.keep true or false true the old ones too" in lines
    assert "--finetune.architecture.vocabulary.words whole number >= 0 required how many words" in lines


def test_the_schema_nests():
    block, null = json_schema(stage)["properties"]["architecture"]["anyOf"]
    assert null == {"type": "null"} and block["additionalProperties"] is False
    assert list(block["properties"]) == ["layers", "rates", "vocabulary"]
    inner = block["properties"]["vocabulary"]["anyOf"][0]
    assert inner["required"] == ["words"] and inner["properties"]["keep"]["description"] == "the old ones too"
    assert block["properties"]["vocabulary"]["anyOf"][1] == {"type": "null"}
    assert "$defs" not in str(block)


def test_types_in_words():
    named = {option.name: type_name(option.annotation) for option in options(stage)}
    assert named["architecture"] == "mapping or null"


def test_a_block_s_home_is_imported_when_it_is_asked_for():
    code = (
        "import sys, types\n"
        "from typing import Annotated, Any\n"
        "from hftransfer.signatures import Block, validate\n"
        "def f(*, near: Annotated[dict[str, Any] | None, Block('colorsys_:f')] = None): ...\n"
        "assert validate(f, {}) == {'near': None}\n"
        "home = types.ModuleType('colorsys_'); home.f = f; sys.modules['colorsys_'] = home\n"
        "assert validate(f, {'near': {'near': None}}) == {'near': {'near': None}}\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
