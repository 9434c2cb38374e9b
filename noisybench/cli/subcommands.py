"""Commands that have subcommands and arguments of their own, such as `audit PATH` and `audit apply`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar

import typer

from noisybench.cli.hints import HintingCommand
from noisybench.errors import UserError


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
        """Parse the arguments, those of a subcommand if its name is the first one.

        Raises:
            UserError: the first argument is almost the name of a subcommand, and neither a file nor a recipe.
        """
        subcommand = self.commands.get(args[0]) if args else None
        if subcommand is None:
            if args and (meant := self._similar_command(args[0])):
                raise UserError(
                    f"`noisybench {info_name} {args[0]}`: no file, recipe or command has this name; did you mean "
                    f"`noisybench {info_name} {meant}`?"
                )
            return super().make_context(info_name, args, parent, **extra)
        return subcommand.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)

    def _similar_command(self, given: str) -> str | None:
        """Return the subcommand whose name is almost the given one; None for files, recipes and other words."""
        # Imported here: help pages need no recipes.
        from noisybench.config.published_recipes import recipe_names

        close = difflib.get_close_matches(given, self.commands, n=1, cutoff=0.75)
        return close[0] if close and not Path(given).exists() and given not in recipe_names() else None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the options and the subcommands."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in self.commands.items()])


def with_subcommands(application: typer.Typer) -> type[CommandWithSubcommands]:
    """Return the class of a command with the commands of an application as subcommands."""
    return type("CommandWithSubcommands", (CommandWithSubcommands,), {"app": application})
