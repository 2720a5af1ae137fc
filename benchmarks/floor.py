"""The floor of a gradient step: its matrix products alone, as bare torch.mm into ready memory."""

from collections.abc import Callable
from itertools import pairwise

import torch
from measuring import ACTIONS, BATCH, OBSERVATIONS

from zoo.agents import CQL, IQL
from zoo.agents.shared.actor_critic import ActorCritic

Product = tuple[int, int, int]  # (m, k, n): (m, k) @ (k, n)


def forward(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    return [(rows, i, o) for i, o in pairwise(sizes)]


def weight_gradients(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    return [(i, rows, o) for i, o in pairwise(sizes)]


def input_gradients(rows: int, sizes: tuple[int, ...], to_the_input: bool) -> list[Product]:
    products = [(rows, o, i) for i, o in pairwise(sizes)]
    return products if to_the_input else products[1:]


def gradients(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    """Forward and backward, to the parameters."""
    return forward(rows, sizes) + weight_gradients(rows, sizes) + input_gradients(rows, sizes, to_the_input=False)


def td3_products(agent: ActorCritic, target_members: int, critic_rows: int, actor_members: int) -> list[Product]:
    """All products of two updates: two critic steps, one actor step."""
    c = agent.config
    actor, critic = (OBSERVATIONS, *c.actor_hidden, ACTIONS), (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    critic_step = forward(BATCH, actor) + target_members * forward(BATCH, critic)
    critic_step += c.n_critics * gradients(critic_rows, critic)
    actor_step = gradients(BATCH, actor) + actor_members * (
        forward(BATCH, critic) + input_gradients(BATCH, critic, to_the_input=True)
    )
    return 2 * critic_step + actor_step


def iql_products(agent: IQL) -> list[Product]:
    """All products of two updates. The value sees s in its loss, then s and s' as it is after its step."""
    c = agent.config
    value, actor = (OBSERVATIONS, *c.value_hidden, 1), (OBSERVATIONS, *c.actor_hidden, ACTIONS)
    critic = (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    learn = gradients(BATCH, value) + gradients(BATCH, actor) + c.n_critics * gradients(BATCH, critic)
    return 2 * (learn + 2 * forward(BATCH, value) + c.n_critics * forward(BATCH, critic))


def cql_products(agent: CQL) -> list[Product]:
    """All products of two updates: the actor asked at s for its loss, and at s and s' for actions."""
    c = agent.config
    actor, critic = (OBSERVATIONS, *c.actor_hidden, 2 * ACTIONS), (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    actor_step = gradients(BATCH, actor) + c.n_critics * (
        forward(BATCH, critic) + input_gradients(BATCH, critic, to_the_input=True)
    )
    target = forward(BATCH, actor) + c.n_critics * forward(BATCH, critic)
    asked = (1 + 3 * c.penalty_actions) * BATCH
    return 2 * (actor_step + target + 2 * forward(BATCH, actor) + c.n_critics * gradients(asked, critic))


def floor(products: list[Product]) -> Callable[[], None]:
    """Runs the products; every distinct shape has its own ready operands."""
    operands = {p: (torch.randn(p[0], p[1]), torch.randn(p[1], p[2]), torch.empty(p[0], p[2])) for p in set(products)}

    def run() -> None:
        for product in products:
            a, b, out = operands[product]
            torch.mm(a, b, out=out)

    return run
