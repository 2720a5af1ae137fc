"""Which environment a benchmark's scores were measured in, and what differs where another one is used.

Sources: the code of D4RL, Gymnasium, Gymnasium-Robotics (to 1.4.2) and OGBench (1.2).
"""

from __future__ import annotations

import re

from zoo.datasets.dataset import EMBEDDED
from zoo.datasets.readers import ogbench
from zoo.datasets.readers.d4rl import CATALOG, LOCOMOTION_ENVS

ADROIT = "pen|door|hammer|relocate"
ANOTHER = "This is not the environment that D4RL measured in: the score is not comparable with published ones. "

# Of a D4RL dataset's family and the environment used, the first line that fits both.
D4RL: tuple[tuple[str, str, str], ...] = (
    (
        "|".join(LOCOMOTION_ENVS),
        r".*-v4",
        "D4RL measured in gym's -v2. This -v4 is the same task on today's MuJoCo: differences of a point or two are "
        "expected.",
    ),
    (
        "|".join(LOCOMOTION_ENVS),
        r".*",
        f"{ANOTHER}Rewards, friction or observations of other versions than -v4 differ from those of gym's -v2.",
    ),
    (
        "antmaze",
        r".*zoo/D4RL-antmaze-.*",
        "An environment in D4RL's convention on today's MuJoCo: its maps, ant, goals and limits. The simulator is "
        "another version: trajectories part at contacts, and success rates have not been compared with D4RL's.",
    ),
    (
        "maze2d",
        r".*zoo/D4RL-maze2d-.*",
        "D4RL's particle and mazes on today's MuJoCo; the simulator is another version, and scores have not "
        "been compared.",
    ),
    (
        "pen|door|hammer|relocate",
        r".*zoo/D4RL-.*",
        "D4RL's task, reward and limit on Gymnasium-Robotics' AdroitHand, whose models were brought to today's MuJoCo: "
        "contacts differ, and scores have not been compared with D4RL's.",
    ),
    (
        "kitchen",
        r".*zoo/D4RL-kitchen-.*",
        "D4RL's tasks and observation on Gymnasium-Robotics' FrankaKitchen: its robot is driven by a controller of its "
        "own and its sensor noise is smaller, so scores are not comparable with D4RL's.",
    ),
    (
        "antmaze",
        r"ogbench:antmaze-(medium|large)-.*",
        "By its sources OGBench's ant, its medium and its large maze are D4RL's; that they behave alike has not been "
        "tested. D4RL draws the goal anew inside its cell at each reset (-v2).",
    ),
    (
        "antmaze",
        r".*AntMaze_.*",
        f"{ANOTHER}Gymnasium-Robotics' maze is flipped and centred, the goal radius is 0.45 for 0.5, the ant's gear "
        "150 for 1, observations are dictionaries, and by default an episode goes on after success.",
    ),
    (
        "maze2d",
        r".*PointMaze_.*",
        f"{ANOTHER}Gymnasium-Robotics' PointMaze observes the goal too, which D4RL's maze2d does not.",
    ),
    (
        "pen",
        r".*AdroitHandPen-.*",
        f"{ANOTHER}D4RL's pen has 100 steps and ends when the pen drops; this one has 200 and goes on.",
    ),
    (
        "door|hammer|relocate",
        r".*AdroitHand\w+-v1",
        f"{ANOTHER}The dense reward of AdroitHand -v1 pays for distance where it should charge for it: a wrong sign, "
        "mended in -v2.",
    ),
    (
        f"{ADROIT}|kitchen",
        r".*",
        f"{ANOTHER}It measured in environments of its own, on an older MuJoCo.",
    ),
    ("antmaze|maze2d", r".*", ANOTHER),
)


def environment_note(name: str, env_id: str) -> str | None:
    """What a reader of a score has to know about the environment it was measured in; None if nothing.

    name: of the dataset that the policy learned from. env_id: of the environment that was really used.
    """
    if name in EMBEDDED:
        return (
            f"{name} was collected in {EMBEDDED[name]}. D4RL's references were measured in gym's Hopper-v2: here they "
            "are a scale, not a D4RL result."
        )
    if name in CATALOG:
        family = CATALOG[name].family
        for families, envs, text in D4RL:
            if re.fullmatch(families, family) and re.fullmatch(envs, env_id):
                return text.strip()
    if counts_successes(name) and not env_id.startswith("ogbench:"):
        return f"{name} is scored in OGBench's own environment; {env_id} is another."
    if name.startswith("D4RL/") and re.fullmatch(r".*AdroitHand\w+-v1", env_id):
        return "Minari's Adroit sets replay D4RL's actions in AdroitHand -v1: their rewards are not D4RL's."
    return None


def counts_successes(name: str) -> bool:
    """Whether the score of a dataset is the percentage of successful episodes, as OGBench's is."""
    return ogbench.ID.fullmatch(name) is not None
