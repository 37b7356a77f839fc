# cython: language_level=3, binding=False, embedsignature=False
"""The compiled decoder: from the bytes of a request to dicts of attributes, without messages in between.

It knows the wire format and the ordinary request, and nothing of faults. Whatever is out of the ordinary (bytes
that are no request, an unknown field, a word that only the client knows, a name that occurs twice, seconds beyond
the 64 bits of nanoseconds) makes it give up with None; then `mixer.api.decode` lets protobuf and the Python
decoder settle the whole request. So the rules and the texts of faults are in one place, and a mistake here can
only be one of three: to read out of bounds, to accept what Python refuses, to give another value.

Bounds: every byte is read through a `Cursor`, whose ``at`` never passes its ``end``; `_varint`, `_span`, `_tag`
and `_double` check before they read, and nothing else looks at the bytes. Nothing recurses.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.set cimport PySet_Contains
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT32_MAX, INT32_MIN, UINT32_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from mixer.api.words import GLOBAL_WORDS
from mixer.attributes import Duration, Timestamp

cdef extern from "Python.h":
    double PyFloat_Unpack8(const char* bytes, int is_little_endian) except? -1.0


class _Extraordinary(Exception):
    """The request is for the Python decoder."""



# Reading bytes.

cdef struct Cursor:
    const unsigned char* at
    const unsigned char* end


# One byte for a field number and a wire type: all the fields that we know have numbers below 16.
cdef enum:
    FIELD_1_VARINT = 0x08
    FIELD_1_BYTES = 0x0A
    FIELD_2_VARINT = 0x10
    FIELD_2_FIXED64 = 0x11
    FIELD_2_BYTES = 0x12
    FIELD_3_VARINT = 0x18
    FIELD_3_BYTES = 0x1A
    FIELD_4_VARINT = 0x20
    FIELD_4_BYTES = 0x22
    FIELD_15_VARINT = 0x78
    FIELD_15_BYTES = 0x7A
    FIELD_5_BYTES = 0x2A
    FIELD_6_BYTES = 0x32
    FIELD_7_BYTES = 0x3A
    FIELD_8_BYTES = 0x42
    FIELD_9_BYTES = 0x4A


cdef inline int _varint(Cursor* cursor, uint64_t* value) except -1:
    cdef unsigned char byte
    cdef int shift = 0
    value[0] = 0
    while cursor.at < cursor.end:
        byte = cursor.at[0]
        cursor.at += 1
        if shift == 63 and byte > 1:
            break
        value[0] |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return 0
        shift += 7
    raise _Extraordinary


cdef inline int _span(Cursor* cursor, Cursor* span) except -1:
    """The bytes of a length-delimited field; the cursor moves behind them."""
    cdef uint64_t size
    _varint(cursor, &size)
    if size > <uint64_t>(cursor.end - cursor.at):
        raise _Extraordinary
    span.at = cursor.at
    cursor.at += size
    span.end = cursor.at
    return 0


cdef inline int _tag(Cursor* cursor) except -1:
    """The next field, or 0 at the end."""
    if cursor.at >= cursor.end:
        return 0
    cursor.at += 1
    return cursor.at[-1] or 0xFF  # 0 is no field; 0xFF is none that anyone knows


cdef inline double _double(Cursor* cursor) except? -1.0:
    if cursor.end - cursor.at < 8:
        raise _Extraordinary
    cursor.at += 8
    return PyFloat_Unpack8(<const char*>cursor.at - 8, 1)


cdef inline int _pair(Cursor message, uint64_t* first, uint64_t* second) except -1:
    """A message of two varint fields; the last of each counts, a missing one is 0."""
    cdef int tag
    first[0] = second[0] = 0
    while tag := _tag(&message):
        if tag == FIELD_1_VARINT:
            _varint(&message, first)
        elif tag == FIELD_2_VARINT:
            _varint(&message, second)
        else:
            raise _Extraordinary
    return 0


cdef inline int _key_and_span(Cursor message, uint64_t* key, Cursor* span) except -1:
    """A map entry whose value is length-delimited; a missing value is empty."""
    cdef int tag
    cdef bint found = False
    key[0] = 0
    span.at = span.end = message.end
    while tag := _tag(&message):
        if tag == FIELD_1_VARINT:
            _varint(&message, key)
        elif tag == FIELD_2_BYTES and not found:  # a second one may have to be merged with the first
            _span(&message, span)
            found = True
        else:
            raise _Extraordinary
    return 0


cdef inline int _key_and_double(Cursor message, uint64_t* key, double* value) except -1:
    cdef int tag
    key[0] = 0
    value[0] = 0.0
    while tag := _tag(&message):
        if tag == FIELD_1_VARINT:
            _varint(&message, key)
        elif tag == FIELD_2_FIXED64:
            value[0] = _double(&message)
        else:
            raise _Extraordinary
    return 0


cdef str _string(Cursor span):
    """Proto3 strings are UTF-8 as Python understands it; a UnicodeDecodeError is for `mixer.api.decode` as well."""
    return PyUnicode_DecodeUTF8(<char*>span.at, span.end - span.at, NULL)


cdef inline bint _is_ascii(Cursor span) noexcept:
    cdef uint64_t chunk, seen = 0
    if span.end - span.at < 8:
        while span.at < span.end:
            seen |= span.at[0]
            span.at += 1
        return not seen & 0x80
    while span.end - span.at > 8:
        memcpy(&chunk, span.at, 8)
        seen |= chunk
        span.at += 8
    memcpy(&chunk, span.end - 8, 8)  # some of these for the second time
    return (seen | chunk) & <uint64_t>0x8080808080808080U == 0


cdef int64_t _nanoseconds(Cursor message) except? -1:
    """A Timestamp or a Duration that fits 64 bits of nanoseconds with room to spare."""
    cdef uint64_t first, second
    _pair(message, &first, &second)
    cdef int64_t seconds = <int64_t>first, nanos = <int64_t>second
    if not (-9_000_000_000LL <= seconds <= 9_000_000_000LL and INT32_MIN <= nanos <= INT32_MAX):
        raise _Extraordinary
    return seconds * 1_000_000_000LL + nanos


# Words.

cdef enum Use:  # of a word, as the name of an attribute
    UNKNOWN
    UNWANTED
    WHOLE
    KEYS


cdef struct Word:
    Cursor span
    PyObject* text  # a str that we own, or NULL until someone wants to see it
    Use use
    PyObject* keys  # with KEYS, the frozenset; it belongs to what is wanted


cdef class _Words:
    """Words by position, and what each means as the name of an attribute."""

    cdef object source  # holds the bytes that the spans point to
    cdef dict wanted  # None: everything
    cdef Word* words
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    def __cinit__(self, source, dict wanted):
        self.source = source
        self.wanted = wanted

    def __dealloc__(self):
        cdef Py_ssize_t position
        for position in range(self.count):
            Py_XDECREF(self.words[position].text)
        PyMem_Free(self.words)

    cdef Word* add(self, Cursor span) except NULL:
        cdef Py_ssize_t capacity
        cdef Word* words
        cdef Word* word
        if self.count == self.capacity:
            capacity = 2 * self.capacity or 64
            words = <Word*>PyMem_Realloc(self.words, capacity * sizeof(Word))
            if words == NULL:
                raise MemoryError
            self.words, self.capacity = words, capacity
        word = &self.words[self.count]
        word.span, word.text, word.use, word.keys = span, NULL, UNKNOWN, NULL
        self.count += 1
        if not _is_ascii(span):
            self.text(word)  # which is how we learn whether it is UTF-8 at all
        return word

    cdef object text(self, Word* word):
        if word.text == NULL:
            text = _string(word.span)
            Py_INCREF(text)
            word.text = <PyObject*>text
        return <object>word.text

    cdef Use find_use(self, Word* word) except *:
        if self.wanted is None:
            word.use = WHOLE
            return WHOLE
        text = self.text(word)
        if text not in self.wanted:
            word.use = UNWANTED
        elif (keys := self.wanted[text]) is None:
            word.use = WHOLE
        else:
            word.use, word.keys = KEYS, <PyObject*>keys
        return word.use


cdef class _Vocabulary:
    """The global words with the use of each; one for each `Wanted`."""

    cdef dict wanted
    cdef list encoded
    cdef _Words words

    def __cinit__(self, wanted):
        cdef Word* word
        cdef Cursor span
        self.wanted = None if wanted is None else dict(wanted.attributes)
        self.encoded = [text.encode() for text in GLOBAL_WORDS]
        self.words = _Words(self.encoded, self.wanted)
        for text, encoded in zip(GLOBAL_WORDS, self.encoded):
            span.at = <const unsigned char*>PyBytes_AS_STRING(encoded)
            span.end = span.at + PyBytes_GET_SIZE(encoded)
            word = self.words.add(span)
            Py_INCREF(text)
            word.text = <PyObject*>text
            self.words.find_use(word)


cdef _Vocabulary _EVERYTHING = _Vocabulary(None)


cdef _Vocabulary _vocabulary(wanted):
    if wanted is None:
        return _EVERYTHING
    if wanted.tables is None:
        wanted.tables = _Vocabulary(wanted)
    return wanted.tables


cdef inline Word* _word(_Words common, _Words own, uint64_t raw) except NULL:
    """The word of an index, which stands on the wire in zigzag form."""
    cdef int32_t index
    if raw > UINT32_MAX:
        raise _Extraordinary
    index = <int32_t>(<uint32_t>(raw >> 1) ^ (0 - <uint32_t>(raw & 1)))
    if index >= 0:
        if index < common.count:
            return &common.words[index]
    elif index >= -own.count:
        return &own.words[-(index + 1)]
    raise _Extraordinary


# Records.

cdef object _entries(Cursor string_map, _Words common, _Words own, Use use, PyObject* keys):
    """The entries that are wanted, None when the map is not; all their indices are looked at in any case."""
    cdef dict texts = None if use == UNWANTED else {}
    cdef Py_ssize_t written = 0
    cdef Cursor entry
    cdef uint64_t first, second
    cdef Word* key
    cdef Word* value
    cdef int tag
    while tag := _tag(&string_map):
        if tag != FIELD_1_BYTES:
            raise _Extraordinary
        _span(&string_map, &entry)
        _pair(entry, &first, &second)
        key = _word(common, own, first)
        value = _word(common, own, second)
        if use == UNWANTED:
            continue
        key_text = own.text(key)
        if use == KEYS and not PySet_Contains(<object>keys, key_text):
            continue
        PyDict_SetItem(texts, key_text, own.text(value))
        written += 1
    if texts is not None and len(texts) != written:
        raise _Extraordinary
    return texts


cdef dict _record(Cursor message, _Vocabulary vocabulary, _Words own, object source):
    """The wanted attributes of a CompressedAttributes; its own words, if it has any, replace those given."""
    cdef dict values = {}
    cdef Py_ssize_t written = 0
    cdef _Words common = vocabulary.words
    cdef Cursor entry, span
    cdef uint64_t first, second = 0
    cdef int64_t nanoseconds = 0
    cdef double number = 0.0
    cdef Word* name
    cdef Word* text = NULL
    cdef Use use
    cdef int tag
    cdef object value

    if message.at < message.end and message.at[0] == FIELD_1_BYTES:
        own = _Words(source, vocabulary.wanted)
        while message.at < message.end and message.at[0] == FIELD_1_BYTES:
            message.at += 1
            _span(&message, &span)
            own.add(span)

    while tag := _tag(&message):
        _span(&message, &entry)
        if tag == FIELD_2_BYTES or tag == FIELD_3_BYTES or tag == FIELD_5_BYTES:  # strings, int64s, bools
            _pair(entry, &first, &second)
            if tag == FIELD_2_BYTES:
                text = _word(common, own, second)
        elif tag == FIELD_4_BYTES:  # doubles
            _key_and_double(entry, &first, &number)
        elif FIELD_6_BYTES <= tag <= FIELD_9_BYTES and tag & 7 == 2:
            _key_and_span(entry, &first, &span)
            if tag <= FIELD_7_BYTES:  # timestamps, durations
                nanoseconds = _nanoseconds(span)
        else:
            raise _Extraordinary

        name = _word(common, own, first)
        use = name.use if name.use != UNKNOWN else own.find_use(name)
        if tag == FIELD_9_BYTES:  # string_maps
            value = _entries(span, common, own, use, name.keys)
        if use == UNWANTED:
            continue
        if tag == FIELD_2_BYTES:
            value = own.text(text)
        elif tag == FIELD_3_BYTES:
            value = <int64_t>second
        elif tag == FIELD_4_BYTES:
            value = number
        elif tag == FIELD_5_BYTES:
            value = second != 0
        elif tag == FIELD_6_BYTES:
            value = Timestamp(nanoseconds)
        elif tag == FIELD_7_BYTES:
            value = Duration(nanoseconds)
        elif tag == FIELD_8_BYTES:
            value = PyBytes_FromStringAndSize(<const char*>span.at, span.end - span.at)
        PyDict_SetItem(values, own.text(name), value)
        written += 1

    if len(values) != written:  # a name that occurs twice
        raise _Extraordinary
    return values


# Requests.

cdef Cursor _cursor(bytes data) except *:
    cdef Cursor cursor
    if PyBytes_GET_SIZE(data) > INT32_MAX:  # protobuf has a limit there
        raise _Extraordinary
    cursor.at = <const unsigned char*>PyBytes_AS_STRING(data)
    cursor.end = cursor.at + PyBytes_GET_SIZE(data)
    return cursor


cdef object _report(bytes data, _Vocabulary vocabulary):
    cdef Cursor start = _cursor(data), request, span
    cdef _Words own = _Words(data, vocabulary.wanted)
    cdef uint64_t semantics = 0, global_word_count
    cdef list records = []
    cdef str deduplication_id = ""
    cdef int tag

    request = start  # the default words come after the records that need them
    while tag := _tag(&request):
        if tag == FIELD_1_BYTES:
            _span(&request, &span)
        elif tag == FIELD_2_BYTES:
            _span(&request, &span)
            own.add(span)
        elif tag == FIELD_3_VARINT:
            _varint(&request, &global_word_count)
        elif tag == FIELD_4_VARINT:
            _varint(&request, &semantics)
        elif tag == FIELD_15_BYTES:
            _span(&request, &span)
            deduplication_id = _string(span)
        else:
            raise _Extraordinary
    if semantics > 1:
        raise _Extraordinary
    if semantics == 0 and vocabulary is not _EVERYTHING:
        vocabulary = _EVERYTHING  # a name that occurs twice in a delta is a fault, even when nobody wants it
        own.wanted = None

    request = start
    while tag := _tag(&request):
        if tag == FIELD_1_BYTES:
            _span(&request, &span)
            records.append(_record(span, vocabulary, own, data))
        elif tag == FIELD_2_BYTES or tag == FIELD_15_BYTES:
            _span(&request, &span)
        else:
            _varint(&request, &global_word_count)
    return semantics == 0, records, deduplication_id


def read_report(bytes data not None, wanted):
    try:
        return _report(data, _vocabulary(wanted))
    except (_Extraordinary, UnicodeDecodeError):
        return None


cdef int _read_quota(Cursor entry, dict quotas) except -1:
    cdef Cursor name, params
    cdef uint64_t amount, best_effort
    cdef int tag
    name.at = name.end = params.at = params.end = entry.end
    cdef bint has_name = False, has_params = False
    while tag := _tag(&entry):
        if tag == FIELD_1_BYTES and not has_name:
            _span(&entry, &name)
            has_name = True
        elif tag == FIELD_2_BYTES and not has_params:
            _span(&entry, &params)
            has_params = True
        else:
            raise _Extraordinary
    _pair(params, &amount, &best_effort)
    quotas[_string(name)] = <int64_t>amount, best_effort != 0
    return 0


cdef object _check(bytes data, _Vocabulary vocabulary):
    cdef Cursor request = _cursor(data), span
    cdef dict values = None, quotas = {}
    cdef str deduplication_id = ""
    cdef uint64_t global_word_count = 0, quotas_only = 0
    cdef int tag
    while tag := _tag(&request):
        if tag == FIELD_1_BYTES and values is None:
            _span(&request, &span)
            values = _record(span, vocabulary, _Words(data, vocabulary.wanted), data)
        elif tag == FIELD_2_VARINT:
            _varint(&request, &global_word_count)
            if global_word_count > UINT32_MAX:
                raise _Extraordinary
        elif tag == FIELD_3_BYTES:
            _span(&request, &span)
            deduplication_id = _string(span)
        elif tag == FIELD_4_BYTES:
            _span(&request, &span)
            _read_quota(span, quotas)
        elif tag == FIELD_15_VARINT:
            _varint(&request, &quotas_only)
        else:
            raise _Extraordinary
    return values if values is not None else {}, global_word_count, deduplication_id, quotas, quotas_only != 0


def read_check(bytes data not None, wanted):
    try:
        return _check(data, _vocabulary(wanted))
    except (_Extraordinary, UnicodeDecodeError):
        return None
