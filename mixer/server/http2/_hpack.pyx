# cython: language_level=3, binding=False, embedsignature=False
"""The compiled header table: from a header block to its fields, without an object for each step.

It does what `mixer.server.http2.header_table.LibraryTable` does, refuses what that refuses, and takes its facts (the
static table, the code of each symbol) from the same library. Source: RFC 7541.

Bounds: every byte of a block is read through a `Cursor`, whose ``at`` never passes its ``end``; `_integer` and
`_text` check before they read, and nothing else looks at the bytes. What is written is bounded by what was read:
the shortest code has five bits, so a text is at most eight fifths of its code.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable as _Library

cdef enum:
    # As bytes of an entry that are not text count.
    OVERHEAD = 32
    # Bytes of an integer after its first one.
    LONGEST_INTEGER = 5
    # Codes up to this length are decoded without asking for memory.
    ON_STACK = 512

    SYMBOL = 1
    END = 2
    FAULT = 4

cdef struct Step:
    uint8_t state
    uint8_t flags
    uint8_t symbol

cdef struct Cursor:
    const unsigned char* at
    const unsigned char* end

cdef Step STEPS[256][16]
cdef tuple STATIC = _Library.STATIC_TABLE
cdef Py_ssize_t STATICS = len(STATIC)


def _fill_steps() -> None:
    """Make the machine that reads a code four bits at a time; a state is an inner node of the tree of codes."""
    cdef int state, bits, place
    children = [[None, None]]
    at_end = {0}  # where a text may end: after none to seven bits of padding, which are ones
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = (code >> shift) & 1
            if children[node][bit] is None:
                children[node][bit] = len(children)
                children.append([None, None])
            node = children[node][bit]
        children[node][code & 1] = -1 - symbol
    if len(children) != 256:
        raise RuntimeError("the code of RFC 7541 has 256 inner nodes")
    node = 0
    for _ in range(7):
        node = children[node][1]
        at_end.add(node)
    for state in range(256):
        for bits in range(16):
            node, flags, symbol = state, 0, 0
            for place in range(3, -1, -1):
                node = children[node][(bits >> place) & 1]
                if node < 0:
                    symbol = -1 - node
                    node = 0
                    if symbol == 256:  # the end of the string has a code, which must not occur
                        flags |= FAULT
                        symbol = 0
                        break
                    flags |= SYMBOL
            if node in at_end:
                flags |= END
            STEPS[state][bits].state = node
            STEPS[state][bits].flags = flags
            STEPS[state][bits].symbol = symbol


_fill_steps()


cdef int64_t _integer(Cursor* cursor, int mask) except -1:
    """An integer whose first byte has bits of something else above ``mask``."""
    cdef int64_t number
    cdef unsigned char byte
    cdef int shift = 0
    cdef int count = 0
    if cursor.at >= cursor.end:
        raise ValueError("the header block ends within an integer")
    number = cursor.at[0] & mask
    cursor.at += 1
    if number < mask:
        return number
    while True:
        if cursor.at >= cursor.end:
            raise ValueError("the header block ends within an integer")
        byte = cursor.at[0]
        cursor.at += 1
        count += 1
        number += (<int64_t>(byte & 0x7F)) << shift
        if byte < 0x80:
            return number
        if count >= LONGEST_INTEGER:
            raise ValueError("an integer is too long")
        shift += 7


cdef bytes _unpacked(const unsigned char* code, Py_ssize_t length):
    """The text of a Huffman code."""
    cdef unsigned char on_stack[2 * ON_STACK]
    cdef unsigned char* text = on_stack
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t place
    cdef uint8_t flags = END
    cdef uint8_t state = 0
    cdef Step step
    if length > ON_STACK:
        text = <unsigned char*>PyMem_Malloc(2 * length)
        if text is NULL:
            raise MemoryError
    try:
        for place in range(length):
            step = STEPS[state][code[place] >> 4]
            if step.flags & FAULT:
                raise ValueError("a text has the code for its end")
            if step.flags & SYMBOL:
                text[size] = step.symbol
                size += 1
            step = STEPS[step.state][code[place] & 15]
            if step.flags & FAULT:
                raise ValueError("a text has the code for its end")
            if step.flags & SYMBOL:
                text[size] = step.symbol
                size += 1
            state, flags = step.state, step.flags
        if not flags & END:
            raise ValueError("a text ends within a symbol")
        return PyBytes_FromStringAndSize(<char*>text, size)
    finally:
        if text is not on_stack:
            PyMem_Free(text)


cdef bytes _text(Cursor* cursor):
    """A text, as it is or in Huffman code."""
    cdef bint packed
    cdef int64_t length
    cdef const unsigned char* start
    if cursor.at >= cursor.end:
        raise ValueError("the header block ends before a text")
    packed = cursor.at[0] >= 0x80
    length = _integer(cursor, 0x7F)
    if length > cursor.end - cursor.at:
        raise ValueError("the header block ends within a text")
    start = cursor.at
    cursor.at += length
    return _unpacked(start, length) if packed else PyBytes_FromStringAndSize(<const char*>start, length)


cdef class NativeTable:
    """See `mixer.server.http2.header_table.HeaderTable`."""

    cdef readonly Py_ssize_t changes
    cdef Py_ssize_t _longest, _size, _room, _most
    cdef list _entries  # the newest is the last

    def __init__(self, Py_ssize_t longest, Py_ssize_t room=4096):
        self._longest = longest
        self._size, self._room, self._most, self.changes = 0, room, room, 0
        self._entries = []

    def decode(self, bytes block not None):
        cdef Cursor cursor
        cdef unsigned char first
        cdef Py_ssize_t size = 0
        cdef int64_t index
        cdef tuple entry
        cdef bytes name, value
        cdef dict fields = {}
        cursor.at = <const unsigned char*>PyBytes_AS_STRING(block)
        cursor.end = cursor.at + PyBytes_GET_SIZE(block)
        while cursor.at < cursor.end:
            first = cursor.at[0]
            if first & 0x80:
                entry = self._entry(_integer(&cursor, 0x7F))
                name, value = entry[0], entry[1]
            elif first & 0x60 == 0x20:
                if size:
                    raise ValueError("the size of the table changes after a field")
                self._resize(_integer(&cursor, 0x1F))
                continue
            else:
                index = _integer(&cursor, 0x3F if first & 0x40 else 0x0F)
                name = <bytes>self._entry(index)[0] if index else _text(&cursor)
                value = _text(&cursor)
                if first & 0x40:
                    self._add(name, value)
            size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + OVERHEAD
            if size > self._longest:
                raise ValueError(f"the fields are longer than {self._longest} bytes")
            fields[name] = value
        return fields

    cdef tuple _entry(self, int64_t index):
        cdef Py_ssize_t count = len(self._entries)
        if 0 < index <= STATICS:
            return <tuple>STATIC[index - 1]
        index -= STATICS
        if 0 < index <= count:
            return <tuple>self._entries[count - index]
        raise ValueError("no entry of the table has this index")

    cdef int _resize(self, int64_t room) except -1:
        if room > self._most:
            raise ValueError("the table would be larger than allowed")
        self._room = room
        self._shrink()
        self.changes += 1
        return 0

    cdef int _add(self, bytes name, bytes value) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + OVERHEAD
        self.changes += 1
        if size > self._room:  # which empties the table, and is no fault
            self._entries.clear()
            self._size = 0
            return 0
        self._entries.append((name, value))
        self._size += size
        self._shrink()
        return 0

    cdef int _shrink(self) except -1:
        cdef Py_ssize_t gone = 0
        cdef tuple entry
        while self._size > self._room:
            entry = <tuple>self._entries[gone]
            self._size -= PyBytes_GET_SIZE(<bytes>entry[0]) + PyBytes_GET_SIZE(<bytes>entry[1]) + OVERHEAD
            gone += 1
        if gone:
            del self._entries[:gone]
        return 0
