"""SAC-N and EDAC: whole updates against numbers recorded from another implementation, in float64."""

import pytest
import torch

from tests.support.golden import Case, RecordedDraws
from zoo.agents import EDAC, SACN, Agent


def build(case: Case) -> Agent:
    h = case.hyper
    cls, own = (EDAC, {"eta": h["eta"]}) if "eta" in h else (SACN, {})
    return cls(
        case.spec(),
        dtype=torch.float64,
        device="cpu",
        actor_hidden=case.hidden("actor"),
        critic_hidden=case.hidden("critic/0"),
        n_critics=case.members("critic"),
        actor_lr=h["actor_lr"],
        critic_lr=h["critic_lr"],
        alpha_lr=h["alpha_learning_rate"],
        gamma=h["gamma"],
        tau=h["tau"],
        target_entropy=h["target_entropy"] / case.info["dimensions"]["A"],
        **own,
    )


def networks(agent: Agent) -> list[tuple]:
    found = [("actor", agent.actor.trunk, False), ("critic", agent.critic.trunk, True)]
    return [*found, ("critic_target", agent.target_critic.trunk, True)]


@pytest.mark.parametrize("name", ["sac_n", "edac"])
def test_losses_gradients_and_parameters_are_those_recorded(name):
    case = Case(name)
    agent, batch = build(case), case.batch()
    for net, mlp, ensemble in networks(agent):
        mlp.load_state_dict(case.network("params", net, mlp, ensemble))
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = RecordedDraws(case, step)
        metrics = agent.update(batch)
        here = f"expected/step{step}"
        for loss in ("alpha", "actor", "critic"):
            torch.testing.assert_close(metrics[f"{loss}/loss"], case.arrays[f"{here}/{loss}_loss"], **case.tolerance)
        for net, mlp, ensemble in networks(agent)[:2] if step == 1 else []:
            expected = case.network(f"{here}/grad/{net}_loss", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(parameter.grad, expected[key], **case.tolerance)
        if not case.stored(f"after{step}"):
            continue
        torch.testing.assert_close(agent.log_alpha.detach(), case.arrays[f"after{step}/log_alpha"][0], **case.tolerance)
        for net, mlp, ensemble in networks(agent):
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(
                    parameter.detach(), after[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                )
