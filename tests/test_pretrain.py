"""`pretrain` from files and streams."""

import pytest

import hftransfer
from hftransfer.errors import HFTransferError

QUICK = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3}


def pretrain(tiny_bert, tmp_path, data, **options):
    given = {"training": QUICK, "head_steps": 3, "max_length": 16, "seed": 3, "output_dir": str(tmp_path / "pre")}
    return hftransfer.pretrain(str(tiny_bert), data, **{**given, **options})


@pytest.mark.parametrize("options", [{}, {"whole_word": True}, {"pack": True, "max_length": 32}])
def test_two_domains_are_read_and_the_loss_compared(tiny_bert, reviews, tmp_path, options):
    result = pretrain(tiny_bert, tmp_path, [reviews("source"), reviews("target")], **options)
    names = [f"{name}.{when}" for name in ("loss", "perplexity", "bits_per_byte") for when in ("before", "after")]
    assert all(result.metrics[name] > 0 for name in names)
    assert result.evidence["verdict"]["outcome"] in ("helped", "hurt", "no measurable difference")
    assert len(result.evidence["data"]) == 2
    assert [curve["name"] for curve in result.evidence["curves"]] == ["new head, encoder frozen", "masked-LM loss"]
    assert (result.path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_with_its_head_gets_no_new_one(tiny_bert, reviews, tmp_path):
    first = pretrain(tiny_bert, tmp_path, reviews("source"))
    again = hftransfer.pretrain(
        str(first.path), reviews("source"), training=QUICK, max_length=16, seed=3, output_dir=str(tmp_path / "again")
    )
    assert [curve["name"] for curve in again.evidence["curves"]] == ["masked-LM loss"]
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["loss.after"], rel=1e-5)


def test_a_stream_is_read_as_far_as_asked(tiny_bert, reviews, tmp_path):
    stream = {"path": "csv", "data_files": reviews("source"), "streaming": True}
    with pytest.raises(HFTransferError, match="max_train_samples"):
        pretrain(tiny_bert, tmp_path, stream)
    result = pretrain(tiny_bert, tmp_path, stream, max_train_samples=20)
    assert result.evidence["data"][0]["rows"] == 20
