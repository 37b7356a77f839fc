"""The compiled header table; it is there only where the package was built with Cython and a C compiler."""

class NativeTable:
    """See `mixer.server.http2.header_table.HeaderTable`."""

    changes: int

    def __init__(self, longest: int, room: int = 4096) -> None: ...
    def decode(self, block: bytes) -> dict[bytes, bytes]: ...
