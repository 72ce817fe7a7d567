"""Clusters on disk: scikit-learn's estimators by skops, arrays by safetensors, the rest as JSON. Never pickle.

clusters.json           method, names, and how vectors are reduced
clusters.safetensors    middles, and what places a new row
reduction.skops         the fitted reduction      (where there is one)
plane.skops             the picture's plane       (where it has a formula)
estimator.skops         the clustering's estimator, to be used with scikit-learn alone
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer import runs
from hftransfer.clusters.methods import Fitted
from hftransfer.clusters.placed import Placed
from hftransfer.clusters.plane import Plane
from hftransfer.clusters.reduce import Reduction
from hftransfer.errors import HFTransferError

Array = NDArray[Any]
INFO, ARRAYS = "clusters.json", "clusters.safetensors"
PARTS = ("reduction", "plane", "estimator")  # skops files
CLASSES = {  # what each of them may hold; skops knows these, and nothing that it does not know is loaded
    "reduction": ("PCA", "IncrementalPCA"),
    "plane": ("PCA",),
    "estimator": ("KMeans", "MiniBatchKMeans", "HDBSCAN"),
}


@dataclass(frozen=True)
class Clusters:
    """Clusters that can take new rows."""

    folder: Path
    reduction: Reduction
    fitted: Fitted
    plane: Plane
    names: list[str]

    @property
    def centres(self) -> Array:
        """(k, numbers) the clusters' middles in the reduced space."""
        return self.fitted.centres

    def predict(self, vectors: Array) -> Array:
        """(rows,) the cluster of each of some new vectors; -1: none.

        Raises:
            HFTransferError: they are of another width, or not finite.
        """
        return self.fitted.assign(self.reduction.transform(np.asarray(vectors)))

    def place(self, vectors: Array) -> Array:
        """(rows, 2) where they lie in the picture."""
        return self.plane.place(self.reduction.transform(np.asarray(vectors)))


def save(folder: Path, reduction: Reduction, fitted: Fitted, plane: Plane, names: Sequence[str]) -> None:
    """Writes what `load` reads."""
    import skops.io
    from safetensors.numpy import save_file

    arrays = {"centres": fitted.centres, "reference": fitted.reference, "reference_labels": fitted.reference_labels,
              "points": plane.points, "explained": reduction.explained, "scaling": reduction.scaling,
              "reach": fitted.reach,
              "tree": fitted.tree, "leaves": fitted.leaves}  # fmt: skip
    estimators = dict(zip(PARTS, (reduction.estimator, plane.estimator, fitted.estimator), strict=True))
    for name, estimator in estimators.items():
        if isinstance(estimator, Placed):
            arrays |= {f"{name}.reference": estimator.reference, f"{name}.targets": estimator.targets}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in arrays.items() if value is not None}, folder / ARRAYS
    )
    for name, estimator in estimators.items():
        if estimator is not None and not isinstance(estimator, Placed):
            skops.io.dump(estimator, folder / f"{name}.skops")
    info = {
        "method": fitted.method,
        "k": fitted.k,
        "names": list(names),
        "cut": fitted.cut,
        "reduction": {"how": reduction.how, "normalize": reduction.normalize, "width": reduction.width,
                      "likelihood": reduction.likelihood, "says": reduction.says},
        "plane": {"how": plane.how, "kept": plane.kept, "says": plane.says},
    }  # fmt: skip
    runs.write_json(folder / INFO, info)


def load(folder: str | Path) -> Clusters:
    """Opens a folder that `cluster` left.

    Raises:
        HFTransferError: it is no such folder, a file of it is missing, cut off, or holds what is not trusted.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    info = runs.read_json(folder / INFO)
    if "reduction" not in info:
        raise HFTransferError(f"fitted: {folder} holds no clusters; give a folder that `cluster` left")
    try:
        arrays = load_file(folder / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise HFTransferError(f"fitted: {ARRAYS} in {folder.name} cannot be read; run cluster again") from error
    try:
        return _built(folder, info, arrays)
    except (KeyError, TypeError, AttributeError) as error:
        raise HFTransferError(f"fitted: {folder.name} is not what `cluster` leaves; run cluster again") from error


def _built(folder: Path, info: dict[str, Any], arrays: dict[str, Array]) -> Clusters:
    made, plane = info["reduction"], info["plane"]
    needed = {"reduction": made["how"] != "none", "plane": plane["how"] != "none", "estimator": False}
    parts = {name: _placed(name, arrays) or _estimator(folder, name, needed[name]) for name in PARTS}
    likelihood = None if made["likelihood"] is None else [(int(n), float(value)) for n, value in made["likelihood"]]
    reduction = Reduction(
        made["how"], made["normalize"], made["width"], parts["reduction"], arrays.get("explained"), likelihood,
        made["says"], arrays.get("scaling"),
    )  # fmt: skip
    fitted = Fitted(
        info["method"], arrays["reference_labels"], arrays["centres"], arrays["reference"], arrays["reference_labels"],
        arrays.get("reach"), parts["estimator"], arrays.get("tree"), arrays.get("leaves"), info["cut"], "",
    )  # fmt: skip
    drawn = Plane(plane["how"], arrays["points"], parts["plane"], plane["kept"], plane["says"])
    return Clusters(folder, reduction, fitted, drawn, info["names"])


def _placed(name: str, arrays: dict[str, Array]) -> Placed | None:
    """A map without a formula, where there is one."""
    if f"{name}.reference" not in arrays:
        return None
    return Placed(arrays[f"{name}.reference"], arrays[f"{name}.targets"])


def _estimator(folder: Path, name: str, needed: bool) -> Any:
    """An estimator of the classes that `save` writes; None where there is no file and none is needed.

    skops trusts scikit-learn's estimators and numpy's arrays without being told. A name that it does not trust may be
    any function, `eval` too: none is taken, whatever library it is of.
    """
    import skops.io

    file = folder / f"{name}.skops"
    if not file.exists() and not needed:
        return None
    try:
        unknown = skops.io.get_untrusted_types(file=file)
        found = skops.io.load(file, trusted=[]) if not unknown else None
    except Exception as error:  # a zip archive that is cut off raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HFTransferError(f"fitted: {file.name} in {folder.name} cannot be read ({reason})") from error
    kind = type(found)
    if unknown or kind.__name__ not in CLASSES[name] or not kind.__module__.startswith("sklearn."):
        strange = unknown[0] if unknown else f"{kind.__module__}.{kind.__name__}"
        raise HFTransferError(f"fitted: {file.name} holds {strange}, which is not trusted; it is not loaded")
    return found
