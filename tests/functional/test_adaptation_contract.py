"""What every adaptation formula promises; a new line of ADAPTATION is tested here with no edit."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

from hftransfer.functional import ADAPTATION, adaptation_formula, inputs_of

INPUTS = {
    "features_source", "features_target", "logits_source", "logits_target", "labels_source", "discriminator",
    "progress", "threshold", "loss_source", "loss_masked_lm", "num_source", "num_target",
}  # fmt: skip
NAMES = [name for name, formula in ADAPTATION.items() if formula.module]
ALIKE = ["coral", "mmd"]  # distances: zero between a domain and itself


class Case:
    """A tiny classifier on two unlike domains; `evaluate` passes a formula what it names."""

    def __init__(
        self, name, num_source=8, num_target=6, classes=3, dtype=torch.float64, logit_shift=0.0, progress=0.5
    ):
        torch.manual_seed(0)
        width = 5
        self.formula, self.entry = adaptation_formula(name), ADAPTATION[name]
        self.features_source = torch.randn(num_source, width).to(dtype).requires_grad_()
        self.features_target = (2 * torch.randn(num_target, width) + 1).to(dtype).requires_grad_()
        self.head = torch.randn(width, classes).to(dtype)
        self.shift = torch.tensor([logit_shift] + [0.0] * (classes - 1)).to(dtype)
        self.labels_source = torch.arange(num_source) % classes
        self.progress = progress
        inner = width * classes if self.entry.discriminator == "features*classes" else width
        full = torch.float64 if dtype == torch.float64 else torch.float32
        self.discriminator = torch.nn.Sequential(torch.nn.Linear(inner, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)).to(
            full
        )

    def inputs(self):
        logits_source = self.features_source @ self.head + self.shift
        logits_target = self.features_target @ self.head + self.shift
        available = {
            "features_source": self.features_source,
            "features_target": self.features_target,
            "logits_source": logits_source,
            "logits_target": logits_target,
            "labels_source": self.labels_source,
            "discriminator": self.discriminator,
            "progress": self.progress,
            "threshold": 0.5,
            "loss_source": cross_entropy(logits_source, self.labels_source),
            "loss_masked_lm": cross_entropy(logits_target, torch.zeros(len(logits_target), dtype=torch.long)),
            "num_source": len(logits_source),
            "num_target": len(logits_target),
        }
        return {name: available[name] for name in inputs_of(self.formula)}

    def evaluate(self):
        return self.formula(**self.inputs())

    def moved(self):
        """The leaves that this formula's gradient must reach: one domain's features or both."""
        named = inputs_of(self.formula)
        source = {"features_source", "loss_source"} & named
        target = {"features_target", "logits_target", "loss_masked_lm"} & named
        return [self.features_source] * bool(source) + [self.features_target] * bool(target)

    def after_step(self, leaves, length=1e-3):
        """The formula's value after a step of this length down the gradient of `leaves`."""
        gradients = torch.autograd.grad(self.evaluate(), leaves)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf -= length * gradient / norm
            return self.evaluate().item()


def test_every_formula_is_seen():
    assert set(ADAPTATION) == {"source_only", *NAMES}
    assert len(NAMES) == 7
    assert adaptation_formula("source_only") is None
    with pytest.raises(ValueError, match="'corral'; known: source_only, coral"):
        adaptation_formula("corral")


def test_the_table_is_read_without_torch():
    code = "import sys, hftransfer.functional; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_the_table_fits_the_function(name):
    function, entry = adaptation_formula(name), ADAPTATION[name]
    assert function.__name__ == entry.module
    assert inputs_of(function) <= INPUTS
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert ("progress" in inputs_of(function)) == (entry.schedule == "sigmoid")
    assert ("discriminator" in inputs_of(function)) == bool(entry.discriminator)
    assert entry.weight > 0 and entry.paper and entry.schedule in ("constant", "sigmoid")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_reaches_every_domain_and_points_the_right_way(name, classes):
    case = Case(name, classes=classes)
    before = case.evaluate()
    assert before.shape == () and before.requires_grad
    for leaf, gradient in zip(case.moved(), torch.autograd.grad(before, case.moved()), strict=True):
        assert gradient.norm() > 1e-4, f"dead gradient at {tuple(leaf.shape)}"
    after = Case(name, classes=classes)
    if after.entry.discriminator:
        assert after.after_step(after.moved()) > before.item()  # the encoder confuses the discriminator
        other = Case(name, classes=classes)
        assert other.after_step(list(other.discriminator.parameters())) < before.item()  # which learns
    else:
        assert after.after_step(after.moved()) < before.item()


@pytest.mark.parametrize("name", [name for name in NAMES if ADAPTATION[name].discriminator])
def test_the_reversal_starts_at_nothing_while_the_discriminator_learns(name):
    case = Case(name, progress=0.0)
    loss = case.evaluate()
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, case.moved(), retain_graph=True))
    assert all(gradient.norm() > 0 for gradient in torch.autograd.grad(loss, list(case.discriminator.parameters())))


@pytest.mark.parametrize("name", ALIKE)
def test_equal_domains_are_at_no_distance(name):
    case = Case(name)
    case.features_target = case.features_source.detach().flip(0).requires_grad_()
    assert abs(case.evaluate().item()) < 1e-12
    assert Case(name).evaluate().item() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name):
    case, shuffled = Case(name), Case(name)
    source, target = torch.randperm(8), torch.randperm(6)
    shuffled.features_source, shuffled.labels_source = case.features_source[source], case.labels_source[source]
    shuffled.features_target = case.features_target[target]
    torch.testing.assert_close(shuffled.evaluate(), case.evaluate())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings",
    [
        {"num_source": 1, "num_target": 1},
        {"num_source": 1, "num_target": 6},
        {"num_source": 9, "num_target": 1},
        {"num_source": 2, "num_target": 17, "classes": 2},
        {"logit_shift": 1e4},  # one class takes every row; the others underflow to exactly zero
        {"logit_shift": -1e4, "classes": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strange_batches_stay_finite(name, settings, dtype):
    case = Case(name, dtype=dtype, **settings)
    loss = case.evaluate()
    assert loss.dtype == torch.float32 and loss.isfinite()
    for gradient in torch.autograd.grad(loss, case.moved()):
        assert gradient.isfinite().all() and gradient.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_identical_rows_stay_finite(name):
    case = Case(name, dtype=torch.float32)
    for leaf in (case.features_source, case.features_target):
        leaf.data[:] = 1.0
    loss = case.evaluate()
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, case.moved()))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_inputs_and_autocast_compute_in_float32(name):
    inputs = Case(name, dtype=torch.bfloat16).inputs()
    widened = {key: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
               for key, value in inputs.items()}  # fmt: skip
    function = adaptation_formula(name)
    expected = function(**widened)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(**inputs), expected)
        assert torch.equal(function(**widened), expected)
