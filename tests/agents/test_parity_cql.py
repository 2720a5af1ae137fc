"""CQL and its state-adaptive version: whole updates against numbers recorded from other implementations, in float64."""

import pytest
import torch
from torch import Tensor

from tests.support.golden import Case, RecordedDraws, cases, of_preset
from zoo.agents import CQL, CQLSA, Agent


class UniformInBox(RecordedDraws):
    """These sources recorded uniform actions in [-1, 1), where we draw in [0, 1)."""

    def uniform(self, name: str, like: Tensor) -> Tensor:
        return 0.5 * (self.normal(name, like) + 1.0)


def settings(case: Case) -> dict:
    h = case.hyper
    assert not h["bc_steps"]
    return {
        "actor_hidden": case.hidden("actor"),
        "critic_hidden": case.hidden("critic/0"),
        "n_critics": case.members("critic"),
        "actor_lr": h["policy_lr"],
        "critic_lr": h["qf_lr"],
        "gamma": h["discount"],
        "reward_scale": 1.0,  # the recorded batch holds the rewards of the update
        "reward_shift": 0.0,
        "tau": h["soft_target_update_rate"],
        "target_delay": h["target_update_period"],
        "entropy_weight": h["alpha_multiplier"],
        "cql_alpha": h["cql_alpha"],
        "penalty_actions": h["cql_n_actions"],
        "penalty_temperature": h["cql_temp"],
        "importance_sampling": h["cql_importance_sample"],
        "target_gap": h["cql_target_action_gap"] if h["cql_lagrange"] else None,
        "gap_min": h["cql_clip_diff_min"],
        "gap_max": h["cql_clip_diff_max"],
        "max_backup": h["cql_max_target_backup"],
        "backup_entropy": h["backup_entropy"],
    }


def build(case: Case) -> Agent:
    """The preset of AntMaze has the multiplier, the bounds and the best of several actions in the target."""
    h = case.hyper
    if not case.info["case"].startswith("ssar"):
        dataset = "antmaze-umaze" if h["cql_lagrange"] else "hopper-medium"
        options = ("gap_max", "backup_entropy")  # of the source, which no preset takes
        return of_preset(CQL, case.spec(), settings(case), dataset, other_form=options)
    own = {
        "coefficient_hidden": case.hidden("coefficient"),
        "coefficient_lr": h["beta_lr"],
        "coefficient_clip": h["beta_grad_clip"],
        "n_start": h["n_start"],
        "n_end": h["n_end"],
        "n_interval": h["update_period"],
        "trust": "all",  # the batch brings its own trusted rows
        "mask_cloning": h["loosen_bound"],
        "cloning_weight": 0.5 if h["antmaze_bc_term"] else 0.0,
    }
    options = ("trust", "mask_cloning")  # AntMaze's choice of rows with the penalty of the other data
    return of_preset(CQLSA, case.spec(), own | settings(case), "hopper-medium", other_form=options)


def networks(agent: Agent) -> list[tuple]:
    found = [("actor", agent.actor.trunk, False), ("critic", agent.critic.trunk, True)]
    found += [("coefficient", agent.coefficient.trunk, False)] if isinstance(agent, CQLSA) else []
    return [*found, ("critic_target", agent.target_critic.trunk, True)]


def scalars(agent: Agent) -> dict[str, Tensor]:
    found = {
        "actor/log_std_multiplier": agent.actor.log_std_scale,
        "actor/log_std_offset": agent.actor.log_std_offset,
        "log_alpha": agent.log_alpha,
    }
    return found | ({"log_alpha_prime": agent.log_multiplier} if agent.config.target_gap is not None else {})


@pytest.mark.parametrize("name", cases("cql*") + cases("ssar_cql*"))
def test_losses_gradients_and_parameters_are_those_recorded(name):
    case = Case(name)
    agent, batch = build(case), case.batch()
    for net, mlp, ensemble in networks(agent):
        mlp.load_state_dict(case.network("params", net, mlp, ensemble))
    for key, parameter in scalars(agent).items():
        parameter.data.copy_(case.arrays[f"params/{key}"].reshape(()))
    for step in range(1, case.hyper["updates"] + 1):
        agent.draws = UniformInBox(case, step)
        metrics = agent.update(batch)
        here = f"expected/step{step}"
        for loss in ("actor", "critic", "alpha", *(["coefficient"] if isinstance(agent, CQLSA) else [])):
            torch.testing.assert_close(metrics[f"{loss}/loss"], case.arrays[f"{here}/{loss}_loss"], **case.tolerance)
        if isinstance(agent, CQLSA):
            torch.testing.assert_close(agent.n, case.arrays[f"{here}/n"], **case.tolerance)
        for net, mlp, ensemble in networks(agent)[:2]:
            if not case.stored(f"{here}/grad/{net}_loss"):
                continue
            expected = case.network(f"{here}/grad/{net}_loss", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(parameter.grad, expected[key], **case.tolerance)
        if not case.stored(f"after{step}"):
            continue
        for net, mlp, ensemble in networks(agent):
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(
                    parameter.detach(), after[key], **case.tolerance, msg=lambda m, n=net, k=key: f"{n} {k}: {m}"
                )
        for key, parameter in scalars(agent).items():
            torch.testing.assert_close(
                parameter.detach(), case.arrays[f"after{step}/{key}"].reshape(()), **case.tolerance
            )
