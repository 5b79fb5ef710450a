"""How is an Ogg Vorbis file written so that the same sound always gives the same bytes?"""

import io
import zlib
from pathlib import Path

import numpy as np
import soundfile


def write_ogg(path: Path, waveform: np.ndarray, sample_rate: int, serial: int) -> None:
    """Write a waveform ``(samples,)`` as an Ogg stream with this serial number; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    with soundfile.SoundFile(memory, "w", sample_rate, 1, format="OGG", subtype="VORBIS") as file:
        for block in np.split(waveform, range(10 * sample_rate, len(waveform), 10 * sample_rate)):
            file.write(block)  # in blocks, because libsndfile crashes when it writes minutes of Vorbis at once
    path.write_bytes(with_serial(memory.getvalue(), serial))


def with_serial(ogg: bytes, serial: int) -> bytes:
    """Give an Ogg stream this serial number, in place of the random one of libsndfile.

    Then the same sound gives the same file. The format of a page is in RFC 3533, section 6: the
    serial number at byte 14, the checksum at 22, the number of segments at 26, then their sizes.

    Args:
        ogg: one logical stream, well formed.
    """
    pages, start = bytearray(ogg), 0
    while start < len(pages):
        body = start + 27 + pages[start + 26]
        end = body + sum(pages[start + 27 : body])
        pages[start + 14 : start + 18] = serial.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)  # counts as zero in its own checksum
        pages[start + 22 : start + 26] = _ogg_checksum(bytes(pages[start:end])).to_bytes(4, "little")
        start = end
    return bytes(pages)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits reversed


def _ogg_checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, but with reversed bits and no inversions."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
