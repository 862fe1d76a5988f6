"""Names on the command line: what cannot be one is a usage error, before anybody is asked."""

import click
from click.core import ParameterSource

from nodeagent.model.names import is_service_name, name_complaint


def service_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """click's: the service's name, or what stands for an option that was not given, else a usage error.

    An empty name, as of a shell's variable that is not set, was given: it must not mean all services.
    """
    is_given = ctx.get_parameter_source(param.name or "") != ParameterSource.DEFAULT
    if is_given and not is_service_name(value):
        raise click.BadParameter(name_complaint(value))
    return value
