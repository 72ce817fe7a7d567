"""Tasks: what data they are told by, what a network is fed, what it costs, and what it is worth."""

import logging

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDataset, LargeList, List, Value
from PIL import Image as Picture
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as backends
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from hftransfer import data, metrics, models, tasks
from hftransfer.errors import HFTransferError

WORDS = ["quiet", "noisy", "oven", "pan", "soup", "the", "garden", "strange"]
SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(**more):
    """GPT-2's kind: a token a byte, no padding token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(backends.BPE({letter: number for number, letter in enumerate([*letters, "<|end|>"])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", model_max_length=128, **more)


@pytest.fixture(scope="module")
def tiny_gpt(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_gpt"
    tokenizer = byte_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=256, eos_token_id=256
    )
    network = GPT2LMHeadModel(config)
    with torch.no_grad():
        network.transformer.wpe.weight.mul_(20)  # a position that is off by one shows
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_vit"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_ear(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_ear"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"feat_extract_norm": "layer", "conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
    Wav2Vec2Model(
        Wav2Vec2Config(**sizes, **convolutions, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoints(tiny_bert, tiny_gpt, tiny_vit, tiny_ear):
    return {"bert": str(tiny_bert), "gpt": str(tiny_gpt), "vit": str(tiny_vit), "ear": str(tiny_ear)}


def some_texts(rows, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(rows)]


def some_labels(task, rows):
    rng = np.random.default_rng(1)
    if task == SINGLE:
        return [["calm", "loud", "odd"][number % 3] for number in range(rows)]
    if task == MULTI:
        return [sorted(rng.choice(["calm", "loud", "odd"], rng.integers(0, 3), replace=False)) for _ in range(rows)]
    return rng.normal(3, 1, rows).tolist()


def table(task, kind="text", rows=30):
    labels = some_labels(task, rows)
    if kind == "pair":
        return Dataset.from_dict({"premise": some_texts(rows), "hypothesis": some_texts(rows, 7), "label": labels})
    if kind == "text":
        return Dataset.from_dict({"text": some_texts(rows), "label": labels})
    rng = np.random.default_rng(2)
    pictures = [Picture.fromarray(rng.integers(0, 255, (20, 18, 3), dtype=np.uint8)) for _ in range(rows)]
    label = {SINGLE: Value("string"), MULTI: List(Value("string")), NUMBER: Value("float64")}[task]
    return Dataset.from_dict({"image": pictures, "label": labels}, Features({"image": Image(), "label": label}))


def ready(rows, model, name=None, max_length=64):
    """The task, the network with a new head, and its training rows."""
    task, parts = tasks.read(rows, model, key="data", seed=0, name=name)
    torch.manual_seed(0)
    network = models.load(model, task.job, **task.head).eval()
    return task, network, task.inputs(parts["train"], model, key="data", max_length=max_length)


def batch_of(task, inputs, places):
    rows, collate = task.training(inputs)
    return collate([rows[place] for place in places])


def check_whole(task, network, inputs):
    """The batch's loss is the network's own; a row is told alike in any batch; scores come of all rows."""
    batch = batch_of(task, inputs, range(8))
    with torch.no_grad():
        made = network(**batch)
    ours = task.loss(made.logits, batch["labels"])
    assert torch.isfinite(ours)
    assert float(ours) == pytest.approx(float(made.loss), rel=1e-5)
    outputs = task.predict(network, inputs)
    alone = np.concatenate([task.predict(network, inputs.select([place])) for place in range(6)])
    for one, other in zip(outputs[:6], alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    scores = task.score(outputs, inputs.labels)
    assert all(np.isfinite(value) for value in scores.values())
    rows = task.row_scores(outputs, inputs.labels)
    assert rows.shape == (len(inputs.rows),)
    return scores, rows


@pytest.mark.parametrize("task", [SINGLE, MULTI, NUMBER])
@pytest.mark.parametrize(
    "model, kind", [("bert", "text"), ("bert", "pair"), ("gpt", "text"), ("gpt", "pair"), ("vit", "image")]
)
def test_every_architecture_serves_every_classification(checkpoints, task, model, kind):
    made, network, inputs = ready(table(task, kind), checkpoints[model])
    assert made.name == task and network.config.problem_type == task
    assert made.names == (["value"] if task == NUMBER else ["calm", "loud", "odd"])
    assert network.config.num_labels == len(made.names) == len(network.config.label2id)
    scores, rows = check_whole(made, network, inputs)
    assert rows.mean() == pytest.approx(scores[made.metric], abs=1e-6)
    assert made.floor(inputs.labels, inputs.labels).keys() <= {f"majority_{made.metric}", "majority_class_accuracy"}
    assert len(made.strata(inputs.labels)) == len(rows)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["<|end|>", "<|pad|>"])
def test_a_decoder_finds_the_last_token_whatever_pads(tiny_gpt, tmp_path, side, pad):
    tokenizer = byte_tokenizer(padding_side=side, pad_token=pad)
    network = models.load(str(tiny_gpt), "causal_lm")
    network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    models.save(network, tmp_path / "gpt", tokenizer)
    task, network, inputs = ready(table(SINGLE), str(tmp_path / "gpt"))
    check_whole(task, network, inputs)
    models.save(network, tmp_path / "done", task.reader(str(tmp_path / "gpt")))
    stored = models.tokenizer(str(tmp_path / "done"))
    assert (
        models.reopen(tmp_path / "done").config.pad_token_id == stored.pad_token_id and stored.padding_side == "right"
    )


def test_a_decoder_without_any_token_to_pad_with_is_refused(tiny_gpt, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    models.save(models.load(str(tiny_gpt), "causal_lm"), tmp_path, tokenizer)
    with pytest.raises(HFTransferError, match=r"^model: its tokenizer has neither a padding token nor"):
        ready(table(SINGLE), str(tmp_path))
    models.save(models.load(str(tiny_gpt), "causal_lm"), tmp_path, byte_tokenizer(pad_token="<|pad|>"))
    with pytest.raises(HFTransferError, match=r"^model: its tokenizer pads with token 257, and the network knows 257"):
        ready(table(SINGLE), str(tmp_path))


def test_sounds_of_a_folder_have_one_class_each(checkpoints, tones):
    task, network, inputs = ready(tones, checkpoints["ear"])
    assert (task.name, task.kind, task.job) == (SINGLE, "sound", "audio_classification")
    check_whole(task, network, inputs)


def test_single_labels_are_divided_and_numbered_as_elsewhere(checkpoints, reviews):
    path = reviews("source", rows=60, classes=3)
    parts = tasks.read(path, checkpoints["bert"], key="data", seed=3)[1]
    expected = data.labelled(path, key="data", seed=3)
    assert {name: part.to_list() for name, part in parts.items()} == {
        name: [{"text": row["text"], "label": row["label"]} for row in part] for name, part in expected.items()
    }
    assert parts["train"].features == expected["train"].features


WHOLE = [float(number % 3) for number in range(60)]


@pytest.mark.parametrize(
    "columns, told",
    [
        ({"text": "t", "label": "s"}, SINGLE),
        ({"text": "t", "label": "i"}, SINGLE),
        ({"text": "t", "label": "few"}, SINGLE),
        ({"text": "t", "label": "f"}, NUMBER),
        ({"text": "t", "label": "l"}, MULTI),
        ({"text": "t", "label": "hot"}, MULTI),
        ({"tokens": "l", "label": "l"}, "token_classification"),
        ({"prompt": "t", "completion": "s"}, "causal_lm"),
        ({"messages": "m"}, "causal_lm"),
        ({"text": "t", "text_pair": "s", "label": "f"}, NUMBER),
    ],
)
def test_the_task_is_told_by_the_columns(checkpoints, columns, told):
    rows = 60
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    made = {
        "t": some_texts(rows), "s": ["a", "b"] * 30, "i": [0, 1, 2] * 20, "few": WHOLE,
        "f": (np.arange(rows) / 7).tolist(), "l": [["x", "y"][: number % 3] or ["y"] for number in range(rows)],
        "hot": [[1, 0, number % 2] for number in range(rows)], "m": [talk] * rows,
    }  # fmt: skip
    spec = {"path": Dataset.from_dict(made), "columns": columns}
    model = checkpoints["gpt" if told == "causal_lm" else "bert"]
    assert tasks.read(spec, model, key="data", seed=0)[0].name == told


def test_numbers_may_be_whole_and_classes_may_be_numbers_by_name(checkpoints):
    rows = Dataset.from_dict({"text": some_texts(60), "label": [number % 3 for number in range(60)]})
    task, parts = tasks.read(rows, checkpoints["bert"], key="data", seed=0, name=NUMBER)
    assert task.head["num_labels"] == 1 and set(parts["train"]["label"]) == {0.0, 1.0, 2.0}
    assert tasks.read(rows, checkpoints["bert"], key="data", seed=0)[0].names == ["0", "1", "2"]


def test_lists_of_names_of_classes_and_of_marks_say_the_same(checkpoints):
    names = ["a", "b", "c", "d"]
    wanted = [[0, 2], [1], [], [0, 1, 3], [3]] * 6
    texts = [f"the soup {number}" for number in range(30)]
    feature = List(ClassLabel(names=names))
    stored = {
        "names": Dataset.from_dict({"text": texts, "label": [[names[k] for k in row] for row in wanted]}),
        "large": Dataset.from_dict(
            {"text": texts, "label": wanted}, Features(text=Value("string"), label=LargeList(Value("int64")))
        ),
        "classes": Dataset.from_dict({"text": texts, "label": wanted}, Features(text=Value("string"), label=feature)),
        "ints": Dataset.from_dict({"text": texts, "label": wanted}),
        "marks": Dataset.from_dict({"text": texts, "label": [[int(k in row) for k in range(4)] for row in wanted]}),
        "fractions": Dataset.from_dict(
            {"text": texts, "label": [[float(k in row) for k in range(4)] for row in wanted]}
        ),
    }
    expected = {f"the soup {number}": [float(k in row) for k in range(4)] for number, row in enumerate(wanted)}
    for form, rows in stored.items():
        task, parts = tasks.read(rows, checkpoints["bert"], key="data", seed=0)
        assert task.names == (names if form in ("names", "classes") else ["0", "1", "2", "3"])
        found = {row["text"]: row["label"] for part in parts.values() for row in part}
        assert found == expected


def test_labels_are_matched_by_name_to_a_task_before(checkpoints):
    first = tasks.read(table(SINGLE), checkpoints["bert"], key="data", seed=0)[0]
    fewer = Dataset.from_dict({"text": some_texts(20), "label": ["odd", "loud"] * 10})
    task, parts = tasks.read(fewer, checkpoints["bert"], key="general", seed=0, task_like=first)
    assert task.names == ["calm", "loud", "odd"] and set(parts["train"]["label"]) == {1, 2}
    other = Dataset.from_dict({"text": some_texts(20), "label": ["odd", "shrill"] * 10})
    with pytest.raises(HFTransferError, match=r"^general: .* lacks: 'shrill'; known: 'calm', 'loud', 'odd'"):
        tasks.read(other, checkpoints["bert"], key="general", seed=0, task_like=first)
    tags = tasks.read(table(MULTI), checkpoints["bert"], key="data", seed=0)[0]
    other = Dataset.from_dict({"text": some_texts(20), "label": [["odd"], ["cald"]] * 10})
    with pytest.raises(HFTransferError, match=r"^general: .*lack: 'cald'; did you mean 'calm'"):
        tasks.read(other, checkpoints["bert"], key="general", seed=0, task_like=tags)


def test_a_split_of_its_own_tests_where_it_has_labels(checkpoints):
    feature = List(ClassLabel(names=["O", "B-X"]))
    features = Features(tokens=List(Value("string")), ner_tags=feature)
    train, valid = (
        Dataset.from_dict({"tokens": [["a", "b"]] * n, "ner_tags": [[0, 1]] * n}, features) for n in (6, 2)
    )
    hidden = Dataset.from_dict({"tokens": [["a", "b"]] * 3, "ner_tags": [[-1, -1]] * 3}, features)
    splits = DatasetDict(train=train, validation=valid, test=hidden)
    parts = tasks.read(splits, checkpoints["bert"], key="data", seed=0)[1]
    assert (len(parts["train"]), len(parts["test"])) == (6, 2)
    limited = tasks.read(splits, checkpoints["bert"], key="data", seed=0, max_samples=4)[1]
    assert (len(limited["train"]), len(limited["test"])) == (4, 2)


def test_a_class_of_one_row_stays_in_train_and_is_named(checkpoints, caplog):
    labels = [["a"], ["b"]] * 10 + [["a", "seldom"]]
    rows = Dataset.from_dict({"text": some_texts(21), "label": labels})
    with caplog.at_level(logging.INFO, "hftransfer"):
        task, parts = tasks.read(rows, checkpoints["bert"], key="data", seed=0)
    marks = np.asarray(parts["train"]["label"])
    assert marks[:, task.names.index("seldom")].sum() == 1
    assert "1 labels with one row are in train only, and no test measures them: ['seldom']" in caplog.text


@pytest.mark.parametrize(
    "rows, model, name, told",
    [
        ({"text": ["a", "b"], "label": [0.5, 1.5]}, "bert", SINGLE, r"^data: .* holds float64.* regression$"),
        ({"text": ["a", "b"], "label": [0.5, None]}, "bert", None, r"^data: row 2 .* has None in the column 'label'"),
        ({"text": ["a", "b"], "label": ["high", "low"]}, "bert", NUMBER, r"^data: row 1 .* has 'high' in the column"),
        ({"text": ["a", "b"], "label": [["x"], ["x"]]}, "bert", None, r"^data: every label .* is 'x'; .* two classes"),
        ({"text": ["a", "b"], "label": [["x"], None]}, "bert", None, r"^data: row 2 .* lacks a label in the column"),
        ({"text": ["a", "b"], "label": [[0.5], [1.5]]}, "bert", None, r"^data: row 1 .* has \[0.5\] in the column"),
        ({"text": ["a", "b"], "label": ["x", "x"]}, "bert", None, r"^data: every row .* has the label 'x'"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, "bert", MULTI, r"^data: .* holds string, and .* needs lists"),
        ({"text": ["a", "b"], "label": [["x"], ["y"]]}, "bert", SINGLE, r"^data: .*'label' holds List; labels are"),
        ({"premise": ["a", "b"], "hypothesis": ["a", "b"]}, "bert", None, r"^data: cannot tell which .* is the label"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, "bert", "token_classification", r"^data: cannot .* the tokens"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, "vit", None, r"^data: the model reads images, and .* no column"),
        ({"tokens": [["a"]], "label": [["x"]]}, "vit", "token_classification", r"^task: token_classification is for"),
        ({"tokens": [["a"], ["a", "b"]], "tags": [["x"], ["y"]]}, "bert", None, r"^data: row 2 .* 2 words and 1 lab"),
        ({"tokens": [["a"], ["b", None]], "tags": [["x"], ["y", "x"]]}, "bert", None, r"row 2 .* a word that is no"),
        ({"tokens": [["a"], ["b"]], "tags": [["x"], ["x"]]}, "bert", None, r"^data: every label .* is 'x'"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, "gpt", "causal_lm", r"^data: .* neither messages nor prompts"),
        ({"prompt": ["a", " "], "completion": ["a", "b"]}, "gpt", None, r"^data: row 2 .* nothing in the column"),
        ({"messages": [[{"role": "user", "content": "a"}]] * 2}, "gpt", None, r"^data: row 1 .* no message of the"),
        ({"messages": [[{"role": "user", "content": None}]] * 2}, "gpt", None, r"^data: row 1 .* without a role or"),
        ({"prompt": ["a"], "completion": ["b"]}, "gpt", None, r"^data: .* has one row; training and testing need two"),
        ({"text": [], "label": []}, "bert", None, r"^data: .* has no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line(checkpoints, rows, model, name, told):
    with pytest.raises(HFTransferError, match=told) as caught:
        tasks.read(Dataset.from_dict(rows), checkpoints[model], key="data", seed=0, name=name)
    assert "\n" not in str(caught.value)


def test_images_are_not_read_by_a_language_model_and_streams_by_none(checkpoints, pictures):
    with pytest.raises(HFTransferError, match=r"^data: the model reads texts, and '.*' holds images; choose another"):
        tasks.read(pictures, checkpoints["bert"], key="data", seed=0)
    stream = IterableDataset.from_generator(lambda: iter([{"text": "a", "label": 0}]))
    with pytest.raises(HFTransferError, match=r"^data: a stream has no fixed rows"):
        tasks.read(stream, checkpoints["bert"], key="data", seed=0)
    spec = {
        "path": Dataset.from_dict({"q": ["a"], "answer": ["b"]}),
        "columns": {"prompt": "q", "completion": "anwser"},
    }
    with pytest.raises(HFTransferError, match=r"^data.columns.completion: .* 'anwser'; did you mean 'answer'"):
        tasks.read(spec, checkpoints["gpt"], key="data", seed=0)


TAGS = ["O", "B-PER", "I-PER"]
SENTENCES = [["strangely", "quiet", "oven"], ["noisy", "pan"], ["the", "soup", "the", "gardenoven"], ["pan"]] * 5
MARKED = [[1, 2, 0], [0, 1], [0, 1, 2, 0], [0]] * 5


def marked(names=TAGS, tags=MARKED):
    features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=names)))
    return Dataset.from_dict({"tokens": SENTENCES, "ner_tags": tags}, features)


@pytest.mark.parametrize("model", ["bert", "gpt"])
@pytest.mark.parametrize("names, metric", [(TAGS, "entity_f1"), (["noun", "verb", "other"], "macro_f1")])
def test_every_architecture_serves_tokens(checkpoints, model, names, metric):
    task, network, inputs = ready(marked(names), checkpoints[model])
    assert (task.name, task.metric, task.names) == ("token_classification", metric, names)
    scores, _ = check_whole(task, network, inputs)
    assert metric in scores and task.evidence(task.predict(network, inputs), inputs.labels)["per_class"]
    perfect = [np.eye(3)[labels] for labels in inputs.labels]
    assert task.score(perfect, inputs.labels)[metric] == 1
    assert task.row_scores(perfect, inputs.labels).mean() == 1


@pytest.mark.parametrize("model", ["bert", "gpt"])
def test_a_word_is_learnt_at_its_first_piece_and_nowhere_else(checkpoints, model):
    task, _, inputs = ready(marked(), checkpoints[model])
    part = tasks.read(marked(), checkpoints[model], key="data", seed=0)[1]["train"]
    reader = task.reader(checkpoints[model])
    batch = batch_of(task, inputs, range(len(part)))
    for row, ids, labels in zip(part, batch["input_ids"], batch["labels"], strict=True):
        places = (labels != -100).nonzero()[:, 0].tolist()
        assert labels[places].tolist() == row["label"]
        ends = [*places[1:], len(ids)]
        for word, start, end in zip(row["tokens"], places, ends, strict=True):
            assert reader.decode(ids[start:end], skip_special_tokens=True).replace(" ##", "").strip() == word
    assert len(places) < int((batch["attention_mask"][-1]).sum())


def test_a_saved_tokenizer_reads_words_as_it_did(checkpoints, tmp_path):
    task = tasks.read(marked(), checkpoints["gpt"], key="data", seed=0)[0]
    reader = task.reader(checkpoints["gpt"])
    reader.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    words = {"is_split_into_words": True}
    assert again(SENTENCES[0], **words)["input_ids"] == reader(SENTENCES[0], **words)["input_ids"]
    assert reader.decode(reader(["the", "pan"], **words)["input_ids"]) == " the pan"


def test_words_that_are_cut_off_are_counted(checkpoints, caplog):
    task, parts = tasks.read(marked(), checkpoints["bert"], key="data", seed=0)
    with caplog.at_level(logging.INFO, "hftransfer"):
        inputs = task.inputs(parts["train"], checkpoints["bert"], key="data", max_length=4)
    kept = sum(map(len, inputs.labels))
    assert f"data: {sum(map(len, parts['train']['label'])) - kept} words are neither learnt nor judged" in caplog.text
    assert max(map(len, inputs.labels)) <= 2


PROMPTS = {"prompt": [f"Q: {text}?" for text in some_texts(20)], "completion": some_texts(20, 5)}
TALKS = {
    "messages": [
        [
            {"role": "user", "content": "the soup?"},
            {"role": "assistant", "content": "quiet"},
            {"role": "user", "content": "the pan?"},
            {"role": "assistant", "content": answer},
        ]
        for answer in some_texts(20, 5)
    ]
}


def spoken(reader, ids, labels):
    """Text that is told, and text that is learnt."""
    labels = torch.as_tensor(labels)
    ids = torch.as_tensor(ids)
    return reader.decode(ids[labels == -100]), reader.decode(ids[labels != -100])


@pytest.mark.parametrize("rows", [PROMPTS, TALKS], ids=["prompts", "talks"])
@pytest.mark.parametrize("template", [None, CHAT], ids=["plain", "template"])
def test_answers_are_learnt_whole_with_their_end_and_nothing_else_is(tiny_gpt, tmp_path, rows, template):
    tokenizer = byte_tokenizer(chat_template=template)
    models.save(models.load(str(tiny_gpt), "causal_lm"), tmp_path, tokenizer)
    task, network, inputs = ready(Dataset.from_dict(rows), str(tmp_path), max_length=128)
    assert (task.name, task.job, task.head) == ("causal_lm", "causal_lm", {})
    scores, _ = check_whole(task, network, inputs)
    assert scores["loss"] == pytest.approx(np.log(scores["perplexity"]))
    part = tasks.read(Dataset.from_dict(rows), str(tmp_path), key="data", seed=0)[1]["train"]
    batch = batch_of(task, inputs, range(len(part)))  # padded with the token that ends texts
    for row, ids, labels in zip(part, batch["input_ids"], batch["labels"], strict=True):
        told, learnt = spoken(tokenizer, ids, labels)
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        questions = [message["content"] for message in row["messages"] if message["role"] == "user"]
        apart = " " if template is None else ""
        assert learnt == "".join(f"{apart}{answer}<|end|>" for answer in answers)
        if template is None:
            assert told.replace("<|end|>", "") == "".join(questions)
        else:
            assert told.replace("<|end|>", "") == "\n".join(f"<user>{text}\n<assistant>" for text in questions)


def test_a_loss_is_of_answers_alone(checkpoints):
    """What prompts and padding cost leaves the score as it is; each answer's token counts alike."""
    task, network, inputs = ready(Dataset.from_dict(PROMPTS), checkpoints["gpt"])
    batch = batch_of(task, inputs, range(len(inputs.rows)))
    with torch.no_grad():
        logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    nats = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none", ignore_index=-100
    )
    counted = batch["labels"][:, 1:] != -100
    outputs = task.predict(network, inputs)
    np.testing.assert_allclose(outputs[:, 0], nats.sum(1), rtol=1e-4)
    np.testing.assert_array_equal(outputs[:, 1], counted.sum(1))
    right = (logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]) & counted
    np.testing.assert_array_equal(outputs[:, 2], right.sum(1))
    scores = task.score(outputs, inputs.labels)
    assert scores["loss"] == pytest.approx(float(nats.sum() / counted.sum()), rel=1e-4)
    assert scores["token_accuracy"] == pytest.approx(float(right.sum() / counted.sum()))


def test_a_prompt_is_cut_from_the_left_and_an_answer_never(checkpoints, caplog):
    rows = Dataset.from_dict({"prompt": ["x" * 40 + "?", "short?"] * 4, "completion": ["fine", "z" * 30] * 4})
    task, parts = tasks.read(rows, checkpoints["gpt"], key="data", seed=0)
    with caplog.at_level(logging.INFO, "hftransfer"):
        inputs = task.inputs(parts["train"], checkpoints["gpt"], key="data", max_length=20)
    reader = task.reader(checkpoints["gpt"])
    assert inputs.rows and len(inputs.rows) < len(parts["train"])
    for row in inputs.rows:
        assert spoken(reader, row["input_ids"], row["labels"]) == ("x" * 13 + "?", " fine<|end|>")
    assert f"dropped {len(parts['train']) - len(inputs.rows)} rows whose answer is longer" in caplog.text
    with pytest.raises(HFTransferError, match=r"^data: no answer fits into max_length 6; raise it"):
        task.inputs(parts["train"], checkpoints["gpt"], key="data", max_length=6)


def test_talks_come_in_several_dialects(checkpoints):
    spoken_of = {"from": "human", "value": "pan?"}, {"from": "gpt", "value": "yes"}
    message = {"role": "user", "content": "pan?"}, {"role": "assistant", "content": "yes"}
    forms = [
        {"prompt": ["pan?"] * 4, "completion": ["yes"] * 4},
        {"prompt": [[message[0]]] * 4, "completion": [[message[1]]] * 4},
        {"conversations": [list(spoken_of)] * 4},
        {"messages": [list(message)] * 4},
    ]
    for form in forms:
        parts = tasks.read(Dataset.from_dict(form), checkpoints["gpt"], key="data", seed=0)[1]
        assert parts["train"]["messages"][0] == list(message)


def test_a_template_that_refuses_is_told(tiny_gpt, tmp_path):
    refusing = "{{ raise_exception('no system role here') }}"
    forgetting = "{% for m in messages[-1:] %}{{ m['content'] }}{% endfor %}"
    rows = Dataset.from_dict(TALKS)
    for template, told in (
        (refusing, r"^mine: .*chat template refuses messages of the roles user \(no system role here\)"),
        (forgetting, r"^mine: the tokenizer's chat template changes what was said before"),
    ):
        models.save(models.load(str(tiny_gpt), "causal_lm"), tmp_path, byte_tokenizer(chat_template=template))
        task, parts = tasks.read(rows, str(tmp_path), key="data", seed=0)
        with pytest.raises(HFTransferError, match=told):
            task.inputs(parts["train"], str(tmp_path), key="mine", max_length=64)


def test_an_encoder_gives_no_answers(checkpoints):
    task, parts = tasks.read(Dataset.from_dict(PROMPTS), checkpoints["bert"], key="data", seed=0)
    with pytest.raises(HFTransferError, match=r"^model: bert is an encoder, and causal_lm needs a decoder"):
        task.inputs(parts["train"], checkpoints["bert"], key="data", max_length=32)


def test_losses_take_what_is_asked_and_refuse_what_they_cannot():
    rng = torch.manual_seed(0)
    logits = torch.randn(6, 3, generator=rng)
    single = tasks.find(SINGLE)("text", ["a", "b", "c"])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain, focused = single.loss(logits, labels), single.loss(logits, labels, gamma=2.0)
    assert focused < plain
    weighed = single.loss(logits, labels, weights=torch.tensor([1.0, 0.0, 0.0]), reduction="sum")
    kept = single.loss(logits[labels == 0], labels[labels == 0], reduction="sum")
    assert float(weighed) == pytest.approx(float(kept))
    number = tasks.find(NUMBER)("text", ["value"])
    assert number.loss(torch.ones(4, 1), torch.zeros(4), reduction="sum") == 4
    with pytest.raises(HFTransferError, match=r"^loss: a regression has no classes"):
        number.loss(torch.ones(4, 1), torch.zeros(4), gamma=2.0)


@pytest.mark.parametrize("task", [SINGLE, MULTI, NUMBER])
@pytest.mark.parametrize("model, kind", [("bert", "text"), ("vit", "image")])
def test_a_trained_checkpoint_says_its_task(checkpoints, tmp_path, task, model, kind):
    made, network, _ = ready(table(task, kind), checkpoints[model])
    assert (tasks.of_checkpoint(network).name, tasks.of_checkpoint(network).names) == (task, made.names)
    models.save(network, tmp_path, made.reader(checkpoints[model]))
    found = tasks.of_checkpoint(str(tmp_path))
    assert (found.name, found.names, found.kind, found.job) == (task, made.names, made.kind, made.job)


def test_other_checkpoints_say_their_task_or_that_they_have_none(checkpoints, tmp_path):
    made, network, _ = ready(marked(), checkpoints["bert"])
    models.save(network, tmp_path, made.reader(checkpoints["bert"]))
    assert (tasks.of_checkpoint(str(tmp_path)).name, tasks.of_checkpoint(str(tmp_path)).metric) == (
        "token_classification", "entity_f1",
    )  # fmt: skip
    assert tasks.of_checkpoint(checkpoints["gpt"]).name == "causal_lm"
    with pytest.raises(HFTransferError, match=r"^model: it has no trained head of a task"):
        tasks.of_checkpoint(checkpoints["bert"])


def test_perfect_and_constant_answers_score_as_they_should():
    labels = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=np.float32)
    tags = tasks.find(MULTI)("text", ["a", "b", "c"])
    assert set(tags.score(labels * 2 - 1, labels).values()) == {1.0}
    assert tags.floor(labels, labels)["majority_example_f1"] == pytest.approx(
        tags.row_scores(np.tile([-1, -1, 1], (3, 1)), labels).mean()
    )
    numbers = tasks.find(NUMBER)("text", ["value"])
    true = np.array([1.0, 2.0, 6.0])
    floor = numbers.floor(true, true)["majority_mae"]
    assert all(metrics.numbers(np.full(3, constant), true)["mae"] >= floor for constant in (1, 2, 3, 4.5))


def test_rare_classes_weigh_as_much_as_frequent_ones():
    """Of a class a row, of a class a word, and of a yes or no for each class."""
    single = tasks.find("single_label_classification")("text", ["a", "b"])
    assert single.class_weights(np.array([0, 0, 0, 1])).tolist() == pytest.approx([4 / 6, 4 / 2])
    words = np.empty(2, dtype=object)
    words[0], words[1] = np.array([0, 0, 0]), np.array([1])
    tokens = tasks.find("token_classification")("text", ["a", "b"])
    assert tokens.class_weights(words).tolist() == pytest.approx([4 / 6, 4 / 2])
    several = tasks.find("multi_label_classification")("text", ["a", "b"])
    marks = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    assert several.class_weights(marks).tolist() == pytest.approx([1 / 3, 3.0])
