"""Too little to learn from, or nothing to measure on, is told in a line."""

import pytest

import hftransfer
from hftransfer.errors import HFTransferError


@pytest.mark.parametrize(
    "rows, part", [(["  ", " "], "train"), (["the pan", "the oven"], "test")], ids=["all blank", "too few to hold out"]
)
def test_an_empty_part_of_a_stream_is_told_in_a_line(tiny_bert, tmp_path, rows, part):
    (tmp_path / "few.csv").write_text("text,number\n" + "".join(f"{row},{i}\n" for i, row in enumerate(rows)))
    stream = {"path": "csv", "data_files": str(tmp_path / "few.csv"), "streaming": True, "columns": {"text": "text"}}
    given = {"objective": "masked_lm", "max_length": 16, "max_train_samples": 10, "seed": 1}
    with pytest.raises(HFTransferError, match=rf"^data\[0\]: the stream's {part} part has no rows") as caught:
        hftransfer.pretrain(str(tiny_bert), stream, output_dir=str(tmp_path / "out"), **given)
    assert "\n" not in str(caught.value)


def test_a_corpus_that_fills_no_packed_row_is_refused_but_held_out_text_may_be_short(tiny_bert, reviews, tmp_path):
    training = {"max_steps": 2, "per_device_train_batch_size": 4}
    given = {
        "objective": "masked_lm",
        "pack": True,
        "max_length": 64,
        "head_steps": 1,
        "training": training,
        "seed": 1,
    }
    with pytest.raises(HFTransferError, match=r"^data: all of it is \d+ tokens, .* row of max_length 64; lower"):
        hftransfer.pretrain(str(tiny_bert), reviews("source", 6), output_dir=str(tmp_path / "few"), **given)
    made = hftransfer.pretrain(str(tiny_bert), reviews("source", 12), output_dir=str(tmp_path / "enough"), **given)
    assert made.metrics["loss.after"] > 0  # ten rows to train on fill two packed ones, two to measure on fill none
    short = {**given, "pack": False, "output_dir": str(tmp_path / "unpacked")}
    assert hftransfer.pretrain(str(tiny_bert), reviews("source", 6), **short).metrics["loss.after"] > 0
