"""Handshakes that a server of ours ends, counted by reason: to the caller it looks as if the connection just broke.

Event loops pass over them in silence. grpcio does so, too, and cannot be asked; these are those of our own servers.
"""

from __future__ import annotations

import ssl
import time
from collections import Counter
from typing import Final

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.tls")

NO_CERTIFICATE: Final = "no_certificate"
NOT_ACCEPTED: Final = "certificate_not_accepted"
NOT_TLS: Final = "not_tls"
VERSION: Final = "version_or_cipher"
BY_PEER: Final = "refused_by_peer"
BROKEN_OFF: Final = "broken_off"
OTHER: Final = "other"

_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": NOT_ACCEPTED,
    "HTTP_REQUEST": NOT_TLS,
    "HTTPS_PROXY_REQUEST": NOT_TLS,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "UNSUPPORTED_PROTOCOL": VERSION,
    "VERSION_TOO_LOW": VERSION,
    "NO_SHARED_CIPHER": VERSION,
    "UNEXPECTED_EOF_WHILE_READING": BROKEN_OFF,
}

_TELL_AGAIN_S: Final = 1.0


class Refusals:
    """How many handshakes failed, by reason; one log line a second at most."""

    def __init__(self) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self._tell_at = 0.0

    def add(self, exc: ssl.SSLError) -> None:
        """Count one."""
        text = exc.reason or ""
        reason = _REASONS.get(text) or (BY_PEER if "ALERT" in text else OTHER)
        self.counts[reason] += 1
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_AGAIN_S
            detail = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else text
            log.info("handshake_refused", reason=reason, detail=detail)

    def watch(self, context: ssl.SSLContext) -> None:
        """Count the handshakes of a context."""
        refusals = self

        class Counted(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as exc:
                    refusals.add(exc)
                    raise

        context.sslobject_class = Counted
