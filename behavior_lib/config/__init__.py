"""Typed, strict configuration."""

from behavior_lib.config.loader import Loaded, load
from behavior_lib.config.schema import Config
from behavior_lib.config.source import SourceConfig, load_source

__all__ = ["Config", "Loaded", "SourceConfig", "load", "load_source"]
