"""ASPC (arXiv 2508.19900): what must hold of its learned scale. Its actor and critic alone are those of TD3+BC."""

import copy
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.func import functional_call

from tests.support.data import (
    MemberOf,
    Recorder,
    assert_same_state,
    changed,
    constant_,
    state,
    tiny,
    toy_batch,
    toy_dataset,
)
from zoo.agents import ASPC, TD3BC, Batch
from zoo.agents.shared.losses import cloning_errors

MOMENTS = ("exp_avg", "exp_avg_sq")
VARIANTS = (1, 2, 3, 4, 5)


def agent(**settings) -> ASPC:
    return tiny(ASPC, dtype=torch.float64, **({"n_critics": 2, "actor_hidden": (8, 8)} | settings))


def by_hand(**settings) -> ASPC:
    """pi = 0 and Q = 2 everywhere."""
    aspc = agent(**settings)
    constant_(aspc.actor.trunk, 0.0)
    constant_(aspc.critic.trunk, [2.0, -5.0])
    return aspc


def loud_(aspc: ASPC) -> None:
    """Critics whose values are not small, so that every term of the outer loss counts."""
    generator = torch.Generator().manual_seed(0)
    nn.init.uniform_(aspc.critic.trunk.linears[-1].weight, -1.0, 1.0, generator=generator)


def two_rows() -> Batch:
    """Two rows whose cloning errors at pi = 0 are 0.5 and 0.25."""
    return toy_batch()._replace(actions=tensor([[1.0, 0.0], [0.5, -0.5]]).double())


def twin(aspc: ASPC, alpha: float) -> TD3BC:
    """TD3+BC with the same networks, moments, seed and critic, and a scale of its own."""
    c = aspc.config
    shared = {name: getattr(c, name) for name in TD3BC.Config.names() if name != "alpha" and name in c.names()}
    other = tiny(TD3BC, toy_dataset(), dtype=torch.float64, **(shared | {"alpha": alpha}))
    other.load_state_dict(aspc.state_dict(), strict=False)
    for name, optimizer in other.optimizers.items():
        optimizer.load_state_dict(copy.deepcopy(aspc.optimizers[name].state_dict()))
    other.draws.set_state(aspc.draws.generator.get_state())
    return other


# Alpha and its rate


def test_alpha_starts_at_two_and_a_half():
    aspc = agent()
    assert aspc.raw_alpha.item() == pytest.approx(2.41435, abs=1e-5)
    assert aspc.alpha.item() == pytest.approx(2.5, rel=1e-12)
    assert agent(alpha=0.1).alpha.item() == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("interval", "update", "rate"),
    [
        (10, 20, 2e-3),  # the rate itself, at the paper's interval
        (10, 500_020, 2e-4),  # 25,000 of 50,000 steps of alpha are over: 0.01 ** 0.5
        (10, 1_000_020, 2e-5),
        (10, 3_000_000, 2e-5),  # and stays
        (20, 40, 4e-3),
        (20, 500_040, 4e-4),  # 12,500 of 25,000
        (20, 1_000_040, 4e-5),
    ],
)
def test_the_rate_of_alpha_falls_to_a_hundredth_over_a_million_critic_steps(interval, update, rate):
    aspc = agent(alpha_interval=interval)
    aspc.updates = update - 1
    aspc.update(toy_batch(4))
    assert aspc.optimizers["alpha"].rate.item() == pytest.approx(rate, rel=1e-9)


def test_one_step_of_alpha_is_a_step_of_adam_with_that_rate():
    aspc = agent(alpha_interval=10)
    aspc.updates = 19
    before = aspc.raw_alpha.item()
    aspc.update(toy_batch(4))
    size = abs(aspc.raw_alpha.item() - before)
    gradient = abs(aspc.raw_alpha.grad.item())
    assert size == pytest.approx(2e-3 * gradient / (gradient + 1e-8), rel=1e-9)  # Adam's first step is of length 1


def test_alpha_stays_within_adams_bound_and_above_zero():
    aspc = agent(alpha=0.05, alpha_lr=2.0, policy_delay=1, alpha_lr_steps=30)
    start, rates, furthest = aspc.raw_alpha.item(), 0.0, 0.0
    for _ in range(40):
        aspc.update(toy_batch(4))
        rates += aspc.optimizers["alpha"].rate.item()
        moved = abs(aspc.raw_alpha.item() - start)
        furthest = max(furthest, moved)
        assert moved <= 3.2 * rates
        assert aspc.alpha > 0.0
    assert furthest > 0.2


# Schedule


def test_of_a_hundred_updates_all_move_the_critics_half_the_actor_and_the_targets_and_five_alpha():
    aspc = agent(alpha_interval=10, actor_hidden=(4,), critic_hidden=(4,))
    watched = {
        "critic": aspc.critic.trunk.linears[0].weight,
        "actor": aspc.actor.trunk.linears[-1].weight,
        "target_critic": aspc.target_critic.trunk.linears[0].weight,
        "target_actor": aspc.target_actor.trunk.linears[-1].weight,
        "alpha": aspc.raw_alpha,
        "mean_q": aspc.mean_q,
    }
    moved = {name: [] for name in watched}
    for update in range(1, 101):
        before = {name: value.clone() for name, value in watched.items()}
        aspc.update(toy_batch(4))
        for name, value in watched.items():
            if not torch.equal(value, before[name]):
                moved[name].append(update)
    assert moved["critic"] == list(range(1, 101))
    assert moved["actor"] == moved["target_critic"] == moved["target_actor"] == list(range(2, 101, 2))
    assert moved["alpha"] == moved["mean_q"] == [20, 40, 60, 80, 100]
    steps = {name: {int(s["step"]) for s in opt.state.values()} for name, opt in aspc.optimizers.items()}
    assert steps == {"critic": {100}, "actor": {50}, "alpha": {5}}


def test_a_step_of_alpha_moves_the_actor_alpha_and_the_average_alone():
    aspc = agent(policy_delay=1)
    for _ in range(3):
        aspc.update(toy_batch(4))
    before = state(aspc)
    aspc.update_actor(toy_batch(4))
    moved = {name.split(".")[1] if "." in name else name for name in changed(before, aspc)}
    assert moved == {"actor", "state/raw_alpha", "state/mean_q"}
    assert {name.split("/")[1] for name in changed(before, aspc, "optimizers/")} == {"actor", "alpha"}
    assert not changed(before, aspc, "rng/")


# The actor's step


@pytest.mark.parametrize(("warm", "due"), [(6, False), (7, True), (15, True)])
def test_the_actors_step_is_that_of_td3bc_with_the_scale_of_before(warm, due):
    aspc = agent(policy_delay=1, target_delay=1, alpha_interval=8, alpha_lr=0.2)
    batches = [toy_batch(8)._replace(rewards=torch.full((8,), float(k)).double()) for k in range(warm + 1)]
    for batch in batches[:-1]:
        aspc.update(batch)
    alpha = aspc.alpha.item()
    plain = twin(aspc, alpha)
    for one in (aspc, plain):
        one.update(batches[-1])
    assert (aspc.alpha.item() != alpha) == due
    mine, theirs = state(aspc), state(plain)
    for name in theirs:
        torch.testing.assert_close(mine[name], theirs[name], rtol=0.0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_with_a_fixed_alpha_it_is_td3bc_with_the_same_critic():
    data = toy_dataset()
    aspc = agent(alpha_lr=0.0)
    plain = twin(aspc, 2.5)
    plain.learn_offline(data, 12)
    aspc.learn_offline(data, 12)
    mine, theirs = state(aspc), state(plain)
    for name in theirs:
        torch.testing.assert_close(mine[name], theirs[name], rtol=0.0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    moving = agent(alpha_lr=1.0).learn_offline(data, 12)
    assert not torch.allclose(
        state(moving)["state/policy.actor.trunk.linears.0.weight"],
        theirs["state/policy.actor.trunk.linears.0.weight"],
        rtol=0.0,
        atol=1e-6,
    )


def test_the_actor_listens_to_the_first_critic_alone():
    losses = []
    for second in (-5.0, 50.0):
        aspc = by_hand(policy_delay=1)
        constant_(aspc.critic.trunk, [2.0, second])
        losses.append(aspc.update_actor(two_rows()))
    # mean(0.5, 0.25) - 2.5 * 1 = -2.125, and mean Q is 2.
    for metrics in losses:
        assert metrics["actor/loss"].item() == pytest.approx(-2.125)
        assert metrics["actor/q"].item() == pytest.approx(2.0)
        assert metrics["actor/bc"].item() == pytest.approx(0.375)


def test_a_reward_shift_undoes_a_constant_added_to_the_rewards():
    data = toy_dataset()
    more = toy_dataset(rewards=data.rewards + 4.0)
    plain = tiny(ASPC, data, dtype=torch.float64).learn_offline(data, 8)
    shifted = tiny(ASPC, more, dtype=torch.float64, reward_shift=-4.0).learn_offline(more, 8)
    assert_same_state(plain, shifted, rtol=0.0, atol=1e-12)


# The outer loss, by hand


def outer(aspc: ASPC, mean_q: float = 1.2, weights: Tensor | float = 1.0) -> dict[str, float]:
    """The outer loss and its terms where the cloning errors were 0.1 and 0.45 and are 0.5 and 0.25."""
    errors = tensor([0.1, 0.45]).double()
    loss, metrics = aspc.outer_loss(two_rows(), weights, errors, tensor(mean_q).double())
    assert loss.item() == metrics["alpha/loss"].item()
    return {name.removeprefix("alpha/"): value.item() for name, value in metrics.items()}


@pytest.mark.parametrize(("variant", "l3"), list(enumerate((0.4, 0.18, 0.1, 0.045, 0.020625), 1)))
def test_the_variants_of_l3_by_hand(variant, l3):
    terms = outer(by_hand(l3=variant, q_memory=0.75))
    # The errors moved by 0.4 and 0.2: D = 0.4; M = 0.45; their means 0.3 and 0.275. The average of Q moved from 0 by
    # 0.25 * 2: L2 = 0.25. D, M D, L2 D, L2 M D, and 0.25 * 0.275 * 0.3.
    assert terms["l1"] == pytest.approx(0.375 - 2.5)
    assert terms["l2"] == pytest.approx(0.25)
    assert terms["l3"] == pytest.approx(l3)
    assert terms["loss"] == pytest.approx(-2.125 + 0.25 + l3)


@pytest.mark.parametrize(("terms", "loss"), [("L1", -2.125), ("L1+L2", -1.875), ("L1+L3", -2.08), ("L1+L2+L3", -1.83)])
def test_the_outer_loss_is_the_sum_of_its_chosen_terms(terms, loss):
    assert outer(by_hand(outer_terms=terms, q_memory=0.75))["loss"] == pytest.approx(loss)


def test_the_change_of_q_is_that_of_its_average_or_of_this_step():
    aspc = by_hand()  # q_memory 0.995
    # 0.005 * 2 = 0.01; then 0.005 * (2 - 0.01) = 0.00995.
    assert outer(aspc)["l2"] == pytest.approx(1e-4)
    assert aspc.mean_q.item() == pytest.approx(0.01)
    assert outer(aspc)["l2"] == pytest.approx(0.00995**2)
    assert aspc.mean_q.item() == pytest.approx(0.01995)
    aspc = by_hand(q_change="one_step")
    assert outer(aspc, mean_q=1.2)["l2"] == pytest.approx(0.64)  # (2 - 1.2)^2
    assert aspc.mean_q.item() == pytest.approx(0.01)


def test_the_first_step_of_alpha_compares_with_an_average_of_nothing():
    aspc = agent(policy_delay=1, alpha_interval=5)
    loud_(aspc)
    for _ in range(5):
        assert aspc.mean_q.item() == 0.0
        metrics = aspc.update(toy_batch(4))
    rows = toy_batch(4)
    mean_q = aspc.critic(rows.observations, aspc.actor(rows.observations))[0].mean().item()  # nothing moved since
    assert abs(mean_q) > 0.01
    assert metrics["alpha/l2"].item() == pytest.approx(2.5e-5 * mean_q**2, rel=1e-9)
    assert aspc.mean_q.item() == pytest.approx(0.005 * mean_q, rel=1e-9)


def test_larger_rewards_leave_l1_alone_and_multiply_l2_and_l3_by_their_square():
    results = []
    for scale in (1.0, 10.0):
        aspc = warmed()
        with torch.no_grad():
            for parameter in aspc.critic.trunk.linears[-1].parameters():
                parameter.mul_(scale)
            aspc.mean_q.mul_(scale)
        results.append((aspc.update_actor(toy_batch(8)), aspc))
    (small, one), (large, other) = results
    assert large["alpha/l1"].item() == pytest.approx(small["alpha/l1"].item(), rel=1e-9)
    assert large["alpha/l2"].item() == pytest.approx(100.0 * small["alpha/l2"].item(), rel=1e-9)
    assert large["alpha/l3"].item() == pytest.approx(100.0 * small["alpha/l3"].item(), rel=1e-9)
    assert other.raw_alpha.grad.item() != pytest.approx(one.raw_alpha.grad.item(), rel=1e-3)


def test_larger_rewards_leave_the_gradient_of_l1_alone():
    gradients = []
    for scale in (1.0, 10.0):
        aspc = warmed(outer_terms="L1")
        with torch.no_grad():
            for parameter in aspc.critic.trunk.linears[-1].parameters():
                parameter.mul_(scale)
        aspc.update_actor(toy_batch(8))
        gradients.append(aspc.raw_alpha.grad.item())
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-9)


def test_the_outer_loss_knows_alpha_through_the_actor_alone():
    aspc = warmed()
    batch = toy_batch(8)
    errors = cloning_errors(aspc.actor(batch.observations), batch.actions).detach()
    loss, _ = aspc.outer_loss(batch, 1.0, errors + 0.1, tensor(0.0).double())
    assert torch.autograd.grad(loss, aspc.raw_alpha, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(loss, aspc.actor.trunk.linears[-1].weight)[0].abs().sum() > 0.0


# The gradient of alpha, against an inner step that is differentiated as a whole


def warmed(steps: int = 5, **settings) -> ASPC:
    """After so many actor steps, with critics and an average large enough for every term to count, and a step due."""
    aspc = agent(policy_delay=1, alpha_interval=1, alpha_lr=0.0, actor_lr=1e-2, q_memory=0.5, **settings)
    loud_(aspc)
    for _ in range(steps):
        aspc.update(toy_batch(8)._replace(rewards=torch.zeros(8).double()))
    aspc.mean_q.fill_(0.7)
    return aspc


@dataclass
class InnerStep:
    """The actor's next step and its outer loss as differentiable functions of raw_alpha.

    What the outer loss holds constant is frozen at its value for the present raw_alpha.
    """

    aspc: ASPC
    batch: Batch
    lr: float
    weights: Tensor | float = 1.0

    def __post_init__(self) -> None:
        self.names = [name for name, _ in self.aspc.actor.named_parameters()]
        self.old = [p.detach().clone().requires_grad_() for p in self.aspc.actor.parameters()]
        optimizer = self.aspc.optimizers["actor"]
        states = [optimizer.state[p] for p in optimizer.parameters]
        self.moments = [tuple(s[name].clone() for name in MOMENTS) for s in states]
        self.steps = int(states[0]["step"]) + 1
        self.held: dict[str, Tensor] = {"mean_q": self.aspc.mean_q.clone()}
        pi, q = self.look(self.old)
        self.errors = (pi - self.batch.actions).pow(2).mean(1).detach()
        self.q = q.mean().detach()
        raw_alpha = self.aspc.raw_alpha.detach()
        self.loss(raw_alpha)
        self.held |= self.now

    def look(self, parameters: list[Tensor]) -> tuple[Tensor, Tensor]:
        observations = self.batch.observations
        pi = functional_call(self.aspc.actor, dict(zip(self.names, parameters, strict=True)), (observations,))
        return pi, self.aspc.critic(observations, pi)[0]

    def after(self, raw_alpha: Tensor) -> list[Tensor]:
        """Adam written out."""
        pi, q = self.look(self.old)
        bc = (self.weights * (pi - self.batch.actions).pow(2).mean(1)).mean()
        loss = bc - nn.functional.softplus(raw_alpha) * q.mean() / q.abs().mean().detach()
        gradients = torch.autograd.grad(loss, self.old, create_graph=True)
        new = []
        for parameter, gradient, (m, v) in zip(self.old, gradients, self.moments, strict=True):
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            root = torch.where(v > 0.0, v / (1.0 - 0.999**self.steps), 1.0).sqrt()  # a dead unit's m is 0
            new.append(parameter.detach() - self.lr * (m / (1.0 - 0.9**self.steps)) / (root + 1e-8))
        return new

    def loss(self, raw_alpha: Tensor) -> Tensor:
        c = self.aspc.config
        pi, q = self.look(self.after(raw_alpha))
        errors = (pi - self.batch.actions).pow(2).mean(1)
        change = q.mean() - self.q if c.q_change == "one_step" else 0.5 * (q.mean() - self.held["mean_q"])
        alpha = nn.functional.softplus(raw_alpha)
        self.now = {
            name: value.detach() for name, value in (("alpha", alpha), ("size", q.abs().mean()), ("l2", change**2))
        }
        held = self.now | self.held
        l1 = (self.weights * errors).mean() - held["alpha"] * q.mean() / held["size"]
        moved = (errors - self.errors).abs()
        l3 = {
            1: moved.max(),
            2: self.errors.max() * moved.max(),
            3: held["l2"] * moved.max(),
            4: held["l2"] * self.errors.max() * moved.max(),
            5: held["l2"] * self.errors.mean() * moved.mean(),
        }[c.l3]
        return l1 + ("L2" in c.outer_terms) * change**2 + ("L3" in c.outer_terms) * l3


CASES = [{"l3": variant} for variant in VARIANTS]
CASES += [{"outer_terms": terms} for terms in ("L1", "L1+L2", "L1+L3")] + [{"q_change": "one_step"}, {"alpha": 0.2}]


def compare(settings: dict, steps: int) -> tuple[float, float, float]:
    """raw_alpha's gradient by the agent, by double back-propagation and by central differences."""
    aspc, batch = warmed(steps, **settings), toy_batch(8)
    reference = InnerStep(aspc, batch, lr=1e-2)
    raw_alpha = aspc.raw_alpha.detach().clone().requires_grad_()
    (double,) = torch.autograd.grad(reference.loss(raw_alpha), raw_alpha)
    h = 1e-3
    low, high = (reference.loss(raw_alpha.detach() + sign * h) for sign in (-1.0, 1.0))
    expected = reference.after(raw_alpha)
    metrics = aspc.update_actor(batch)
    for parameter, value in zip(aspc.actor.parameters(), expected, strict=True):  # it is indeed the agent's own step
        torch.testing.assert_close(parameter, value, rtol=0.0, atol=1e-12)
    assert metrics["alpha/loss"].item() == pytest.approx(reference.loss(raw_alpha).item(), rel=1e-9)
    return aspc.raw_alpha.grad.item(), double.item(), ((high - low) / (2.0 * h)).item()


@pytest.mark.parametrize("settings", CASES, ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()))
def test_the_gradient_of_alpha_is_that_of_double_backpropagation_and_of_finite_differences(settings):
    mine, double, differences = compare(settings, steps=5)
    assert abs(mine) > 1e-6
    assert mine == pytest.approx(double, rel=1e-9)
    assert mine == pytest.approx(differences, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_the_gradient_of_alpha_is_right_from_the_second_step_on(steps):
    mine, double, _ = compare({}, steps)
    assert mine == pytest.approx(double, rel=1e-9)


def test_every_choice_of_the_outer_loss_has_a_gradient_of_its_own():
    gradients = []
    for settings in CASES:
        aspc = warmed(3, **settings)
        aspc.update_actor(toy_batch(8))
        gradients.append(aspc.raw_alpha.grad.item())
    for one, other in pairwise(sorted(gradients)):
        assert other - one > 1e-3 * abs(one)


def test_the_gradient_of_alpha_takes_the_rate_that_is_in_force():
    aspc = warmed(cosine_steps=10)
    reference = InnerStep(aspc, toy_batch(8), lr=0.5e-2)  # a cosine at half its horizon
    raw_alpha = aspc.raw_alpha.detach().clone().requires_grad_()
    (double,) = torch.autograd.grad(reference.loss(raw_alpha), raw_alpha)
    aspc.update_actor(toy_batch(8))
    assert aspc.raw_alpha.grad.item() == pytest.approx(double.item(), rel=1e-9)


def test_a_dead_unit_changes_nothing_in_the_gradient_of_alpha():
    small, large = agent(actor_hidden=(8, 4)), agent(actor_hidden=(8, 5))
    for one in (small, large):
        loud_(one)
    large.critic.load_state_dict(small.critic.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(large.actor.parameters(), small.actor.parameters(), strict=True):
            mine[tuple(slice(size) for size in theirs.shape)] = theirs
        large.actor.trunk.linears[1].bias[4] = -1e3  # never above 0
    for one in (small, large):
        for _ in range(6):
            one.updates += 2
            one.update_actor(toy_batch(8))
    assert large.optimizers["actor"].state[large.actor.trunk.linears[1].weight]["exp_avg"][:, 4].tolist() == [0.0] * 8
    assert abs(small.raw_alpha.grad.item()) > 1e-9
    assert large.raw_alpha.grad.item() == pytest.approx(small.raw_alpha.grad.item(), rel=1e-9)


# Populations


def test_members_have_the_gradients_that_they_have_alone():
    crowd = agent(population=2, policy_delay=1, alpha=(0.5, 4.0), actor_lr=(1e-2, 3e-3), q_memory=(0.9, 0.5))
    loud_(crowd)
    alone = [crowd.member(i) for i in range(2)]
    crowd.draws = recorder = Recorder(crowd.draws)
    batch = Batch(*(column.unflatten(0, (2, 8)) for column in toy_batch(16)[:5]))
    for _ in range(4):
        crowd.update(batch)
    for i, one in enumerate(alone):
        one.draws = MemberOf(recorder, i)
        for _ in range(4):
            one.update(Batch(*(column[i] for column in batch[:5])))
        assert crowd.raw_alpha.grad[i].item() == pytest.approx(one.raw_alpha.grad.item(), rel=1e-7)
        assert crowd.mean_q[i].item() == pytest.approx(one.mean_q.item(), rel=1e-9)
    assert crowd.raw_alpha.grad[0].item() != pytest.approx(crowd.raw_alpha.grad[1].item(), rel=1e-2)


# Cloning weights


class Given(nn.Module):
    """A state value of given numbers, one for each row."""

    def __init__(self, *values: float):
        super().__init__()
        self.values = tensor(values).double()

    def forward(self, observations: Tensor) -> Tensor:
        return self.values


@pytest.mark.parametrize(
    ("kind", "values", "expected"),  # Q is 2; exp has temperature 0.5
    [
        ("indicator", (1.0, 3.0), [1.0, 0.0]),
        ("indicator", (2.0, 1.999), [0.0, 1.0]),  # a tie does not count
        ("exp", (1.0, 3.0), [7.3890561, 0.13533528]),  # e^2 and e^-2
        ("exp", (-1e6, -0.3), [100.0, 99.4843156]),  # a cap at 100; e^4.6 is below it
        ("exp", (-0.31, 2.0), [100.0, 1.0]),  # e^4.62 = 101.5 is not
    ],
)
def test_cloning_weights_by_hand(kind, values, expected):
    aspc = by_hand(cloning_weights=kind, temperature=0.5)
    aspc.value = Given(*values)
    assert aspc.weights(two_rows()).tolist() == pytest.approx(expected, rel=1e-7)


def test_cloning_weights_are_in_both_losses_and_not_in_l3():
    aspc = by_hand(cloning_weights="indicator", policy_delay=1, l3=2)
    aspc.value = Given(1.0, 3.0)
    terms = outer(aspc, weights=aspc.weights(two_rows()))
    assert terms["l1"] == pytest.approx(0.25 - 2.5)  # half of 0.5, and nothing of 0.25
    assert terms["l3"] == pytest.approx(0.18)  # as without weights
    metrics = aspc.update_actor(two_rows())
    assert metrics["actor/bc"].item() == pytest.approx(0.25)
    assert metrics["actor/loss"].item() == pytest.approx(0.25 - 2.5)


@pytest.mark.parametrize("kind", ["indicator", "exp"])
def test_the_gradient_of_alpha_holds_with_cloning_weights_too(kind):
    aspc, batch = warmed(cloning_weights=kind), toy_batch(8)
    with torch.no_grad():
        aspc.value.trunk.linears[-1].bias += aspc.critic.first(batch.observations, batch.actions).mean()
    weights = aspc.weights(batch)
    assert len(set(weights.tolist())) > 1
    reference = InnerStep(aspc, batch, lr=1e-2, weights=weights)
    raw_alpha = aspc.raw_alpha.detach().clone().requires_grad_()
    (double,) = torch.autograd.grad(reference.loss(raw_alpha), raw_alpha)
    aspc.update_actor(batch)
    assert aspc.raw_alpha.grad.item() == pytest.approx(double.item(), rel=1e-9)


def test_weights_of_one_are_no_weights():
    plain, weighted = agent(policy_delay=1), agent(policy_delay=1, cloning_weights="indicator")
    weighted.load_state_dict(plain.state_dict(), strict=False)
    weighted.value = Given(*[-1e6] * 4)  # every action beats its state
    for one in (plain, weighted):
        one.update_actor(toy_batch(4))
    for mine, theirs in zip(weighted.actor.parameters(), plain.actor.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-12)


def test_the_value_is_fitted_to_the_critics_target():
    aspc = agent(cloning_weights="indicator", gamma=0.5)
    assert agent().value is None
    constant_(aspc.critic.trunk, [1.0, 2.0])
    constant_(aspc.target_critic.trunk, [8.0, 4.0])
    constant_(aspc.value.trunk, 0.0)
    # Targets 1 + 0.5 * 4 = 3 and, terminated, 2. Critics (4 + 1) / 2 and (1 + 0) / 2; the value (9 + 4) / 2.
    loss, metrics = aspc.critic_loss(toy_batch())
    assert loss.item() == pytest.approx(9.5)
    assert metrics["critic/loss"].item() == pytest.approx(3.0)
    before = state(aspc)
    aspc.update(toy_batch())
    names = {name.removeprefix("state/").removeprefix("policy.").split(".")[0] for name in changed(before, aspc)}
    assert names == {"critic", "value"}


def test_the_value_is_of_the_state_and_not_of_its_successor():
    aspc = agent(cloning_weights="exp")
    constant_(aspc.critic.trunk, [1.0, 2.0])
    constant_(aspc.target_critic.trunk, [8.0, 4.0])
    rows = toy_batch()
    loss = aspc.critic_loss(rows)[0].item()
    assert aspc.critic_loss(rows._replace(next_observations=-rows.next_observations))[0].item() == loss
    assert aspc.critic_loss(rows._replace(observations=-rows.observations))[0].item() != pytest.approx(loss, rel=1e-3)


# Networks


def test_critics_are_three_normalised_layers_with_small_outputs_and_the_actor_is_td3bcs():
    aspc = ASPC(toy_dataset(), device="cpu")
    assert aspc.critic.trunk.linears[-1].weight.shape == (2, 256, 1)
    assert [norm.weight.shape for norm in aspc.critic.trunk.norms] == [(2, 256)] * 3
    for linear in list(aspc.critic.trunk.linears)[:-1]:
        assert (linear.bias == 0.1).all()
    last = aspc.critic.trunk.linears[-1]
    assert 0.9 * 3e-3 < last.weight.abs().max().item() <= 3e-3
    assert 0.0 < last.bias.abs().max().item() <= 3e-3
    assert [linear.bias.shape for linear in aspc.actor.trunk.linears] == [(256,), (256,), (2,)]
    assert len(aspc.actor.trunk.norms) == 0
    assert not (aspc.actor.trunk.linears[0].bias == 0.1).any()
    assert aspc.actor.trunk.linears[-1].weight.abs().max() > 0.9 / 16.0  # uniform in +-1/sqrt(256)


def test_what_enters_the_critics_last_layer_is_normalised():
    aspc, seen = agent(critic_hidden=(32, 32)), []
    aspc.critic.trunk.linears[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    aspc.critic(toy_batch(4).observations, toy_batch(4).actions)
    (entered,) = seen  # after LayerNorm, not after ReLU: it has both signs
    torch.testing.assert_close(entered.mean(-1), torch.zeros(2, 4).double(), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(entered.var(-1, correction=0), torch.ones(2, 4).double(), rtol=0.0, atol=0.01)


def test_observations_are_normalised_and_rewards_are_raw_on_every_dataset():
    for name in ("hopper-medium-v2", "antmaze-umaze-v2"):
        c = agent(data=toy_dataset(name=name)).config
        assert (c.normalize_observations, c.reward_scale, c.reward_shift, c.gamma) == (True, 1.0, 0.0, 0.99)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("alpha_lr", -1e-3), ("q_memory", 1.5), ("l3", 6)])
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"ASPCConfig.{name} must be"):
        agent(**{name: value})
