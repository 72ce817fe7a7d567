"""Labels that were never trained on, told by their names or descriptions: the ways, one a file, and their table.

The table is light; a way's file is imported when the way is asked for.
"""

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hftransfer.described.base import Way


class Entry(NamedTuple):
    """One line of `WAYS`."""

    home: str  # the file that holds the class
    cls: str
    does: str
    needs: str  # of a checkpoint, in words
    job: str  # the key of `models.AUTO_CLASSES` that does it
    templates: tuple[str, ...]  # by default
    text: bool  # whether a template holds the text, too
    papers: tuple[str, ...]


ENSEMBLE = (
    "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020"
)
WAYS = {
    "entailment": Entry(
        "entailment",
        "Entailment",
        "whether the text entails a sentence about the label",
        "a classifier of pairs of texts with a class named entailment",
        "text_classification",
        ("This text is about {label}.",),
        False,
        ("Yin et al. 2019, Benchmarking Zero-shot Text Classification, arXiv:1909.00161",),
    ),
    "similarity": Entry(
        "similarity",
        "Similarity",
        "the angle between the vectors of the text and of the label's descriptions",
        "an encoder of texts",
        "encoder",
        ("{label}", "This text is about {label}.", "Topic: {label}."),
        False,
        ("Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084", ENSEMBLE),
    ),
    "fill_mask": Entry(
        "fill_mask",
        "FillMask",
        "how well the label's word fills a blank beside the text",
        "a masked language model's head",
        "masked_lm",
        ("{text} This is about {label}.",),
        True,
        ("Schick and Schütze 2021, Exploiting Cloze Questions for Few Shot Text Classification, arXiv:2001.07676",),
    ),
    "likelihood": Entry(
        "likelihood",
        "Likelihood",
        "how likely the label's words are after the text",
        "a causal language model's head",
        "causal_lm",
        ("{text}\nThis text is about {label}",),
        True,
        ("Brown et al. 2020, Language Models are Few-Shot Learners, arXiv:2005.14165",),
    ),
    "image_text": Entry(
        "image_text",
        "ImageText",
        "the angle between the vectors of the image and of the label's descriptions",
        "an encoder of images beside one of texts (CLIP, SigLIP)",
        "image_text",
        ("a photo of {label}.",),
        False,
        (ENSEMBLE,),
    ),
}


def find(name: str) -> "type[Way]":
    """The class of a way; importing it imports torch."""
    entry = WAYS[name]
    return getattr(importlib.import_module(f"{__name__}.{entry.home}"), entry.cls)
