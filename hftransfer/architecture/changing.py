"""All changes of one network, in the order in which they follow from each other."""

from collections.abc import Mapping
from typing import Any

from hftransfer import models
from hftransfer.architecture import Changed, architecture, channels, direction, fields, heads, layers, sizes, tokens
from hftransfer.architecture.draft import Draft, build
from hftransfer.architecture.table import NEW, summary
from hftransfer.signatures import validate


def change(model: Any, job: str, head: Mapping[str, Any], spec: Mapping[str, Any], kind: str) -> Changed:
    """See `architecture.changed`."""
    wanted = validate(architecture, spec, "architecture.")
    draft = Draft(model, job, kind)
    layers.keep(draft, wanted["layers"])
    layers.begin_anew(draft, wanted["reinitialize_top"])
    tokens.replace(draft, wanted["tokenizer"])
    channels.see(draft, wanted["num_channels"])
    sizes.see(draft, wanted["image_size"])
    direction.turn(draft, wanted["is_decoder"])
    fields.put(draft, wanted["config"])
    heads.fit(draft, head, wanted["head"])
    network, origins = build(draft)
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    whole = {name for name in parameters if name not in origins or bool((origins[name] == NEW).all())}
    reader = draft.reader if draft.reader is not None else models.reader(model, kind)
    return Changed(network, reader, summary(network, origins), draft.notes, sorted(whole | draft.widened))
