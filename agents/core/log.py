"""Where an agent's log goes: Stable-Baselines3's logger."""

import sys
import warnings
from pathlib import Path

from stable_baselines3.common.logger import HumanOutputFormat, Logger, SummaryWriter, configure
from stable_baselines3.common.utils import get_latest_run_id


def make_logger(name: str, verbose: int, folder: str | None) -> Logger:
    """Printed if verbose; in `folder`, a numbered run with CSV and TensorBoard files."""
    if folder is None:
        return Logger(None, [HumanOutputFormat(sys.stdout)] if verbose else [])
    run = f"{name}_{get_latest_run_id(folder, name) + 1}"
    formats = [*(["stdout"] if verbose else []), "csv"]
    if SummaryWriter is None:
        warnings.warn(
            "tensorboard is not installed: the log goes to CSV files alone (pip install 'offline-agent-zoo[log]')",
            stacklevel=3,
        )
        return configure(str(Path(folder) / run), formats)
    return configure(str(Path(folder) / run), [*formats, "tensorboard"])
