"""An agent in the words of a bundle."""

import dataclasses
import re
import sys
from typing import Any

from zoo.agents.core.conventions import STATED
from zoo.agents.core.divergence import check_agent
from zoo.agents.core.learner import Learner, paper
from zoo.export.description import Description

SOURCE = re.compile(r"arXiv \d{4}\.\d{5}|OpenReview \w+")


def describe(agent: Learner) -> Description:
    """Raises ValueError for a population, which is not one policy, NotFiniteError for an agent that has diverged."""
    if agent.population is not None:
        raise ValueError(f"a population of {agent.population} is not one policy; take one member: agent.member(i)")
    check_agent(agent)
    spec = agent.spec
    summary, paper = paper_of(agent)
    sparse = {STATED: spec.reward_convention} if spec.reward_convention else {}
    return Description(
        agent=type(agent).__name__,
        summary=summary,
        paper=paper,
        seed=agent.seed,
        config=dataclasses.asdict(agent.config),
        dataset={"name": spec.name, "env_id": spec.env_id, "provenance": spec.provenance} | sparse,
        counters={"updates": agent.updates, "env_steps": agent.env_steps},
        action_low=spec.action_low,
        action_high=spec.action_high,
        normalizes=agent.config.normalize_observations,
        evaluation_samples=agent.config.evaluation_samples,
        stated=stated_of(agent),
        history=spec.history,
        delay=spec.delay,
    )


def stated_of(agent: Learner) -> dict[str, Any]:
    """What the data state of the dimensions that the actor sees, all of which then have a name."""
    if agent.sight is None:
        return agent.spec.stated
    entries = agent.spec.stated.get("observations") or [{}] * agent.spec.sent_size
    seen = [{"name": f"observations[{i}]", **entries[i]} for i in agent.sight]
    return {**agent.spec.stated, "observations": seen}


def paper_of(agent: Learner) -> tuple[str | None, str | None]:
    """The first line of the agent's file and the first paper that it names."""
    text = sys.modules[paper(type(agent)).__module__].__doc__
    if not text:
        return None, None
    source = SOURCE.search(text)
    return text.strip().splitlines()[0], source.group() if source else None
