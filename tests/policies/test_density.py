"""Action densities: recorded numbers of SPOT's VAE, torch.distributions, and the actor's dropout masks."""

import math

import pytest
import torch
from torch import tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from tests.support.data import constant_
from tests.support.golden import Case
from zoo.agents.core.optim import Adam, minimize
from zoo.policies import MLP, ConditionalVAE, DeterministicActor, DiffusionDensity, GaussianDensity

O, A, B, P = 3, 2, 6, 2  # noqa: E741
HIDDEN = (8, 7)
LATENT = 2 * A


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def case():
    return Case("spot_vae")


def recorded(case: Case, **settings) -> ConditionalVAE:
    sizes = (case.info["dimensions"][name] for name in ("S", "A"))
    hidden = (case.info["dimensions"]["H"],) * 2
    vae = ConditionalVAE(*sizes, hidden, kl_weight=case.hyper["beta"], **settings).double()
    vae.load_state_dict(case.vae("params"))
    return vae


def rows(*lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*lead, B, O), torch.rand(*lead, B, A) * 1.8 - 0.9


# Recorded numbers


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_loss_of_each_row_is_the_recorded_one(case, bound):
    vae, batch = recorded(case, samples=case.hyper[f"{bound}_samples"], bound=bound), case.batch()
    noise = case.arrays[f"draws/step0/{bound}_z"]
    assert noise.shape == vae.noise_like(batch.observations).shape
    expected = case.arrays[f"expected/step0/{bound}_loss_per_sample"]
    torch.testing.assert_close(vae(batch.observations, batch.actions, noise), expected, **case.tolerance)


def test_nats_of_the_loss_are_the_recorded_evidence_bound(case):
    vae, batch = recorded(case), case.batch()
    loss = vae.elbo_loss(batch.observations, batch.actions, case.arrays["draws/step0/elbo_estimator_z"])
    expected = -case.arrays["expected/step0/elbo_estimator_per_sample"]
    torch.testing.assert_close(vae.nats(loss), expected, **case.tolerance)


def test_losses_gradients_and_adam_steps_are_the_recorded_ones(case):
    vae, batch = recorded(case), case.batch()
    optimizer = Adam(vae.parameters(), case.hyper["lr"])
    for step in range(1, case.hyper["updates"] + 1):
        loss = vae(batch.observations, batch.actions, case.arrays[f"draws/step{step}/z"].unsqueeze(-2)).mean()
        minimize(loss, optimizer)
        torch.testing.assert_close(
            loss.detach(), case.arrays[f"expected/step{step}/vae_loss"].squeeze(), **case.tolerance
        )
        gradients, after = case.vae(f"expected/step{step}/grad/vae_loss"), case.vae(f"after{step}")
        for name, parameter in vae.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name], **case.tolerance, msg=lambda m, n=name: n + m)
            torch.testing.assert_close(parameter.detach(), after[name], **case.tolerance, msg=lambda m, n=name: n + m)


# The VAE


def test_the_loss_is_never_negative_and_zero_for_a_perfect_reconstruction_from_the_prior():
    vae = ConditionalVAE(O, A, HIDDEN)
    observations, actions = rows()
    noise = torch.randn(vae.noise_like(observations).shape)
    assert (vae(observations, actions, noise) > 0.0).all()
    constant_(vae.encoder, 0.0)  # mean 0 and log std 0: the prior itself
    constant_(vae.decoder, 0.0)
    assert vae(observations, torch.zeros_like(actions), noise).tolist() == [0.0] * B


def test_the_loss_by_hand():
    vae = ConditionalVAE(O, A, HIDDEN, kl_weight=0.5)
    constant_(vae.encoder, 1.0)  # means 1 and log standard deviations 1 of the latents
    constant_(vae.decoder, 0.0)
    observations, actions = torch.zeros(1, O), tensor([[0.6, -0.2]])
    # Reconstruction (0.36 + 0.04) / 2 = 0.2; KL 0.5 * (1 + e^2 - 1 - 2) = 2.694528; 0.2 + 0.5 * 2.694528.
    loss = vae(observations, actions, torch.zeros(1, 1, LATENT))
    assert loss.tolist() == pytest.approx([1.547264], abs=1e-6)


@pytest.mark.parametrize(("raw", "expected"), [(-50.0, -4.0), (-1.5, -1.5), (50.0, 15.0)])
def test_log_std_stays_in_its_range(raw, expected):
    vae = ConditionalVAE(O, A, HIDDEN)
    constant_(vae.encoder, raw)
    mean, std = vae.encode(*rows())
    assert torch.equal(mean, torch.full((B, LATENT), raw))
    torch.testing.assert_close(std.log(), torch.full((B, LATENT), expected))


def test_latents_have_twice_the_actions_dimensions():
    vae = ConditionalVAE(O, A, HIDDEN)
    mean, std = vae.encode(*rows())
    assert mean.shape == std.shape == (B, LATENT)
    assert vae.decoder.linears[0].weight.shape[-2] == O + LATENT
    assert vae.decode(torch.zeros(B, O), torch.zeros(B, LATENT)).shape == (B, A)


@pytest.mark.parametrize("density", ["elbo", "iwae", "gaussian"])
def test_the_gradient_in_the_actions_is_that_of_finite_differences_and_not_zero(density):
    model = GaussianDensity(O, A, HIDDEN) if density == "gaussian" else ConditionalVAE(O, A, HIDDEN, bound=density)
    observations, actions = rows()
    noise = torch.randn(model.noise_like(observations).shape)
    actions.requires_grad_()
    torch.autograd.gradcheck(lambda a: model(observations, a, noise), (actions,))
    (gradient,) = torch.autograd.grad(model(observations, actions, noise).sum(), actions)
    assert (gradient.abs() > 0.0).all()


def test_several_latents_are_averaged_in_the_loss():
    vae = ConditionalVAE(O, A, HIDDEN, samples=3)
    observations, actions = rows()
    noise = torch.randn(vae.noise_like(observations).shape)
    single = torch.stack([vae(observations, actions, one) for one in noise.split(1, dim=-2)])
    torch.testing.assert_close(vae(observations, actions, noise), single.mean(0))


def test_the_importance_weighted_bound_is_one_bound_for_one_latent_and_tighter_for_more():
    vae = ConditionalVAE(O, A, HIDDEN)
    observations, actions = torch.randn(1, O).expand(4000, O), torch.tensor([0.3, -0.6]).expand(4000, A)
    noise = torch.randn(4000, 2, LATENT)
    single = torch.stack([vae.iwae_loss(observations, actions, one) for one in noise.split(1, dim=-2)])
    bounds = vae.nats(vae.elbo_loss(observations, actions, noise))
    # The same expectation, the divergence once sampled and once in closed form.
    deviation = single[0].std().item() / math.sqrt(4000)
    assert single.mean().item() == pytest.approx(bounds.mean().item(), abs=4.0 * deviation)
    assert (vae.iwae_loss(observations, actions, noise) <= single.mean(0) + 1e-12).all()  # Jensen


@pytest.mark.parametrize("density", ["elbo", "iwae", "gaussian"])
def test_every_member_of_a_population_is_the_density_alone(density):
    def build(*lead: int) -> ConditionalVAE | GaussianDensity:
        if density == "gaussian":
            return GaussianDensity(O, A, HIDDEN, lead)
        return ConditionalVAE(O, A, HIDDEN, lead, samples=2, bound=density)

    crowd = build(P)
    observations, actions = rows(P)
    noise, sampling = (
        torch.randn(like(observations).shape) for like in (crowd.noise_like, crowd.sample_noise_like)
    )  # fmt: skip
    losses, samples = crowd(observations, actions, noise), crowd.sample(observations, sampling)
    assert (losses.shape, samples.shape) == ((P, B), (P, B, A))
    for p in range(P):
        alone = build()
        alone.load_state_dict({name: value[p] for name, value in crowd.state_dict().items()})
        torch.testing.assert_close(losses[p], alone(observations[p], actions[p], noise[p]))
        torch.testing.assert_close(samples[p], alone.sample(observations[p], sampling[p]))


def test_samples_are_inside_the_box_and_their_latents_within_a_half():
    vae, (observations, _) = ConditionalVAE(O, A, HIDDEN), rows()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter)
    far = vae.sample(observations, torch.full((B, LATENT), 100.0))
    assert far.abs().max() <= 1.0
    assert torch.equal(far, vae.decode(observations, torch.full((B, LATENT), 0.5)))
    near = torch.full((B, LATENT), -0.3)
    assert torch.equal(vae.sample(observations, near), vae.decode(observations, near))


# The Gaussian


def test_the_gaussian_density_is_that_of_torch_in_nats_for_each_dimension():
    density = GaussianDensity(O, A, HIDDEN)
    observations, actions = rows()
    mean, log_std = density.trunk(observations).chunk(2, dim=-1)
    theirs = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), TanhTransform())
    torch.testing.assert_close(
        density(observations, actions, torch.empty(B, 0)), -theirs.log_prob(actions) / A, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(("raw", "expected"), [(-50.0, -5.0), (0.3, 0.3), (50.0, 2.0)])
def test_the_gaussians_log_std_stays_in_its_range(raw, expected):
    density = GaussianDensity(O, A, HIDDEN)
    constant_(density.trunk, raw)
    assert density.distribution(torch.zeros(B, O)).log_std.unique().tolist() == [expected]


def test_samples_of_the_gaussian_have_the_mean_and_spread_of_its_network():
    density = GaussianDensity(O, A, HIDDEN)
    with torch.no_grad():
        constant_(density.trunk, 0.0)
        density.trunk.linears[-1].bias.copy_(tensor([0.2, -0.4, -2.0, -1.0]))
    samples = density.sample(torch.zeros(20_000, O), torch.randn(20_000, A)).atanh()
    assert samples.mean(0).tolist() == pytest.approx([0.2, -0.4], abs=0.01)
    assert samples.std(0).tolist() == pytest.approx([math.exp(-2.0), math.exp(-1.0)], rel=0.03)


# Dropout masks


def masks(value: float, *lead: int) -> list[torch.Tensor]:
    return [torch.full((*lead, B, width), value) for width in HIDDEN]


@pytest.mark.parametrize("lead", [(), (P,)])
def test_masks_of_ones_change_nothing_and_zeros_leave_the_last_bias(lead):
    actor, observations = DeterministicActor(O, A, HIDDEN, lead), torch.randn(*lead, B, O)
    assert torch.equal(actor(observations, masks(1.0, *lead)), actor(observations))
    ones, zeros = masks(1.0, *lead), masks(0.0, *lead)
    dead = actor(observations, [ones[0], zeros[1]])
    torch.testing.assert_close(dead, actor.trunk.linears[-1].bias.tanh().unsqueeze(-2).expand(*lead, B, A))


def test_a_mask_acts_on_its_own_row_alone():
    actor, observations = DeterministicActor(O, A, HIDDEN), torch.randn(B, O)
    some = masks(1.0)
    some[1][2] = 0.0
    whole, dropped = actor(observations), actor(observations, some)
    assert [torch.equal(one, other) for one, other in zip(whole, dropped, strict=True)] == [r != 2 for r in range(B)]


@pytest.mark.parametrize("norm", ["none", "before"])
def test_a_mask_scales_its_unit_before_the_norm_and_the_relu(norm):
    # The same for all rows, it is a factor of the weights and the bias of the layer.
    mlp, scaled = (MLP((O, 5, A), norm=norm) for _ in range(2))
    scaled.load_state_dict(mlp.state_dict())
    factors = tensor([2.0, 0.0, 0.5, 1.0, 4.0])
    with torch.no_grad():
        for parameter in scaled.linears[0].parameters():
            parameter.mul_(factors)
    x = torch.randn(B, O)
    torch.testing.assert_close(mlp(x, masks=[factors.expand(B, 5)]), scaled(x))


# The diffusion model

# Shares of the action left after 1 and after 5 steps of 5: exp(-0.1 / 5 - 4.95 / 25) and exp(-0.1 - 4.95).
LEFT = {0: 0.804125, 4: 0.00640933}


@pytest.mark.parametrize(("number", "step"), [(-9.0, 0), (9.0, 4)])
def test_a_model_of_one_action_finds_others_unlikely_by_their_distance(number, step, monkeypatch):
    """Of data that always take the action 0.5, the best guess of the noise is what would make the noisy action of 0.5.

    It misses the noise of an action at a distance d by sqrt(left / (1 - left)) d.
    """
    model = DiffusionDensity(O, A, HIDDEN)

    def best(noisy, at, observations):
        assert (at == step).all()
        return (noisy - math.sqrt(LEFT[step]) * 0.5) / math.sqrt(1.0 - LEFT[step])

    monkeypatch.setattr(model.model, "noise", best)
    noise = torch.randn(B, A + 1)
    noise[:, -1] = number
    observations, distance = torch.randn(B, O), tensor([0.3, -0.4])
    loss = model(observations, (0.5 + distance).expand(B, A), noise)
    expected = LEFT[step] / (1.0 - LEFT[step]) * (0.09 + 0.16) / 2
    assert loss.tolist() == pytest.approx([expected] * B, rel=1e-5)
    at_home = model(observations, torch.full((B, A), 0.5), noise)
    torch.testing.assert_close(at_home, torch.zeros(B), rtol=0.0, atol=1e-10)


def test_every_step_is_as_likely_as_another():
    model = DiffusionDensity(O, A, HIDDEN)
    assert model.step_of(tensor([-0.85, -0.83, 0.0, 0.85])).tolist() == [0, 1, 2, 4]  # fifths of a normal: -0.8416, ...
    counts = model.step_of(torch.randn(50_000)).bincount()
    assert counts.tolist() == pytest.approx([10_000] * 5, rel=0.05)


def test_a_fitted_diffusion_model_likes_the_datas_actions_and_draws_them():
    model = DiffusionDensity(O, A, (32, 32))
    optimizer = Adam(model.parameters(), 3e-3)
    observations, actions = torch.zeros(64, O), torch.full((64, A), 0.5)
    for _ in range(300):
        minimize(model(observations, actions, torch.randn_like(model.noise_like(observations))).mean(), optimizer)
    noise = torch.randn_like(model.noise_like(observations))
    assert model(observations, actions, noise).mean() < 0.3 * model(observations, -actions, noise).mean()
    drawn = model.sample(observations, torch.randn_like(model.sample_noise_like(observations)))
    assert (drawn - 0.5).abs().mean() < 0.15
    proposed = (-actions).requires_grad_()
    model(observations, proposed, noise).sum().backward()
    assert (proposed.grad.mean(0) < 0.0).all()  # towards the data's action


def test_members_of_a_population_of_diffusion_models_are_single_ones():
    both, one = DiffusionDensity(O, A, HIDDEN, (P,)), DiffusionDensity(O, A, HIDDEN)
    observations, actions = rows(P)
    noise = torch.randn_like(both.noise_like(observations))
    for i in range(P):
        one.load_state_dict({key: value[i] for key, value in both.state_dict().items()})
        expected = one(observations[i], actions[i], noise[i])
        torch.testing.assert_close(both(observations, actions, noise)[i], expected)
