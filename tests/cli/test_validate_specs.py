"""``mixs validate`` tells what is wrong with the specs that the proxy side reads."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from mixer.cli.mixs import main

SPEC = """
kind: QuotaSpec
metadata: {name: q, namespace: d}
spec: {rules: [{quotas: [{quota: requests, charge: %s}]}]}
"""


def test_a_spec_is_validated(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(SPEC % 1)
    (tmp_path / "bad.yaml").write_text(SPEC.replace("name: q", "name: r") % -1)

    good = CliRunner().invoke(main, ["validate", str(tmp_path / "good.yaml")])
    bad = CliRunner().invoke(main, ["validate", str(tmp_path)])

    assert good.exit_code == 0
    assert bad.exit_code == 1
    assert "bad.yaml:4: error: r.QuotaSpec.d: spec.rules[0].quotas[0].charge: a charge of -1" in bad.stdout
