"""The maps of D4RL's mazes: # wall, . free, R where the ant begins, G the goal that is evaluated.

Sources: d4rl/locomotion/maze_env.py and d4rl/pointmaze/maze_model.py of Farama-Foundation/D4RL; ultra from
ZhengyaoJiang/d4rl (Jiang et al. 2023, arXiv 2208.10291).
"""

from dataclasses import dataclass

Cell = tuple[int, int]  # row and column


@dataclass(frozen=True)
class Maze:
    """rows: the map. limit: steps of an episode. goal_shift: of the goal's noise, in units of length."""

    rows: tuple[str, ...]
    limit: int
    goal_shift: float = 0.0

    def cells(self, kinds: str) -> list[Cell]:
        """Every cell of these kinds, row by row."""
        return [(i, j) for i, row in enumerate(self.rows) for j, kind in enumerate(row) if kind in kinds]


UMAZE = ("#####", "#R..#", "###.#", "#G..#", "#####")
MEDIUM = (
    "########",
    "#R.##..#",
    "#..#...#",
    "##...###",
    "#..#...#",
    "#.#..#.#",
    "#...#.G#",
    "########",
)
LARGE = (
    "############",
    "#R...#.....#",
    "#.##.#.#.#.#",
    "#......#...#",
    "#.####.###.#",
    "#..#.#.....#",
    "##.#.#.#.###",
    "#..#...#.G.#",
    "############",
)
ULTRA = (
    "################",
    "#R......#......#",
    "#.###.#.#.##.#.#",
    "#.###.#....#.#.#",
    "#...#.##.###.#.#",
    "#.#...#........#",
    "#...#...#.###.##",
    "#.#.###.#...#.##",
    "#.......#.#....#",
    "##.##.#...####.#",
    "##.#..#.#.....G#",
    "################",
)
ANT_MAZES = {
    "umaze": Maze(UMAZE, 700),
    "medium": Maze(MEDIUM, 1000),
    "large": Maze(LARGE, 1000),
    "ultra": Maze(ULTRA, 2000, goal_shift=-1.0),  # its release moves the noise by a quarter of a cell
}
POINT_MAZES = {  # the particle begins anywhere
    "open": Maze(("#######", "#.....#", "#..G..#", "#.....#", "#######"), 150),
    "umaze": Maze(("#####", "#G..#", "###.#", "#...#", "#####"), 300),
    "medium": Maze(tuple(row.replace("R", ".") for row in MEDIUM), 600),
    "large": Maze(tuple(row.replace("R", ".") for row in LARGE), 800),
}
