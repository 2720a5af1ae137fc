"""The doctor on real Hopper data, whole and broken on purpose in one way at a time."""

import h5py
import numpy as np
import pytest

from tests.support.d4rl_files import write_hdf5
from tests.support.data import toy_dataset
from tests.support.paths import ROOT, SHARED
from zoo.cli.main import main
from zoo.datasets.checks import DatasetNotFoundError
from zoo.datasets.doctor.doctor import check, report, status
from zoo.datasets.load import load_dataset

ROWS = 20_000
HOPPER = ROOT / "zoo" / "datasets" / "embedded" / "hopper-medium-replay.hdf5"
REAL = SHARED / "data"


@pytest.fixture(scope="module")
def whole() -> dict[str, np.ndarray]:
    """The first episodes of the embedded set: all of them end in a fall, and none at the limit."""
    with h5py.File(HOPPER) as file:
        keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
        columns = {key: file[key][:ROWS] for key in keys}
    last = np.flatnonzero(columns["terminals"])[-1] + 1
    return {key: column[:last] for key, column in columns.items()}


@pytest.fixture
def hopper(whole):
    return {key: column.copy() for key, column in whole.items()}


@pytest.fixture
def found(tmp_path):
    """Writes columns to a file and gives the doctor's findings by title."""

    def examine(columns: dict[str, np.ndarray], **attributes):
        path = write_hdf5(tmp_path / "broken.hdf5", columns, **attributes)
        return {finding.title: finding for finding in check(path)}

    return examine


def ends_of(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.flatnonzero(columns["terminals"] | columns["timeouts"])


def test_the_part_that_is_broken_below_is_healthy(hopper, found):
    assert found(hopper) == {}
    without_successors = {key: column for key, column in hopper.items() if key != "next_observations"}
    assert found(without_successors) == {}


def test_the_embedded_set_is_healthy():
    assert check("hopper-medium-replay") == []


@pytest.mark.parametrize("name", ["random", "medium-replay", "medium", "expert"])
def test_real_sets_give_no_false_alarm(name):
    path = REAL / f"hopper-{name}.hdf5"
    if not path.exists():
        pytest.skip("the four Hopper sets are not on this machine")
    assert check(path) == []


def test_nan_and_inf_are_counted_per_column(hopper, found):
    hopper["observations"][[3, 9], 2] = np.nan
    hopper["rewards"][5] = np.inf
    findings = found(hopper)
    assert (findings["observations hold NaN or inf"].count, findings["rewards hold NaN or inf"].where) == (2, "row 5")
    assert findings.keys() == {"observations hold NaN or inf", "rewards hold NaN or inf"}  # no echo in other checks


def test_nan_in_a_flag_is_found(hopper, found):
    hopper["terminals"] = hopper["terminals"].astype(np.float32)
    hopper["terminals"][7] = np.nan
    assert found(hopper)["terminals hold NaN or inf"].where == "row 7"


def test_actions_outside_the_box_are_errors_with_their_reach(hopper, found):
    hopper["actions"][[2, 4]] *= 0.0
    hopper["actions"][[2, 4], 1] = (1.5, -3.0)
    finding = found(hopper)["actions outside the box"]
    assert (finding.severity, finding.count) == ("error", 2)
    assert "rows 2, 4; actions reach from -3 to 1" in finding.where
    assert "action_space=Box(low, high)" in finding.fix


def test_a_file_that_states_its_box_is_held_to_that(hopper, found):
    hopper["actions"] *= 2
    assert found(hopper, action_low=[-2.0] * 3, action_high=[2.0] * 3) == {}
    assert found(hopper, action_low=[-2.0] * 3, action_high=[1.0, 2.0, 2.0]).keys() == {"actions outside the box"}


def test_missing_timeouts_are_errors(hopper, found):
    del hopper["timeouts"]
    assert found(hopper)["time limits are not recorded"].severity == "error"


def test_limits_without_a_flag_are_told_from_teleports(hopper, found):
    """Episodes of 100 steps out of the middles of long ones, ended by nothing but the jump to the next."""
    starts = np.append(0, ends_of(hopper)[:-1] + 1)
    long = starts[np.diff(np.append(starts, len(hopper["rewards"]))) > 110][:20]
    rows = (long[:, None] + np.arange(100)).ravel()
    columns = {key: column[rows] for key, column in hopper.items()}
    findings = found(columns)
    finding = findings["episodes end after 100 steps without a flag"]
    assert (finding.severity, finding.count) == ("error", 19)
    assert finding.where == "rows 99, 199, 299, 399, 499 and 14 more"
    assert "teleports inside episodes" not in findings


def test_limits_without_a_flag_or_successors_are_found_by_the_jump_of_the_state(hopper, found):
    starts = np.append(0, ends_of(hopper)[:-1] + 1)
    long = starts[np.diff(np.append(starts, len(hopper["rewards"]))) > 110][:20]
    rows = (long[:, None] + np.arange(100)).ravel()
    columns = {key: column[rows] for key, column in hopper.items() if key != "next_observations"}
    finding = found(columns)["episodes end after 100 steps without a flag"]
    assert set(finding.where.removeprefix("rows ").split(" and ")[0].split(", ")) <= {
        str(99 + 100 * i) for i in range(19)
    }


def test_time_limits_stored_as_terminals_are_doubted(hopper, found):
    """Cutting each long episode after 60 steps and calling the cut a terminal: what a careless logger writes."""
    ends, starts = ends_of(hopper), np.append(0, ends_of(hopper)[:-1] + 1)
    keep = np.concatenate([np.arange(s, min(e + 1, s + 60)) for s, e in zip(starts, ends, strict=True)])
    cut = [s + 59 for s, e in zip(starts, ends, strict=True) if e + 1 > s + 60]
    hopper["terminals"][cut] = True
    finding = found({key: column[keep] for key, column in hopper.items()})[
        f"{len(cut) + sum(ends - starts == 59)} episodes terminate after exactly 60 steps, and none is longer"
    ]
    assert "timeouts to True" in finding.fix


def test_lost_rows_are_teleports(hopper, found):
    inside = np.flatnonzero(~hopper["terminals"] & ~np.roll(hopper["terminals"], -1))[[100, 5_000, 9_000]]
    lost = inside + 1
    columns = {key: np.delete(column, lost, axis=0) for key, column in hopper.items()}
    finding = found(columns)["teleports inside episodes"]
    assert (finding.severity, finding.count) == ("warning", 3)  # load_dataset cuts there
    assert all(str(row - i) in finding.where for i, row in enumerate(inside))


def test_teleports_without_stored_successors_are_errors(hopper, found):
    middle = 50 + int(ends_of(hopper)[ends_of(hopper) > 8_000][0])
    hopper["observations"][middle:] += 30.0
    del hopper["next_observations"]
    finding = found(hopper)["teleports inside episodes"]
    assert (finding.severity, finding.count) == ("error", 1)
    assert f"row {middle - 1}" in finding.where


def test_duplicated_transitions_are_counted(hopper, found):
    first = int(ends_of(hopper)[3]) + 1
    again = {key: np.concatenate([column, column[:first]]) for key, column in hopper.items()}
    finding = found(again)["duplicated transitions"]
    assert finding.count == first
    assert finding.where.startswith(f"rows {len(hopper['rewards'])}, ")
    assert finding.severity == ("warning" if first > 0.01 * len(again["rewards"]) else "note")


def test_constant_columns_are_named(hopper, found):
    for key in ("observations", "next_observations"):
        hopper[key][:, [1, 7]] = 0.25
    hopper["actions"][:, 2] = 0.0
    findings = found(hopper)
    assert findings["constant observations"].where == "components 1, 7"
    assert findings["constant actions"].where == "components 2"


def test_constant_rewards_are_errors_unless_episodes_terminate(hopper, found):
    hopper["rewards"][:] = 1.0
    assert found(hopper) == {}  # to stay up is worth one a step
    hopper["timeouts"], hopper["terminals"] = hopper["terminals"], hopper["timeouts"]
    assert found(hopper)["all rewards are 1"].severity == "error"


def test_reward_outliers_are_named_with_the_range_of_the_rest(hopper, found):
    hopper["rewards"][[11, 12]] = (1e4, -300.0)
    finding = found(hopper)["reward outliers"]
    assert finding.count == 2
    assert finding.where.startswith("rows 11, 12; up to 10000, where 98% lie in [")


def test_sparse_rewards_are_no_outliers(hopper, found):
    hopper["rewards"][:] = 0.0
    hopper["rewards"][ends_of(hopper)[:20]] = 1.0
    assert "reward outliers" not in found(hopper)


@pytest.mark.parametrize(("step", "title"), [(1, "rewards are one step late"), (-1, "rewards are one step early")])
@pytest.mark.parametrize("successors", [True, False])
def test_misaligned_rewards_are_found_in_either_direction(hopper, found, step, title, successors):
    hopper["rewards"] = np.roll(hopper["rewards"], step)
    if not successors:
        del hopper["next_observations"]
    assert found(hopper)[title].severity == "error"


def test_float64_is_a_note_and_lost_steps_a_warning(hopper, found):
    for key in ("observations", "next_observations"):
        hopper[key] = hopper[key].astype(np.float64)
    findings = found(hopper)
    assert findings.keys() == {"float64 columns"}
    assert (findings["float64 columns"].where, status(list(findings.values()))) == (
        "observations, next_observations",
        0,
    )
    seconds = 1.7e9 + 0.008 * np.arange(len(hopper["rewards"]) + 1)  # Unix time: float32 moves in steps of 128 s
    hopper["observations"][:, 4], hopper["next_observations"][:, 4] = seconds[:-1], seconds[1:]
    assert found(hopper)["observations move less than float32 can hold"].where == "components 4"


def test_fragments_of_a_known_limit_are_named(hopper, found):
    """A limit of 50, and every fourth episode cut at 20 by something else."""
    starts = np.append(0, ends_of(hopper)[:-1] + 1)
    long = starts[np.diff(np.append(starts, len(hopper["rewards"]))) > 60][:40]
    lengths = np.where(np.arange(40) % 4 == 1, 20, 50)
    rows = np.concatenate([start + np.arange(n) for start, n in zip(long, lengths, strict=True)])
    columns = {key: column[rows] for key, column in hopper.items()}
    columns["timeouts"][np.cumsum(lengths) - 1] = True
    finding = found(columns)["episodes cut before the time limit of 50 steps"]
    assert finding.count == 10
    assert finding.where.startswith("rows 69, 239, ")  # 50 + 20 - 1, and 170 rows for each four


def test_episodes_of_one_step_and_an_open_end_are_found(hopper, found):
    end = int(ends_of(hopper)[10])
    hopper["terminals"][end - 1] = True
    hopper["terminals"][-1] = False
    findings = found(hopper)
    assert findings["episodes of a single step"].where == f"row {end}"
    assert findings["the last episode has no end"].severity == "note"


def test_masks_in_place_of_terminals_are_errors(hopper, found):
    hopper["terminals"] = ~hopper["terminals"]
    assert any("of the rows are terminals" in title for title in found(hopper))


# Files that cannot be examined


@pytest.mark.parametrize(
    ("change", "title"),
    [
        (lambda columns: columns.pop("rewards"), "columns are missing: rewards"),
        (lambda columns: columns.update(rewards=columns["rewards"][:-1]), "columns do not fit together"),
        (lambda columns: columns.update(actions=columns["actions"][:, 0]), "columns do not fit together"),
        (lambda columns: columns.update(actions=np.full(columns["actions"].shape, b"x")), "columns are not numeric"),
    ],
)
def test_columns_that_do_not_fit_are_the_only_finding(hopper, found, change, title):
    change(hopper)
    findings = found(hopper)
    assert findings.keys() == {title}
    assert status(list(findings.values())) == 3


def test_box_of_another_size_is_found(hopper, found):
    findings = found(hopper, action_low=[-1.0, -1.0], action_high=[1.0, 1.0])
    assert findings.keys() == {"the action box does not fit the actions"}


def test_cut_file_is_an_error(tmp_path, hopper):
    path = write_hdf5(tmp_path / "cut.hdf5", hopper)
    path.write_bytes(path.read_bytes()[:-5_000])
    assert [finding.title for finding in check(path)] == ["load_dataset refuses it"]


def test_what_only_loading_notices_is_reported_too(tmp_path):
    """episode_ends of a name that does not exist: no check looks at it."""
    data = toy_dataset()
    columns = {"observations": data.observations, "actions": data.actions, "rewards": data.rewards,
               "terminals": data.terminations, "timeouts": data.truncations}  # fmt: skip
    path = write_hdf5(
        tmp_path / "odd.hdf5", columns, episode_ends="dones", action_low=[-2.0, 0.0], action_high=[1.0, 0.5]
    )
    assert check(path)[0].title == "load_dataset refuses it"
    assert "episode_ends must name" in check(path)[0].meaning


def test_no_such_dataset_is_an_error_of_its_own():
    with pytest.raises(DatasetNotFoundError):
        check("nowhere.hdf5")


# Other formats, and the command


def test_npz_is_examined_in_raw_columns(tmp_path, hopper):
    hopper["rewards"][5] = np.nan
    path = tmp_path / "mine.npz"
    np.savez(path, **hopper)
    assert [finding.title for finding in check(path)] == ["rewards hold NaN or inf"]


def test_minari_datasets_are_examined(tmp_path, monkeypatch, hopper):
    pytest.importorskip("minari")
    from zoo.datasets.writers import write_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    hopper["observations"][:, 3] = hopper["next_observations"][:, 3] = 0.5
    write_minari(load_dataset(write_hdf5(tmp_path / "hopper.hdf5", hopper)), "mine/hopper-v0")
    assert [finding.title for finding in check("mine/hopper-v0")] == ["constant observations"]


def test_report_explains_in_80_columns_and_counts(tmp_path, hopper):
    hopper["rewards"][5] = np.nan
    hopper["observations"][:, 3] = hopper["next_observations"][:, 3] = 0.5
    text = report("it", check(write_hdf5(tmp_path / "x.hdf5", hopper)))
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[0] == "error: rewards hold NaN or inf"
    assert text.splitlines()[-1] == "it: 1 error, 1 warning"
    assert report("it", []) == "it: no problems found"


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0.5, 2), (np.nan, 3)])
def test_exit_status_says_how_bad(tmp_path, monkeypatch, capsys, hopper, value, code):
    if value is not None:
        hopper["observations"][:, 3] = hopper["next_observations"][:, 3] = value
    path = write_hdf5(tmp_path / "x.hdf5", hopper)
    monkeypatch.setattr("sys.argv", ["zoo", "data", "check", str(path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert str(path) in capsys.readouterr().out


# Every format, and the page


def test_logs_are_examined_through_their_map(tmp_path):
    pytest.importorskip("pyarrow")
    from tests.support import arm_log

    path = arm_log.write_csv(tmp_path / "arm.csv")
    assert [finding.severity for finding in check(path)] == ["error"]  # no map
    assert "zoo data map" in check(path)[0].meaning
    assert not any(finding.severity == "error" for finding in check(path, map=arm_log.MAP))
    text = path.read_text().splitlines()
    late = [line.replace(line.split(",")[0], str(0.05 * i + 2.0 * (i > 6)), 1) for i, line in enumerate(text[1:])]
    path.write_text("\n".join([text[0], *late]) + "\n")
    assert "messages are missing: the clock jumps" in [finding.title for finding in check(path, map=arm_log.MAP)]


def test_names_and_ranges_of_the_map_reach_the_findings(tmp_path):
    pytest.importorskip("pyarrow")
    from tests.support import arm_log

    narrow = [{**arm_log.MAP["observations"][0], "low": -0.5, "high": 0.5}, arm_log.MAP["observations"][1]]
    found = check(arm_log.write_csv(tmp_path / "arm.csv"), map=arm_log.MAP | {"observations": narrow})
    (finding,) = [finding for finding in found if "leaves its stated range" in finding.title]
    assert finding.title == "q1 leaves its stated range"
    assert finding.parts == ("observations[0]",)


def test_packed_folders_are_examined(tmp_path, hopper):
    from zoo.datasets.writers import write

    hopper["observations"][:, 3] = hopper["next_observations"][:, 3] = 0.5
    write(load_dataset(write_hdf5(tmp_path / "hopper.hdf5", hopper)), tmp_path / "packed")
    assert [finding.title for finding in check(tmp_path / "packed")] == ["constant observations"]


def test_robomimic_files_are_examined(tmp_path):
    from tests.support import arm_log

    path = arm_log.write_robomimic(tmp_path / "demos.hdf5")
    assert not any("are missing" in finding.title for finding in check(path))
    limits = [{"low": low, "high": high} for low, high in zip(arm_log.LOW, arm_log.HIGH, strict=True)]
    assert not any(finding.severity == "error" for finding in check(path, map={"actions": limits}))


def test_a_page_shows_every_dimension_and_the_findings_beside_them(tmp_path, monkeypatch, hopper):
    from html.parser import HTMLParser

    hopper["observations"][:, 3] = hopper["next_observations"][:, 3] = 0.5
    path = write_hdf5(tmp_path / "<b>.hdf5", hopper)
    monkeypatch.setattr("sys.argv", ["zoo", "data", "check", str(path), "--html", str(tmp_path / "page.html")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    text = (tmp_path / "page.html").read_text()
    counts = {"svg": 0, "script": 0}
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: counts.update({tag: counts.get(tag, 0) + 1})
    parser.feed(text)
    # lengths and returns; a histogram and a trace for each of 11 observations, 3 actions and the reward
    assert counts["svg"] == 2 + 2 * 15
    assert counts["script"] == 0
    assert "<h1>&lt;b&gt;.hdf5</h1>" in text
    assert text.index("constant observations") > text.index("observations[3]")
    assert text.index("constant observations") < text.index("observations[4]")
