"""The estimate of the delay between action and effect, on systems whose delay is known."""

import numpy as np
import pytest

from zoo.datasets.doctor import doctor
from zoo.datasets.doctor.delay import estimate


def system(delay: int, rows: int = 3000, slow: float = 0.0, noise: float = 0.02, gain: float = 0.3, seed: int = 0):
    """Two joints with a speed each, pushed by the action of `delay` rows before. slow: how alike actions are."""
    rng = np.random.default_rng(seed)
    actions = np.zeros((rows, 2))
    for t in range(1, rows):
        actions[t] = slow * actions[t - 1] + np.sqrt(1 - slow**2) * rng.uniform(-1, 1, 2)
    actions = np.clip(actions, -1, 1)
    state = np.zeros((rows + 1, 4))
    for t in range(rows):
        place, speed = state[t, :2], state[t, 2:]
        push = actions[t - delay] if t >= delay else np.zeros(2)
        new = 0.9 * speed + gain * push - 0.2 * np.sin(place) + noise * rng.standard_normal(2)
        state[t + 1] = np.concatenate([place + 0.1 * new, new])
    return state[:-1], state[1:], actions, np.arange(rows) // 500


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("slow", [0.0, 0.9])
def test_the_delay_is_found_also_where_actions_change_slowly(delay, slow):
    assert estimate(*system(delay, slow=slow)).ticks == delay


def test_where_actions_do_nothing_nothing_is_said():
    assert estimate(*system(1, gain=0.0)).ticks is None


def test_a_short_log_says_nothing():
    assert estimate(*system(1, rows=100)).ticks is None


@pytest.mark.parametrize("delay", [0, 2])
def test_zoo_data_check_tells_it(delay, tmp_path):
    obs, next_obs, actions, episodes = system(delay)
    last = np.append(np.diff(episodes) > 0, True)
    path = tmp_path / "log.npz"
    columns = {"observations": obs, "next_observations": next_obs, "actions": actions, "rewards": obs[:, 2]}
    np.savez(path, **columns, terminations=np.zeros(len(obs)), truncations=last)
    titles = [finding.title for finding in doctor.check(path)]
    assert [title for title in titles if "late" in title] == ([f"actions act {delay} rows late"] if delay else [])
