"""AWAC and IQL against numbers recorded from other implementations, in float64.

Some of the sources order their steps differently from ours, so every update begins at the stored parameters, and its
losses and gradients are compared there: each loss by its own method, as the source saw it. Where the order is ours the
parameters after whole updates are compared as well.
"""

import dataclasses

import pytest
import torch

from tests.support.golden import Case, RecordedDraws, cases, of_preset
from zoo.agents import ASAC, AWAC, IQL, TD3BC, Agent, Batch
from zoo.agents.core.batch import COLUMNS


def common(case: Case) -> dict:
    h = case.hyper
    return {
        "actor_hidden": case.hidden("actor"),
        "critic_hidden": case.hidden("critic/0"),
        "n_critics": case.members("critic"),
        "actor_lr": h["lr"],
        "critic_lr": h["lr"],
        "gamma": h["discount"],
        "tau": h.get("tau", h.get("critic_target_tau")),
    }


def simple(case: Case) -> dict:
    h = case.hyper
    return common(case) | {
        "pessimism": h["pessimism_penalty"],
        "policy_std": h["std"],
        "temperature": h["beta"],
        "value_samples": h["num_value_samples"],
        "target_noise_clip": h["std_clip"],
    }


def awac(case: Case) -> Agent:
    return of_preset(AWAC, case.spec(), {"temperature": case.hyper["awac_lambda"]} | common(case))


def mood_awac(case: Case) -> Agent:
    return of_preset(AWAC, case.spec(), simple(case), variant="simple-ingredients")


def iql(case: Case) -> Agent:
    """A deterministic policy is the choice of ASPC's paper for hopper-medium."""
    h = case.hyper
    own = {
        "expectile": h["iql_tau"],
        "temperature": 1.0 / h["beta"],
        "value_hidden": case.hidden("value"),
        "value_lr": h["lr"],
        "cosine_steps": h["max_steps"],
        "log_std_min": -20.0,
    }
    variant = "aspc" if h["policy"] == "deterministic" else None
    return of_preset(IQL, case.spec(), own | common(case), "hopper-medium" if variant else "golden", variant)


def mood_iql(case: Case) -> Agent:
    h = case.hyper
    own = {"expectile": h["expectile"], "value_hidden": case.hidden("value"), "value_lr": h["lr"]}
    return of_preset(IQL, case.spec(), own | simple(case), variant="simple-ingredients")


def networks(agent: Agent) -> list[tuple]:
    found = [("actor", agent.actor.trunk, False), ("critic", agent.critic.trunk, True)]
    found += [("value", agent.value.trunk, False)] if isinstance(agent, IQL) else []
    return [*found, ("critic_target", agent.target_critic.trunk, True)]


def load(case: Case, where: str, agent: Agent) -> None:
    for net, mlp, ensemble in networks(agent):
        mlp.load_state_dict(case.network(where, net, mlp, ensemble))
    if (log_std := case.arrays.get(f"{where}/actor/log_std")) is not None:
        agent.actor.log_std.data.copy_(log_std)


def assert_recorded(case: Case, step: int, name: str, net: str, agent: Agent, loss, factor: float = 1.0) -> None:
    """The loss and its gradients. factor: of the source's loss over ours."""
    torch.testing.assert_close(factor * loss, case.arrays[f"expected/step{step}/{name}_loss"], **case.tolerance)
    mlp, ensemble = next((mlp, ensemble) for other, mlp, ensemble in networks(agent) if other == net)
    parameters = dict(mlp.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    expected = case.network(f"expected/step{step}/grad/{name}_loss", net, mlp, ensemble)
    for key, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(factor * gradient, expected[key], **case.tolerance, msg=lambda m, k=key: f"{k}: {m}")


def steps(case: Case, agent: Agent):
    """The updates, each begun at the stored parameters."""
    for step in range(1, case.hyper["updates"] + 1):
        load(case, f"after{step - 1}" if step > 1 else "params", agent)
        agent.draws = RecordedDraws(case, step)
        yield step, case.batch()


@pytest.mark.parametrize("name", cases("iql*"))
def test_iql_losses_and_gradients_are_those_recorded(name):
    """The source evaluates V(s') and the advantage before the value's step, and averages the critics' errors."""
    case = Case(name)
    agent = iql(case)
    for step, batch in steps(case, agent):
        q = agent.data_q(batch)
        assert_recorded(case, step, "value", "value", agent, agent.value_loss(batch, q)[0])
        assert_recorded(case, step, "critic", "critic", agent, agent.critic_loss(batch)[0], factor=0.5)
        assert_recorded(case, step, "actor", "actor", agent, agent.cloning_loss(batch, agent.advantage(batch, q))[0])


@pytest.mark.parametrize(("name", "build", "factor"), [("awac", awac, 1.0), ("mood_awac", mood_awac, 0.5)])
def test_awac_updates_are_those_recorded(name, build, factor):
    """Whole updates; the paper's simple form halves the critics' loss, which Adam undoes up to its epsilon."""
    case = Case(name)
    agent = build(case)
    for step, batch in steps(case, agent):
        assert_recorded(case, step, "critic", "critic", agent, agent.critic_loss(batch)[0], factor)
        metrics = agent.update(batch)
        torch.testing.assert_close(
            metrics["actor/loss"], case.arrays[f"expected/step{step}/actor_loss"], rtol=1e-7, atol=1e-10
        )
        for net, mlp, ensemble in networks(agent):
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(parameter.detach(), after[key], rtol=1e-6, atol=2e-7)


def test_mood_iql_updates_are_those_recorded():
    case = Case("mood_iql")
    agent = mood_iql(case)
    for step, batch in steps(case, agent):
        assert_recorded(case, step, "value", "value", agent, agent.value_loss(batch, agent.data_q(batch))[0])
        metrics = agent.update(batch)
        for net in ("critic", "actor"):
            expected = case.arrays[f"expected/step{step}/{net}_loss"]
            ours = (0.5 if net == "critic" else 1.0) * metrics[f"{net}/loss"]
            torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-10)
        for net, mlp, ensemble in networks(agent):
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(parameter.detach(), after[key], rtol=1e-6, atol=2e-7)


def test_asac_updates_are_those_recorded():
    """Rows are drawn from the recorded tree. The source halves the critics' loss; Adam undoes it up to its epsilon."""
    case = Case("mood_asac")
    h = case.hyper
    own = {
        "batch_size": case.info["dimensions"]["B"],
        "pessimism": h["pessimism_penalty"],
        "policy_std": h["std"],
        "target_noise_clip": h["std_clip"],
        "temperature": h["beta"],
    }
    spec = dataclasses.replace(case.spec(), transitions=len(case.arrays["dataset/rewards"]))
    agent = of_preset(ASAC, spec, own | common(case))
    load(case, "params", agent)
    data = Batch(**{name: case.arrays[f"dataset/{name}"] for name in COLUMNS})
    table = agent.new_table(len(data.rewards))
    table.append({name: column.numpy() for name, column in data._asdict().items() if column is not None})
    table.rows = torch.cat([c if c.dim() == 2 else c.unsqueeze(-1) for c in data if c is not None], dim=-1)  # float64
    agent.tree.restore({"log_weights": case.arrays["params/log_priorities"]})
    for step in range(1, h["updates"] + 1):
        agent.draws = RecordedDraws(case, step)
        agent.batches = RecordedDraws(case, step)
        batch = agent.sample(table)
        here = f"expected/step{step}"
        drawn = torch.cat([case.arrays[f"{here}/{kind}_index"] for kind in ("uniform", "prioritized")])
        assert torch.equal(batch.leaves, drawn)
        metrics = agent.update(batch)
        torch.testing.assert_close(agent.tree.log_weights, case.arrays[f"{here}/log_priorities"], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            0.5 * metrics["critic/loss"], case.arrays[f"{here}/critic_loss"], rtol=1e-6, atol=0.0
        )
        torch.testing.assert_close(metrics["actor/loss"], case.arrays[f"{here}/actor_loss"], rtol=1e-6, atol=0.0)
        for net, mlp, ensemble in networks(agent):
            after = case.network(f"after{step}", net, mlp, ensemble)
            for key, parameter in mlp.named_parameters():
                torch.testing.assert_close(parameter.detach(), after[key], rtol=1e-6, atol=2e-7)


def test_td3bc_in_the_papers_simple_form_has_the_losses_and_gradients_recorded():
    """The source multiplies the loss of TD3+BC by mean|Q| / alpha and halves the critics'."""
    case = Case("mood_td3bc")
    h = case.hyper
    own = {
        "alpha": 1.0 / h["actor_bc_coeff"],
        "pessimism": h["pessimism_penalty"],
        "target_noise": h["std"],
        "policy_noise": h["std"],
        "target_noise_clip": h["std_clip"],
    }
    agent = of_preset(TD3BC, case.spec(), own | common(case), variant="simple-ingredients")
    for step, batch in steps(case, agent):
        agent.target_actor.load_state_dict(agent.actor.state_dict())
        agent.draws = RenamedDraws(case, step)
        assert_recorded(case, step, "critic", "critic", agent, agent.critic_loss(batch)[0], factor=0.5)
        load(case, f"after{step}", agent)  # the source's actor step sees the critics of after theirs,
        agent.actor.trunk.load_state_dict(
            case.network(f"after{step - 1}" if step > 1 else "params", "actor", agent.actor.trunk, ensemble=False)
        )
        scale = agent.q_of(batch, agent.act(batch)).detach().abs().mean() * h["actor_bc_coeff"]
        assert_recorded(case, step, "actor", "actor", agent, scale * agent.actor_loss(batch)[0])


class RenamedDraws(RecordedDraws):
    """The source's next_action_noise is TD3's target noise."""

    def normal(self, name: str, like: torch.Tensor) -> torch.Tensor:
        return super().normal("next_action_noise" if name == "target_noise" else name, like)
