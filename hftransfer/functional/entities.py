"""Entities out of B-, I- and O labels, as CoNLL-2003 evaluates them (Tjong Kim Sang and De Meulder 2003)."""

from collections.abc import Sequence

Span = tuple[str, int, int]  # type, first word, the word after the last


def is_bio(names: Sequence[str]) -> bool:
    """Whether labels mark entities: O, and B- or I- before a type."""
    marked = [name for name in names if name != "O"]
    return "O" in names and bool(marked) and all(name[:2] in ("B-", "I-") for name in marked)


def spans(labels: Sequence[str]) -> set[Span]:
    """The entities of a sentence. An I- that continues nothing of its type begins one, as in the CoNLL script."""
    found: set[Span] = set()
    start, kind = 0, ""
    for place, label in enumerate([*labels, "O"]):
        mark, _, this = label.partition("-")
        if kind and (mark != "I" or this != kind):
            found.add((kind, start, place))
            kind = ""
        if mark in ("B", "I") and not kind:
            start, kind = place, this
    return found


def matched(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, tuple[int, int, int]]:
    """{type: (right, predicted, true)} numbers of entities: right where type, first and last word are."""
    counts: dict[str, list[int]] = {}
    for one, other in zip(true, predicted, strict=True):
        wanted, given = spans(one), spans(other)
        for place, group in enumerate((wanted & given, given, wanted)):
            for kind, _, _ in group:
                counts.setdefault(kind, [0, 0, 0])[place] += 1
    return {kind: (right, given, wanted) for kind, (right, given, wanted) in sorted(counts.items())}


def precision_recall_f1(right: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Of counts; 1 where there is nothing to find and nothing was found."""
    if not predicted and not true:
        return 1.0, 1.0, 1.0
    precision, recall = right / max(predicted, 1), right / max(true, 1)
    return precision, recall, 2 * right / (predicted + true)
