"""``python -m mixer.sdk FOLDER`` writes the ready-made template resources, those of ``config/templates``."""

from __future__ import annotations

import sys
from pathlib import Path

from mixer.sdk.resources import template_resources, to_yaml
from mixer.templates import TEMPLATES


def write_templates(folder: Path) -> None:
    """Write one file for each compiled-in template."""
    folder.mkdir(parents=True, exist_ok=True)
    for template in TEMPLATES.values():
        text = f"# The template {template.name}, for adapters in other processes; written by python -m mixer.sdk\n"
        (folder / f"{template.name}.yaml").write_text(text + to_yaml(template_resources([template])), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m mixer.sdk FOLDER")
    write_templates(Path(sys.argv[1]))
