"""The command line: zoo, and the commands below.

A command is a dataclass: its fields are the arguments, its docstring the help, and `run` does the work. What run needs
is imported in it, so that help comes without torch.
"""

import os
import sys
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import Any

import tyro

from zoo.cli.custom import import_modules, take_imports
from zoo.cli.data import app as data
from zoo.cli.demo import Demo
from zoo.cli.diagnose import Diagnose
from zoo.cli.evaluate import Evaluate
from zoo.cli.export import Export
from zoo.cli.finetune import Finetune
from zoo.cli.precision import Precision
from zoo.cli.report import Report
from zoo.cli.select import Select
from zoo.cli.study import app as study
from zoo.cli.train import Train
from zoo.export.stopping import Stopped, at_once, handled

COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "train": Train,
    "finetune": Finetune,
    "evaluate": Evaluate,
    "export": Export,
    "precision": Precision,
    "report": Report,
    "diagnose": Diagnose,
    "select": Select,
}
# Modules that an installation may lack, and the extra that has them.
EXTRAS = {
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "tensorboard": "log",
    "matplotlib": "plot",
    "mujoco": "mujoco",
    "minari": "minari",
    "ogbench": "ogbench",
    "gymnasium_robotics": "robotics",
    "dm_control": "mood",
    "shimmy": "mood",
}
app = tyro.extras.SubcommandApp()
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name)
app.command(data, name="data")
app.command(study, name="study")


DESCRIPTION = (
    "Offline reinforcement learning: from logs to a robot's policy. Every command takes --import MODULE for agents and "
    "environments of your own, also from the current folder."
)


def parse() -> Any:
    """The command that was typed. A mistake ends in one line: the box that tyro draws around it, without the box."""
    with redirect_stderr(StringIO()):
        try:
            return app.cli(prog="zoo", description=DESCRIPTION)
        except SystemExit as stop:
            if not stop.code:  # --help
                raise
    os.environ["COLUMNS"] = "1000"  # unwrapped; the process ends here
    with redirect_stderr(StringIO()) as box, suppress(SystemExit):
        app.cli(prog="zoo")
    lines = [line.strip("│ ").rstrip(".") for line in box.getvalue().splitlines()[1:-1]]
    said = lines[: next((i for i, line in enumerate(lines) if set(line) <= set("─ ")), len(lines))]
    usage = " ".join(word for word in ("zoo", *sys.argv[1:2]) if word == "zoo" or word in (*COMMANDS, "data"))
    print(f"zoo: {'; '.join(said)}; see {usage} --help", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Console script. Errors that a user can act on end in one line, not a traceback; ZOO_TRACEBACK=1 shows it."""
    try:
        if "" in sys.argv[1:]:
            raise ValueError(f"argument {sys.argv.index('', 1)} is empty: a variable of the shell without a value?")
        sys.argv[1:], modules = take_imports(sys.argv[1:])
        command = parse()
        with handled(at_once):
            if modules:
                import_modules(modules)
            command.run()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\nzoo: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(stop.status if isinstance(stop, Stopped) else 130)
    except (ValueError, TypeError, OSError, KeyError, ImportError, RuntimeError, ArithmeticError, MemoryError) as error:
        if os.environ.get("ZOO_TRACEBACK") or type(error) in (RuntimeError, NotImplementedError):  # ours have names
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        if isinstance(error, ImportError) and (extra := EXTRAS.get((error.name or "").partition(".")[0])):
            message = f"{message}. It comes with pip install 'offline-agent-zoo[{extra}]'"
        print(f"zoo: {type(error).__name__}: {' '.join(str(message).split(chr(10)))}", file=sys.stderr)
        sys.exit(1)
