"""The configuration of the demo: copies of the mesh's defaults and of some samples.

Not the whole of ``config/``: other samples are about other meshes. What depends on the machine is changed in the
copies, which is where the pods are.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import yaml

from loadtest.demo.workloads import CONFIG, PODS

POLICIES: Final = ("deny", "whitelist", "blacklist", "ratelimit")
"""Samples that are about the traffic of the book shop."""

CLIENT: Final = """\
# A sidecar client takes tokens of a quota in advance, and lends some before the first answer: right for thousands of
# requests a second, too generous for a limit of two visits. Here each visit asks Mixer.
http:
  transport:
    disableQuotaCache: true
    networkFailPolicy: {policy: FAIL_CLOSE, maxRetry: 1}
    checkTimeout: 4s
  serviceConfigs: {default: {}}
  defaultDestinationService: default
"""


def write_policies(folder: Path) -> Path:
    """The mesh's defaults, and the samples that make policy of them; the folder of Mixer's configuration."""
    target = folder / "config"
    shutil.copytree(CONFIG / "mesh", target / "mesh")
    for name in POLICIES:
        shutil.copytree(CONFIG / "samples" / name, target / name)
    return target


def write_mixer(folder: Path) -> Path:
    """The same, with what turns the names of pods into workloads, and a line for each hop of a trace."""
    target = write_policies(folder)
    pods = folder / PODS.name
    shutil.copy(PODS, pods)
    shutil.copy(CONFIG / "samples" / "bookinfo" / "hops.yaml", target)
    sample = (CONFIG / "samples" / "kubernetesenv" / "kubernetesenv.yaml").read_text("utf-8")
    objects = list(yaml.safe_load_all(sample))
    for each in objects:
        if each["kind"] == "handler":
            each["spec"]["params"]["objectPaths"] = [str(pods)]
    (target / "kubernetesenv.yaml").write_text(yaml.safe_dump_all(objects), "utf-8")
    return target


def write_client(folder: Path) -> tuple[Path, Path]:
    """What mixproxy is given: its file of settings, and the folder with the specs of quotas."""
    settings, specs = folder / "client.yaml", folder / "specs"
    settings.write_text(CLIENT, "utf-8")
    shutil.copytree(CONFIG / "samples" / "ratelimit", specs)
    return settings, specs
