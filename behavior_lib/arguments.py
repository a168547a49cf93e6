"""The command line's own words: --env and --set, and a wrong word told in one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn

from behavior_lib.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        """One sentence that names the help to read."""
        raise ConfigError(message, mend=f"see {self.prog} --help")


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """--env NAME and --set KEY=VALUE, the same for every command that reads the configuration."""
    parser.add_argument(
        "--env", default="local", metavar="NAME", help="environment in conf/env, or a YAML file (local)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set one configuration key")
