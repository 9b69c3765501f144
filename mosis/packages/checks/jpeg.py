"""JPEG (ITU T.81) as libjpeg and stb_image read it: anything that one of them refuses is an error.

The entropy-coded data is not decoded; everything that controls its decoding is read.
"""

import re
import struct
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken

_LARGEST_SIDE = 65500  # libjpeg: JPEG_MAX_DIMENSION
_BLOCKS_IN_UNIT = 10  # libjpeg: D_MAX_BLOCKS_IN_MCU
# a marker, with optional fill bytes 0xFF before it
_HERE = re.compile(rb"\xff++([^\x00\xff])", re.DOTALL)
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
# stuffed zeros and restart markers are data
_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_SOF, _DHT, _EOI, _SOS, _DQT, _DNL, _DRI = 0xC0, 0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive: all with Huffman codes
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_COMMENTS = {*range(0xE0, 0xF0), 0xFE}


def read(content: bytes) -> tuple[int, int, int]:
    """Width, height, and the bytes after the end of the image. Raises Broken, struct.error, IndexError."""
    if not content.startswith(b"\xff\xd8\xff"):
        raise Broken("it does not have the header of one")
    image = _Image()
    for marker, body, end in _segments(content, image):
        if marker == _EOI:
            if not image.scanned:
                raise Broken("it has no pixels")
            return image.width, image.height, len(content) - end
        image.take(marker, body)
    raise Broken("it is cut off: its end marker is missing")


def _segments(content: bytes, image: "_Image") -> Iterator[tuple[int, bytes, int]]:
    """Each segment with its content and the offset of its end. Before the frame, bytes between segments are skipped."""
    at, marker = 2, 0
    while True:
        if marker == _SOS:
            found = _IN_SCAN.search(content, at)
        elif image.components:
            found = _HERE.match(content, at)
        else:
            found = _MARKER.search(content, at)
        if not found:
            raise Broken(
                "it is cut off"
                if at >= len(content) or marker == _SOS
                else "a segment begins without its marker"
            )
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            yield marker, b"", at
            return
        (length,) = struct.unpack_from(">H", content, at)
        if length < 2 or at + length > len(content):
            raise Broken("a segment is longer than the file")
        yield marker, content[at + 2 : at + length], at + length
        at += length


class _Image:
    """Tables and frame, as far as segments were read."""

    def __init__(self) -> None:
        self.width = self.height = 0
        self.progressive = self.scanned = False
        self.components: list[tuple[int, int, int]] = []  # id, quantization table, blocks in a unit
        self.quantizations: set[int] = set()
        self.codes: set[tuple[int, int]] = set()  # Huffman tables: class, number

    def take(self, marker: int, body: bytes) -> None:
        if marker in _FRAMES:
            self._frame(marker, body)
        elif marker in _OTHER_FRAMES:
            raise Broken(
                "it is lossless, hierarchical or arithmetic; save it as baseline or progressive"
            )
        elif marker == _DQT:
            self._read_quantizations(body)
        elif marker == _DHT:
            self._read_codes(body)
        elif marker == _SOS:
            self._scan(body)
        elif marker == _DRI:
            if len(body) != 2:
                raise Broken("its restart interval (DRI) has a wrong size")
        elif marker == _DNL:
            if len(body) != 2 or int.from_bytes(body) != self.height:
                raise Broken("its number of lines (DNL) is not its height")
        elif marker not in _COMMENTS:
            raise Broken(f"it has a segment (0x{marker:02X}) that decoders do not know")

    def _frame(self, marker: int, body: bytes) -> None:
        if self.components:
            raise Broken("it has two frames")
        depth, self.height, self.width, count = struct.unpack_from(">BHHB", body)
        if depth != 8:
            raise Broken(f"it has {depth} bits for each colour; save it with 8")
        if not self.height:
            raise Broken(
                "its height comes after the pixels (DNL); save it with its height in the header"
            )
        if not self.width or max(self.width, self.height) > _LARGEST_SIDE:
            raise Broken(f"its width is 0, or a side has more than {_LARGEST_SIDE} pixels")
        if count not in (1, 3, 4) or len(body) != 6 + 3 * count:
            raise Broken("its frame has a wrong size or number of components")
        factors = []
        for number, sampling, table in struct.iter_unpack("BBB", body[6:]):
            if table > 3:
                raise Broken("its frame names a table that cannot be")
            factors.append((sampling >> 4, sampling & 15))
            self.components.append((number, table, factors[-1][0] * factors[-1][1]))
        for direction in zip(*factors, strict=True):
            if not all(0 < each <= 4 and max(direction) % each == 0 for each in direction):
                raise Broken("its sampling factors are ones that decoders do not support")
        self.progressive = marker == 0xC2

    def _read_quantizations(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            precision, number = body[at] >> 4, body[at] & 15
            at += 1 + 64 * (precision + 1)
            if precision > 1 or number > 3 or at > len(body):
                raise Broken("a quantization table (DQT) is damaged")
            self.quantizations.add(number)

    def _read_codes(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            kind, number, counts = body[at] >> 4, body[at] & 15, body[at + 1 : at + 17]
            at += 17 + sum(counts)
            if kind > 1 or number > 3 or len(counts) < 16 or sum(counts) > 256 or at > len(body):
                raise Broken("a Huffman table (DHT) is damaged")
            code = 0
            for bits, count in enumerate(counts, 1):
                code = code * 2 + count
                if code >= 1 << bits:
                    raise Broken("a Huffman table (DHT) has more codes than there can be")
            if kind == 0 and any(each > 15 for each in body[at - sum(counts) : at]):
                raise Broken("a Huffman table (DHT) has values that cannot be")
            self.codes.add((kind, number))

    def _scan(self, body: bytes) -> None:
        if not self.components:
            raise Broken("its pixels come before its frame")
        count = body[0]
        if not 0 < count <= len(self.components) or len(body) != 4 + 2 * count:
            raise Broken("the header of a scan has a wrong size")
        first, last, approximation = body[1 + 2 * count :]
        if self.progressive:
            wrong = first > last or last > 63 or max(approximation >> 4, approximation & 15) > 13
            wrong = wrong or (last > 0 if first == 0 else count > 1)
        else:
            wrong = first != 0 or approximation != 0
        if wrong:
            raise Broken("the header of a scan says what cannot be")
        units = 0
        for number, tables in struct.iter_unpack("BB", body[1 : 1 + 2 * count]):
            component = next((each for each in self.components if each[0] == number), None)
            if component is None:
                raise Broken("a scan names a component that its frame does not have")
            units += component[2]
            if component[1] not in self.quantizations:
                raise Broken("a quantization table (DQT) is missing")
            needed = set()
            if first == 0 and not (self.progressive and approximation >> 4):
                needed.add((0, tables >> 4))
            if last > 0 and (first > 0 or not self.progressive):
                needed.add((1, tables & 15))
            if not needed <= self.codes:
                raise Broken("a Huffman table (DHT) is missing")
        if count > 1 and units > _BLOCKS_IN_UNIT:
            raise Broken("its sampling factors are ones that decoders do not support")
        self.scanned = True
