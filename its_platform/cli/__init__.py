"""The `its` command: finds the group that was asked for and turns errors into one clear line.

Each stage has a module here with a Typer `app`; a group's module is imported when it is called, never for `its --help`.
What a command does lives in the stages; nothing here but parsing, calling and printing.

Exit codes: 0, 1 for a failure, 2 for bad use, 130 for an interrupt.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from its_platform.errors import ItsError
from its_platform.telemetry import silence_tools


class _Entry(NamedTuple):
    module: str
    function: str | None
    help: str
    panel: str


_PLATFORM, _STAGES = "Platform", "Stages"
ENTRIES: dict[str, _Entry] = {
    "demo": _Entry("demo", None, "Run the whole loop on a simulated world and report on it.", _PLATFORM),
    "loop": _Entry("loop", "loop", "Run the whole loop on real footage and report on it.", _PLATFORM),
    "up": _Entry("stack", "up", "Start the platform's servers on this machine.", _PLATFORM),
    "down": _Entry("stack", "down", "Stop everything that `its up` started.", _PLATFORM),
    "status": _Entry("stack", "status", "What runs, where, and whether it answers.", _PLATFORM),
    "doctor": _Entry("stack", "doctor", "Look for what is wrong, and say how to mend it.", _PLATFORM),
    "certs": _Entry("certs", None, "Certificates of the servers and of their clients.", _PLATFORM),
    "keys": _Entry("keys", None, "The keys that objects are sealed with.", _PLATFORM),
    "backup": _Entry("backup", None, "Copies of everything elsewhere, and the way back.", _PLATFORM),
    "audit": _Entry("audit", None, "What was changed, by whom, and whether the record is whole.", _PLATFORM),
    "detect": _Entry("serving", "detect", "Draw the served detector's boxes on a picture or a video.", _PLATFORM),
    "trace": _Entry("trace", "trace", "Where anything came from, and what came of it.", _PLATFORM),
    "camera": _Entry("camera", None, "Cameras that footage comes from.", _STAGES),
    "frames": _Entry("frames", None, "Frames taken from footage.", _STAGES),
    "labels": _Entry("labels", None, "Boxes, who drew them and who reviewed them.", _STAGES),
    "dataset": _Entry("dataset", None, "Immutable dataset versions.", _STAGES),
    "model": _Entry("model", None, "Train, evaluate and export detectors.", _STAGES),
    "pipeline": _Entry("pipeline", None, "The stages of dvc.yaml, for `dvc repro`.", _STAGES),
    "release": _Entry("release", None, "Gates, stages and rollback.", _STAGES),
    "experiment": _Entry("experiment", None, "Two versions compared in live traffic.", _STAGES),
    "serving": _Entry("serving", None, "Triton and the models that it serves.", _STAGES),
    "monitor": _Entry("monitor", None, "Predictions, drift and reports.", _STAGES),
    "retraining": _Entry("retraining", None, "When a new model is trained, and why.", _STAGES),
    "simulation": _Entry("simulation", None, "The simulated traffic world.", _STAGES),
}


class _LazyGroup(TyperGroup):
    """Knows every command's name and one line on it; imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        return self.commands.get(cmd_name) or TyperCommand(
            cmd_name, help=entry.help, short_help=entry.help, rich_help_panel=entry.panel
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in ENTRIES:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


# For what the file system refuses, wherever it happens.
_WHAT_TO_DO = {
    errno.EACCES: "Name a place that you may write to, or change its permissions.",
    errno.EPERM: "Name a place that you may write to, or change its permissions.",
    errno.EROFS: "Name a place that can be written to.",
    errno.ENOSPC: "Free some space, and do it again: what was done stays.",
    errno.EDQUOT: "Free some space, and do it again: what was done stays.",
    errno.ENOENT: "Name a place that exists.",
    errno.ENOTDIR: "A part of this path is a file: name another.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.ENAMETOOLONG: "Take a shorter name.",
}


def load_command(name: str) -> Any:
    """Import the command or group of this name. Raises `KeyError` for an unknown one."""
    entry = ENTRIES[name]
    module = importlib.import_module(f"its_platform.cli.{entry.module}")
    if entry.function is None:
        # Not get_command: it would unwrap a group that has a single command.
        loaded = typer.main.get_group(module.app)
        loaded.name, loaded.help = name, loaded.help or entry.help
        return loaded
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(module, entry.function))
    return typer.main.get_command(single)


def root() -> TyperGroup:
    """The command tree, for `main` and for tests."""
    top = _LazyGroup(
        name="its",
        help="The data platform that keeps traffic-camera detectors accurate by itself.",
        epilog="`--debug` anywhere shows the traceback of an error.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    top.suggest_commands = True
    # For the suggestion after a mistyped name; each is replaced by the real one when it is called.
    top.commands = {name: top.get_command(None, name) for name in ENTRIES}
    return top


def main(argv: list[str] | None = None) -> None:
    """Entry point of `its`; always ends by `SystemExit`."""
    silence_tools()
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words in (["--version"], ["-V"]):
        from importlib.metadata import version

        sys.stdout.write(f"its {version('its-platform')}\n")
        sys.exit(0)
    try:
        # Not standalone: Typer would draw a frame of five lines around what is wrong with an option.
        sys.exit(root().main(args=words, prog_name="its", standalone_mode=False) or 0)
    except TyperException as error:
        _tell_bad_use(error)
        sys.exit(2)
    except typer.Abort:
        _tell("Stopped.", "")
        sys.exit(1)
    except ItsError as error:
        if is_debug:
            raise
        _tell(error.message, error.hint)
        sys.exit(1)
    except OSError as error:
        if is_debug:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        _tell(f"{where}{error.strerror or error}.", _WHAT_TO_DO.get(error.errno or 0, "`--debug` shows where."))
        sys.exit(1)
    except Exception as error:
        if is_debug:
            raise
        told = str(error).strip().splitlines()
        _tell(f"{type(error).__name__}: {told[0] if told else 'no message'}", "`--debug` shows where.")
        sys.exit(1)


def _tell_bad_use(error: TyperException) -> None:
    # Typer has printed the help already when a group is called without a command.
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    context = getattr(error, "ctx", None)
    asked = context.command_path if context is not None else "its"
    message = error.format_message().strip().rstrip(".")
    _tell(message if message.endswith("?") else f"{message}.", f"`{asked} --help` shows how.")


def _tell(message: str, hint: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from its_platform.cli.output import one_line

    line = Text.assemble(("Error: ", "bold red"), one_line(message), (one_line(f" {hint}") if hint else "", "dim"))
    Console(stderr=True, soft_wrap=True).print(line)
