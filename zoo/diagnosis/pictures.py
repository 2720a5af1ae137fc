"""Pictures of the measures."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.diagnosis.values import FAR, Landscape
from zoo.export.files import whole


def draw_landscape(ground: Landscape, path: Path) -> None:
    """Q along rays, from the middle of the box to beyond its edge; a PNG."""
    from matplotlib.figure import Figure  # an extra; Figure needs no display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(ground.places.tolist(), ground.q.tolist(), label="along rays through the data's actions")
    axes.axhline(ground.data_q, color="gray", linestyle="--", label="at the data's actions")
    axes.axvspan(1.0, FAR, color="tab:red", alpha=0.1, label="outside the box")
    axes.set_xlabel("distance from the middle, in half boxes")
    axes.set_ylabel("Q, mean over states")
    axes.legend()
    save(figure, path)


def draw_kernel(similar: np.ndarray, anchor: list[float], reach: float, path: Path) -> None:
    """similar: (rows, columns) over actions from -reach to reach; anchor: of the pair that it is about."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    side = reach if len(similar) > 1 else 0.1
    extent = (-reach, reach, -side, side)
    image = axes.imshow(similar, vmin=-1, vmax=1, cmap="RdBu_r", extent=extent, origin="lower", aspect="auto")
    axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, linestyle="--"))
    axes.plot(anchor[0], anchor[1] if len(similar) > 1 else 0.0, "k*")
    axes.set_xlabel("first action dimension, in half boxes")
    axes.set_ylabel("second")
    figure.colorbar(image, label="cosine of the gradients")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
