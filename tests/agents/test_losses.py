"""Shared formulas: literals in, hand-worked numbers out."""

import pytest
import torch
from torch import tensor

from zoo.agents.core.draws import Draws
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.losses import cloning_error, polyak_, scale_free, squared_errors, td_target

STEPS = 5


def test_td_target_does_not_bootstrap_past_a_termination():
    target = td_target(tensor([1.0, 1.0]), tensor([0.0, 1.0]), tensor([10.0, 10.0]), gamma=0.9)
    assert target.tolist() == pytest.approx([10.0, 1.0])  # 1 + 0.9 * 10, and 1


def test_td_target_carries_no_gradient():
    next_q = torch.ones(2, requires_grad=True)
    assert not td_target(torch.zeros(2), torch.zeros(2), next_q, gamma=0.9).requires_grad


def test_td_target_discounts_each_member_of_a_population_by_its_own_gamma():
    zeros = torch.zeros(2, 3)
    target = td_target(zeros, zeros, torch.full((2, 3), 8.0), gamma=tensor([0.5, 0.25]))
    assert target.tolist() == [[4.0, 4.0, 4.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    "shapes", [((4, 1), (4,), (4,)), ((4,), (4, 1), (4,)), ((4,), (4,), (4, 1)), ((4,), (4,), (2, 4))]
)
def test_td_target_refuses_shapes_that_would_broadcast(shapes):
    with pytest.raises(ValueError, match=r"\(4,\).*must have one shape"):
        td_target(*(torch.zeros(shape) for shape in shapes), gamma=0.9)


def test_squared_errors_average_over_the_batch_for_each_critic():
    qs = tensor([[1.0, 2.0], [3.0, 3.0]])
    # Against 1 and 4: (0 + 4) / 2 and (4 + 1) / 2.
    assert squared_errors(qs, tensor([1.0, 4.0])).tolist() == [2.0, 2.5]


def test_squared_errors_keep_the_members_of_a_population_apart():
    qs = tensor([[[1.0, 2.0], [3.0, 3.0]], [[0.0, 0.0], [1.0, 1.0]]])
    assert squared_errors(qs, tensor([[1.0, 4.0], [1.0, 1.0]])).tolist() == [[2.0, 2.5], [1.0, 0.0]]


@pytest.mark.parametrize("target", [(4, 1), (2, 4), (1,)])
def test_squared_errors_refuse_a_target_of_another_shape(target):
    with pytest.raises(ValueError, match="must be the target's shape"):
        squared_errors(torch.zeros(2, 4), torch.zeros(target))


def test_scale_free_divides_by_the_mean_magnitude():
    assert scale_free(tensor([1.0, -3.0])).tolist() == [0.5, -1.5]  # mean |q| = 2


def test_scale_free_gradient_treats_the_magnitude_as_a_constant():
    q = tensor([1.0, -3.0], requires_grad=True)
    scale_free(q).sum().backward()
    assert q.grad.tolist() == [0.5, 0.5]


def test_scale_free_scales_each_member_of_a_population_alone():
    assert scale_free(tensor([[1.0, 3.0], [100.0, 300.0]])).tolist() == [[0.5, 1.5], [0.5, 1.5]]


def test_cloning_error_is_the_mean_over_batch_and_dimensions():
    error = cloning_error(tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 2))
    assert error.item() == 1.25  # (1 + 0 + 0 + 4) / 4


def test_per_member_lines_a_sweep_up_with_the_first_axis():
    assert per_member(tensor([1.0, 2.0]), torch.zeros(2, 3, 4)).shape == (2, 1, 1)
    assert per_member(0.3, torch.zeros(2, 3)) == 0.3


# Polyak


def test_polyak_with_tau_zero_leaves_the_target_as_it_is_and_with_one_copies():
    source, start = torch.randn(2, 50), torch.randn(2, 50)
    for tau, expected in [(0.0, (start, start)), (1.0, (source, source)), (tensor([0.0, 1.0]), (start, source))]:
        target = start.clone()
        polyak_([target], [source], tau)
        assert torch.equal(target[0], expected[0][0])
        assert torch.equal(target[1], expected[1][1])


def test_polyak_moves_every_target_by_tau_of_the_way():
    targets = [tensor([0.0]), tensor([10.0, 20.0])]
    polyak_(targets, [tensor([8.0]), tensor([20.0, 0.0])], 0.25)
    assert [target.tolist() for target in targets] == [[2.0], [12.5, 15.0]]


def test_polyak_moves_each_member_of_a_population_by_its_own_tau():
    target = torch.zeros(2, 3)
    polyak_([target], [torch.full((2, 3), 8.0)], tensor([0.5, 0.25]))
    assert target.tolist() == [[4.0, 4.0, 4.0], [2.0, 2.0, 2.0]]


# Adam


def test_steps_are_torchs_own_bit_for_bit_also_after_a_new_rate_and_a_restored_state():
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 5), torch.randn(6, 3, 5)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    adam, reference = Adam([ours], 3e-3), torch.optim.Adam([theirs], 3e-3, fused=True)
    for k, gradient in enumerate(gradients):
        if k == 2:
            adam.scale_lr(0.5)
            reference.param_groups[0]["lr"] = 1.5e-3
        if k == 4:
            stored, adam = adam.state_dict(), Adam([ours], 3e-3)
            adam.load_state_dict(stored)
        adam.zero_grad()
        assert ours.grad is None
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        adam.step()
        reference.step()
        assert torch.equal(ours, theirs)


def run_adam(optimizer: torch.optim.Adam, parameter: torch.nn.Parameter, gradients: torch.Tensor) -> torch.Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("rates", [(0.1, 0.01, 0.02), (0.01, 0.01, 0.01)])
def test_adam_with_a_rate_for_each_member_is_so_many_separate_adams(rates):
    start, gradients = torch.randn(3, 4, dtype=torch.float64), torch.randn(STEPS, 3, 4, dtype=torch.float64)
    together = torch.nn.Parameter(start.clone())
    result = run_adam(Adam([together], rates), together, gradients)
    for member, rate in enumerate(rates):
        alone = torch.nn.Parameter(start[member].clone())
        expected = run_adam(torch.optim.Adam([alone], lr=rate), alone, gradients[:, member])
        torch.testing.assert_close(result[member], expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("lr", [0.1, (0.1, 0.01)])
def test_scale_lr_scales_what_was_given_at_the_start(lr):
    optimizer = Adam([parameter := torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))], lr)
    optimizer.scale_lr(0.5)
    optimizer.scale_lr(0.5)  # of the start, not of the last
    parameter.grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()  # Adam's first step is the learning rate itself
    expected = [-0.05, -0.05] if lr == 0.1 else [-0.05, -0.005]
    assert parameter.tolist() == pytest.approx(expected, rel=1e-6)


def test_minimize_moves_only_the_parameters_of_its_optimizer():
    mine, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    minimize((mine * other).sum(), Adam([mine], 0.1))
    assert mine.tolist() == pytest.approx([0.9, 0.9])
    assert other.tolist() == [1.0, 1.0]
    assert other.grad is None


def test_minimize_gives_each_member_of_a_population_the_gradient_of_its_own_loss():
    parameter = torch.nn.Parameter(tensor([1.0, 2.0]))
    minimize(parameter.square(), Adam([parameter], 0.1))  # losses (P,)
    assert parameter.grad.tolist() == [2.0, 4.0]


# Draws


def test_subsets_have_no_repeats_and_every_member_is_chosen_equally_often():
    sets = Draws(0, torch.device("cpu")).subset("any", (4000,), 2, of=5)
    assert sets.shape == (4000, 2)
    assert (sets[:, 0] != sets[:, 1]).all()
    share = torch.bincount(sets.flatten(), minlength=5) / 4000
    torch.testing.assert_close(share, torch.full((5,), 0.4), rtol=0.0, atol=0.03)  # 2 of 5; deviation 0.008


def test_a_subset_of_all_is_all():
    assert sorted(Draws(0, torch.device("cpu")).subset("any", (), 4, of=4).tolist()) == [0, 1, 2, 3]
