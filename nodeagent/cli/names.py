"""Names on the command line: what cannot be one is a usage error, before anybody is asked."""

import click

from nodeagent.model.service import is_service_name, name_complaint


def service_name(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """click's: the service's name, or an option's empty default, else a usage error."""
    is_default = not value and isinstance(param, click.Option)
    if not is_default and not is_service_name(value):
        raise click.BadParameter(name_complaint(value))
    return value
