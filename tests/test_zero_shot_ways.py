"""Each way of telling described labels is what a plain computation with its own network gives."""

import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

import hftransfer
from hftransfer import described
from hftransfer.data.read import quiet
from hftransfer.described.base import Asking
from hftransfer.described.choosing import chosen, fitting
from hftransfer.described.fill_mask import narrow
from hftransfer.described.labels import prompts
from hftransfer.described.likelihood import added_behind
from hftransfer.errors import HFTransferError
from hftransfer.functional.unit import unit
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM
from hftransfer.models import quiet_transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
LABELS = {"calm": ["quiet", "very still"], "loud": "noisy", "odd": "strange weird"}
TEXTS = ["a quiet pan", "noisy the oven soup knife " * 12, "", "one weird tree leaf", "some soil"]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
THREE = ("{label}", "the {label} soup", "a {label} tree.")


def saved(network, reader, folder):
    with quiet_transformers():
        network.eval().save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)


def bert(vocabulary, **fields):
    return BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=64,
        initializer_range=0.5,
        hidden_dropout_prob=0.0,
        **SIZES,
        **fields,
    )


@pytest.fixture(scope="module")
def nli(tmp_path_factory, word_tokenizer):
    torch.manual_seed(0)
    config = bert(len(word_tokenizer), num_labels=3, id2label=NLI, label2id={v: k for k, v in NLI.items()})
    return saved(BertForSequenceClassification(config), word_tokenizer, tmp_path_factory.mktemp("nli"))


@pytest.fixture(scope="module")
def masked(tmp_path_factory, word_tokenizer):
    torch.manual_seed(0)
    network = BertForMaskedLM(bert(len(word_tokenizer)))
    torch.nn.init.normal_(network.cls.predictions.bias)
    return saved(network, word_tokenizer, tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def byte_tokenizer():
    """As GPT-2's: bytes, a space belongs to the word behind it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<pad>", "<mask>", *letters, "Ġq", "Ġqu"])}
    made = Tokenizer(models.BPE(vocabulary, [("Ġ", "q"), ("Ġq", "u")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<pad>", mask_token="<mask>")


@pytest.fixture(scope="module")
def causal(tmp_path_factory, byte_tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(byte_tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.5
    )
    return saved(GPT2LMHeadModel(config), byte_tokenizer, tmp_path_factory.mktemp("causal"))


PAIR = {
    "clip": (
        CLIPConfig,
        CLIPModel,
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    ),
    "siglip": (SiglipConfig, SiglipModel, SiglipImageProcessorPil(size={"height": 16, "width": 16})),
}


@pytest.fixture(scope="module", params=PAIR)
def pair(request, tmp_path_factory, word_tokenizer):
    config, network, reader = PAIR[request.param]
    torch.manual_seed(0)
    text = {"vocab_size": len(word_tokenizer), "max_position_embeddings": 64, **SIZES}
    text |= {"eos_token_id": word_tokenizer.sep_token_id, "initializer_range": 0.5}
    vision = {"image_size": 16, "patch_size": 8, "initializer_range": 0.5, **SIZES}
    made = config(
        text_config=text, vision_config=vision, **({"projection_dim": 16} if request.param == "clip" else {})
    )
    folder = tmp_path_factory.mktemp(request.param)
    reader.save_pretrained(folder)
    return saved(network(made), word_tokenizer, folder)


@pytest.fixture(scope="module")
def pictures():
    """Of several sizes, and one of grey levels."""
    rng = np.random.default_rng(0)
    shapes = [(20, 18, 3), (16, 16, 3), (40, 10, 3), (9, 33)]
    return [Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]


def asking(model, labels=LABELS, templates=("the {label} soup",), **options):
    given = {"max_length": 32, "bf16": False, **options}
    return Asking(model, prompts(labels, None, templates), **given)


def way_of(name, model, *arguments, **options):
    asked = asking(model, *arguments, **options)
    described.find(name).check(asked)
    return described.find(name)(asked)


def texts(rows=TEXTS):
    return Dataset.from_dict({"text": list(rows)})


def images(pictures):
    with quiet():
        return Dataset.from_dict({"image": [_png(picture) for picture in pictures]})


def _png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.mark.parametrize("multi_label", [False, True])
def test_entailment_is_the_pipelines(nli, multi_label):
    way = way_of("entailment", nli, ["quiet", "noisy", "weird"], multi_label=multi_label, max_length=64)
    found = way.probabilities(way.ensemble(way.logits(texts(TEXTS[:2] + TEXTS[3:]))))
    peer = transformers.pipeline("zero-shot-classification", model=nli, device="cpu")
    peer.tokenizer.model_max_length = 64
    for row, text in enumerate(TEXTS[:2] + TEXTS[3:]):
        told = peer(text, way.prompts.names, hypothesis_template="the {} soup", multi_label=multi_label)
        expected = dict(zip(told["labels"], told["scores"], strict=True))
        assert dict(zip(way.prompts.names, found[row], strict=True)) == pytest.approx(expected, abs=1e-5)


def test_image_text_is_the_pipelines(pair, pictures):
    labels = ["a quiet tree", "noisy", "weird soup"]
    way = way_of("image_text", pair, labels, ("the {label} soup",))
    content, places = way.prepared(images(pictures), key="data")
    found = way.probabilities(way.ensemble(way.logits(content)))
    reader = transformers.AutoImageProcessor.from_pretrained(pair, backend="pil")
    peer = transformers.pipeline("zero-shot-image-classification", model=pair, image_processor=reader, device="cpu")
    assert places == [0, 1, 2, 3]
    for row, picture in enumerate(pictures):
        told = peer(picture, candidate_labels=labels, hypothesis_template="the {} soup")
        expected = {one["label"]: one["score"] for one in told}
        assert dict(zip(labels, found[row], strict=True)) == pytest.approx(expected, abs=1e-5)
    assert (np.abs(found.sum(1) - 1).max() < 1e-5) == ("clip" in pair)


def test_several_templates_are_the_mean_of_normalised_vectors(pair, pictures):
    way = way_of("image_text", pair, LABELS, THREE)
    each = [unit(way._texts([t.replace("{label}", text) for t in THREE for text in found])).mean(0)
            for found in way.prompts.descriptions]  # fmt: skip
    assert way.prototypes == pytest.approx(unit(np.stack(each)), abs=1e-6)
    content, _ = way.prepared(images(pictures), key="data")
    by_template = way.logits(content)
    assert by_template.shape == (4, 4, 3)
    assert way.ensemble(by_template) == pytest.approx(way.against(way.vectors(content), way.prototypes))


def test_similarity_is_the_angle_to_the_mean_of_the_descriptions(tiny_bert, word_tokenizer):
    way = way_of("similarity", str(tiny_bert), LABELS, THREE)
    network = transformers.AutoModel.from_pretrained(tiny_bert).eval()

    def vector(text):
        with torch.no_grad():
            states = network(
                **word_tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
            ).last_hidden_state
        return states[0].mean(0).numpy()

    for label, found in enumerate(way.prompts.descriptions):
        mean = unit(np.stack([vector(t.replace("{label}", text)) for t in THREE for text in found])).mean(0)
        assert way.prototypes[label] == pytest.approx(unit(mean), abs=1e-5)
    cosines = unit(np.stack([vector(text) for text in TEXTS])) @ way.prototypes.T
    assert way.ensemble(way.logits(texts())) == pytest.approx(cosines / 0.05, abs=1e-3)


@pytest.mark.parametrize("template", ["{text} the {label} soup", "{label} soup: {text}", "a {label}, {text}!"])
def test_fill_mask_is_a_full_forward(masked, word_tokenizer, template):
    """Also of words of several pieces, and of a text that is too long; the whole vocabulary is the reference."""
    way = way_of("fill_mask", masked, LABELS, (template,))
    network = BertForMaskedLM.from_pretrained(masked).eval()
    rows = way.ensemble(way.logits(texts()))
    pieces = {word: word_tokenizer(word, add_special_tokens=False)["input_ids"] for word in way.prompts.words}
    for row, text in enumerate(TEXTS):
        words = text.split()
        scores = {}
        for word, ids in pieces.items():
            for kept in range(len(words), -1, -1):
                filled = template.replace("{label}", " ".join(["[MASK]"] * len(ids)))
                made = word_tokenizer(filled.replace("{text}", " ".join(words[:kept])), return_tensors="pt")
                if made["input_ids"].shape[1] <= 32:
                    break
            assert kept == len(words) or row == 1
            with torch.no_grad():
                logits = network(**made).logits[0][made["input_ids"][0] == word_tokenizer.mask_token_id]
            candidates = logits[:, way.candidates].log_softmax(-1)
            scores[word] = np.mean([candidates[n, way.candidates.index(i)].item() for n, i in enumerate(ids)])
        expected = [np.mean([scores["quiet"], scores["very still"]]), scores["noisy"], scores["strange weird"]]
        assert rows[row] == pytest.approx(expected, abs=1e-4)


def test_words_of_one_piece_are_compared_by_their_bare_logits(masked, word_tokenizer):
    way = way_of("fill_mask", masked, ["quiet", "noisy", "weird"], ("{text} is {label}",))
    found = way.probabilities(way.ensemble(way.logits(texts(["a pan"]))))
    made = word_tokenizer("a pan is [MASK]", return_tensors="pt")
    with torch.no_grad():
        logits = BertForMaskedLM.from_pretrained(masked).eval()(**made).logits[0, -2]
    expected = logits[word_tokenizer.convert_tokens_to_ids(["quiet", "noisy", "weird"])].softmax(-1)
    assert found[0] == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_mask_in_a_text_is_no_question(masked):
    way = way_of("fill_mask", masked, LABELS, ("{text} the {label} soup",))
    found = way.logits(texts(["a [MASK] pan", "a  pan", "[MASK][MASK]", ""]))[0]
    assert found[0] == pytest.approx(found[1]) and found[2] == pytest.approx(found[3])


def test_roberta_keeps_the_space_before_a_word(tmp_path, byte_tokenizer):
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(byte_tokenizer), max_position_embeddings=64, pad_token_id=0, **SIZES)
    way = way_of("fill_mask", saved(RobertaForMaskedLM(config), byte_tokenizer, tmp_path), ["qu", "q"],
                 ("{text} is {label}", "{label}: {text}"))  # fmt: skip
    names = byte_tokenizer.convert_ids_to_tokens
    assert [[names(word) for word in words] for words in way.pieces] == [[["Ġqu"], ["Ġq"]], [["q", "u"], ["q"]]]


def test_only_the_rows_of_label_words_are_left_of_the_output_layer(masked):
    network = BertForMaskedLM.from_pretrained(masked).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        whole = network(ids).logits
        narrow(network, [9, 3])
        torch.testing.assert_close(network(ids).logits, whole[..., [9, 3]])


@pytest.mark.parametrize("keeps", [True, False])
def test_likelihood_is_that_of_each_label_alone(causal, byte_tokenizer, keeps):
    words = {"a": "qu", "b": ["quiet pan", "x"], "c": "a long description"}
    way = way_of("likelihood", causal, words, ("{text}\nit is {label}",), max_length=48)
    assert way.keeps
    way.keeps = keeps
    found = way.ensemble(way.logits(texts(TEXTS)))
    network = GPT2LMHeadModel.from_pretrained(causal).eval()
    alone = {}
    for word in way.prompts.words:
        label = byte_tokenizer(f" {word}")["input_ids"]
        for row, text in enumerate(TEXTS):
            room = 48 - 19 - len(byte_tokenizer("\nit is")["input_ids"])
            begins = byte_tokenizer.decode(byte_tokenizer(text)["input_ids"][:room])
            ids = byte_tokenizer(f"{begins}\nit is {word}")["input_ids"]
            assert ids[-len(label) :] == label
            with torch.no_grad():
                logs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
            places = range(len(ids) - len(label), len(ids))
            alone[row, word] = np.mean([logs[place - 1, ids[place]].item() for place in places])
    for row in range(len(TEXTS)):
        expected = [
            alone[row, "qu"],
            (alone[row, "quiet pan"] + alone[row, "x"]) / 2,
            alone[row, "a long description"],
        ]
        assert found[row] == pytest.approx(expected, abs=1e-4)


def test_the_text_is_read_once_for_all_labels(causal):
    """Tokens that pass through the network: each text's once, and of each label its own."""
    way = way_of("likelihood", causal, ["qu", "x", "a"], ("{text}\nit is {label}",), max_length=64)
    seen = []
    embedding = way.network.transformer.wte
    with torch.no_grad():
        handle = embedding.register_forward_hook(lambda module, given, out: seen.append(given[0].numel()))
        way.logits(texts(["some pan " * 5]))
        handle.remove()
    assert seen == [len("some pan ") * 5 + len("\nit is") - 1, 3 * 2]  # a label's last token predicts nothing


def test_other_decoders_give_the_same_from_kept_keys(tmp_path, byte_tokenizer):
    """Of positions that turn, and with a token that begins every text."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(byte_tokenizer), num_key_value_heads=1, initializer_range=0.5, **SIZES)
    folder = saved(LlamaForCausalLM(config), byte_tokenizer, tmp_path)
    way = way_of("likelihood", folder, {"a": "qu", "b": "a long one"}, ("{text}\nit is {label}",), max_length=64)
    first = way.logits(texts())
    way.keeps = False
    assert way.logits(texts()) == pytest.approx(first, abs=1e-4)


def test_what_a_tokenizer_adds_behind_a_text_is_not_between_it_and_the_label(word_tokenizer, byte_tokenizer):
    assert (added_behind(word_tokenizer), added_behind(byte_tokenizer)) == (1, 0)


@pytest.mark.parametrize("name", ["entailment", "similarity", "fill_mask", "likelihood"])
def test_batches_and_the_order_of_labels_change_nothing(request, name, tiny_bert):
    models_ = {"entailment": "nli", "fill_mask": "masked", "likelihood": "causal"}
    folder = str(tiny_bert) if name == "similarity" else request.getfixturevalue(models_[name])
    template = ("{text} the {label}",) if name in ("fill_mask", "likelihood") else ("the {label}",)
    whole = way_of(name, folder, LABELS, template)
    turned = way_of(name, folder, dict(reversed(LABELS.items())), template, tokens_per_batch=16)
    assert turned.logits(texts())[..., ::-1] == pytest.approx(whole.logits(texts()), abs=2e-4)
    alone = [whole.logits(texts([text]))[:, 0] for text in TEXTS]
    assert np.stack(alone, axis=1) == pytest.approx(whole.logits(texts()), abs=2e-4)


@pytest.mark.parametrize("name", ["entailment", "similarity", "fill_mask", "likelihood"])
def test_an_empty_input_has_no_preference_once_calibrated(request, name, tiny_bert):
    models_ = {"entailment": "nli", "fill_mask": "masked", "likelihood": "causal"}
    folder = str(tiny_bert) if name == "similarity" else request.getfixturevalue(models_[name])
    template = ("{text} the {label}",) if name in ("fill_mask", "likelihood") else ("the {label}",)
    way = way_of(name, folder, LABELS, template)
    empty = way.empty()
    before, after = way.probabilities(empty).mean(0), way.probabilities(way.calibrated(empty)).mean(0)
    assert np.ptp(after) < np.ptp(before) / 3 + 1e-6 and np.ptp(before) > 1e-3


def test_a_bias_towards_a_label_is_taken_out(masked, word_tokenizer):
    """A model whose output layer prefers a word says it of everything; calibrated, it says what it said before."""
    labels, template = ["quiet", "noisy", "weird"], ("{text} the {label}",)
    plain = way_of("fill_mask", masked, labels, template)
    biased = way_of("fill_mask", masked, labels, template)
    with torch.no_grad():
        place = biased.candidates.index(word_tokenizer.convert_tokens_to_ids("noisy"))
        biased.network.get_output_embeddings().bias[place] += 9
    rows = texts(
        [f"{one} {other}" for one in ("pan", "tree", "soup", "a", "leaf") for other in ("oven", "the", "soil")]
    )
    before, with_bias = plain.ensemble(plain.logits(rows)), biased.ensemble(biased.logits(rows))
    assert (with_bias.argmax(1) == 1).all() and not (before.argmax(1) == 1).all()
    # the mean over several empty inputs is one of probabilities, so that a bias is taken out nearly whole
    agree = (biased.calibrated(with_bias).argmax(1) == plain.calibrated(before).argmax(1)).mean()
    assert agree > (with_bias.argmax(1) == plain.calibrated(before).argmax(1)).mean() and agree > 0.5


def test_which_way_fits(nli, masked, causal, tiny_bert, pair):
    assert fitting(nli) == ["entailment", "similarity"]
    assert fitting(masked) == ["fill_mask", "similarity"]
    assert fitting(causal) == ["likelihood", "similarity"]
    assert fitting(str(tiny_bert)) == ["similarity"]
    assert fitting(pair) == ["image_text"]
    assert fitting("sentence-transformers/all-MiniLM-L6-v2") == ["similarity"]


def test_a_checkpoint_without_what_a_way_needs_is_told_which_way_fits(nli, tiny_bert, tmp_path, word_tokenizer):
    with pytest.raises(HFTransferError, match=r"^way: fill_mask needs a masked .*; way: similarity fits"):
        chosen(str(tiny_bert), "fill_mask")
    with pytest.raises(HFTransferError, match=r"^way: image_text needs .* which .* has not; way: entailment fits it"):
        chosen(nli, "image_text")
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}, "num_labels": 2}
    moods = saved(
        BertForSequenceClassification(bert(len(word_tokenizer), **names)), word_tokenizer, tmp_path / "moods"
    )
    with pytest.raises(
        HFTransferError, match=r"^way: entailment needs a class of that name .* has 'bad', 'good'; way: sim"
    ):
        chosen(moods, "entailment")
    with pytest.raises(HFTransferError, match=r"tells 'bad', 'good', and none of them is named entailment"):
        chosen(moods, "auto")
    vit = transformers.ViTConfig(image_size=8, patch_size=4, **SIZES)
    image = saved(transformers.ViTModel(vit), transformers.ViTImageProcessorPil(), tmp_path / "vit")
    with pytest.raises(HFTransferError, match=r"reads images and no texts.*choose a CLIP or SigLIP"):
        chosen(image, "auto")


def test_weights_that_are_missing_are_told(tiny_bert, tmp_path):
    """A config may name a head that the weights have not."""
    shutil.copytree(tiny_bert, tmp_path / "beheaded")
    config = json.loads((tmp_path / "beheaded/config.json").read_text())
    (tmp_path / "beheaded/config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(HFTransferError, match=r"^way: fill_mask needs .* has no weights for cls"):
        way_of("fill_mask", str(tmp_path / "beheaded"), LABELS, ("{text} {label}",))


@pytest.mark.parametrize(
    "name, labels, template, message",
    [
        ("entailment", LABELS, "about it", r"^templates: 'about it' has no \{label\}; entailment needs one"),
        ("entailment", LABELS, "{text} {label}", r"has \{text\}; entailment reads the text by itself; remove it"),
        ("similarity", LABELS, "{label} {name}", r"has \{name\}; write \{label\}"),
        ("fill_mask", LABELS, "a {label}", r"'a \{label\}' has no \{text\}; fill_mask needs one"),
        ("fill_mask", LABELS, "{text} {label} {label}", r"has more than one \{label\}"),
        ("fill_mask", ["quiet", "日本"], "{text} {label}", r"^labels: '日本' is no word of the model's vocabulary"),
        ("likelihood", LABELS, "{text} is {label}.", r"reads from left to right, so \{label\} must be its end"),
        ("likelihood", LABELS, "{label}{text}", r"must be its end"),
        (
            "entailment",
            {"a": "quiet " * 40, "b": "x"},
            "{label}",
            r"^max_length: 'quiet .* alone takes 4\d tokens of 32",
        ),
        (
            "fill_mask",
            {"a": "quiet " * 40, "b": "still"},
            "{text} {label}",
            r"^max_length: .* leaves no room for a text",
        ),
    ],
)
def test_bad_prompts(request, name, labels, template, message, tiny_bert):
    models_ = {"entailment": "nli", "fill_mask": "masked", "likelihood": "causal"}
    folder = str(tiny_bert) if name == "similarity" else request.getfixturevalue(models_[name])
    with pytest.raises(HFTransferError, match=message):
        way_of(name, folder, labels, (template,)).logits(texts(["a"]))


def test_texts_of_labels_that_are_too_long_for_an_image_model(pair):
    with pytest.raises(HFTransferError, match=r"^labels: .* takes \d+ tokens, and the model reads 64"):
        way_of("image_text", pair, {"a": "quiet " * 70, "b": "x"})


def test_the_recipe_of_images_runs_on_both_kinds(pair, tmp_path):
    """As it is shipped, but for the checkpoint and the number of rows."""
    made = hftransfer.run(
        "zero_shot_image", model=pair, labelled={"path": "demo/varied_digits", "name": "60"}, output_dir=str(tmp_path)
    )
    metrics = made.metrics["zero_shot"]
    assert metrics["rows"] == 10 and {"accuracy.all_templates", "accuracy.calibrated"} <= set(metrics)
    told = pq.read_table(tmp_path / "1-zero_shot/predictions.parquet").to_pydict()
    sums = np.sum([told[f"score.{digit}"] for digit in range(10)], axis=0)
    assert (np.abs(sums - 1).max() < 1e-5) == ("clip" in pair)
    assert "siglip" not in pair or any("a sigmoid for each" in note for note in _notes(tmp_path))


def _notes(folder):
    return json.loads((folder / "1-zero_shot/evidence.json").read_text())["notes"]


def test_our_own_recurrent_language_model_is_asked_by_likelihood(tmp_path, byte_tokenizer):
    """It keeps a state instead of keys and values: every label is read with its text."""
    torch.manual_seed(0)
    network = LSTMForCausalLM(LSTMConfig(vocab_size=len(byte_tokenizer), hidden_size=8, num_hidden_layers=1))
    folder = saved(network, byte_tokenizer, tmp_path)
    assert fitting(folder)[0] == "likelihood"
    way = way_of("likelihood", folder, {"a": "qu", "b": "a long one"}, ("{text}\nit is {label}",), max_length=64)
    assert not way.keeps
    together, alone = way.logits(texts(["x", "some pan"]))[0], way.logits(texts(["some pan"]))[0]
    assert together[1] == pytest.approx(alone[0], abs=1e-5)
