"""Is what recorders write in names and files understood: time, site, device, time expansion?"""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dataloader.audio.recorder import COLUMNS, Written, from_name, recorder_columns, what_the_recorder_wrote

RECORDERS = Path(__file__).parents[4] / "shared" / "recorders"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("5D2F1A00.WAV", Written("2019-07-17T12:52:16+00:00", device="AudioMoth")),  # seconds since 1970 in UTC
        ("20210502_040000.WAV", Written("2021-05-02T04:00:00")),
        ("night/SITE-A_20210502_040000.wav", Written("2021-05-02T04:00:00", "SITE-A")),
        ("S4A03895_20190522_043000.wav", Written("2019-05-22T04:30:00", "S4A03895", "Song Meter S4A03895")),
        ("SMM01234_A_20230501_043000.wav", Written("2023-05-01T04:30:00", "SMM01234", "Song Meter SMM01234")),
        ("MARSH_0+1_20190522_043000.wav", Written("2019-05-22T04:30:00", "MARSH")),
        ("Car340319-G2-16701_0_20150718_052755_293.wav", Written("2015-07-18T05:27:55", "Car340319-G2-16701")),
        ("2023-05-01T04-30-00+0200.flac", Written("2023-05-01T04:30:00+02:00")),
        ("2023-05-01T04:30:00Z.flac", Written("2023-05-01T04:30:00+00:00")),
        ("20220502T075930+1000_Dry-B_1088507.flac", Written("2022-05-02T07:59:30+10:00", "Dry-B")),
        ("20230501T043000-0330_x.wav", Written("2023-05-01T04:30:00-03:30", "x")),
        ("20160809_063108_Dawn _1.4647 116.9136_.wav", Written("2016-08-09T06:31:08", "Dawn")),
        ("rec 2022-03-01 04.30.00.wav", Written("2022-03-01T04:30:00", "rec")),
        # No times
        ("XC134896.ogg", Written()),
        ("12345678.wav", Written()),
        ("5D2F1A00.ogg", Written()),  # an AudioMoth writes WAV; a number of an archive is no time
        ("x_20231399_250000.wav", Written()),
        ("20230501.wav", Written()),
        ("", Written()),
    ],
)
def test_a_name_contains_time_and_site(name, expected):
    assert from_name(name) == expected


def wav(*chunks: tuple[bytes, bytes], pad: bool = True) -> bytes:
    """A WAV with more chunks behind its samples."""
    memory = io.BytesIO()
    sf.write(memory, np.zeros(100), 8000, "PCM_16", format="WAV")
    more = b"".join(
        name + struct.pack("<I", len(content)) + content + (b"\0" if pad and len(content) % 2 else b"")
        for name, content in chunks
    )
    return memory.getvalue() + more


def wamd(**entries: bytes) -> tuple[bytes, bytes]:
    numbers = {"model": 1, "serial": 2, "name": 4, "start": 5, "expansion": 15}
    content = b"".join(struct.pack("<HI", numbers[key], len(value)) + value for key, value in entries.items())
    return b"wamd", content


def comment(text: str) -> tuple[bytes, bytes]:
    return b"LIST", b"INFOICMT" + struct.pack("<I", len(text) + 1) + text.encode() + b"\0"


GUANO = (
    b"guan",
    (b"GUANO|Version: 1.0\nTimestamp: 2020-05-01T21:30:00+02:00\nMake: Titley\nModel: Anabat\nSerial: 77\nTE: 10\n"),
)
BROADCAST = bytes(256) + b"BAR-LT".ljust(32, b"\0") + bytes(32) + b"2020:05:0121-30-00" + bytes(20)


def of(tmp_path, content, name="x.wav"):
    (tmp_path / name).write_bytes(content)
    return what_the_recorder_wrote(tmp_path / name)


def test_guano_gives_everything(tmp_path):
    expected = Written("2020-05-01T21:30:00+02:00", "", "Titley Anabat 77", 10.0)
    assert of(tmp_path, wav(GUANO)) == expected


@pytest.mark.parametrize("zone", [("(UTC)", "+00:00"), ("(UTC+10)", "+10:00"), ("(UTC-3:30)", "-03:30")])
def test_the_comment_of_an_audiomoth_contains_the_time(tmp_path, zone):
    text = f"Recorded at 04:00:00 02/05/2021 {zone[0]} by AudioMoth 247AA5075E06337D at gain setting 2"
    expected = Written(f"2021-05-02T04:00:00{zone[1]}", device="AudioMoth 247AA5075E06337D")
    assert of(tmp_path, wav(comment(text))) == expected


@pytest.mark.parametrize("pad", [True, False])
def test_wildlife_acoustics_metadata_are_read_also_behind_an_odd_chunk(tmp_path, pad):
    odd = b"junk", b"abc"
    chunk = wamd(
        model=b"SM4BAT", serial=b"S4U01", name=b"MARSH", start=b"2015-07-18 05:27:55.293-07:00", expansion=b"\n\0"
    )
    expected = Written("2015-07-18T05:27:55-07:00", "MARSH", "SM4BAT S4U01", 10.0)
    assert of(tmp_path, wav(odd, chunk, pad=pad)) == expected


def test_a_broadcast_wave_contains_its_time(tmp_path):
    assert of(tmp_path, wav((b"bext", BROADCAST))) == Written("2020-05-01T21:30:00", device="BAR-LT")


def test_the_file_has_priority_over_its_name_which_gives_the_rest(tmp_path):
    found = of(tmp_path, wav(GUANO), "MARSH_20210502_040000.wav")
    assert found == Written("2020-05-01T21:30:00+02:00", "MARSH", "Titley Anabat 77", 10.0)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"RIFF", wav()[:50],
        wav((b"guan", b"\xff\xfe no guano")), wav((b"guan", b"")), wav((b"wamd", b"\1\0\xff\xff")),
        wav((b"bext", b"short")), wav(comment("Recorded at 99:99:99 99/99/2021 (UTC)")), wav(wamd(start=b"yesterday")),
        b"fLaC", b"fLaC\x84\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff", wav((b"guan", b"GUANO|Version: 1.0\nTE: many\n")),
    ],
)  # fmt: skip
def test_of_a_file_that_cannot_be_read_the_name_is_used(tmp_path, content):
    assert of(tmp_path, content, "MARSH_20210502_040000.wav") == Written("2021-05-02T04:00:00", "MARSH")


def test_a_table_gets_its_columns_in_order(tmp_path):
    (tmp_path / "1.wav").write_bytes(wav(GUANO))
    found = recorder_columns([tmp_path / "B_20210502_040000.wav", tmp_path / "1.wav", "gone.ogg"])
    assert tuple(found) == COLUMNS == ("recorded_at", "site", "device", "time_expansion")
    assert found["site"] == ["B", "", ""]
    assert found["time_expansion"] == [1.0, 10.0, 1.0]


def test_real_recorders_are_understood():
    if not RECORDERS.is_dir():
        pytest.skip(f"no real recordings at {RECORDERS}")
    expected = {
        "20210502_040000.WAV": Written("2021-05-02T04:00:00+00:00", "", "AudioMoth 247AA5075E06337D"),
        "AUDIOMOTH.WAV": Written("2021-05-01T23:32:00+00:00", "", "AudioMoth 240435055C7B17DB"),
        "20220502T075930+1000_Minjerribah-Dry-B_1088507.flac": Written(
            "2022-05-02T07:59:22+10:00", "Minjerribah-Dry-B", "Frontier Labs 00004024"
        ),
        "Car340319-2015-Pass1-G2-16701_0_20150718_052755_293.wav": Written(
            "2015-07-18T05:27:55", "Car340319-2015-Pass1-G2-16701", "", 10.0
        ),
        "S4A03895_20190522_043000.wav": Written("2019-05-22T04:30:00", "S4A03895", "Song Meter S4A03895"),
    }
    assert {name: what_the_recorder_wrote(RECORDERS / name) for name in expected} == expected
