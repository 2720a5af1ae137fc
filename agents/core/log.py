"""Where an agent's log goes: Stable-Baselines3's logger."""

import sys
from pathlib import Path

from stable_baselines3.common.logger import HumanOutputFormat, Logger, configure
from stable_baselines3.common.utils import get_latest_run_id


def make_logger(name: str, verbose: int, folder: str | None) -> Logger:
    """Printed if verbose; in `folder`, a numbered run with CSV and TensorBoard files."""
    if folder is None:
        return Logger(None, [HumanOutputFormat(sys.stdout)] if verbose else [])
    run = f"{name}_{get_latest_run_id(folder, name) + 1}"
    return configure(str(Path(folder) / run), [*(["stdout"] if verbose else []), "csv", "tensorboard"])
