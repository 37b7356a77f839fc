"""The one tree of everything that Mixer itself can raise.

::

    MixerError
    ├── StoreError                  a configuration store cannot give its resources
    │   └── StoreUnavailableError   the store is away for now; ask again
    ├── ExprError                   an expression is wrong (source, offset)
    │   ├── ExprSyntaxError         it does not parse
    │   └── ExprTypeError           it parses and makes no sense
    ├── EvalError                   a sound expression met values it cannot work with
    │   └── AttributeAbsentError    it needed an attribute that the bag lacks (name)
    ├── AdapterError                a handler could not do its work
    │   ├── UnknownQuotaError       the params define no limit of that name
    │   ├── BackendUnavailableError transient: the same call may succeed later
    │   └── BackendRejectedError    permanent: the same input fails again
    ├── MixerCallError              a proxy's call to Mixer gave no answer (code)
    ├── CertificateError            a certificate, a key or authorities in files cannot be used
    └── WireError                   a malformed request, e.g. an unknown dictionary index

A denial, an exhausted quota and a wrong resource are *results* (``CheckResult``, ``QuotaResult``,
``Problem``), not exceptions.
"""

from __future__ import annotations


class MixerError(Exception):
    """Root of the tree; catch this to catch everything that Mixer raises on purpose."""


class StoreError(MixerError):
    """A configuration store cannot give its resources."""


class StoreUnavailableError(StoreError):
    """The store is away; what it gave before stays in force."""


class ExprError(MixerError):
    """A fault at one place of an expression; ``offset`` counts characters from 0.

    ``message`` is one line and fit for machines; ``str()`` is the message alone, ``pretty()`` adds the
    source with a caret under the place.
    """

    def __init__(self, message: str, *, source: str, offset: int) -> None:
        super().__init__(message)
        self.message, self.source, self.offset = message, source, offset

    def __str__(self) -> str:
        return self.message

    def pretty(self) -> str:
        """The message, the line of the source that is at fault, and a caret under the place."""
        before = self.source[: self.offset]
        start = before.rfind("\n") + 1
        end = self.source.find("\n", self.offset)
        line = self.source[start : end if end >= 0 else len(self.source)]
        indent = "".join("\t" if c == "\t" else " " for c in before[start:])
        return f"{self.message}\n  {line}\n  {indent}^"


class ExprSyntaxError(ExprError):
    """The text is not an expression. Source: spec language 1 and 4.4."""


class ExprTypeError(ExprError):
    """The expression parses and makes no sense with this vocabulary. Source: spec language 4.2."""


class EvalError(MixerError):
    """A sound expression met values that it cannot work with. Source: spec language 5.4."""


class AttributeAbsentError(EvalError):
    """The expression needed an attribute that the bag does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"lookup failed: '{name}'")
        self.name = name


class AdapterError(MixerError):
    """A handler could not do its work; the other handlers of the request are not concerned."""


class UnknownQuotaError(AdapterError):
    """The handler's params define no limit of that name."""


class BackendUnavailableError(AdapterError):
    """Transient: the backend is down, slow or overloaded; the same call may succeed later."""


class BackendRejectedError(AdapterError):
    """Permanent: the backend understood the call and refuses it; the same input fails again."""


class WireError(MixerError):
    """A request that breaks the encoding's rules; the message names what and where."""


class MixerCallError(MixerError):
    """A call to Mixer that gave no answer; ``code`` says how it failed, in the numbers of ``google.rpc.Code``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CertificateError(MixerError):
    """A certificate, a key or authorities in files cannot be used; the message names the setting and the path."""
