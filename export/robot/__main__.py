"""Looking after bundles where there is no torch: zoo-robot, or python -m zoo_robot, verify | info | bench | diff.

verify  hashes, metadata and golden vectors; exit status 1 where anything is wrong.
info    what the contract says, for people.
bench   latency of OnnxPolicy beside onnxruntime's bare session.run.
diff    what changed from one bundle to another; exit status 1 where the change could hurt a robot.

Exit status 2: nothing could be said, the message tells why. Needs numpy and onnxruntime.
"""

from __future__ import annotations  # Python 3.9 reads this file

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .inspection import Finding, bench, diff, info, verify


def report(findings: Sequence[Finding], bad: str, good: str) -> int:
    """Prints the findings and one line of judgement; returns the exit status."""
    for finding in findings:
        print(f"{'!' if finding.bad else ' '} {finding.text}")
    count = sum(finding.bad for finding in findings)
    print(f"{count} {bad}" if count else good)
    return int(count > 0)


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
    given = parser.parse_args(arguments)
    try:
        if given.command == "verify":
            status = report(verify(given.directory, given.provider), "problems: do not run this bundle", "verified")
        elif given.command == "diff":
            findings = diff(given.first, given.second)
            status = report(findings, "changes that could hurt a robot", "no change that could hurt a robot")
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
