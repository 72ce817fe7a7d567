"""What a data spec may say, and how it fails when it says something else."""

import subprocess
import sys

import pytest
from datasets import Dataset

from hftransfer.data import DataSpec
from hftransfer.data.spec import builder_options, display_name, load_dataset_parameters, parse
from hftransfer.errors import HFTransferError
from hftransfer.signatures import model_of, validate


def error_of(spec, key="source"):
    with pytest.raises(HFTransferError) as caught:
        parse(spec, key)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_importing_the_room_and_parsing_imports_nothing_heavy(tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\ngood,1\n")
    code = (
        "import sys; from hftransfer.data import parse, display_name\n"
        "parse('demo/api_docs', 'x'); parse({'path': 'reviews.csv', 'sep': ';'}, 'x'); parse('owner/name', 'x')\n"
        "heavy = {'datasets', 'torch', 'sklearn', 'transformers', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    path = ":".join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": path, "PATH": ""})


def test_parameter_names_are_those_of_the_installed_function():
    import inspect

    import datasets
    from datasets.packaged_modules.csv.csv import CsvConfig

    real = list(inspect.signature(datasets.load_dataset).parameters)
    assert list(load_dataset_parameters()) == [name for name in real if name != "config_kwargs"]
    assert {"sep", "header", "encoding"} <= set(builder_options("csv")) <= set(CsvConfig.__dataclass_fields__)


def test_a_spec_is_a_string_a_mapping_or_a_dataset(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text\ngood\n")
    assert parse("owner/name", "source").kind == "hub"
    assert parse({"path": "owner/name", "name": "en", "split": "train[:10%]", "sep": ";"}, "source").arguments["name"]
    assert parse("demo/api_docs/torch", "source").arguments == {"name": "torch"}
    assert parse({"path": "demo/api_docs", "name": "torch"}, "source").arguments == {"name": "torch"}
    assert parse("demo/api_docs", "source").arguments == {"name": "scipy"}
    assert parse(str(path), "source").files == {"train": (str(path),)}
    assert parse({"path": "csv", "data_files": str(path)}, "source").builder == "csv"
    assert parse({"data_files": {"train": str(path), "test": [str(path)]}}, "source").files.keys() == {"train", "test"}
    data = Dataset.from_dict({"text": ["a"]})
    assert parse(data, "source").data is data
    assert parse({"path": data, "columns": {"text": "text"}}, "source").columns == {"text": "text"}


def test_a_parsed_spec_parses_to_itself():
    spec = parse("demo/api_docs", "source")
    assert parse(spec, "other") is spec


def test_a_folder_s_file_names_say_the_split(tmp_path):
    for name in ("train-0.csv", "train-1.csv", "dev.csv", "my_test.csv", "contest.csv", ".hidden.csv", "README.md"):
        (tmp_path / name).write_text("text\ngood\n")
    files = {split: [p.rsplit("/")[-1] for p in part] for split, part in parse(str(tmp_path), "x").files.items()}
    assert files == {
        "train": ["contest.csv", "train-0.csv", "train-1.csv"],
        "validation": ["dev.csv"],
        "test": ["my_test.csv"],
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"path": "owner/name", "spilt": "train"}, ["source.spilt", "unknown key", "did you mean 'split'"]),
        ({"path": "owner/name", "column": {}}, ["source.column", "did you mean 'columns'"]),
        ({"path": "owner/name", "seperator": ";"}, ["source.seperator", "unknown key"]),
        ({"path": "owner/name", "token": "x"}, ["source.token", "environment"]),
        ({"path": "owner/name", "trust_remote_code": True}, ["source.trust_remote_code", "code"]),
        ({"path": "owner/name", "columns": {"txt": "a"}}, ["source.columns", "'txt'", "did you mean 'text'"]),
        ({"path": "owner/name", "columns": ["a"]}, ["source.columns", "mapping"]),
        ({"path": "owner/name", "columns": {"text": 3}}, ["source.columns.text", "3"]),
        ({"path": "owner/name", "split": ["train", "test"]}, ["source.split", "one str"]),
        ({"path": "owner/name", "streaming": "yes"}, ["source.streaming", "bool"]),
        ({"name": "en"}, ["source", "path:"]),
        ({"path": "csv"}, ["source", "data_files"]),
        (7, ["source", "demo/NAME", "7"]),
        ("", ["source.path"]),
        ("demo/api_dcs", ["source", "demo/api_dcs", "did you mean 'demo/api_docs'"]),
        ("demo/api_docs/torhc", ["source", "torhc", "did you mean 'torch'"]),
        ("demo/digits/torch", ["source", "no config", "it has none"]),
        ({"path": "demo/api_docs", "split": "train"}, ["source.split", "only 'name'"]),
    ],
)
def test_a_wrong_spec_names_the_key_and_what_to_do(spec, words):
    message = error_of(spec)
    assert [word for word in words if word not in message] == []


def test_a_key_of_another_format_is_unknown(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    assert "source.sep: unknown key" in error_of({"path": str(path), "sep": ";"})


def test_missing_files_name_the_nearest(tmp_path):
    (tmp_path / "reviews.csv").write_text("text\ngood\n")
    assert "did you mean 'reviews.csv'" in error_of(str(tmp_path / "review.csv"))
    assert "nothing in" in error_of(str(tmp_path / "zzz.parquet"))
    assert "there is no folder" in error_of(str(tmp_path / "no" / "reviews.csv"))
    assert "no file matches '*.json'" in error_of({"data_files": "*.json", "data_dir": str(tmp_path)})


def test_unreadable_files_are_refused(tmp_path):
    (tmp_path / "book.xlsx").write_bytes(b"x")
    assert "suffix is '.xlsx'" in error_of(str(tmp_path / "book.xlsx"))
    assert "holds no data files" in error_of(str(tmp_path))
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "b.jsonl").write_text('{"text": "b"}\n')
    assert ".csv and .jsonl" in error_of(str(tmp_path))


def test_display_names_are_short_and_tell_no_local_folder(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text\ngood\n")
    names = {
        "demo/api_docs": "demo/api_docs (scipy)",
        "demo/digits": "demo/digits",
        "owner/name": "owner/name",
        str(path): "reviews.csv",
        str(tmp_path / "*.csv"): "*.csv",
        f"{tmp_path}/": tmp_path.name,
    }
    for spec, name in names.items():
        assert display_name(spec) == name
        assert display_name(parse(spec, "x")) == name
    assert display_name({"path": "csv", "data_files": {"train": [str(path)]}}) == "reviews.csv"
    assert display_name(parse({"data_files": str(path)}, "x")) == "reviews.csv"
    assert display_name({"path": "owner/name", "name": "en", "split": "test"}) == "owner/name (en, split test)"
    assert display_name(Dataset.from_dict({"text": ["a"]})) == "dataset in memory"


def test_the_type_validates_in_a_signature_and_has_a_schema():
    def stage(*, source: DataSpec) -> None: ...

    data = Dataset.from_dict({"text": ["a"]})
    assert validate(stage, {"source": data})["source"] is data
    with pytest.raises(HFTransferError, match="source: expected a Hub id"):
        validate(stage, {"source": 3})
    schema = model_of(stage).model_json_schema()["properties"]["source"]["anyOf"]
    assert schema[0] == {"type": "string"}
    assert {"path", "split", "columns"} <= set(schema[1]["properties"])
    assert "token" not in schema[1]["properties"]
