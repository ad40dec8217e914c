"""What DVC makes of params.yaml is understood, or refused in words that name the remedy."""

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from stages.console import Stage
from stages.options.param_types import names, widths


@click.command(cls=Stage)
@click.argument("folder")
@click.option("--exclude", type=click.Path())
@click.option("--label")
@click.option("--hidden", default="8")
@click.option("--stratify", is_flag=True)
def command(folder: str, exclude: str | None, label: str | None, hidden: str, stratify: bool) -> None:
    click.echo(f"{folder} {exclude} {label!r} {hidden} {stratify}")


@pytest.mark.parametrize(
    ("args", "printed"),
    [
        ("in --exclude None --hidden 4", "in None None 4 False"),
        ("in --label None", "in None 'None' 8 False"),
        ("None --exclude x", "None x None 8 False"),
        ("in None", "in None None 8 False"),  # a section that is empty
        ("in --hidden 4 None --exclude x", "in x None 4 False"),
        ("in --stratify None", "in None None 8 False"),
    ],
)
def test_null_is_no_value_unless_a_text_may_be_called_so(args: str, printed: str) -> None:
    assert CliRunner().invoke(command, args.split()).output == f"{printed}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("in --hidden 128 64", "--hidden: expected one value, as 128,64, in params.yaml, too; received 128 64"),
        (
            "in --stratify no",
            "--stratify: expected nothing after it, or true or false, unquoted, in params.yaml; received no",
        ),
        (
            "in --hidden 4 --stratify off",
            "--stratify: expected nothing after it, or true or false, unquoted, in params",
        ),
        ("in --stratify true", "--stratify: expected nothing after it, or true or false, unquoted, in params.yaml;"),
        ("in out", "Got unexpected extra argument (out)"),
        ("in --stratify out", "Got unexpected extra argument (out)"),
        ("--hidden 4 in out", "Got unexpected extra argument (out)"),
        ("in --stratfy", "No such option"),
    ],
)
def test_a_list_and_a_word_for_true_or_false_are_refused_by_their_name(args: str, message: str) -> None:
    result = CliRunner().invoke(command, args.split())
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


def test_a_word_for_false_passes_for_no_name_where_any_number_of_names_may_stand() -> None:
    @click.command(cls=Stage)
    @click.argument("names", nargs=-1)
    @click.option("--maps", is_flag=True)
    def many(names: tuple[str, ...], maps: bool) -> None:
        click.echo(names)

    result = CliRunner().invoke(many, ["page.html", "--maps", "no"])
    assert (result.exit_code, "--maps: expected nothing after it" in result.output) == (2, True)


@pytest.mark.parametrize("parse", [widths, names])
def test_null_is_none_where_none_may_stand(parse: Callable[..., object]) -> None:
    assert parse(None, None, "None") == parse(None, None, "none") == ()
