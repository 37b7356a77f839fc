"""Something made of certificate files that follows them: a renewal is taken, a broken one is not.

Files are looked at when somebody asks, at most once a second, so nothing runs in between. Certificate and key may be
written one after the other: what does not fit is a fault only when it is still so at the next look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import structlog

from mixer.errors import CertificateError
from mixer.tls.files import Paths

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.tls")

LOOK_AGAIN_S: Final = 1.0
"""Files are looked at no more often than this."""

Made = TypeVar("Made")


class Renewed(Generic[Made]):
    """The newest sound thing; may be asked by any thread.

    Attributes:
        renewals: How often something new was taken.
        failures: How often new files were found unfit.
        fault: Why the files as they are now are not used; empty when they are.
    """

    def __init__(self, paths: Paths, make: Callable[[], Made], monotonic: Callable[[], float] = time.monotonic) -> None:
        """Make the first one.

        Raises:
            CertificateError: The files are not fit for use.
        """
        self._paths, self._make, self._monotonic = paths, make, monotonic
        self._lock = threading.Lock()
        self._looked_at = monotonic()
        self._stamps = self._suspect = paths.stamps()
        self._made = make()
        self.renewals = self.failures = 0
        self.fault = ""

    def current(self) -> Made:
        """What holds now; the same object until the files have changed."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_AGAIN_S:
            with self._lock:
                if now - self._looked_at >= LOOK_AGAIN_S:
                    self._looked_at = now
                    self._look()
        return self._made

    def _look(self) -> None:
        stamps = self._paths.stamps()
        if stamps == self._stamps:
            return
        try:
            made = self._make()
        except CertificateError as exc:
            if stamps == self._suspect:
                self._stamps = stamps
                self.failures += 1
                self.fault = str(exc)
                log.error("certificate_not_renewed", error=self.fault, outcome="the former one stays in use")
            self._suspect = stamps
            return
        self._stamps = self._suspect = stamps
        self._made, self.fault = made, ""
        self.renewals += 1
        log.info("certificate_renewed", certificate=self._paths.certificate or None, ca=self._paths.authorities or None)
