"""Adapters: put on a network, trained in place of its weights, saved alone, merged. PEFT is called here only.

What trains is exactly the adapter and the weights that no checkpoint gave; these are told by their names in
`models.load_reported`, never by what a head is usually called.
"""

from hftransfer.adapters.saving import BASE_CONFIG, CONFIG, WEIGHTS, put_on, save, write_base_config
from hftransfer.adapters.wrapping import TASK_TYPES, can_merge, check, mergeable, merged, trained, wrapped

__all__ = [
    "BASE_CONFIG",
    "CONFIG",
    "TASK_TYPES",
    "WEIGHTS",
    "can_merge",
    "check",
    "mergeable",
    "merged",
    "put_on",
    "save",
    "trained",
    "wrapped",
    "write_base_config",
]
