"""Files of certificates: what is complained of, and how renewals are followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from mixer.errors import CertificateError
from mixer.tls import HTTP1, HTTP2, ClientCertificates, ClientTls, ServerCertificates, ServerTls
from mixer.tls.files import Paths, read
from mixer.tls.metrics import TlsCollector
from tests.certificates import Authority


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def locked(path: Path) -> None:
    """Replaces a key by one with a passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no certificate": ("a.pem", Path.unlink, "certificate {}/a.pem: No such file or directory"),
    "no key": ("a.key", Path.unlink, "key {}/a.key: No such file or directory"),
    "no authorities": ("ca.pem", Path.unlink, "client_ca {}/ca.pem: No such file or directory"),
    "empty certificate": ("a.pem", lambda p: p.write_bytes(b""), "certificate {}/a.pem: holds no certificate in PEM"),
    "cut certificate": ("a.pem", cut, "certificate {}/a.pem: holds no certificate in PEM"),
    "key in place of a certificate": (
        "a.pem", lambda p: p.write_bytes((p.parent / "a.key").read_bytes()),
        "certificate {}/a.pem: holds no certificate in PEM",
    ),
    "authorities are none": ("ca.pem", lambda p: p.write_text("roots"), "client_ca {}/ca.pem: holds no certificate in PEM"),
    "key is none": ("a.key", lambda p: p.write_text("key"), "key {}/a.key: holds no private key in PEM that is understood"),
    "locked key": ("a.key", locked, "key {}/a.key: is locked with a passphrase; expected a key without one"),
    "key of another": (
        "a.key", lambda p: p.write_bytes((p.parent / "b.key").read_bytes()),
        "key {}/a.key: not the key of the certificate in certificate {}/a.pem",
    ),
    "folder": ("a.pem", replaced_by_folder, "certificate {}/a.pem: Is a directory"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "harm", "message"), FAULTS.values(), ids=FAULTS)
def test_files_complaint_names_setting_and_path(
    tmp_path: Path, file: str, harm: Callable[[Path], object], message: str
) -> None:
    authority = Authority(tmp_path)
    authority.issue("a", ["localhost"])
    authority.issue("b", ["localhost"])
    harm(tmp_path / file)

    with pytest.raises(CertificateError) as caught:
        ServerCertificates(ServerTls(str(tmp_path / "a.pem"), str(tmp_path / "a.key"), str(tmp_path / "ca.pem")))

    assert str(caught.value) == message.replace("{}", str(tmp_path))


@pytest.mark.parametrize(
    ("paths", "message"),
    [(Paths(certificate="c"), "certificate needs key"), (Paths(key="k"), "key needs certificate")],
    ids=["certificate", "key"],
)
def test_files_half_a_pair_is_refused(paths: Paths, message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        read(paths)


def test_files_material_does_not_show_its_key(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("a", ["localhost"])
    material = read(Paths(str(pair.certificate), str(pair.key)))

    assert material.key == pair.key.read_bytes()
    assert "PRIVATE" not in repr(material)
    assert "key" not in repr(material)


def test_client_needs_somebody_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixer.tls.client.system_roots", lambda: b"")

    with pytest.raises(CertificateError, match="this machine has no file of authorities to trust; give ca"):
        ClientCertificates(ClientTls())


class Renewing:
    """A server's certificate that is renewed, under a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.pair = self.authority.issue("a", ["localhost"])
        self.clock = Clock()
        tls = ServerTls(str(self.pair.certificate), str(self.pair.key), str(self.authority.ca))
        self.certificates = ServerCertificates(tls, self.clock)
        self.registry = CollectorRegistry()
        self.registry.register(TlsCollector(server=self.certificates))

    def later(self) -> object:
        """What is served when files are looked at again."""
        self.clock.now += 1.0
        return self.certificates.renewed.current()

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"mixer_tls_{name}", {"side": "server"})


def test_renewal_is_taken_at_the_next_look(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    first = it.certificates.renewed.current()
    it.authority.issue("a", ["localhost"])

    assert it.certificates.renewed.current() is first
    assert it.later() is not first
    assert (it.sample("renewals_total"), it.sample("renewal_failures_total"), it.sample("stale")) == (1, 0, 0)


def test_renewal_is_none_when_nothing_changed(tmp_path: Path) -> None:
    it = Renewing(tmp_path)

    assert it.later() is it.later()
    assert it.sample("renewals_total") == 0


def test_renewal_that_stays_broken_keeps_the_former_and_is_told_once(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    first = it.certificates.renewed.current()
    it.pair.key.write_text("broken")

    with capture_logs() as logs:
        assert [it.later() for _ in range(4)] == [first] * 4

    (line,) = logs
    assert line["event"] == "certificate_not_renewed"
    assert line["error"] == f"key {it.pair.key}: holds no private key in PEM that is understood"
    assert (it.sample("renewals_total"), it.sample("renewal_failures_total"), it.sample("stale")) == (0, 1, 1)


def test_renewal_in_two_steps_is_no_fault(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    other = Authority(tmp_path, "other").issue("b", ["localhost"])
    with capture_logs() as logs:
        it.pair.certificate.write_bytes(other.certificate.read_bytes())
        it.later()
        it.pair.key.write_bytes(other.key.read_bytes())
        it.later()

    assert [line["event"] for line in logs] == ["certificate_renewed"]
    assert (it.sample("renewals_total"), it.sample("renewal_failures_total")) == (1, 0)


def test_renewal_that_is_mended_serves_again(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    it.pair.certificate.unlink()
    it.later()
    it.later()

    assert it.sample("stale") == 1
    it.authority.issue("a", ["localhost"])
    it.later()
    assert (it.sample("renewals_total"), it.sample("stale")) == (1, 0)


def test_scrape_looks_at_the_files_and_tells_when_the_certificate_ends(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    it.authority.issue("a", ["localhost"])
    it.clock.now += 5

    end = it.sample("certificate_not_after_seconds")
    assert end == it.certificates.not_after_s > 1.7e9
    assert it.sample("renewals_total") == 1


def test_server_speaks_one_protocol_on_each_port(tmp_path: Path) -> None:
    it = Renewing(tmp_path)
    served = it.certificates.renewed.current()

    assert set(served.contexts) == {HTTP1, HTTP2}
