"""What a checkpoint is for, and lines that load it and really run: by its config and its preprocessor alone.

Clusters too: by what they say of themselves, and by how the vectors were made that they are of.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hftransfer.report import embedded, heads
from hftransfer.report.embedded import Embedded
from hftransfer.report.heads import MODEL, Head

CLUSTERS = "clusters.json"  # in a folder that `hftransfer.clusters.load` opens
ESTIMATOR = "estimator.skops"  # in it, where scikit-learn has the method


class Use(NamedTuple):
    """How the card speaks of a kind of checkpoint."""

    task: str  # the Hub's pipeline tag
    does: str  # "Classifying texts"
    reads: str  # what its data is called, in the plural
    snippet: str
    tags: tuple[str, ...] = ()
    library: str = "transformers"
    labels: str = ""  # a sentence about its labels, where it has some


_PIPELINE = "from transformers import pipeline\n\n" + MODEL
_ONE = "It always answers with one of its {count} labels ({names}), also where none fits."
_ANY = "It answers with any number of its {count} labels ({names})."
_WORDS = "It knows {count} labels ({names})."


def _piped(task: str, does: str, call: str) -> Use:
    variable = call.partition("(")[0]
    return Use(task, does, "texts", f'{_PIPELINE}{variable} = pipeline("{task}", model=model)\nprint({call})')


TEXT = {
    "text-classification": _piped(
        "text-classification", "Classifying texts", 'classify("A text to classify.")'
    )._replace(labels=_ONE),
    "fill-mask": _piped(
        "fill-mask",
        "Filling in masked words, or as the start of further training, on texts",
        'fill(f"A text with one {fill.tokenizer.mask_token} word.")',
    ),
    "text-generation": _piped(  # what transformers writes by itself is longer than a small network's positions
        "text-generation", "Continuing texts", 'write("The first words of a text", max_new_tokens=24)'
    ),
    "feature-extraction": _piped(
        "feature-extraction", "Embedding texts", 'embed("A text to embed.", return_tensors=True).shape'
    ),
}
_TASKS = {  # what a head of a task does, and a sentence about its labels
    "single_label_classification": ("Classifying {}", _ONE),
    "multi_label_classification": ("Telling which labels fit {}", _ANY),
    "regression": ("Giving a number to {}", ""),
    "token_classification": ("Labelling the words of {}", _WORDS),
    "causal_lm": ("Continuing {}", ""),
}
_CALLS = {  # of texts by pipelines
    "single_label_classification": 'classify("A text to classify.")',
    "multi_label_classification": 'classify("A text to classify.", top_k=None)',
    "regression": 'rate("A text to rate.", function_to_apply="none")',
    "token_classification": 'label("A text to label.")',
}
_ENDINGS = (  # of the architecture's name in config.json
    ("ForMaskedLM", "fill-mask"),
    ("ForPreTraining", "fill-mask"),
    ("Model", "feature-extraction"),
)
_LSTM = TEXT["text-generation"]._replace(
    snippet="import hftransfer.lstm  # pip install hftransfer: transformers has no such architecture of its own\n"
    + TEXT["text-generation"].snippet,
    tags=("lstm",),
    library="hftransfer",
)
_IMAGES = """\
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

{model}reader = AutoImageProcessor.from_pretrained(model, backend="pil")
network = AutoModel.from_pretrained(model{options})
picture = Image.new("{mode}", (64, 64))  # or Image.open("picture.png").convert("{mode}")
print(network(**reader(picture, return_tensors="pt")).last_hidden_state.mean(1).shape)"""
_SPECTROGRAMS = """\
import numpy as np
from transformers import AutoFeatureExtractor, AutoModel

{model}reader = AutoFeatureExtractor.from_pretrained(model)
network = AutoModel.from_pretrained(model{options})
sound = np.zeros(reader.sampling_rate, dtype=np.float32)  # a second of silence; or one channel at this rate
spectrogram = reader(sound, sampling_rate=reader.sampling_rate, return_tensors="pt")["input_values"]
print(network(pixel_values=spectrogram[:, None]).last_hidden_state.mean(1).shape)"""
_WAVEFORMS = """\
import numpy as np
from transformers import AutoFeatureExtractor, AutoModel

{model}reader = AutoFeatureExtractor.from_pretrained(model)
network = AutoModel.from_pretrained(model)
sound = np.zeros(reader.sampling_rate, dtype=np.float32)  # a second of silence; or one channel at this rate
inputs = reader(sound, sampling_rate=reader.sampling_rate, return_tensors="pt")
print(network(**inputs).last_hidden_state.mean(1).shape)"""
_PIXELS = """\
import torch
from PIL import Image
from transformers import AutoImageProcessor, ImageGPTForCausalImageModeling

{model}reader = AutoImageProcessor.from_pretrained(model, backend="pil")
network = ImageGPTForCausalImageModeling.from_pretrained(model)
side, start = reader.size["height"], network.config.vocab_size - 1
colours = network.generate(torch.tensor([[start]]), max_new_tokens=side**2, do_sample=True)[0, 1:]
pixels = ((torch.tensor(reader.clusters)[colours] + 1) * 127.5).view(side, side, 3)
print(Image.fromarray(pixels.byte().numpy()))"""
_DRAWN = """\
import hftransfer.gans  # pip install hftransfer: transformers has no such architecture of its own
from transformers import AutoModel

{model}generator = AutoModel.from_pretrained(model)
{labels}samples = generator.generate(16, seed=0{options})
print({shown})"""
_JUDGED = """\
import hftransfer.gans  # pip install hftransfer: transformers has no such architecture of its own
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

{model}reader = AutoImageProcessor.from_pretrained(model, backend="pil")
network = AutoModel.from_pretrained(model).eval()
picture = Image.new("{mode}", (64, 64))  # or Image.open("picture.png").convert("{mode}")
print(network.features(**reader(picture, return_tensors="pt")).shape)"""
_PLACED = """\
from pathlib import Path

{imports}from hftransfer import clusters  # pip install hftransfer
from huggingface_hub import snapshot_download

{model}folder = model if Path(model).is_dir() else snapshot_download(model)
found = clusters.load(folder)
{vectors}
print([found.names[cluster] if cluster >= 0 else "none" for cluster in found.predict(vectors)])"""
_ALONE = """

# scikit-learn's own estimator, of the vectors as they are reduced
import skops.io

estimator = skops.io.load(f"{{folder}}/{file}")
{answer}"""
_PREDICTED = """\
reduced = found.reduction.transform(vectors).astype(estimator.cluster_centers_.dtype)  # which scikit-learn insists on
print(estimator.predict(reduced))"""
_LABELLED = "print(estimator.labels_)  # of its own rows, in numbers of its own; it tells none of new ones"
_TEXTS = '["A text to place."]'
_PICTURES = """\
pictures = Dataset.from_dict({{"image": [Image.new("RGB", (64, 64))]}})  # or Image.open("picture.png")
vectors = {call}"""


def use_of(folder: Path) -> Use | None:
    """What the checkpoint in a folder, the adapter alone, or clusters are for; None where that is not told."""
    if (folder / CLUSTERS).exists():
        return placing(folder, embedded.behind(folder))
    adapter = {} if (folder / "config.json").exists() else _read(folder / "adapter_config.json")
    config = _read(folder / ("base_config.json" if adapter else "config.json"))
    reader = _read(folder / "preprocessor_config.json")
    head = heads.head_of(config, reader)
    if head is not None and head.task in _TASKS:
        base = heads.place_of(str(adapter.get("base_model_name_or_path") or ""), folder) if adapter else None
        return _with_head(head, config, base)
    return None if adapter else _without_head(config, reader)


def _with_head(head: Head, config: dict[str, Any], base: str | None) -> Use:
    does, labels = _TASKS[head.task]
    tags = {"image": ("vision",), "sound": ("audio",)}.get(head.reads, ())
    said = Use(head.hub, does.format(f"{head.reads}s"), f"{head.reads}s", "", tags, labels=labels)
    if base is not None:
        return said._replace(snippet=heads.snippet(head, config, base), library="peft", tags=(*tags, "adapter"))
    if config.get("model_type") == "lstm":
        return _LSTM
    if heads.own_import(config):
        said = said._replace(library="hftransfer")
    if head.task == "causal_lm":
        return TEXT["text-generation"]
    if head.reads == "text":
        return said._replace(snippet=_piped(head.hub, said.does, _CALLS[head.task]).snippet)
    return said._replace(snippet=heads.snippet(head, config))


def _without_head(config: dict[str, Any], reader: dict[str, Any]) -> Use | None:
    architectures = config.get("architectures") or []
    kind = config.get("model_type")
    if kind == "lstm":
        return _LSTM
    if kind in _PLAYERS:
        return _PLAYERS[kind](config)
    if kind == "imagegpt":
        drawing = ("unconditional-image-generation", "Drawing images, pixel by pixel")
        return Use(*drawing, "images", _PIXELS.format(model=MODEL), ("vision",))
    if kind == "wav2vec2":
        return Use("feature-extraction", "Embedding sounds", "sounds", _WAVEFORMS.format(model=MODEL), ("audio",))
    if kind == "vit":
        # pretraining has no use for the pooler, which transformers would fill with random weights
        filled = {"model": MODEL, "options": ", add_pooling_layer=False" if "ViTModel" in architectures else ""}
        if "sampling_rate" in reader:
            sounds = ("feature-extraction", "Embedding sounds", "sounds")
            return Use(*sounds, _SPECTROGRAMS.format(**filled), ("audio",))
        images = ("image-feature-extraction", "Embedding images", "images")
        return Use(*images, _IMAGES.format(mode=heads.mode_of(config), **filled), ("vision",))
    found = (task for name in architectures for ending, task in _ENDINGS if name.endswith(ending))
    return TEXT.get(next(found, ""))


def _generator(config: dict[str, Any]) -> Use:
    """Of images or vectors; a conditional one is asked for a class."""
    vectors = len(config.get("sample_shape") or ()) == 1
    options = "" if vectors else ', output_type="pil"'
    classes = config.get("num_classes") or 0
    labels = f"label = 0  # of {classes} classes, or None for any\n" if classes else ""
    options = f", labels=label{options}" if classes else options
    shown = "samples[0]" if vectors else "samples[0].size"
    made = _DRAWN.format(model=MODEL, labels=labels, options=options, shown=shown)
    does = ("unconditional-image-generation", "Making new images", "images")
    if vectors:
        does = ("other", "Making new vectors", "vectors")
    return Use(*does, made, ("gan",) if vectors else ("vision", "gan"), library="hftransfer")


def _discriminator(config: dict[str, Any]) -> Use | None:
    """Of images; one of vectors is of no further use."""
    if len(config.get("sample_shape") or ()) == 1:
        return None
    found = _JUDGED.format(model=MODEL, mode=heads.mode_of(config))
    images = ("image-feature-extraction", "Embedding images", "images")
    return Use(*images, found, ("vision", "gan"), library="hftransfer")


_PLAYERS = {
    "gan_mlp_generator": _generator,
    "gan_conv_generator": _generator,
    "gan_mlp_discriminator": _discriminator,
    "gan_conv_discriminator": _discriminator,
}


def answering(use: Use, folder: Path) -> Use:
    """The use of a language model that was trained on answers: what it is asked is as it was in training."""
    templated = (folder / "chat_template.jinja").exists() or "chat_template" in _read(folder / "tokenizer_config.json")
    if use.library != "transformers" or not templated:
        return use._replace(does="Answering texts")
    asked = 'answer([{"role": "user", "content": "A question?"}], max_new_tokens=24)'
    return use._replace(does="Answering texts", snippet=_piped("text-generation", "", asked).snippet)


def placing(folder: Path, made: Embedded | None) -> Use:
    """What clusters are for: new rows, whose vectors are made as theirs where a checkpoint on the Hub makes them."""
    clusters = _read(folder / CLUSTERS)
    thing = "row" if made is None else made.kind
    vectors, imports = _vectors(made, clusters["reduction"]["width"])
    snippet = _PLACED.format(imports=imports, model=MODEL, vectors=vectors)
    alone = (folder / ESTIMATOR).exists()
    if alone:
        answer = _LABELLED if clusters["method"] == "hdbscan" else _PREDICTED
        snippet += _ALONE.format(file=ESTIMATOR, answer=answer)
    does = f"Telling to which of its {clusters['k']} clusters each belongs, of {thing}s"
    tags = ("clustering", "skops") if alone else ("clustering",)
    # "sklearn" would make the Hub tell how to load another file than ours
    return Use("other", does, f"{thing}s", snippet, tags, library="hftransfer")


def _vectors(made: Embedded | None, width: int) -> tuple[str, str]:
    """Lines that make `vectors`, and what they import."""
    if made is None or made.checkpoint is None or made.kind == "sound":
        return f"vectors = np.ones((1, {width}), dtype=np.float32)  # or yours, made as theirs", "import numpy as np\n"
    imports = "import hftransfer\n"
    if made.kind == "text":
        return f"vectors = {made.call(_TEXTS)}", imports
    imports += "from datasets import Dataset\nfrom PIL import Image\n"
    return _PICTURES.format(call=made.call("pictures")), imports


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
