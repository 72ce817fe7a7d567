"""Structure in vectors: reduced, grouped, judged, named, drawn and saved.

clusters = hftransfer.clusters.load("out/2-cluster")
clusters.predict(vectors), clusters.place(vectors), clusters.names
"""

from hftransfer.clusters.methods import METHODS, Fitted, fit
from hftransfer.clusters.number import Choice, choose
from hftransfer.clusters.plane import Plane, fit_plane
from hftransfer.clusters.reduce import Reduction, fit_reduction
from hftransfer.clusters.saved import Clusters, load, save

__all__ = [
    "METHODS",
    "Choice",
    "Clusters",
    "Fitted",
    "Plane",
    "Reduction",
    "choose",
    "fit",
    "fit_plane",
    "fit_reduction",
    "load",
    "save",
]
