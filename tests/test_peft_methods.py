"""The options of PEFT's methods, read without PEFT, are PEFT's own."""

import dataclasses
import subprocess
import sys
from typing import Annotated, Any

import peft
import pytest
from pydantic import TypeAdapter

from hftransfer.errors import HFTransferError
from hftransfer.foreign import dataclass_fields
from hftransfer.peft_methods import REFUSED, AdapterFields, peft_methods
from hftransfer.signatures import validate


def stage(*, lora: Annotated[dict[str, Any], AdapterFields()] | None = None) -> None:
    """Only the signature is used."""


def test_every_method_of_peft_is_found_with_all_its_fields():
    theirs = peft.PEFT_TYPE_TO_CONFIG_MAPPING
    assert set(peft_methods()) == {method.value for method in theirs} and len(theirs) > 30
    for method, (module, name) in peft_methods().items():
        config = theirs[peft.PeftType(method)]
        assert (config.__module__, config.__name__) == (module, name)
        assert {field.name for field in dataclasses.fields(config) if field.init} == set(
            dataclass_fields(module, name)
        )


def test_every_default_of_peft_fits_the_type_that_is_read():
    """Where PEFT's own annotation allows it: some are `int = None`."""
    seen = 0
    for module, name in peft_methods().values():
        config = peft.PEFT_TYPE_TO_CONFIG_MAPPING
        cls = next(c for c in config.values() if c.__name__ == name)
        for field in dataclasses.fields(cls):
            if field.name in REFUSED or field.default in (None, dataclasses.MISSING):
                continue
            value = getattr(field.default, "value", field.default)
            assert TypeAdapter(dataclass_fields(module, name)[field.name][0]).validate_python(value) == value
            seen += 1
    assert seen > 200


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, None),
        ({}, {}),
        ({"r": "4", "target_modules": ["query"]}, {"r": 4, "target_modules": ["query"]}),
        ({"peft_type": "LOHA", "alpha": 4}, {"peft_type": "LOHA", "alpha": 4}),
        ({"peft_type": None, "r": 2}, {"r": 2}),
        ({"init_lora_weights": "pissa_niter_16"}, {"init_lora_weights": "pissa_niter_16"}),
        ({"peft_type": "LOKR", "rank_pattern": {"query": 2}, "r": 4}, None),  # one of a class that it is made from
        ({"eva_config": {"rho": 3}}, {"eva_config": {"rho": 3.0}}),
    ],
)
def test_fields_are_coerced(given, expected):
    assert validate(stage, {"lora": given})["lora"] == (expected if expected is not None else given)


@pytest.mark.parametrize(
    "given, expected",
    [
        (3, "lora: expected the fields of LoraConfig as a mapping, found 3"),
        ({"rr": 4}, "lora.rr: LoraConfig has no such field; did you mean 'r'?"),
        ({"lora_alfa": 4}, "lora.lora_alfa: LoraConfig has no such field; did you mean 'lora_alpha'?"),
        ({"peft_type": "loha"}, "lora.peft_type: PEFT has no method 'loha'; did you mean 'LOHA'?"),
        ({"peft_type": ["LOHA"]}, "lora.peft_type: PEFT has no method '['LOHA']'"),
        (
            {"peft_type": "LOHA", "lora_alpha": 4},
            "lora.lora_alpha: LoHaConfig has no such field; did you mean 'alpha'?",
        ),
        ({"r": "many"}, "lora.r: expected whole number, found 'many'"),
        ({"init_lora_weights": "pisa"}, "found 'pisa'; did you mean 'pissa'?"),
        ({"init_lora_weights": "pissa_niter_x"}, "or text like pissa_niter_[0-9]+ or one of gaussian"),
        ({"eva_config": {"roh": 3}}, "lora.eva_config.roh: EvaConfig has no such field; did you mean 'rho'?"),
        ({"eva_config": {"rho": "x"}}, "lora.eva_config.rho: expected number, found 'x'"),
        (
            {"peft_type": "ADALORA"},
            "lora.peft_type: ADALORA moves its ranks between steps, which could not be resumed",
        ),
        ({"init_lora_weights": "corda"}, "lora.init_lora_weights: corda needs hooks of its own; use pissa"),
        (
            {"monteclora_config": {}},
            "lora.monteclora_config: cannot be set here: its part of the loss is not computed",
        ),
        ({"task_type": "SEQ_CLS"}, "lora.task_type: cannot be set here: what is trained decides it"),
        ({"inference_mode": True}, "lora.inference_mode: cannot be set here: this is training"),
        ({"base_model_name_or_path": "x"}, "lora.base_model_name_or_path: cannot be set here: it is filled in"),
    ],
)
def test_wrong_fields_are_told_with_the_nearest(given, expected):
    with pytest.raises(HFTransferError) as error:
        validate(stage, {"lora": given})
    assert expected in str(error.value)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from hftransfer.peft_methods import AdapterFields, peft_methods\n"
        "assert AdapterFields().check({'peft_type': 'OFT', 'r': 4}) and len(peft_methods()) > 30\n"
        "assert not {'torch', 'transformers', 'peft', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
