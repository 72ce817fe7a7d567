"""The types of options that several verbs share, with the one line that `--help` prints for each."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hftransfer.data.spec import DataSpec, DataSpecs
from hftransfer.foreign import FieldsOf
from hftransfer.peft_methods import AdapterFields

_STEERED = "hftransfer decides it"
REFUSED = {
    "output_dir": "use the stage's output_dir",
    "seed": "use the recipe's seed",
    "data_seed": "use the recipe's seed",
    "use_cpu": "launch with `accelerate launch --cpu`",
    "resume_from_checkpoint": "running the same command again resumes by itself",
    "train_sampling_strategy": "batches are grouped by length already",
    "load_best_model_at_end": "the last step is kept, so that no held-out label chooses the model",
    "remove_unused_columns": _STEERED,
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "save_only_model": "a run could not resume exactly",
    "ignore_data_skip": "a run could not resume exactly",
    "average_tokens_across_devices": "every masked token weighs alike on any number of processes",
    "dataloader_persistent_workers": "each epoch draws its own masks, and such workers would keep the first ones",
    "auto_find_batch_size": "a run could not resume exactly",
    "enable_jit_checkpoint": "checkpoints are written while training already",
    "parallelism_config": "a recipe cannot hold that object",
    "disable_tqdm": _STEERED,
    "report_to": _STEERED,
    "push_to_hub": "training never uploads",
    "hub_token": "the token comes from the environment",
} | dict.fromkeys(
    ("hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"), "training never uploads"
)
REFUSED |= dict.fromkeys(
    ("eval_strategy", "eval_on_start", "do_eval", "metric_for_best_model"),
    "held-out rows are measured before and after training, and choose nothing",
)


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@dataclass(frozen=True)
class _Reference:
    """Makes pydantic accept exactly what names a checkpoint. A program without torch cannot hold a model object."""

    type_name = "checkpoint"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string"}

    def check(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        value = _path_as_text(value)
        if isinstance(value, str) and value and Path(value).expanduser().is_dir():
            value = str(Path(value).expanduser().absolute())  # a relative one could be read as a name on the Hub later
        if (isinstance(value, str) and value) or (torch is not None and isinstance(value, torch.nn.Module)):
            return value
        raise ValueError(f"expected a Hub id, a folder or a model object, found {value!r}")


Model = Annotated[Any, _Reference(), Field(description="checkpoint: Hub id, folder or model object")]
Data = Annotated[DataSpec, Field(description="Hub id, file, glob, folder, demo/NAME, or load_dataset's fields")]
ManyData = Annotated[DataSpecs, Field(description="one data set as elsewhere, or a list of them")]
Training = Annotated[
    dict[str, Any],
    FieldsOf("transformers.training_args", "TrainingArguments", REFUSED),
    Field(description="TrainingArguments under their own names"),
]
LoraFields = Annotated[dict[str, Any], AdapterFields()]
OutputDir = Annotated[str, BeforeValidator(_path_as_text), Field(description="folder of the finished stage")]
Seed = Annotated[int, Field(ge=0, description="decides splits, masks, order and new weights")]
ConfigFields = Annotated[
    dict[str, Any], Field(description="fields of the model's config set otherwise, under their own names")
]
_Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[_Share | Annotated[list[_Share], Field(min_length=2, max_length=2)], Field()]
_Tokens = Annotated[int, Field(ge=4)]
Schedule = Annotated[_Tokens | Annotated[list[_Tokens], Field(min_length=2, max_length=2)], Field()]
MaxTrainSamples = Annotated[int | None, Field(gt=0, description="take a random part of each training set")]
MaxLength = Annotated[int, Field(ge=4, description="longest row, in tokens")]


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's own training settings with the caller's over them."""
    return {**defaults, **given}
