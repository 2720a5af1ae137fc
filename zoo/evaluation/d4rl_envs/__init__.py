"""D4RL's mazes, hands and kitchen on today's MuJoCo: importing this makes their ids known to Gymnasium.

make_env("antmaze-large-play-v2") and gymnasium.make("zoo.evaluation.d4rl_envs:zoo/D4RL-antmaze-large-v0") make the same
environment. zoo.evaluation.protocols says of each family what differs from the simulator that D4RL measured in.
"""

import gymnasium

from zoo.evaluation.d4rl_envs.maps import ANT_MAZES, POINT_MAZES

HERE = "zoo.evaluation.d4rl_envs"
HAND_LIMITS = {"pen": 100, "door": 200, "hammer": 200, "relocate": 200}
KITCHENS = ("complete", "partial", "mixed")


def _register(name: str, entry: str, limit: int, **kwargs: str | bool) -> None:
    gymnasium.register(f"zoo/D4RL-{name}-v0", f"{HERE}.{entry}", max_episode_steps=limit, kwargs=kwargs)


for _name, _maze in ANT_MAZES.items():
    _register(f"antmaze-{_name}", "antmaze:AntMaze", _maze.limit, maze=_name)
for _name, _maze in POINT_MAZES.items():
    for _dense in (False, True):
        _register(f"maze2d-{_name}{'-dense' * _dense}", "maze2d:Maze2D", _maze.limit, maze=_name, dense=_dense)
for _name, _limit in HAND_LIMITS.items():
    _register(_name, "adroit:make", _limit, hand=_name)
for _name in KITCHENS:
    _register(f"kitchen-{_name}", "kitchen:make", 280, tasks=_name)
