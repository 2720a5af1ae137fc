"""Looking after bundles and logs where there is no torch: zoo-robot, or python -m zoo_robot.

verify  hashes, metadata and golden vectors; exit status 1 where anything is wrong.
info    what the contract says, for people.
bench   latency of OnnxPolicy beside onnxruntime's bare session.run.
diff    what changed from one bundle to another; exit status 1 where the change could hurt a robot.
replay  a bundle on a log of its own; exit status 1 where its actions are not the same bits again.
watch   what a log shows: as text, as a page (--html), or served to this computer alone (--serve).
shadow  what a new bundle would have done on an old one's log; exit status 1 where it looks like a mistake.

Exit status 2: nothing could be said, the message tells why. Needs numpy and onnxruntime.
"""

from __future__ import annotations  # Python 3.9 reads this file

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import watch
from .inspection import Finding, bench, diff, info, verify
from .runlog import LogError, Run, read_log
from .runtime import OnnxPolicy
from .shadow import replay, shadow


def report(findings: Sequence[Finding], bad: str, good: str) -> int:
    """Prints the findings and one line of judgement; returns the exit status."""
    for finding in findings:
        print(f"{'!' if finding.bad else ' '} {finding.text}")
    count = sum(finding.bad for finding in findings)
    print(f"{count} {bad}" if count else good)
    return int(count > 0)


def run_of(path: Path, number: int) -> Run:
    """One run of a log; says what of the file is damaged."""
    log = read_log(path)
    if not -len(log.runs) <= number < len(log.runs):
        raise LogError(f"{path} has {len(log.runs)} runs, there is no run {number}")
    if log.damaged:
        print(f"  {path}: {log.damaged:,} bytes are damaged or cut off and were left out")
    return log.runs[number]


def show(path: Path, ticks: int | None, page_path: Path | None, port: int | None) -> int:
    """The watch command."""
    if ticks is not None and ticks < 1:
        raise ValueError(f"--ticks must be at least 1, got {ticks}")
    if port is not None:
        watch.serve(path, port, ticks)
    elif page_path is not None:
        page_path.write_text(watch.page(read_log(path), ticks), encoding="utf-8")
        print(f"wrote {page_path}")
    else:
        print(watch.text(read_log(path), ticks))
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Ends by SystemExit with the status of the docstring above."""
    parser = argparse.ArgumentParser(
        prog="zoo-robot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("verify", "info", "bench"):
        command = commands.add_parser(name)
        command.add_argument("directory", type=Path)
        if name != "info":
            command.add_argument("--provider", choices=("auto", "cpu", "cuda"), default="auto")
        if name == "bench":
            command.add_argument("--threads", type=int, default=1)
            command.add_argument("--calls", type=int, default=2000)
    command = commands.add_parser("diff")
    command.add_argument("first", type=Path)
    command.add_argument("second", type=Path)
    command = commands.add_parser("watch")
    command.add_argument("log", type=Path)
    command.add_argument("--ticks", type=int, help="only so many of the last run's last ticks")
    command.add_argument("--html", type=Path, help="write a static page there")
    command.add_argument("--serve", type=int, metavar="PORT", help="show the page on 127.0.0.1; 0 takes a free port")
    command = commands.add_parser("replay")
    command.add_argument("directory", type=Path)
    command = commands.add_parser("shadow")
    command.add_argument("old", type=Path)
    command.add_argument("new", type=Path)
    for name in ("replay", "shadow"):
        commands.choices[name].add_argument("log", type=Path)
        commands.choices[name].add_argument("--run", type=int, default=-1, help="of the log, from 0; -1 is the last")
    given = parser.parse_args(arguments)
    try:
        if given.command == "verify":
            status = report(verify(given.directory, given.provider), "problems: do not run this bundle", "verified")
        elif given.command == "diff":
            findings = diff(given.first, given.second)
            status = report(findings, "changes that could hurt a robot", "no change that could hurt a robot")
        elif given.command == "watch":
            status = show(given.log, given.ticks, given.html, given.serve)
        elif given.command == "replay":
            findings = [replay(OnnxPolicy(given.directory, providers="cpu"), run_of(given.log, given.run))]
            status = report(findings, "replays that are not the log's", "replayed")
        elif given.command == "shadow":
            findings = shadow(given.old, given.new, run_of(given.log, given.run))
            status = report(
                findings, "signs of a mistake: do not run NEW before they are understood", "no sign of a mistake"
            )
        else:
            status = 0
            print(
                info(given.directory)
                if given.command == "info"
                else bench(given.directory, given.provider, given.threads, given.calls)
            )
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        print(f"{given.command}: {error}", file=sys.stderr)
        status = 2
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # of an entry that is missing or another thing
        print(f"{given.command}: a contract is not as export_onnx wrote it ({error!r}); run verify", file=sys.stderr)
        status = 2
    sys.exit(status)


if __name__ == "__main__":
    main()
