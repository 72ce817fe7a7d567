import torch

from hftransfer.functional.gradient_reversal import reverse_gradient


def test_identity_forwards_and_negative_backwards():
    inputs = torch.tensor([1.0, -2.0], requires_grad=True)
    outputs = reverse_gradient(inputs, 0.25)
    (outputs * torch.tensor([4.0, 8.0])).sum().backward()
    assert torch.equal(outputs, inputs) and inputs.grad.tolist() == [-1.0, -2.0]
