"""Print the completion script of a shell.

Load it in the shell's start-up file, or write it where the shell looks:

  eval "$(yolograft completion bash)"    # in ~/.bashrc
  yolograft completion zsh > ~/.zfunc/_yolograft
"""

from __future__ import annotations

import argparse

from yolograft.cli import _options


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "completion", __doc__, main)
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")


def main(args: argparse.Namespace) -> int:
    """Print the script; return the exit status."""
    import shtab

    from yolograft import cli

    print(shtab.complete(cli.parser(), shell=args.shell))
    return 0
