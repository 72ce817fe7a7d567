"""Snippets that load a network with a trained head, or an adapter on its base, and read its answer."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MODEL = 'model = "."  # this folder, or its id on the Hub\n'
_LOADED = """\
from transformers import {names}

{model}network = {auto}.from_pretrained(model)
"""
_PUT_ON = """\
from peft import PeftModel
from transformers import AutoConfig, {names}
from transformers.utils import cached_file

{model}base = {base}  # what the adapter is put on: an id on the Hub, or a folder
config = AutoConfig.from_pretrained(cached_file(model, "base_config.json"))
network = PeftModel.from_pretrained({auto}.from_pretrained(base, config=config), model).eval()
"""
_READER = """\
reader = {reader}.from_pretrained(model{options})
"""
_PICTURE = 'picture = Image.new("{mode}", (64, 64))  # or Image.open("picture.png").convert("{mode}")\n'
_SOUND = (
    "sound = np.zeros(reader.sampling_rate, dtype=np.float32)  # a second of silence; or one channel at this rate\n"
)
_HEARD = 'reader(sound, sampling_rate=reader.sampling_rate, return_tensors="pt")'
_ANSWERS = {
    "single_label_classification": "print(network.config.id2label[int(network(**inputs).logits.argmax())])",
    "multi_label_classification": (
        "answers = network(**inputs).logits[0].sigmoid()\n"
        "print({name: float(answers[k]) for k, name in network.config.id2label.items()})"
    ),
    "regression": "print(float(network(**inputs).logits))",
    "token_classification": "print([network.config.id2label[int(k)] for k in network(**inputs).logits[0].argmax(-1)])",
    "causal_lm": "print(reader.decode(network.generate(**inputs, max_new_tokens=24)[0]))",
}


class Head(NamedTuple):
    """What a network's last layers were trained for."""

    task: str  # as in `tasks`
    reads: str  # text, image or sound
    auto: str  # the Auto class that loads it
    hub: str  # the Hub's pipeline tag


def head_of(config: Mapping[str, Any], reader: Mapping[str, Any]) -> Head | None:
    """By the class that a config names and its preprocessor; None where that has no head of a task."""
    name = str((config.get("architectures") or [""])[0])
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return Head("causal_lm", "text", "AutoModelForCausalLM", "text-generation")
    if name.endswith("ForTokenClassification"):
        return Head("token_classification", "text", "AutoModelForTokenClassification", "token-classification")
    if not name.endswith(("ForSequenceClassification", "ForImageClassification", "ForAudioClassification")):
        return None
    reads = "sound" if "sampling_rate" in reader else "image" if name.endswith("ForImageClassification") else "text"
    auto = "Image" if name.endswith("ForImageClassification") else {"sound": "Audio"}.get(reads, "Sequence")
    hub = "audio" if reads == "sound" else reads
    alone = len(config.get("id2label") or (0, 1)) == 1
    task = config.get("problem_type") or ("regression" if alone else "single_label_classification")
    return Head(task, reads, f"AutoModelFor{auto}Classification", f"{hub}-classification")


def own_import(config: Mapping[str, Any]) -> str:
    """The line that makes an architecture of our own known to transformers; none for another."""
    kind = str(config.get("model_type"))
    module = "lstm" if kind == "lstm" else "gans" if kind.startswith("gan_") else None
    return f"import hftransfer.{module}  # pip install hftransfer\n" if module else ""


def mode_of(config: Mapping[str, Any]) -> str:
    """Pillow's name of the images that a network sees: grey, or of three colours."""
    channels = config["sample_shape"][0] if "sample_shape" in config else config.get("num_channels")
    return "L" if channels == 1 else "RGB"


def snippet(head: Head, config: Mapping[str, Any], base: str | None = None) -> str:
    """Lines that print what a checkpoint says of an example; with `base`, of an adapter on it."""
    readers = {"text": "AutoTokenizer", "image": "AutoImageProcessor", "sound": "AutoFeatureExtractor"}
    reader = readers[head.reads]
    imports = {"text": "", "image": "from PIL import Image\n", "sound": "import numpy as np\n"}[head.reads]
    imports += own_import(config)
    names, options = sorted([head.auto, reader]), ', backend="pil"' if head.reads == "image" else ""
    filled = {"names": ", ".join(names), "model": MODEL, "auto": head.auto}
    if base is None:
        loaded = _LOADED.format(**filled)
    else:
        loaded = _PUT_ON.format(base=json.dumps(re.sub(r"[`\s]", " ", base)), **filled)
    read = _READER.format(reader=reader, options=options)
    return f"{imports}{loaded}{read}{_example(head, config)}{_ANSWERS[head.task]}"


def _example(head: Head, config: Mapping[str, Any]) -> str:
    if head.reads == "text":
        return 'inputs = reader("A text to read.", return_tensors="pt")\n'
    if head.reads == "image":
        return _PICTURE.format(mode=mode_of(config)) + 'inputs = reader(picture, return_tensors="pt")\n'
    if head.auto == "AutoModelForImageClassification":  # it sees a spectrogram as an image
        return f'{_SOUND}inputs = {{"pixel_values": {_HEARD}["input_values"][:, None]}}\n'
    return f"{_SOUND}inputs = {_HEARD}\n"


def place_of(name: str, folder: Path) -> str:
    """A base as the adapter in a folder finds it: the folder of that name beside it, else the name."""
    beside = (f"{up}/{name}" for up in ("..", "../..") if name and (folder / up / name).is_dir())
    return next(beside, name)
