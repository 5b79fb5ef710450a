"""Does download_data.sh end with the data in place, or with one line that says what to do?"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "download_data.sh"
NEEDED_TOOLS = [
    "bash",
    "awk",
    "tee",
    "wc",
    "mkdir",
    "mv",
    "rm",
    "dirname",
    "basename",
    "grep",
    "tail",
    "head",
    "tr",
    "cat",
]
# Stands in for the kaggle command; FAKE_KAGGLE says what happens to it.
KAGGLE = """
import os, pathlib, sys, time
assert sys.argv[1:3] + sys.argv[4:5] == ["competitions", "download", "-p"], sys.argv
if size := os.environ.get("KAGGLE_SAYS"):
    print(f"  0%|          | 0.00/{size} [00:00<?, ?B/s]", end="\\r", file=sys.stderr, flush=True)
    time.sleep(0.2)
    print(" 10%|#         | ...", file=sys.stderr, flush=True)
remote = pathlib.Path(os.environ["REMOTE_ZIP"]).read_bytes()
local = pathlib.Path(sys.argv[5], f"{sys.argv[3]}.zip")
here = local.stat().st_size if local.exists() else 0
with open(os.environ["CALLS"], "a") as calls:
    print(here, file=calls)
what = os.environ.get("FAKE_KAGGLE", "works")
refusals = {
    "403": "403 Client Error: Forbidden for url: https://api.kaggle.com/v1/competitions",
    "401": "Authentication required to call the Kaggle API.",
    "offline": "ConnectionError: no route to host",
}
if what in refusals:
    sys.exit(refusals[what])
end = len(remote) if what == "works" else len(remote) // 2
with open(local, "ab") as file:
    file.write(remote[here:end])
if what == "hangs":
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("User cancelled operation")  # and exit code 0, as the real one
"""


class Machine:
    """A computer with the tools the script needs, and a Kaggle that holds a tiny zip."""

    def __init__(self, folder: Path):
        self.folder, self.data, self.bin = folder, folder / "data", folder / "bin"
        self.work = self.data / ".download"
        self.zip = self.work / "birdclef-2024.zip"
        self.remote, self.calls = folder / "remote.zip", folder / "calls"
        self.script = folder / "project" / "download_data.sh"  # away from the .venv of the repository
        for made in (self.bin, folder / "home", self.script.parent):
            made.mkdir()
        shutil.copy(SCRIPT, self.script)
        for tool in NEEDED_TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        (self.bin / "python3").symlink_to(os.path.realpath(sys.executable))
        self.command("kaggle", f"#!{sys.executable}\n{KAGGLE}")
        self.free_gb(100)
        with zipfile.ZipFile(self.remote, "w") as archive:
            archive.writestr("train_audio/abethr1/XC1.ogg", os.urandom(2000))
            archive.writestr("train_metadata.csv", "primary_label,filename\nabethr1,abethr1/XC1.ogg\n")
            archive.writestr("sample_submission.csv", "row_id\n")
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(folder / "home"),
            "KAGGLE_API_TOKEN": "a token",
            "REMOTE_ZIP": str(self.remote),
            "CALLS": str(self.calls),
        }

    def command(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def free_gb(self, free: int) -> None:
        self.command("df", f"#!/bin/sh\necho Filesystem\necho /dev/disk 1 1 {free * 10**9 // 1024 + 1} 1% /\n")

    def start(self, *options: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.bin / "bash"), str(self.script), *options, str(self.data)],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a signal can be sent as a terminal sends Ctrl-C
            # A shell starts what runs in the background deaf to it, and so would the tests be there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *options: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout, and the last line of stderr."""
        process = self.start(*options, **environment)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.strip(), (err.splitlines() or [""])[-1]

    def resumed_at(self) -> list[int]:
        """How many bytes were there at each call of kaggle."""
        return [int(line) for line in self.calls.read_text().split()] if self.calls.exists() else []

    def is_complete(self) -> bool:
        names = {str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file()}
        return names == {"train_audio/abethr1/XC1.ogg", "train_metadata.csv", "sample_submission.csv"}


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_data_end_in_the_folder_and_nothing_else_is_left(machine):
    assert machine.run()[:2] == (0, f"data: {machine.data}")
    assert machine.is_complete()
    assert not machine.work.exists()


def test_without_a_folder_the_data_end_in_data(machine):
    subprocess.run(
        [machine.bin / "bash", machine.script],
        cwd=machine.folder,
        env=machine.environment,
        check=True,
        capture_output=True,
    )
    assert machine.is_complete()


def test_data_that_are_there_are_not_fetched_again(machine):
    machine.run()
    assert machine.run(KAGGLE_API_TOKEN="") == (0, f"data: {machine.data} is there already", "")
    assert machine.resumed_at() == [0]


def test_a_missing_kaggle_command_is_reported_with_how_to_get_it(machine):
    (machine.bin / "kaggle").unlink()
    code, _, message = machine.run()
    assert code == 1
    assert message == "download_data.sh: the kaggle command is missing; get it with: .venv/bin/pip install kaggle"


def test_a_kaggle_command_in_the_project_s_own_environment_is_found(machine):
    own = machine.script.parent / ".venv" / "bin"
    own.mkdir(parents=True)
    (machine.bin / "kaggle").rename(own / "kaggle")
    assert machine.run()[0] == 0


def test_missing_credentials_are_reported_before_anything_is_fetched(machine):
    code, _, message = machine.run(KAGGLE_API_TOKEN="")
    assert code == 1
    assert message.startswith(
        "download_data.sh: no Kaggle credentials; make a token at https://www.kaggle.com/settings"
    )
    assert machine.resumed_at() == []


@pytest.mark.parametrize(
    "place",
    [".kaggle/kaggle.json", ".kaggle/access_token", ".kaggle/credentials.json", ".config/kaggle/kaggle.json"],
)
def test_credentials_in_a_file_are_found(machine, place):
    file = machine.folder / "home" / place
    file.parent.mkdir(parents=True)
    file.write_text("secret", encoding="utf-8")
    machine.run(KAGGLE_API_TOKEN="", FAKE_KAGGLE="offline")
    assert machine.resumed_at() == [0]  # kaggle was called


@pytest.mark.parametrize(
    ("variables", "code"), [({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k"}, 0), ({"KAGGLE_KEY": "k"}, 1)]
)
def test_a_key_needs_a_user_name(machine, variables, code):
    assert machine.run(KAGGLE_API_TOKEN="", **variables)[0] == code


def test_too_little_room_is_reported_before_anything_is_fetched(machine):
    machine.free_gb(30)
    code, _, message = machine.run()
    assert code == 1
    assert message == (
        f"download_data.sh: {machine.data}: 30 GB free, 48 GB needed; free some, or name a folder on another disk"
    )
    assert machine.resumed_at() == []


def test_rules_that_were_not_accepted_are_reported_with_the_page_to_accept_them(machine):
    code, _, message = machine.run(FAKE_KAGGLE="403")
    assert code == 1
    assert "accept the rules at https://www.kaggle.com/competitions/birdclef-2024/rules" in message
    assert "phone number" in message


@pytest.mark.parametrize(("what", "words"), [("401", "make a new token"), ("offline", "no route to host")])
def test_other_refusals_are_reported_in_their_own_words(machine, what, words):
    code, _, message = machine.run(FAKE_KAGGLE=what)
    assert code == 1
    assert words in message


def test_a_download_that_stops_half_way_with_exit_code_0_is_noticed_and_continued(machine):
    code, _, message = machine.run(FAKE_KAGGLE="stops")
    assert code == 1
    assert "the download stopped after" in message
    half = machine.zip.stat().st_size
    assert 0 < half < machine.remote.stat().st_size
    assert machine.run()[0] == 0
    assert machine.resumed_at() == [0, half]
    assert machine.is_complete()


def test_ctrl_c_stops_the_script_and_keeps_what_has_arrived(machine):
    process = machine.start(FAKE_KAGGLE="hangs")
    deadline = time.monotonic() + 20
    while not (machine.zip.exists() and machine.zip.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "download_data.sh: interrupted; start it again and it goes on from here"
    assert machine.zip.stat().st_size > 0
    assert machine.run()[0] == 0


def test_a_zip_that_has_arrived_is_unpacked_without_kaggle(machine):
    machine.work.mkdir(parents=True)
    shutil.copy(machine.remote, machine.zip)
    (machine.work / "unpacking").mkdir()
    (machine.work / "unpacking" / "half of an old try").touch()
    # The half takes the room that its removal frees.
    left = f"[ -e {machine.work}/unpacking ] && left=1 || left=99000000"
    machine.command("df", f"#!/bin/sh\n{left}\necho Filesystem\necho /dev/disk 1 1 $left 1% /\n")
    (machine.bin / "kaggle").unlink()
    assert machine.run()[0] == 0
    assert machine.is_complete()


def test_a_kill_while_things_are_put_in_place_is_made_good(machine):
    (machine.work / "unpacked").mkdir(parents=True)
    (machine.work / "unpacked" / "train_metadata.csv").touch()
    (machine.work / "unpacked" / "sample_submission.csv").touch()
    (machine.data / "train_audio" / "abethr1").mkdir(parents=True)
    (machine.data / "train_audio" / "abethr1" / "XC1.ogg").touch()
    assert machine.run()[0] == 0
    assert machine.is_complete()
    assert machine.resumed_at() == []


def test_a_flipped_byte_is_noticed_and_the_zip_removed(machine):
    damaged = bytearray(machine.remote.read_bytes())
    damaged[500] ^= 1
    machine.remote.write_bytes(damaged)
    code, _, message = machine.run()
    assert code == 1
    assert message == f"download_data.sh: {machine.zip} was damaged and has been removed; start again"
    assert not machine.zip.exists()
    assert not (machine.data / "train_audio").exists()


def test_something_that_is_no_zip_and_does_not_grow_is_removed(machine):
    machine.remote.write_text("<html>", encoding="utf-8")
    assert "stopped" in machine.run()[2]
    assert "was damaged and has been removed" in machine.run()[2]
    assert not machine.zip.exists()


@pytest.mark.parametrize("what", ["offline", "401", "403"])
def test_a_part_that_has_arrived_is_kept_while_kaggle_cannot_be_asked(machine, what):
    machine.work.mkdir(parents=True)
    part = machine.remote.read_bytes()[:1000]
    machine.zip.write_bytes(part)
    code, _, message = machine.run(FAKE_KAGGLE=what)
    assert code == 1
    assert "removed" not in message
    assert machine.zip.read_bytes() == part
    assert machine.run()[0] == 0  # back on the network
    assert machine.resumed_at() == [1000, 1000]


def test_a_zip_of_something_else_is_reported(machine):
    with zipfile.ZipFile(machine.remote, "w") as archive:
        archive.writestr("readme.txt", "moved")
    code, _, message = machine.run()
    assert code == 1
    assert "holds no train_metadata.csv and train_audio" in message


def test_what_is_in_the_way_is_named_first_and_kept(machine):
    (machine.data / "train_audio").mkdir(parents=True)
    (machine.data / "train_audio" / "mine.ogg").touch()
    code, _, message = machine.run()
    assert code == 1
    assert message == f"download_data.sh: {machine.data}/train_audio is in the way; move it and start again"
    assert (machine.data / "train_audio" / "mine.ogg").exists()
    assert machine.resumed_at() == []


def test_a_folder_that_cannot_be_made_is_named(machine):
    machine.data.touch()
    code, _, message = machine.run()
    assert code == 1
    assert message == f"download_data.sh: {machine.data}: cannot be written to; name another folder"


YEARS = {
    "birdclef-2021": ("train_metadata.csv", "train_short_audio"),
    "birdclef-2022": ("train_metadata.csv", "train_audio"),
    "birdclef-2023": ("train_metadata.csv", "train_audio"),
    "birdclef-2025": ("train.csv", "train_audio"),
    "birdclef-2026": ("train.csv", "train_audio"),
}


def zip_of(path, table, audio, *others):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{audio}/a/1.ogg", os.urandom(2000))
        archive.writestr(table, "primary_label,filename\r\na,a/1.ogg\r\n")
        for name in others:
            archive.writestr(name, "x")


@pytest.mark.parametrize("year", YEARS)
def test_every_year_is_fetched_with_its_own_table(machine, year):
    table, audio = YEARS[year]
    zip_of(machine.remote, table, audio)
    assert machine.run("--competition", year)[:2] == (0, f"data: {machine.data}")
    assert (machine.data / table).is_file()
    assert (machine.data / audio / "a/1.ogg").is_file()
    assert machine.run(f"--competition={year}")[1] == f"data: {machine.data} is there already"


def test_another_year_s_zip_is_reported(machine):
    code, _, message = machine.run("--competition", "birdclef-2025")
    assert code == 1
    assert "holds no train.csv and train_audio, as birdclef-2025 has them; is it another year's?" in message
    assert not (machine.data / "train_audio").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--competition", "birdclef-2019"], 2, "unknown; known are birdclef-2021 to birdclef-2026"),
        (["--from-zip", "gone.zip"], 1, "--from-zip 'gone.zip': no such file"),
        (["--fast"], 2, "--fast: unknown; use: bash download_data.sh"),
        (["elsewhere"], 2, "two folders, elsewhere and"),
    ],
)
def test_options_that_cannot_be_are_reported(machine, options, code, words):
    found, _, message = machine.run(*options)
    assert (found, words in message) == (code, True), message


def test_a_zip_that_is_there_is_unpacked_and_kept(machine):
    (machine.bin / "kaggle").unlink()
    zip_of(machine.folder / "mine.zip", "train_metadata.csv", "train_audio", "unlabeled_soundscapes/1.ogg")
    assert machine.run("--from-zip", str(machine.folder / "mine.zip"), "--skip-unlabeled", KAGGLE_API_TOKEN="")[0] == 0
    assert (machine.folder / "mine.zip").is_file()
    assert (machine.data / "train_metadata.csv").is_file()
    assert not (machine.data / "unlabeled_soundscapes").exists()


def test_of_2026_the_soundscapes_that_have_labels_are_unpacked_in_any_case(machine):
    with zipfile.ZipFile(machine.folder / "mine.zip", "w") as archive:
        archive.writestr("train_audio/a/1.ogg", "x")
        archive.writestr("train.csv", "primary_label,filename\na,a/1.ogg\n")
        archive.writestr("train_soundscapes_labels.csv", "filename,start,end,primary_label\ns1.ogg,0,5,a\n")
        for name in ("s1.ogg", "s2.ogg"):
            archive.writestr(f"train_soundscapes/{name}", "x")
    options = ["--competition", "birdclef-2026", "--from-zip", str(machine.folder / "mine.zip"), "--skip-unlabeled"]
    assert machine.run(*options)[0] == 0
    assert [path.name for path in (machine.data / "train_soundscapes").iterdir()] == ["s1.ogg"]


@pytest.mark.parametrize(
    ("year", "table", "columns", "missing"),
    [
        ("birdclef-2021", "train_soundscape_labels.csv", "row_id,site,audio_id,seconds", "birds"),
        ("birdclef-2026", "train_soundscapes_labels.csv", "filename,start,primary_label", "end"),
        ("birdclef-2023", "train_metadata.csv", "label,filename", "primary_label"),
    ],
)
def test_a_table_without_a_column_that_training_needs_is_reported(machine, year, table, columns, missing):
    with zipfile.ZipFile(machine.remote, "w") as archive:
        main, audio = YEARS[year]
        archive.writestr(f"{audio}/a/1.ogg", "x")
        archive.writestr(main, "primary_label,filename\na,a/1.ogg\n") if main != table else None
        archive.writestr(table, columns + "\n")
    code, _, message = machine.run("--competition", year)
    assert (code, f"its table {table} has no column {missing}; look at https" in message) == (1, True), message
    assert not (machine.data / audio).exists()


def test_a_zip_that_is_there_and_damaged_is_kept_and_named(machine):
    (machine.folder / "mine.zip").write_bytes(b"PK")
    code, _, message = machine.run("--from-zip", str(machine.folder / "mine.zip"))
    assert (code, "is no zip, or its end is missing" in message) == (1, True)
    assert (machine.folder / "mine.zip").is_file()


def test_the_size_that_kaggle_names_is_compared_with_the_free_space(machine):
    zip_of(machine.remote, "train_metadata.csv", "train_audio")
    code, _, message = machine.run("--competition", "birdclef-2022", KAGGLE_SAYS="70.0G")
    assert code == 1
    assert "100 GB free, 151 GB needed; free some, or name a folder on another disk" in message
    assert machine.run("--competition", "birdclef-2022", KAGGLE_SAYS="20.0G")[0] == 0


@pytest.mark.parametrize(("free", "code"), [(100, 0), (30, 1)])
def test_a_share_with_blanks_in_its_name_has_the_space_that_it_has(machine, free, code):
    blocks = free * 10**9 // 1024 + 1
    line = f"'//nas/My Birds 2024  200000000 50000000 {blocks} 60% /mnt/My Birds 7'"
    machine.command("df", f"#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted on\necho {line}\n")
    found, _, message = machine.run()
    assert found == code, message
    assert code == 0 or "30 GB free, 48 GB needed" in message
