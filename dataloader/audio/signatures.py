"""What is in a file that libsndfile cannot open: another kind of sound, or no sound at all?"""

from pathlib import Path
from typing import BinaryIO

_LFS = b"version https://git-lfs.github.com/spec/"
_BLOCK = 2**20
_KINDS = (  # (bytes, their position, what they mean) for sound that FFmpeg reads
    (b"fLaC", 0, "FLAC of a kind that libsndfile refuses"),
    (b"ftyp", 4, "MPEG-4 sound (m4a, mp4, 3gp)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, "Windows Media sound (wma)"),
    (b"\x1a\x45\xdf\xa3", 0, "Matroska or WebM sound"),
    (b"#!AMR", 0, "AMR sound"),
    (b"MAC ", 0, "Monkey's Audio"),
    (b"wvpk", 0, "WavPack"),
    (b"TTA1", 0, "True Audio"),
    (b"\x0b\x77", 0, "AC-3 sound"),
    (b"\xff\xf1", 0, "AAC sound"),
    (b"\xff\xf9", 0, "AAC sound"),
)


def what_else(file: BinaryIO) -> str | None:
    """What a file without sound holds, and what to do; None if it is not one of the known kinds."""
    file.seek(0)
    head = file.read(1024)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    again = "probably from a failed download; download it again"
    if head.startswith(_LFS):
        return "a Git LFS pointer, not sound; run 'git lfs pull' in its folder"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<error")):
        return f"a web page (HTML or XML), not sound, {again}"
    if text.startswith((b"{", b"[")) and text[1:].lstrip()[:1] in (b'"', b"{", b"[", b"'", b"}", b"]"):
        return f"JSON text, not sound, {again}"
    if head and not any(head) and _is_zero(file):
        return "nothing but zeros, probably from an interrupted copy; copy it again"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive, not sound; unpack it"
    return None


def kind_of_sound(path: Path | str) -> str | None:
    """The kind of sound that the first bytes of a file name, if libsndfile does not read it; else None."""
    with open(path, "rb") as file:
        head = file.read(16)
    return next((kind for mark, at, kind in _KINDS if head[at : at + len(mark)] == mark), None)


def _is_zero(file: BinaryIO) -> bool:
    """Whether all bytes from here on are zero."""
    while block := file.read(_BLOCK):
        if block.count(0) != len(block):
            return False
    return True
