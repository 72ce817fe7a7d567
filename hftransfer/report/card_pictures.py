"""The pictures that a card shows: of numbers alone, on white. None of them shows a row of the data."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from hftransfer.evidence import Picture
from hftransfer.report import figures, words
from hftransfer.report.figures import DARK_INK, theme
from hftransfer.report.gan_pictures import figure_png
from hftransfer.report.record import RunRecord, StageRecord

FOLDER = "pictures"  # beside the card
_DPI = 130


def draw(record: RunRecord, folder: Path) -> list[Picture]:
    """Writes the pictures of a run's final stages into `folder/pictures`, and says what they are.

    Changes from before to after and confusion counts are drawn anew; curves and what else shows no row of the data
    is taken from the stage folders.
    """
    found: list[Picture] = []
    for stage in record.final_stages():
        for name, caption, content in _of_stage(stage):
            file = folder / FOLDER / f"{stage.evidence['id']}-{name}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            title = words.one_line(stage.evidence["title"])
            found.append({"file": f"{FOLDER}/{file.name}", "caption": f"{title}: {caption}"})
    return found


def _of_stage(stage: StageRecord) -> Iterator[tuple[str, str, bytes]]:
    evidence = stage.evidence
    before, after = evidence.get("before_name") or "before", evidence.get("after_name") or "after"
    confusion = evidence.get("confusion")
    with theme(DARK_INK):
        if changes := figures.drawn_changes(evidence.get("comparison") or [], before, after):
            yield "changes.png", "before and after", _on_white(changes)
        if confusion and confusion.get("after"):
            counts = figures.drawn_confusion(confusion["labels"], confusion["after"])
            yield "confusion.png", f"answers by true label, {after}", _on_white(counts)
    stored = [*(picture for picture in evidence.get("pictures") or [] if picture.get("shareable"))]
    if evidence.get("curves"):
        stored.insert(0, {"file": "loss.png", "caption": "the training's curves"})
    for picture in stored:
        file = stage.folder / Path(picture["file"]).name
        if file.is_file():
            yield file.name, picture["caption"], file.read_bytes()


def _on_white(figure: Figure) -> bytes:
    figure.set_facecolor("white")
    return figure_png(figure, _DPI)
