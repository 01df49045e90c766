"""Configuration files, read strictly: what YAML would drop or guess is refused by file and line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from georecon.errors import ConfigError

# libyaml's parser, ten times as fast; PyYAML is also built without it
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SafeLoader):  # type: ignore[misc]
    """YAML loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse duplicates, then construct as usual."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            where = f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}"
            if not isinstance(key, Hashable):
                raise ConfigError(f"{where}: {key!r:.40} cannot be a key")
            if key in seen:
                raise ConfigError(f"{where}: key {key!r} is given twice")
            seen.add(key)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found


class _TextKeysLoader(_StrictLoader):
    """The same, and every key must be text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse keys that are not text, then construct as usual."""
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                where = f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}"
                text = key_node.value
                raise ConfigError(
                    f'{where}: key {text} is read as {key!r}; keys must be text: write "{text}"'
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, text_keys: bool = False) -> Any:
    """Read a YAML file; duplicate keys, other encodings and syntax errors name file and line.

    Args:
        path: the file.
        text_keys: refuse keys that YAML reads as numbers, booleans or null.

    Raises:
        ConfigError: the file cannot be read, or says something that YAML would drop.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            return yaml.load(handle, _TextKeysLoader if text_keys else _StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a configuration file: a mapping with text keys.

    Raises:
        ConfigError: it is something else.
    """
    value = read_yaml(path, text_keys=True)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, is {value!r:.40}")
    return value
