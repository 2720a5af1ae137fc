"""Whole updates against numbers recorded from other implementations, in float64."""

import pytest
import torch

from tests.support.golden import Case, RecordedDraws, cases, networks, of_preset
from zoo.agents import ASPC, PARS, SPOT, TD3BC, TD3BCSA, Agent, ReBRAC


def common(case: Case) -> dict:
    """Settings that the TD3 family's cases share, under our names."""
    h = case.hyper
    return {
        "actor_hidden": case.hidden("actor"),
        "critic_hidden": case.hidden("critic/0"),
        "n_critics": case.members("critic"),
        "actor_lr": h.get("actor_lr", h.get("lr")),
        "critic_lr": h.get("critic_lr", h.get("lr")),
        "gamma": h.get("discount", h.get("gamma")),
        "tau": h["tau"],
        "target_noise": h["policy_noise"],
        "target_noise_clip": h["noise_clip"],
        "policy_delay": h["policy_freq"],
        "target_delay": h["policy_freq"],
    }


def td3bc(case: Case) -> Agent:
    return of_preset(TD3BC, case.spec(), {"alpha": case.hyper["alpha"]} | common(case))


def pars(case: Case) -> Agent:
    h = case.hyper
    own = {
        "alpha": h["alpha"],
        "beta": h["beta"],
        "reward_scale": h["reward_scale"],
        "infeasible_distance": h["infeasible_L"],
        "target_subset": h["target_subset"],
    }
    return of_preset(PARS, case.spec(reward_min=h["r_min"]), own | common(case))


def rebrac(case: Case) -> Agent:
    h = case.hyper
    own = {
        "actor_cloning": h["actor_bc_coef"],
        "critic_cloning": h["critic_bc_coef"],
        "actor_norm": "after" if h["actor_layer_norm"] else "none",  # "after" is an option of the official code
    }
    return of_preset(ReBRAC, case.spec(), own | common(case), other_form=("actor_norm",))


def aspc(case: Case) -> Agent:
    h = case.hyper
    own = {
        "alpha": h["alpha_init"],
        "alpha_lr": 10.0 / h["alpha_freq"] * h["alpha_lr"],  # recorded at its own interval
        "alpha_interval": h["alpha_freq"],
        "q_memory": h["ema_alpha"],
    }
    return of_preset(ASPC, case.spec(), own | common(case))


def ssar(case: Case) -> Agent:
    """The batch brings its own trusted rows. "halfcheetah-medium-expert" is the preset that clones all of them."""
    h = case.hyper
    own = {
        "alpha": h["alpha"],
        "coefficient_hidden": case.hidden("coefficient"),
        "coefficient_lr": h["beta_lr"],
        "coefficient_clip": h["beta_grad_clip"],
        "delta": h["expl_noise"],
        "n_start": h["n_start"],
        "n_end": h["n_end"],
        "n_interval": h["update_period"],
        "trust": "return",
    }
    dataset = "hopper-medium" if h["loosen_bound"] else "halfcheetah-medium-expert"
    return of_preset(TD3BCSA, case.spec(), own | common(case), dataset, other_form=("trust",))


def spot(case: Case) -> Agent:
    h = case.hyper
    own = {
        "density_weight": h["lambd"],
        "dropout": h["actor_dropout"],
        "density_hidden": (case.info["dimensions"]["H"],) * 2,
        "kl_weight": h["beta"],
        "latent_samples": h["num_samples"],
    }
    return of_preset(SPOT, case.spec(), own | common(case))


BUILD = [(name, td3bc) for name in cases("td3_bc*")] + [(name, pars) for name in cases("pars*")]
BUILD += [(name, rebrac) for name in cases("rebrac*")]
BUILD += [(name, ssar) for name in cases("ssar_td3bc*")]
BUILD += [(name, spot) for name in cases("spot") if name != "spot_vae"]
BUILD += [(name, aspc) for name in cases("aspc*")]
# Sources that order the steps otherwise: ReBRAC's target actor moves towards the actor of before the step, ours towards
# the one of after it. Every update of such a case begins at the stored parameters, and that network is not compared.
OTHER_ORDER = {"rebrac": "actor_target", "rebrac_actor_ln": "actor_target"}


@pytest.mark.parametrize(("name", "build"), BUILD)
def test_losses_gradients_and_parameters_are_those_recorded(name, build):
    case = Case(name)
    agent = build(case)
    case.load("params", agent)
    batch = case.batch()
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = RecordedDraws(case, step)
        if name in OTHER_ORDER and step > 1:
            case.load(f"after{step - 1}", agent)
        if (recorded := case.arrays.get(f"expected/step{step}/q")) is not None:
            torch.testing.assert_close(agent.critic(batch.observations, batch.actions), recorded, **case.tolerance)
        metrics = agent.update(batch)
        moved = ("critic", "actor") if step % case.hyper["policy_freq"] == 0 else ("critic",)
        for net in moved:
            expected = case.arrays[f"expected/step{step}/{net}_loss"]
            torch.testing.assert_close(metrics[f"{net}/loss"], expected, **case.tolerance)
        for net, mlp, ensemble in networks(agent):
            if net in moved and case.stored(f"expected/step{step}/grad/{net}_loss"):
                gradients = case.network(f"expected/step{step}/grad/{net}_loss", net, mlp, ensemble)
                for key, parameter in mlp.named_parameters():
                    torch.testing.assert_close(
                        parameter.grad, gradients[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                    )
            if net == OTHER_ORDER.get(name) or not case.stored(f"after{step}"):
                continue
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(
                    parameter.detach(), after[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                )


@pytest.mark.parametrize("name", cases("aspc*"))
def test_aspc_alpha_and_its_gradient_are_those_recorded(name):
    case = Case(name)
    agent, batch = aspc(case), case.batch()
    case.load("params", agent)
    ours = {"alpha_loss": "loss", "eq1": "l1", "eq2": "l2", "eq3": "l3"}
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = RecordedDraws(case, step)
        metrics = agent.update(batch)
        expected = {
            key.rsplit("/", 1)[1]: v for key, v in case.arrays.items() if key.startswith(f"expected/step{step}/")
        }
        if step % 2 == 0:
            torch.testing.assert_close(metrics["alpha/value"], expected["alpha"], rtol=0.0, atol=1e-9)
        if step % 4:
            continue
        gradient = case.arrays[f"expected/step{step}/raw_alpha_grad_exact"]
        torch.testing.assert_close(agent.raw_alpha.grad, gradient, rtol=1e-5, atol=0.0)
        for theirs, mine in ours.items():
            torch.testing.assert_close(metrics[f"alpha/{mine}"], expected[theirs], rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(agent.mean_q, expected["ema_q"], rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(agent.raw_alpha.detach(), case.arrays[f"after{step}/raw_alpha"], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", cases("pars*"))
def test_pars_floor_and_infeasible_actions_are_those_recorded(name):
    case = Case(name)
    agent = pars(case)
    assert agent.q_min == pytest.approx(case.hyper["q_min"], rel=1e-12)
    agent.draws = RecordedDraws(case, 1)
    torch.testing.assert_close(
        agent.infeasible_actions(case.batch().actions),
        case.arrays["expected/step1/infeasible_actions"],
        **case.tolerance,
    )
