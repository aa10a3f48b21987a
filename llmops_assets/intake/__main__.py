"""`python -m llmops_assets.intake`: the program that hears push webhooks. It listens on this machine alone unless told
otherwise: what reaches it from outside goes through a proxy that speaks TLS."""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from dagster import DagsterInstance

from llmops_assets.intake.app import build_app
from llmops_assets.intake.due import DueTicks
from llmops_assets.intake.server import server_of
from llmops_core.errors import EnvironmentLacks, InputError, LlmopsError, Problem, TransientError
from llmops_core.platform_settings import Secret
from llmops_core.settings import Settings
from llmops_core.webhook import fault_of_secret
from resources.home import HOST, home_from
from resources.secret_values import secret_value
from resources.wiring import Platform, build_platform


def main() -> None:
    parser = argparse.ArgumentParser(prog="llmops_assets.intake")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    home = home_from(os.environ, Path.cwd())
    platform = build_platform(home)
    settings = platform.settings
    if settings.webhook is None:
        raise EnvironmentLacks(f"config/{home.environment}.yaml has no webhook section")
    _refuse_bad_secrets(settings)
    ticks = DueTicks(DagsterInstance.get(), lambda: end_pauses(platform))
    ticks.start()
    branches = {settings.branch, *(each.branch or settings.branch for each in settings.repositories)}
    app = build_app(settings.webhook, branches, _value, ticks.ask)
    with suppress(KeyboardInterrupt):
        server_of(app, options.host, options.port).run()


def end_pauses(platform: Platform) -> None:
    """A host that sends pushes is there: what could not be fetched is asked for at once. Which repository a push is of
    is not looked at; one try more does the others no harm."""
    for each in platform.settings.repositories:
        try:
            platform.at(each.name).mirror.end_pause()
        except TransientError:
            continue  # it is being fetched now


def _value(secret: Secret) -> str:
    return secret_value(secret, os.environ)


def _refuse_bad_secrets(settings: Settings) -> None:
    """At the start, where somebody looks, and not only when the first push comes."""
    for host in ("github", "gitlab"):
        secret = getattr(settings.webhook, host)
        if secret is not None and (fault := fault_of_secret(host, _value(secret))):
            where = f"config/{settings.name}.yaml"
            raise InputError(Problem(where, f"webhook.{host}", "(a secret)", "the webhook's secret", fault))


if __name__ == "__main__":
    try:
        main()
    except LlmopsError as error:
        sys.exit(str(error))
