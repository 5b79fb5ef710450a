"""Raw AAC (ADTS): does one frame follow another from the beginning to the end?

A frame states its own length (ISO 13818-7, 6.2), so that a gap is found without decoding; FFmpeg passes over it in
silence. Nothing in such a file states how long it should be.
"""

from dataloader.audio.findings import SOUND, Findings

MARKS = (b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9")  # MPEG 4 or 2, with a checksum or without
_SAMPLES = 1024  # of each channel in a block
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)  # Hz
_CHAIN = 3  # frames in a row that prove that the sound goes on


def examine_adts(data: bytes, begin: int) -> Findings:
    """Walk from frame to frame.

    Args:
        data: the complete file, as something that can be sliced and searched like bytes.
        begin: the byte of the first frame.
    """
    position, blocks = begin, 0
    while length := _length(data, position):
        blocks += 1 + (data[position + 6] & 3)
        position += length
    after = _next_chain(data, position)
    if after is None or not blocks:  # only a tag follows, or nothing
        return SOUND
    rate = _RATES[min(data[begin + 2] >> 2 & 15, len(_RATES) - 1)]
    text = f"{after - position:,} bytes after {blocks * _SAMPLES / rate:.2f} s are not sound"
    return Findings(fault=("hole", text))


def _length(data: bytes, position: int) -> int:
    """Bytes of the frame that begins here; 0 if there is none, or if it is cut off."""
    head = data[position : position + 7]
    if len(head) < 7 or head[:2] not in MARKS:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 and position + length <= len(data) else 0


def _next_chain(data: bytes, position: int) -> int | None:
    """The byte at which the next frames begin; None if there are none."""
    while (position := data.find(b"\xff", position)) >= 0:
        end, frames = position, 0
        while frames < _CHAIN and (length := _length(data, end)):
            end, frames = end + length, frames + 1
        if frames == _CHAIN:
            return position
        position += 1
    return None
