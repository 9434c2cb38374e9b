"""Commands that have subcommands and arguments of their own, such as `audit PATH` and `audit apply`."""

from __future__ import annotations

from typing import Any, ClassVar

import typer

from noisybench.cli.hints import HintingCommand


class CommandWithSubcommands(HintingCommand):
    """Command whose first argument may be the name of a subcommand; a file of that name is written `./name`."""

    app: ClassVar[typer.Typer]
    """Application of the subcommands."""

    invoke_without_command = True
    """True, as for a group that does something without a subcommand."""

    @property
    def commands(self) -> dict[str, Any]:
        """Subcommands by name."""
        return dict(typer.main.get_group(self.app).commands)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments, those of a subcommand if its name is the first one."""
        subcommand = self.commands.get(args[0]) if args else None
        if subcommand is None:
            return super().make_context(info_name, args, parent, **extra)
        return subcommand.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the options and the subcommands."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in self.commands.items()])


def with_subcommands(application: typer.Typer) -> type[CommandWithSubcommands]:
    """Return the class of a command with the commands of an application as subcommands."""
    return type("CommandWithSubcommands", (CommandWithSubcommands,), {"app": application})
