"""The command line: translates options and errors, computes nothing."""

import click

from landmark_dir.elastix.distributions import simpleitk_conflict, simpleitk_is_whole

if not simpleitk_is_whole():  # everything below needs it
    raise SystemExit(f"Error: {simpleitk_conflict()}")

from landmark_dir import __version__
from landmark_dir.cli import compare, follow, info, pairs, runs, studies
from landmark_dir.cli.shared import errors_as_sentences


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """Landmark-guided deformable registration of CT volumes with elastix."""


@main.command("info")
def info_command() -> None:
    """Show versions, engines found, weights and device."""
    with errors_as_sentences():
        click.echo(info.describe_installation())


for _command in (
    *pairs.COMMANDS,
    *compare.COMMANDS,
    *runs.COMMANDS,
    *follow.COMMANDS,
    *studies.COMMANDS,
):
    main.add_command(_command)
