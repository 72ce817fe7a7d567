import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from huggingface_hub import ModelCard

from hftransfer import lstm, report, scratch
from hftransfer.data import palette
from hftransfer.models import quiet_transformers
from hftransfer.report import card as write_card
from hftransfer.report.card import bibtex, code, eval_results, markdown
from hftransfer.report.record import read_run


@pytest.fixture
def card_file(run_folder: Path) -> Path:
    return report.card(run_folder, run_folder / "final")


def rewrite(file: Path, **changes: object) -> None:
    evidence = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(evidence | changes), encoding="utf-8")


def test_metadata_parses_back_to_the_same_results(run_folder: Path, card_file: Path) -> None:
    card = ModelCard.load(card_file)
    assert card_file == run_folder / "final" / "README.md"
    assert card.data.model_name == "bert_domain_adapt"
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.datasets == ["fancyzhx/ag_news"]
    assert {"hftransfer", "domain-adaptation"} <= set(card.data.tags)
    assert card.data.eval_results == eval_results(read_run(run_folder), "text-classification")
    assert [result.metric_value for result in card.data.eval_results] == [0.8333, 0.81, 0.79]
    assert [result.metric_type for result in card.data.eval_results] == ["accuracy", "f1", "accuracy"]
    assert all(result.verified is False for result in card.data.eval_results)
    assert {result.dataset_split for result in card.data.eval_results} == {"target"}


def test_the_file_survives_the_hubs_own_round_trip(card_file: Path) -> None:
    text = card_file.read_text(encoding="utf-8")
    again = str(ModelCard(text))
    assert str(ModelCard(again)) == again
    assert ModelCard(again).data.to_dict() == ModelCard(text).data.to_dict()


def test_numbers_of_earlier_checkpoints_stay_in_the_text(card_file: Path) -> None:
    card = ModelCard.load(card_file)
    assert "masked-token loss" in card.text
    assert "masked-token loss" not in card.data.to_yaml()


def test_no_path_no_token_no_markup(card_file: Path) -> None:
    text = card_file.read_text(encoding="utf-8")
    for unwanted in ("/home/", "someone", "hf_abcdefgh", "<script", "More Information Needed", "hub_token", "a|b`c"):
        assert unwanted not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "a&#124;b&#96;c" in text
    assert "<code>bert-small</code>" in text


def test_tables_keep_their_columns(run_folder: Path) -> None:
    hostile = {"name": "acc | uracy\n`x`", "before": 0.1, "after": 0.2, "protocol": "a | b", "higher_is_better": True}
    rewrite(run_folder / "2-adapt" / "evidence.json", comparison=[hostile], before_name="be|fore")
    text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
    widths: set[int] = set()
    for line in text.splitlines():
        if line.startswith("|"):
            widths.add(line.count("|"))
        elif widths:
            assert len(widths) == 1
            widths = set()
    assert "acc &#124; uracy &#96;x&#96;" in text


def test_limits_follow_from_the_evidence(run_folder: Path, card_file: Path) -> None:
    text = card_file.read_text(encoding="utf-8")
    assert "Evaluated on 168 texts of demo/api_docs (torch); nothing is known outside it." in text
    assert "Classes whose recall fell:" in text
    assert "marked transductive" in text
    rewrite(
        run_folder / "2-adapt" / "evidence.json",
        verdict={"outcome": "hurt", "text": "Transfer hurt: accuracy fell."},
        confusion={"labels": ["a", "b"], "before": [[3, 1], [1, 3]], "after": [[4, 0], [4, 0]]},
    )
    text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
    assert "Transfer hurt in this run: prefer source-only." in text
    assert "Classes whose recall fell: b 0.750 to 0.000 (4 texts)." in text
    assert "Never predicted in the evaluation: b." in text


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertModel", "feature-extraction"),
        ("GPT2LMHeadModel", "text-generation"),
    ],
)
def test_the_task_is_the_architectures(bare_run_folder: Path, architecture: str, task: str) -> None:
    final = bare_run_folder / "final"
    final.mkdir()
    (final / "config.json").write_text(json.dumps({"architectures": [architecture]}), encoding="utf-8")
    text = report.card(bare_run_folder, final).read_text(encoding="utf-8")
    assert ModelCard(text).data.pipeline_tag == task
    assert f'pipeline("{task}", model=model)' in text


VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CODES = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}


def vit(folder: Path, channels: int, reader: str) -> None:
    config = transformers.ViTConfig(**VIT, intermediate_size=16, num_channels=channels)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    heard = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=16)
    (scratch.image_processor(config) if reader == "image" else heard).save_pretrained(folder)


def imagegpt(folder: Path) -> None:
    config = transformers.ImageGPTConfig(n_positions=64, vocab_size=17, n_embd=16, n_layer=1, n_head=2)
    transformers.ImageGPTForCausalImageModeling(config).save_pretrained(folder)
    palette.processor(8, np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)).save_pretrained(folder)


def wav2vec2(folder: Path) -> None:
    convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**SIZES, **convolutions, **CODES)).save_pretrained(
        folder
    )
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def text(folder: Path, name: str) -> None:
    config = {
        "Bert": transformers.BertConfig(**SIZES, max_position_embeddings=64),
        "GPT2": transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64),
        "LSTM": lstm.LSTMConfig(hidden_size=16, num_hidden_layers=1),
    }[name[:4]]
    reader = scratch.learn_tokenizer(["a text of words"] * 9, 300, masked=name.startswith("Bert"), max_length=64)
    network = getattr(lstm if name.startswith("LSTM") else transformers, name)
    network(scratch.fit_config(config, reader)).save_pretrained(folder)
    reader.save_pretrained(folder)


def snippet_of(card: str) -> str:
    (snippet,) = re.findall(r"## How to load it\n\n```python\n(.*?)```", card, flags=re.DOTALL)
    return str(snippet)


CONTINUED = "The first words of a text"
SHAPE = "torch.Size([1, 16])"


@pytest.mark.parametrize(
    ("make", "task", "use", "reads", "shown"),
    [
        (lambda to: vit(to, 1, "image"), "image-feature-extraction", "Embedding images", "images", SHAPE),
        (lambda to: vit(to, 3, "image"), "image-feature-extraction", "Embedding images", "images", SHAPE),
        (lambda to: vit(to, 1, "sound"), "feature-extraction", "Embedding sounds", "sounds", SHAPE),
        (imagegpt, "unconditional-image-generation", "Drawing images", "images", "size=8x8"),
        (wav2vec2, "feature-extraction", "Embedding sounds", "sounds", SHAPE),
        (lambda to: text(to, "LSTMForCausalLM"), "text-generation", "Continuing texts", "texts", CONTINUED),
        (lambda to: text(to, "GPT2LMHeadModel"), "text-generation", "Continuing texts", "texts", CONTINUED),
        (lambda to: text(to, "BertForMaskedLM"), "fill-mask", "Filling in masked words", "texts", "token_str"),
        (lambda to: text(to, "BertModel"), "feature-extraction", "Embedding texts", "texts", "torch.Size([1, "),
        (
            lambda to: text(to, "BertForSequenceClassification"),
            "text-classification",
            "Classifying texts",
            "texts",
            "LABEL_",
        ),
    ],
)
def test_the_snippet_runs_where_the_card_lies(
    run_folder: Path,
    make: Callable[[Path], None],
    task: str,
    use: str,
    reads: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    final = run_folder / "final"
    with quiet_transformers():
        make(final)
    card = report.card(run_folder, final).read_text(encoding="utf-8")
    monkeypatch.chdir(final)
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        exec(snippet_of(card), {})
    assert shown in capsys.readouterr().out
    data = ModelCard(card).data
    own = "hftransfer" if (final / "config.json").read_text().count('"lstm"') else "transformers"
    assert (data.pipeline_tag, data.library_name) == (task, own)
    assert f"Evaluated on 168 {reads} of" in card
    assert f"## Intended use\n\n{use}" in card


def test_the_snippet_of_an_lstm_runs_in_a_process_of_its_own(run_folder: Path) -> None:
    """Here `transformers` has long been made to know the architecture."""
    final = run_folder / "final"
    with quiet_transformers():
        text(final, "LSTMForCausalLM")
    card = report.card(run_folder, final).read_text(encoding="utf-8")
    ran = subprocess.run([sys.executable, "-c", snippet_of(card)], cwd=final, capture_output=True, text=True)
    assert ran.returncode == 0 and CONTINUED in ran.stdout, ran.stderr


def test_a_new_network_has_no_base_model(run_folder: Path) -> None:
    (run_folder / "recipe.yaml").write_text("model: scratch/vit_mae\n", encoding="utf-8")
    text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
    assert ModelCard(text).data.base_model is None
    assert "from a new network of type <code>vit_mae</code>" in text
    (run_folder / "recipe.yaml").write_text("model: gpt2\n", encoding="utf-8")
    rewrite(run_folder / "1-pretrain" / "evidence.json", settings={"from_scratch": True})
    text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
    assert ModelCard(text).data.base_model is None  # its sizes were taken, none of its weights


def test_a_card_of_almost_nothing_is_still_whole(bare_run_folder: Path) -> None:
    text = report.card(bare_run_folder, bare_run_folder / "final").read_text(encoding="utf-8")
    assert "No comparison was recorded." in text
    assert ModelCard(text).data.eval_results is None
    for section in ("## Data", "## Citations", "## Training settings", "## Made with"):
        assert section not in text


def test_a_local_folder_is_told_by_its_name(run_folder: Path, tmp_path: Path) -> None:
    local = tmp_path / "my checkpoint"
    local.mkdir()
    (run_folder / "recipe.yaml").write_text(f"model: {local}\n", encoding="utf-8")
    text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
    assert ModelCard(text).data.base_model is None  # on the Hub that name is another's
    assert "from <code>my checkpoint</code>" in text
    assert str(tmp_path) not in text


def test_only_a_hub_id_is_the_base_model(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    for name, expected in (
        ("gpt2", "gpt2"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert", None),
        ("./gone", None),
        ("a/b/c", None),
        ("<BertModel in memory>", None),
    ):
        (run_folder / "recipe.yaml").write_text(f"model: {name}\n", encoding="utf-8")
        text = report.card(run_folder, run_folder / "final").read_text(encoding="utf-8")
        assert ModelCard(text).data.base_model == expected
    assert "from <code>&lt;BertModel in memory&gt;</code>" in text


def test_the_same_record_gives_the_same_bytes(run_folder: Path, card_file: Path) -> None:
    first = card_file.read_bytes()
    assert write_card(run_folder, run_folder / "final").read_bytes() == first


def test_escapes() -> None:
    assert markdown("a_b _c_ *d*") == "a_b \\_c\\_ &#42;d&#42;"
    assert markdown("# no heading\n- no list") == "\\# no heading - no list"
    assert markdown("1. no list") == "1\\. no list"
    assert markdown("[a](b) \\( $x$") == "&#91;a&#93;(b) &#92;( &#36;x&#36;"
    assert markdown("loaded /srv/data/x.csv, or and/or") == "loaded x.csv, or and/or"
    assert code("a`|</code>") == "<code>a&#96;&#124;&lt;/code&gt;</code>"


def test_bibtex() -> None:
    entries = bibtex(
        [
            "Jin et al. 2020, Minimum Class Confusion, arXiv:1912.03699",
            "Sun and Saenko 2016, Deep CORAL: Correlation Alignment, arXiv:1607.01719",
            "Gururangan, Marasovic and Smith 2020, Don't Stop, Pretraining",
            "Jin et al. 2020, Another }one{, arXiv:2001.00001",
            "a sentence that is no citation",
        ]
    )
    keys = re.findall(r"@misc\{(\w+),", entries)
    assert len(keys) == len(set(keys)) == 4
    assert "author = {Jin and others}" in entries and "title = {Deep CORAL: Correlation Alignment}" in entries
    assert "title = {Don't Stop, Pretraining}" in entries and "eprint = {1607.01719}" in entries
    assert entries.count("{") == entries.count("}")
