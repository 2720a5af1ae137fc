"""Residual networks with spectral normalisation: recorded numbers, members, singular values, gradients, folding."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.support.golden import Case
from zoo.policies import MLP, LayerNorm, Linear
from zoo.policies.mlp import orthogonal_
from zoo.policies.residual import ResidualMLP, SpectralLinear, folded

P, E, B, I, H, O = 2, 3, 5, 4, 8, 2  # noqa: E741
EXACT = {"rtol": 0.0, "atol": 1e-12}
LEADS = ((), (P,), (P, E))


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def stirred(lead: tuple[int, ...] = (), blocks: int = 2) -> ResidualMLP:
    """Random gains, shifts and vectors: their own start would hide a mix-up."""
    network = ResidualMLP((I, H, O), blocks, lead)
    for tensor in network.state_dict().values():
        nn.init.normal_(tensor)
    for layer in spectral(network):
        layer.u.copy_(nn.functional.normalize(layer.u, dim=-1))
        layer.v.copy_(nn.functional.normalize(layer.v, dim=-1))
    network.power_iteration_()
    return network


def spectral(network: ResidualMLP) -> list[SpectralLinear]:
    return [layer for layer in network.linears if isinstance(layer, SpectralLinear)]


def vectors(network: ResidualMLP) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.named_buffers()}


def alone(network: ResidualMLP, index: tuple[int, ...]) -> ResidualMLP:
    """One member as a network of its own."""
    single = ResidualMLP((I, H, O), len(network.norms))
    single.load_state_dict({name: value[index] for name, value in network.state_dict().items()})
    return single


def parameters(network: MLP) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Recorded numbers


CASE = Case("mood_modern")
BLOCKS = CASE.hyper["n_blocks"]


def theirs(ours: str) -> str:
    """linears.0.weight -> in/weight, linears.4.u -> block1/fc2/left, norms.1.bias -> block1/norm/bias."""
    kind, index, part = ours.split(".")
    part = {"u": "left", "v": "right"}.get(part, part)
    if kind == "norms":
        return f"block{index}/norm/{part}"
    block, half = divmod(int(index) - 1, 2)
    return f"{'in' if block < 0 else 'out' if block == BLOCKS else f'block{block}/fc{half + 1}'}/{part}"


def stored(where: str, net: str, names: list[str]) -> dict[str, Tensor]:
    """The case's tensors under `where` by our names; they store (out, in), and the critic's members apart."""
    prefixes = [f"{where}/{net}/{i}" for i in range(CASE.hyper["n_critics"])] if net == "critic" else [f"{where}/{net}"]
    found = {}
    for name in names:
        tensors = [CASE.arrays[f"{prefix}/{theirs(name)}"] for prefix in prefixes]
        tensors = [tensor.mT for tensor in tensors] if name.startswith("linears") and tensors[0].dim() == 2 else tensors
        found[name] = torch.stack(tensors) if net == "critic" else tensors[0]
    return found


def golden(net: str) -> tuple[ResidualMLP, Tensor, Tensor]:
    """A network of the case in its first state, its inputs and its regression target."""
    size, actions, width = (CASE.info["dimensions"][name] for name in ("S", "A", "H"))
    observations = CASE.arrays["batch/observations"]
    if net == "actor":
        network, inputs = ResidualMLP((size, width, actions), BLOCKS), observations
    else:
        network = ResidualMLP((size + actions, width, 1), BLOCKS, (CASE.hyper["n_critics"],))
        inputs = torch.cat([observations, CASE.arrays["batch/actions"]], -1)
    network.load_state_dict(stored("params", net, list(network.state_dict())))
    return network, inputs, CASE.arrays[f"batch/{net}_regression_target"]


def iterate_(network: ResidualMLP, net: str) -> None:
    """One power iteration in the source's order: the actor turns v first, as we do; the critic turns u first."""
    if net == "actor":
        network.power_iteration_()
        return
    for layer in spectral(network):
        layer.turn_u_()
        layer.turn_v_()


def output(network: ResidualMLP, inputs: Tensor, net: str) -> Tensor:
    return network(inputs).tanh() if net == "actor" else network(inputs).squeeze(-1)


@pytest.mark.parametrize(("net", "name"), [("actor", "actor_mean"), ("critic", "q")])
def test_outputs_gradients_and_three_steps_are_those_of_the_papers_code(net, name):
    network, inputs, target = golden(net)
    optimizer = torch.optim.Adam(network.parameters(), CASE.hyper["lr"])

    def check(ours: Tensor, key: str) -> None:
        torch.testing.assert_close(ours.detach(), CASE.arrays[key], **CASE.tolerance)

    check(output(network, inputs, net), f"expected/eval0/{name}")
    for step in range(1, CASE.hyper["updates"] + 1):
        iterate_(network, net)  # the source does it in the forward pass
        found = output(network, inputs, net)
        check(found, f"expected/step{step}/{name}")
        loss = (found - target).square().mean()
        check(loss, f"expected/step{step}/{net}_loss")
        optimizer.zero_grad()
        loss.backward()
        gradients = stored(f"expected/step{step}/grad/{net}_loss", net, [n for n, _ in network.named_parameters()])
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(network.get_parameter(parameter).grad, gradient, **CASE.tolerance)
        optimizer.step()
        after = stored(f"after{step}", net, list(network.state_dict()))
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, after[key], **CASE.tolerance)
    check(output(network, inputs, net), f"expected/eval3/{name}")


# Sizes: cheetah, 17 observations and 6 actions


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        (ResidualMLP, ((17, 1024, 6), 2), 4_227_078),
        (ResidualMLP, ((23, 256, 1), 1), 138_497),
        (MLP, ((17, 256, 256, 6),), 71_942),
        (MLP, ((17, *[1024] * 5, 6),), 4_222_982),
        (MLP, ((23, 256, 256, 1),), 72_193),
        (MLP, ((23, 256, 256, 256, 1),), 137_985),
    ],
)
def test_numbers_of_parameters_are_the_papers(network, arguments, expected):
    with torch.device("meta"):
        assert parameters(network(*arguments)) == expected


@pytest.mark.parametrize("lead", LEADS)
def test_of_the_state_only_u_and_v_are_not_parameters(lead):
    network = ResidualMLP((I, H, O), 1, lead)
    extra = network.state_dict().keys() - dict(network.named_parameters()).keys()
    assert extra == {f"linears.{k}.{vector}" for k in (1, 2) for vector in "uv"}
    assert all(value.shape[: len(lead)] == lead for value in network.state_dict().values())


@pytest.mark.parametrize(("sizes", "blocks"), [((I, H, H, O), 1), ((I, O), 1), ((I, H, O), 0)])
def test_impossible_sizes_are_refused(sizes, blocks):
    with pytest.raises(ValueError, match="got"):
        ResidualMLP(sizes, blocks)


# Members


@pytest.mark.parametrize("lead", LEADS)
def test_every_member_computes_and_iterates_as_if_it_were_alone(lead):
    network, x = stirred(lead), torch.randn(*lead, B, I)
    singles = {index: alone(network, index) for index in np.ndindex(*lead)}
    for _ in range(2):
        out = network(x)
        assert out.shape == (*lead, B, O)
        out.square().sum().backward()
        for index, single in singles.items():
            torch.testing.assert_close(out[index], single(x[index]), **EXACT)
            single(x[index]).square().sum().backward()
            for name, parameter in network.named_parameters():
                theirs = single.get_parameter(name).grad
                torch.testing.assert_close(parameter.grad[index], theirs, rtol=1e-10, atol=1e-9)
            single.power_iteration_()
        network.power_iteration_()
    for index, single in singles.items():
        for name, vector in network.named_buffers():
            torch.testing.assert_close(vector[index], single.get_buffer(name), **EXACT)


def test_inputs_are_broadcast_to_the_members():
    network, x = stirred((P, E)), torch.randn(P, B, I)
    torch.testing.assert_close(network(x.unsqueeze(-3)), network(x.unsqueeze(-3).expand(P, E, B, I)), **EXACT)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("lead", "members"),
    [((E,), [2, 0]), ((P, E), [2, 1]), ((P, E), [[0, 1], [2, 0]]), ((E,), slice(1, 3)), ((P, E), slice(0, 1))],
)
def test_members_gives_the_chosen_rows_of_the_full_output(lead, members, masked):
    network, x = stirred(lead), torch.randn(*lead[:-1], 1, B, I)
    full = network(x)
    rows = torch.arange(E)[members] if isinstance(members, slice) else torch.tensor(members)
    index = rows.expand(*lead[:-1], -1)
    chosen = full.gather(-3, index[..., None, None].expand(*index.shape, B, O))
    masks = [torch.ones(*index.shape, B, H)] * 3 if masked else []
    found = network(x, members if isinstance(members, slice) else rows, masks)
    torch.testing.assert_close(found, chosen, **EXACT)


def test_a_mask_of_zeros_silences_its_block():
    # The second block's second layer then sees zeros and adds its bias alone.
    network, x = stirred(), torch.randn(B, I)
    ones, zeros = torch.ones(B, H), torch.zeros(B, H)
    masked = network(x, masks=[ones, ones, zeros])
    torch.testing.assert_close(network(x, masks=[ones, ones, ones]), network(x), **EXACT)
    with torch.no_grad():
        network.linears[-3].bias.fill_(-1e6)  # of its first layer: the ReLU lets nothing through
    torch.testing.assert_close(masked, network(x), **EXACT)


# Spectral normalisation


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_sigma_tends_to_the_largest_singular_value(shape, lead):
    layer = SpectralLinear(*shape, lead)
    largest = torch.linalg.matrix_norm(layer.weight, ord=2)
    for _ in range(300):
        before = layer.sigma()
        layer.power_iteration_()
        assert (layer.sigma() >= before - 1e-12).all()
        assert (layer.sigma() <= largest + 1e-12).all()
    torch.testing.assert_close(layer.sigma(), largest, rtol=1e-6, atol=0.0)
    used = folded(nn.Sequential(layer))[0].weight
    torch.testing.assert_close(torch.linalg.matrix_norm(used, ord=2), torch.ones(lead), rtol=1e-6, atol=0.0)


def test_a_new_layer_has_already_iterated_once():
    # u^T W v = |W v| at least 0 after an iteration; of two random vectors it is negative half of the time.
    layer = SpectralLinear(H, H, (200,))
    torch.testing.assert_close(layer.sigma(), (layer.weight.mT @ layer.v.unsqueeze(-1)).squeeze(-1).norm(dim=-1))


def test_the_forward_pass_leaves_u_and_v_alone_in_training_mode_too():
    network, x = stirred((P,)).train(), torch.randn(P, B, I)
    before = vectors(network)
    first = network(x)
    torch.testing.assert_close(network(x), first, rtol=0.0, atol=0.0)
    assert all(torch.equal(before[name], vector) for name, vector in vectors(network).items())
    network.power_iteration_()
    assert not any(torch.equal(before[name], vector) for name, vector in vectors(network).items())


def test_the_size_of_a_blocks_weight_does_not_matter():
    network, x = stirred(), torch.randn(B, I)
    before = network(x)
    with torch.no_grad():
        for layer in spectral(network):
            layer.weight.mul_(10.0)
    torch.testing.assert_close(network(x), before, rtol=1e-10, atol=0.0)


def test_a_block_moves_its_input_by_at_most_the_root_of_the_width():
    # LayerNorm's output has at most that norm, and ReLU and both layers, without biases, stretch nothing.
    norm, s1, s2 = LayerNorm(H), SpectralLinear(H, H), SpectralLinear(H, H)
    for layer in (s1, s2):
        nn.init.zeros_(layer.bias)
        for _ in range(500):
            layer.power_iteration_()
    x = 100.0 * torch.randn(1000, H)
    assert s2(s1(norm(x)).relu()).norm(dim=-1).max() <= math.sqrt(H) * (1.0 + 1e-6)


@pytest.mark.parametrize("lead", [(), (P,)])
def test_gradient_through_sigma_is_that_of_finite_differences(lead):
    layer, x = SpectralLinear(4, 3, lead), torch.randn(*lead, B, 4)
    weight = layer.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: functional_call(layer, {"weight": w}, (x,)), weight)
    # The output does not depend on the weight's size, so the gradient is orthogonal to the weight.
    layer(x).sin().sum().backward()
    torch.testing.assert_close((layer.weight.grad * layer.weight).sum((-2, -1)), torch.zeros(lead), **EXACT)
    assert not any(vector.requires_grad for vector in layer.buffers())


def test_iterating_between_forward_and_backward_is_an_error():
    network = stirred()
    loss = network(torch.randn(B, I)).sum()
    network.power_iteration_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# Checkpoints


def train(network: ResidualMLP, steps: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    x = torch.linspace(-1.0, 1.0, B * I).view(B, I)
    for _ in range(steps):
        network.power_iteration_()
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()


def test_training_goes_on_bit_for_bit_from_the_state_dict():
    network, other = stirred((P,)), ResidualMLP((I, H, O), 2, (P,))
    train(network, 3)
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    x = torch.randn(B, I)
    assert torch.equal(network(x), other(x))  # before any iteration, so with the u and v of the file
    for one in (network, other):
        train(one, 3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_state_dict_without_u_is_refused():
    state = ResidualMLP((I, H, O), 1).state_dict()
    del state["linears.1.u"]
    with pytest.raises(RuntimeError, match=r"Missing key.*linears\.1\.u"):
        ResidualMLP((I, H, O), 1).load_state_dict(state)


# Folding


@pytest.mark.parametrize("lead", LEADS)
def test_a_folded_network_computes_the_same_without_u_and_v(lead):
    network, x = stirred(lead).float(), torch.randn(*lead, B, I).float()
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    plain = folded(network)
    torch.testing.assert_close(plain(x), network(x), rtol=1e-6, atol=1e-6)
    assert list(plain.buffers()) == []
    assert plain.state_dict().keys() == dict(network.named_parameters()).keys()
    assert not any(isinstance(layer, SpectralLinear) for layer in plain.modules())
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())  # a copy
    assert torch.equal(random, torch.get_rng_state())
    plain.power_iteration_()  # nothing to do
    torch.testing.assert_close(plain(x), network(x), rtol=1e-6, atol=1e-6)


def test_folding_reaches_networks_inside_other_modules():
    holder, x = nn.ModuleDict({"a": nn.Sequential(stirred()), "b": stirred((E,))}), torch.randn(B, I)
    plain = folded(holder)
    assert list(plain.buffers()) == []
    for name in holder:
        torch.testing.assert_close(plain[name](x), holder[name](x), **EXACT)


def test_a_single_layer_cannot_be_folded_in_place():
    with pytest.raises(TypeError, match="contains SpectralLinear layers"):
        folded(SpectralLinear(H, H))


# Initialisation


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2.0)])
def test_orthogonal_makes_every_members_weights_gain_times_orthogonal_and_biases_zero(lead, gain):
    network = stirred(lead)
    orthogonal_(network, gain)
    for layer in network.linears:
        for weight in layer.weight.detach().view(-1, *layer.weight.shape[-2:]):
            gram = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
            torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram)), **EXACT)
        assert not layer.bias.any()
    for layer in spectral(network):  # one iteration is enough for an orthogonal matrix
        torch.testing.assert_close(layer.sigma(), torch.full(lead, gain), **EXACT)
    if lead:
        assert not torch.equal(network.linears[1].weight[0], network.linears[1].weight[1])


def test_orthogonal_takes_a_plain_mlp_and_a_gain_for_the_output():
    mlp = MLP((I, H, 1), (E,))
    orthogonal_(mlp, 1.0, last_gain=0.5)
    torch.testing.assert_close(mlp.linears[-1].weight.norm(dim=(-2, -1)), torch.full((E,), 0.5), **EXACT)


def test_new_layers_begin_as_plain_ones():
    network = ResidualMLP((I, H, O), 1, (E,))
    assert isinstance(network, MLP)
    assert [tuple(layer.weight.shape) for layer in network.linears] == [(E, I, H), (E, H, H), (E, H, H), (E, H, O)]
    assert [type(layer) for layer in network.linears] == [Linear, SpectralLinear, SpectralLinear, Linear]
    assert all(layer.weight.abs().max() <= layer.weight.shape[-2] ** -0.5 for layer in network.linears)
    assert all((norm.weight == 1.0).all() and (norm.bias == 0.0).all() for norm in network.norms)
