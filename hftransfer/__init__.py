"""hftransfer: checkpoint in, checkpoint out. The verbs of transfer learning, with the evidence beside the weights.

    import hftransfer

    result = hftransfer.adapt("google-bert/bert-base-uncased", source="reviews.csv", target="tweets.csv")
    result.metrics, result.model()

Nothing heavy is imported until a verb is used.
"""

from typing import TYPE_CHECKING, Any

from hftransfer.errors import HFTransferError

if TYPE_CHECKING:
    from hftransfer.embedding import embed
    from hftransfer.recipe import run
    from hftransfer.runs import Result
    from hftransfer.stages.adapt import adapt
    from hftransfer.stages.cluster import cluster
    from hftransfer.stages.compare import compare
    from hftransfer.stages.evaluate import evaluate
    from hftransfer.stages.finetune import finetune
    from hftransfer.stages.gan import gan
    from hftransfer.stages.pretrain import pretrain
    from hftransfer.stages.push import push
    from hftransfer.stages.zero_shot import zero_shot

__version__ = "0.1.0"
__all__ = [
    "HFTransferError",
    "Result",
    "adapt",
    "cluster",
    "compare",
    "embed",
    "evaluate",
    "finetune",
    "gan",
    "pretrain",
    "push",
    "run",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    from hftransfer.stages import STAGES, verb

    if name == "embed":
        from hftransfer.embedding import embed

        return embed
    if name in STAGES:
        return verb(name)
    if name == "run":
        from hftransfer.recipe import run

        return run
    if name == "Result":
        from hftransfer.runs import Result

        return Result
    raise AttributeError(f"module 'hftransfer' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
