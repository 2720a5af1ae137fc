"""The campaign of benchmarks/faults.py, short: kills, full disks, damaged files."""

import json
import subprocess
import sys

from tests.support.paths import ROOT


def test_a_short_campaign_finds_nothing(tmp_path):
    line = [sys.executable, "benchmarks/faults.py", "--kills", "1", "--mutations", "4", "--disks", "2"]
    line += ["--seed", "7", "--json", str(tmp_path / "faults.json")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert [row["times"] for row in rows] >= [1] * 6 + [4] * 8 + [2]
    assert not any("FAILED" in row["outcomes"] for row in rows)
