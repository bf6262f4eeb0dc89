"""Plain data to YAML text that `parse` reads back."""

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Never writes an anchor, which files may not have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_text(value: Any) -> str:
    """Return a document of mappings, lists, text, numbers and booleans, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
