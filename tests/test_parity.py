"""Whole updates against numbers recorded from other implementations, in float64."""

import pytest
import torch

from agents import PARS, TD3BC, Agent
from tests.golden import Case, RecordedDraws, cases, networks


def common(case: Case) -> dict:
    """Settings that the TD3 family's cases share, under our names."""
    h = case.hyper
    return {
        "actor_hidden": case.hidden("actor"),
        "critic_hidden": case.hidden("critic/0"),
        "n_critics": case.members("critic"),
        "actor_lr": h["actor_lr"],
        "critic_lr": h["critic_lr"],
        "gamma": h["discount"],
        "tau": h["tau"],
        "target_noise": h["policy_noise"],
        "target_noise_clip": h["noise_clip"],
        "policy_delay": h["policy_freq"],
        "target_delay": h["policy_freq"],
    }


def td3bc(case: Case) -> Agent:
    return TD3BC(case.spec(), dtype=torch.float64, alpha=case.hyper["alpha"], **common(case))


def pars(case: Case) -> Agent:
    h = case.hyper
    return PARS(
        case.spec(reward_min=h["r_min"]),
        dtype=torch.float64,
        alpha=h["alpha"],
        beta=h["beta"],
        reward_scale=h["reward_scale"],
        infeasible_distance=h["infeasible_L"],
        target_subset=h["target_subset"],
        **common(case),
    )


BUILD = [(name, td3bc) for name in cases("td3_bc*")] + [(name, pars) for name in cases("pars*")]


@pytest.mark.parametrize(("name", "build"), BUILD)
def test_losses_gradients_and_parameters_are_those_recorded(name, build):
    case = Case(name)
    agent = build(case)
    case.load("params", agent)
    batch = case.batch()
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = RecordedDraws(case, step)
        qs = agent.critic(batch.observations, batch.actions)
        torch.testing.assert_close(qs, case.arrays[f"expected/step{step}/q"], **case.tolerance)
        metrics = agent.update(batch)
        moved = ("critic", "actor") if step % case.hyper["policy_freq"] == 0 else ("critic",)
        for net in moved:
            expected = case.arrays[f"expected/step{step}/{net}_loss"]
            torch.testing.assert_close(metrics[f"{net}/loss"], expected, **case.tolerance)
        for net, mlp, ensemble in networks(agent):
            if net in moved:
                gradients = case.network(f"expected/step{step}/grad/{net}_loss", net, mlp, ensemble)
                for key, parameter in mlp.named_parameters():
                    torch.testing.assert_close(
                        parameter.grad, gradients[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                    )
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(
                    parameter.detach(), after[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                )


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
