"""`cluster`: structure in vectors, found without labels: reduced, grouped, named, and drawn."""

from typing import Annotated, Any

from pydantic import Field

from hftransfer.runs import Result, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, OutputDir, Seed

METHODS = ("kmeans", "minibatch_kmeans", "spherical_kmeans", "ward", "average", "complete", "hdbscan")
REDUCTIONS = ("none", "pca", "incremental_pca", "umap")
MAPS = ("none", "pca", "tsne", "umap")
NOTHING: dict[str, Any] = {}
Number = Annotated[int, Field(ge=2, strict=True)]


def cluster(
    data: Data,
    *,
    method: Annotated[str, OneOf(METHODS), Field(description="how rows are grouped")] = "kmeans",
    k: Annotated[Number | None, Field(description="number of clusters; null: chosen by a stated rule")] = None,
    try_k: Annotated[
        list[Number], Field(min_length=2, max_length=2, description="fewest and most clusters that are tried")
    ] = [2, 20],  # noqa: B006 (never changed)
    distance: Annotated[
        float | None, Field(gt=0, description="ward, average, complete: cut the hierarchy here instead of by number")
    ] = None,
    estimator: Annotated[
        dict[str, Any], Field(description="fields of the method's class in scikit-learn, under their own names")
    ] = NOTHING,
    normalize: Annotated[
        bool | None, Field(description="vectors of length 1, so that angles count; null: those that `embed` left")
    ] = None,
    standardize: Annotated[
        bool, Field(description="each number to mean 0 and variance 1 first, so that a table's units do not matter")
    ] = False,
    reduce: Annotated[
        Annotated[str, OneOf(REDUCTIONS)] | None,
        Field(description="fewer numbers before rows are grouped; null: pca where there are more than `components`"),
    ] = None,
    components: Annotated[
        Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1)] | str,
        Field(description="how many numbers: a number, a share of the variance, or likelihood: cross-validated"),
    ] = 50,
    whiten: Annotated[
        bool, Field(description="components of one variance, so that none outweighs the others")
    ] = False,
    map: Annotated[
        Annotated[str, OneOf(MAPS)] | None,
        Field(
            description="the picture's plane, in which nothing is grouped; null: tsne, or the two numbers there are"
        ),
    ] = None,
    near_duplicates: Annotated[
        float, Field(gt=0, le=1, description="cosine of centred vectors from which rows are called near-duplicates")
    ] = 0.98,
    fitted: Annotated[
        str | None,
        Field(description="folder of an earlier `cluster`: its clusters and its picture, nothing is fitted"),
    ] = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/cluster",
) -> Result:
    """Groups vectors, of `embed` or of numbers in a table, tells what the groups are and draws them.

    Clusters are made in the space of the vectors or of their reduction, never in the plane of the picture. They are
    numbered by size and named: by the words that tell a group's texts from the others' (c-TF-IDF, arXiv:2203.05794),
    or by nothing but their number. Labels, where there are any, take no part and judge the outcome.

    Returns:
        A folder with `clusters.json` and skops files, which `hftransfer.clusters.load` opens to predict new rows;
        `assignments.parquet`, a line for each row; `explore.html`, all rows to look through; the metrics.

    Raises:
        HFTransferError: in one line, for anything wrong with the options or the data.
    """
    given = validate(cluster, locals(), "cluster: ")
    with open_stage(output_dir, identity(cluster, given, models=[], data=["data"], folders=["fitted"])) as folder:
        if not folder.finished:
            from hftransfer.stages.clustering import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns and the options that must fit each other, and counts rows."""
    from hftransfer.stages import clustering

    return clustering.plan(given)
