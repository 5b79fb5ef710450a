"""Do predict.py and export.py do their jobs from the command line, and is each mistake one line?

Most of it runs in this process, by the same door: ``run_command``. A process costs seconds.
"""

import csv
import errno
import importlib.util
import io
import logging
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch

import export
import predict
from inference import steps
from inference.score_store import ScoreStore
from tests.forked import run_forked
from utils.command import run_command
from utils.files import host

ROOT = Path(__file__).parents[1]
EXPORTS = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
LABELS = ["asbfly", "bkskit1", "comgre"]
KEPT = "warning: the scores so far are kept: continue with the same command and --resume"


@pytest.fixture
def command(monkeypatch, capfd):
    """Run a command as a process would; give its exit code, stdout and stderr."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)

    def run(*arguments, main=predict.main, code=0):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_command(main)
        printed = capfd.readouterr()
        assert left.value.code == code, printed.err
        assert "Traceback" not in printed.err
        return printed

    yield run
    root.handlers[:], root.level = before[:2]
    signal.signal(signal.SIGTERM, before[2])


@pytest.fixture(scope="session")
def recordings(tmp_path_factory, sound):
    """A folder with four good recordings; two have the same name in other folders."""
    folder = tmp_path_factory.mktemp("night")
    for number, (name, rate) in enumerate(
        [("a/r1.wav", 16_000), ("a/r2.ogg", 32_000), ("b/r1.wav", 8_000), ("b/r3.flac", 44_100)]
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        sf.write(folder / name, sound(16.0 + number, rate, number), rate)
    return folder


def rows_of(path, **options):
    return list(csv.DictReader(io.StringIO(Path(path).read_text()), **options))


def everything(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix != ".onnx")


# what comes out


def test_csv_of_a_folder(command, tiny_run, recordings, tmp_path):
    printed = command("--run", tiny_run, "--input", recordings, "--output", tmp_path / "new/out.csv", "--format", "csv")
    assert printed.out == f"written: {tmp_path}/new/out.csv\n"
    assert "4 recordings scored, 0 left out" in printed.err
    rows = rows_of(tmp_path / "new/out.csv")
    assert list(rows[0]) == ["file", "start_s", "end_s", "label", "score"]
    assert list(dict.fromkeys(row["file"] for row in rows)) == [
        str(recordings / name) for name in ("a/r1.wav", "a/r2.ogg", "b/r1.wav", "b/r3.flac")
    ]
    assert [row["start_s"] for row in rows[:16:3]] == ["0", "3", "6", "9", "12", "0"]
    assert [row["label"] for row in rows[:3]] == LABELS
    assert os.listdir(tmp_path / "new") == ["out.csv"]


def test_a_submission_like_the_sample_and_a_bad_recording_gets_the_prior(command, tiny_run, recordings, tmp_path):
    shutil.copytree(recordings / "a", tmp_path / "in")
    (tmp_path / "in/r9.ogg").write_bytes(b"OggS")
    sample = tmp_path / "sample.csv"
    row_ids = ["r2_10", "r9_5", "r1_5", "r1_10", "r2_5"]
    sample.write_text("row_id,comgre,new1,asbfly,bkskit1\n" + "".join(f"{row},0,0,0,0\n" for row in row_ids))
    line = ["--run", tiny_run, "--input", tmp_path / "in", "--output", tmp_path / "s.csv", "--format", "submission"]
    printed = command(*line, "--sample-submission", sample)
    rows = rows_of(tmp_path / "s.csv")
    assert list(rows[0]) == ["row_id", "comgre", "new1", "asbfly", "bkskit1"]
    assert [row["row_id"] for row in rows] == row_ids
    assert {row["new1"] for row in rows} == {"0.25"}
    assert {rows[1][label] for label in LABELS} == {"0.25"}
    assert "r9.ogg: left out: " in printed.err
    assert "the run does not know 1 species, which get the prior: new1" in printed.err
    assert "2 recordings scored, 1 left out" in printed.err
    command(*line, "--sample-submission", sample, "--strict", code=1)
    assert rows_of(tmp_path / "s.csv") == rows  # strict tells by its exit code only


def test_raven_and_audacity_of_several_keep_equal_names_apart(command, tiny_run, recordings, tmp_path):
    for kind, ending in (("raven", "selections"), ("audacity", "labels")):
        output = tmp_path / kind
        command("--run", tiny_run, "--input", recordings, "--output", output, "--format", kind, "--threshold", 0)
        written = sorted(str(path.relative_to(output)) for path in output.rglob("*.txt"))
        assert written == [f"{name}.{ending}.txt" for name in ("a/r1.wav", "a/r2.ogg", "b/r1.wav", "b/r3.flac")]
    rows = rows_of(tmp_path / "raven/b/r1.wav.selections.txt", delimiter="\t")
    assert {row["High Freq (Hz)"] for row in rows} == {"4000.0"}  # Nyquist of 8 kHz
    assert {row["Common Name"] for row in rows} == {f"Common {label}" for label in LABELS}
    assert len(rows) == 6 * 3


def test_detections_of_a_slowed_down_recording_are_those_of_the_sound_at_the_times_of_the_file(
    command, tiny_run, sound, tmp_path
):
    samples = sound(10.0)
    sf.write(tmp_path / "real.wav", samples, 16_000, "PCM_16")
    sf.write(tmp_path / "slow.wav", samples, 1_600, "PCM_16")
    sf.write(tmp_path / "says_so.wav", samples, 1_600, "PCM_16")
    _append_guano(tmp_path / "says_so.wav", "TE: 10")

    def table(name, kind, *options):
        output = tmp_path / f"{name}.{kind}"
        line = ["--run", tiny_run, "--input", tmp_path / f"{name}.wav", "--output", output, "--format", kind]
        printed = command(*line, "--threshold", 0, "--backend", "torch", *options)
        return rows_of(output, delimiter="\t" if kind == "raven" else ","), printed.err

    real, _ = table("real", "csv")
    slow, _ = table("slow", "csv", "--time-expansion", 10)
    said, printed = table("says_so", "csv")
    assert (
        "1 recording states that it plays 10 times slower than the original sound, which is taken into account"
        in printed
    )
    for rows in (slow, said):
        assert [row["score"] for row in rows] == [row["score"] for row in real]
        assert [row["end_s"] for row in rows] == [f"{10 * float(row['end_s']):g}" for row in real]
    ignored, _ = table("says_so", "csv", "--time-expansion", 1)
    assert len(said) == 3 * len(LABELS)  # windows of 3 s of a sound of 10 s
    assert len(ignored) == 33 * len(LABELS)  # of a file of 100 s
    boxes, _ = table("real", "raven")
    slow_boxes, _ = table("slow", "raven", "--time-expansion", 10)
    for column, factor in (("End Time (s)", 10), ("File Offset (s)", 10), ("High Freq (Hz)", 0.1)):
        assert [float(row[column]) for row in slow_boxes] == [factor * float(row[column]) for row in boxes]


def _append_guano(path, *fields):
    text = "\n".join(["GUANO|Version: 1.0", *fields]).encode()
    text += b"\n" * (len(text) % 2)
    data = path.read_bytes() + b"guan" + struct.pack("<I", len(text)) + text
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


def test_a_run_of_slowed_down_recordings_is_pointed_out_where_others_state_nothing(
    command, make_run, recordings, tmp_path
):
    run = make_run(seed=3)
    (run / "config.ini").write_text("[data]\ntime_expansion = 10\n")
    line = ["--run", run, "--input", recordings / "a/r1.wav", "--output", tmp_path / "o.csv", "--format", "csv"]
    why = "time_expansion = 10, and these recordings are taken to play at the speed of the original sound"
    assert why in command(*line).err
    assert why not in command(*line, "--time-expansion", 1).err


def test_several_runs_smoothing_thinning_and_shifts_from_the_command_line(
    command, make_run, tiny_run, recordings, tmp_path
):
    one = ["--run", tiny_run, "--input", recordings / "a/r1.wav", "--format", "csv", "--backend", "torch"]
    both = [*one, "--run", make_run(seed=2)]

    def scores(*arguments):
        command(*arguments, "--output", tmp_path / "out.csv")
        return np.array([float(row["score"]) for row in rows_of(tmp_path / "out.csv")])

    first, second = scores(*one), scores(*both[2:])
    np.testing.assert_allclose(scores(*both), (first + second) / 2, atol=1e-5)
    np.testing.assert_allclose(scores(*both, "--combine", "min"), np.minimum(first, second), atol=1e-5)
    command(*one, "--format", "submission", "--combine", "rank", "--output", tmp_path / "s.csv")
    ranks = [sorted(float(row[label]) for row in rows_of(tmp_path / "s.csv")) for label in LABELS]
    np.testing.assert_allclose(ranks, [[1 / 3, 2 / 3, 1]] * 3, atol=1e-5)
    smoothed = scores(*one, "--smooth").reshape(-1, 3)
    padded = np.pad(first.reshape(-1, 3), ((2, 2), (0, 0)), "edge")
    np.testing.assert_allclose(smoothed[2], np.array([0.1, 0.2, 0.4, 0.2, 0.1]) @ padded[2:7], atol=1e-5)
    assert len(scores(*one, "--top-k", 2)) == 10
    assert (scores(*one, "--threshold", 0.5) >= 0.5).all()
    assert len(scores(*one, "--merge", "--threshold", 0)) == 3
    assert len(scores(*one, "--step-s", 1, "--window-s", 2, "--shift-tta")) == 15 * 3


def test_a_table_of_one_recording_goes_into_the_folder_that_is_there(command, tiny_run, recordings, tmp_path):
    (tmp_path / "tables").mkdir()
    line = ["--run", tiny_run, "--input", recordings / "a/r1.wav", "--format", "raven"]
    command(*line, "--output", tmp_path / "tables")
    assert os.listdir(tmp_path / "tables") == ["r1.wav.selections.txt"]
    kept = [float(row["Confidence"]) for row in rows_of(tmp_path / "tables/r1.wav.selections.txt", delimiter="\t")]
    assert min(kept) >= 0.25
    assert 0 < len(kept) < 5 * 3
    command(*line, "--output", tmp_path / "one.txt")
    assert (tmp_path / "one.txt").is_file()


def test_an_output_may_have_the_longest_name_that_a_file_can_have(command, tiny_run, recordings, tmp_path):
    output = tmp_path / ("a" * 251 + ".csv")
    line = ["--run", tiny_run, "--input", recordings / "a/r1.wav", "--format", "csv"]
    command(*line, "--output", output)
    assert os.listdir(tmp_path) == [output.name]
    printed = command(*line, "--output", tmp_path / ("a" * 300), code=1)
    assert printed.err.endswith("File name too long\n")


def test_what_a_link_leads_to_is_replaced_and_not_the_link(command, tiny_run, recordings, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large/real.csv").write_text("of yesterday")
    (tmp_path / "link.csv").symlink_to(tmp_path / "large/real.csv")
    line = ["--run", tiny_run, "--input", recordings / "a/r1.wav", "--format", "csv"]
    command(*line, "--output", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert rows_of(tmp_path / "large/real.csv")


def test_a_recording_with_a_hole_comes_with_a_caution(command, tiny_run, sound, tmp_path):
    sf.write(tmp_path / "whole.ogg", sound(60.0, 32_000), 32_000)
    content = (tmp_path / "whole.ogg").read_bytes()
    pages = [at for at in range(len(content)) if content.startswith(b"OggS", at)]
    (tmp_path / "hole.ogg").write_bytes(content[: pages[5]] + content[pages[9] :])
    line = ["--run", tiny_run, "--input", tmp_path / "hole.ogg", "--output", tmp_path / "o.csv", "--format", "csv"]
    printed = command(*line)
    assert "can be decoded is scored, and times after the hole are too early by up to that much" in printed.err


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), MemoryError(), RuntimeError("can't allocate memory")],
)
def test_too_little_memory_is_reported_in_one_line(command, tiny_run, recordings, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error
        yield

    monkeypatch.setattr(steps.Predictor, "predict_files", fail)
    line = ["--run", tiny_run, "--input", recordings / "a/r1.wav", "--output", tmp_path / "o.csv", "--format", "csv"]
    printed = command(*line, code=1).err.splitlines()[-1]
    assert printed.startswith("out of memory (")
    assert "--device cpu" in printed


def test_a_name_that_stdout_cannot_write_is_no_error(tiny_run, recordings, tmp_path):
    line = [
        "--run",
        tiny_run,
        "--input",
        recordings / "a/r1.wav",
        "--output",
        tmp_path / "W\u00e4lder.csv",
        "--format",
        "csv",
    ]
    done = run_forked(["predict.py", *line], tmp_path, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("W\\xe4lder.csv\n")


# a long job


def test_a_job_killed_with_9_continues_and_the_output_is_the_same_to_the_byte(
    command, tiny_run, sound, tmp_path, monkeypatch
):
    (tmp_path / "in").mkdir()
    for number in range(8):
        sf.write(tmp_path / f"in/{number}.wav", sound(48.0, seed=number), 16_000)
    line = ["--run", tiny_run, "--input", tmp_path / "in", "--format", "csv", "--output"]
    line = [str(argument) for argument in line]
    command(*line, tmp_path / "undisturbed.csv")
    killing = (
        "import os, signal, predict\n"
        "from inference.score_store import ScoreStore\n"
        "keep = ScoreStore.keep\n"
        "def kept(job, scores):\n"
        "    keep(job, scores)\n"
        "    if len(list(job.folder.glob('*.npz'))) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "ScoreStore.keep = kept\n"
        "predict.main()\n"
    )
    output = tmp_path / "out.csv"
    done = run_forked(["-c", killing, *line, output], tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    parts = sorted((tmp_path / ".out.csv.parts").glob("*.npz"))
    assert len(parts) == 3

    printed = command(*line, output, "--resume", "--step-s", 1, code=1)
    assert printed.err.count("\n") == 2  # what is loaded, and:
    assert "the earlier job had another --step-s; use the same value" in printed.err

    parts[0].write_bytes(parts[0].read_bytes()[:-100])
    scored = []
    keep = ScoreStore.keep
    monkeypatch.setattr(ScoreStore, "keep", lambda job, scores: (scored.append(scores.path), keep(job, scores)))
    printed = command(*line, output, "--resume")
    assert "continuing: 2 of 8 recordings are already scored" in printed.err
    assert len(scored) == 6
    assert output.read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()
    assert not (tmp_path / ".out.csv.parts").exists()


def test_a_second_job_with_the_same_output_is_refused_and_takes_nothing_from_the_first(
    command, tiny_run, recordings, tmp_path, tmp_path_factory, monkeypatch
):
    line = ["--run", tiny_run, "--input", recordings, "--format", "csv", "--output", tmp_path / "out.csv"]
    second, keep = [], ScoreStore.keep

    def kept(job, scores):
        keep(job, scores)
        if not second:
            second.append(run_forked(["predict.py", *line, "--step-s", "1"], tmp_path_factory.mktemp("second")))

    monkeypatch.setattr(ScoreStore, "keep", kept)
    command(*line)
    assert second[0].returncode == 1
    assert "out.csv: another predict.py is writing it; wait for that one" in second[0].stderr.splitlines()[-1]
    assert len({row["file"] for row in rows_of(tmp_path / "out.csv")}) == 4
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_recording_removed_once_it_is_scored_is_written(command, tiny_run, recordings, tmp_path, monkeypatch):
    shutil.copytree(recordings, tmp_path / "in")
    keep = ScoreStore.keep
    monkeypatch.setattr(ScoreStore, "keep", lambda job, scores: (keep(job, scores), scores.path.unlink()))
    line = ["--run", tiny_run, "--input", tmp_path / "in", "--format", "csv", "--output", tmp_path / "out.csv"]
    command(*line, "--report", tmp_path / "out.html", "--strict")
    assert len({row["file"] for row in rows_of(tmp_path / "out.csv")}) == 4
    assert "4 recordings" in (tmp_path / "out.html").read_text()


def test_a_job_stopped_by_sigterm_says_how_to_go_on(command, tiny_run, recordings, tmp_path, monkeypatch):
    keep = ScoreStore.keep
    monkeypatch.setattr(ScoreStore, "keep", lambda *args: (keep(*args), os.kill(os.getpid(), signal.SIGTERM)))
    line = ["--run", tiny_run, "--input", recordings, "--format", "csv", "--output", tmp_path / "out.csv"]
    printed = command(*line, code=143)
    assert printed.err.count(KEPT) == 1
    assert everything(tmp_path)[0].name == ".out.csv.parts"
    assert not (tmp_path / "out.csv").exists()
    leftover = tmp_path / f".out.csv.{host()}.999999999.tmp"  # as of a kill -9 while the table was written
    leftover.touch()
    monkeypatch.setattr(ScoreStore, "keep", keep)
    assert KEPT not in command(*line, "--resume").err
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_bar_continues_where_a_header_has_promised_less_than_there_is(monkeypatch):
    monkeypatch.setattr(
        "inference.steps.audio_info", lambda _: SimpleNamespace(frames=3600 * 32_000, sample_rate=32_000)
    )
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = steps._bar([Path("one hour.flac")], {})
    steps._advance(bar, 1.0)
    steps._advance(bar, 2.0)  # a FLAC from a pipe says no length
    assert str(bar).startswith("scoring: 100%")
    assert "3.00/3.00 h of audio" in str(bar)
    bar.close()


def test_a_run_is_found_where_one_stands_in_it(command, tiny_run, recordings, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_run)
    command("--run", ".", "--input", recordings, "--format", "csv", "--output", tmp_path / "out.csv")
    assert len({row["file"] for row in rows_of(tmp_path / "out.csv")}) == 4


def test_a_truncated_recording_is_scored_with_a_warning_and_a_changed_one_again(
    command, tiny_run, recordings, sound, tmp_path, monkeypatch
):
    shutil.copytree(recordings / "a", tmp_path / "in")
    whole = (tmp_path / "in/r2.ogg").read_bytes()
    (tmp_path / "in/r2.ogg").write_bytes(whole[: len(whole) // 2])
    line = ["--run", tiny_run, "--input", tmp_path / "in", "--format", "csv", "--output", tmp_path / "out.csv"]
    with monkeypatch.context() as patch:  # the disk is full when the table is to be written
        patch.setattr(csv, "writer", no_room)
        printed = command(*line, code=1)
    assert "the disk is full" in printed.err
    assert printed.err.count(KEPT) == 1
    assert printed.err.splitlines()[-1].startswith("the disk is full")
    assert not (tmp_path / "out.csv").exists()
    warning = "r2.ogg: truncated: "
    assert printed.err.count(warning) == 1
    sf.write(tmp_path / "in/r1.wav", sound(9.0), 16_000)
    printed = command(*line, "--resume")
    assert "continuing: 1 of 2" in printed.err
    assert printed.err.count(warning) == 1
    starts = [row["start_s"] for row in rows_of(tmp_path / "out.csv") if row["file"].endswith("r1.wav")]
    assert starts[::3] == ["0", "3", "6"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# bad input: one line each, and nothing is written


def one_line(printed) -> str:
    """The only line of an error; what was loaded before it is news, not an error."""
    lines = [
        line
        for line in printed.err.splitlines()
        if " classes, rows of " not in line and "exporting it once to" not in line
    ]
    assert len(lines) == 1, printed.err
    assert printed.out == ""
    return lines[0]


def no_such_run(place, run):
    return {"--run": place / "nowhere"}, "this is not a run"


def no_best_checkpoint(place, run):
    (run / "best.pt").unlink()
    return {}, "there is no best.pt yet"


def damaged_checkpoint(place, run):
    data = bytearray((run / "best.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (run / "best.pt").write_bytes(data)
    return {}, "best.pt: damaged"


def truncated_checkpoint(place, run):
    (run / "best.pt").write_bytes((run / "best.pt").read_bytes()[:1000])
    return {}, "best.pt: damaged"


def network_of_another_version(place, run):
    state = torch.load(run / "best.pt", weights_only=True)
    torch.save(state | {"model_type": "no_such_network"}, run / "best.pt")
    return {}, "no_such_network"


def export_without_labels(place, run):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), str(place / "x.onnx"))
    return {"--run": place / "x.onnx"}, "there is no model card in it"


def damaged_export(place, run):
    pytest.importorskip("openvino")
    (place / "x.xml").write_text("garbage")
    return {"--run": place / "x.xml"}, "damaged, or not an OpenVINO file"


def other_labels(place, run):
    state = torch.load(run / "best.pt", weights_only=True)
    (place / "other").mkdir()
    torch.save(state | {"labels": [*LABELS[:2], "zitcis1"]}, place / "other/best.pt")
    return {"--run": [run, place / "other"]}, "only runs with the same labels"


def no_such_input(place, run):
    return {"--input": place / "nowhere.wav"}, "no such file or folder"


def folder_without_recordings(place, run):
    (place / "empty").mkdir()
    return {"--input": place / "empty"}, "there is no recording in it"


def output_is_a_folder(place, run):
    (place / "out").mkdir()
    return {"--output": place / "out"}, "with --format csv, --output is a file"


def output_is_a_recording(place, run):
    shutil.copy(place / "in/a/r1.wav", place / "night.wav")
    (place / "link.wav").symlink_to(place / "night.wav")
    return {"--input": place / "link.wav", "--output": place / "night.wav"}, "--output would overwrite --input"


def output_is_the_checkpoint(place, run):
    return {"--output": run / "best.pt"}, "--output would overwrite --run"


def output_is_the_sample(place, run):
    (place / "s.csv").write_text("row_id,asbfly,bkskit1,comgre\nr1_5,0,0,0\n")
    values = {"--output": place / "s.csv", "--sample-submission": place / "s.csv", "--format": "submission"}
    return values | {"--input": "RECORDINGS/a"}, "--output would overwrite --sample-submission"


def report_is_a_recording(place, run):
    return {"--input": place / "in", "--report": place / "in/b/r1.wav"}, "--report would overwrite --input"


def report_is_the_output(place, run):
    (place / "new").mkdir()
    return {"--report": place / "new/../new/out.csv"}, "--report would overwrite --output"


def report_is_a_folder(place, run):
    return {"--report": place / "in"}, "this is a folder; --report is a file"


def report_within_the_output(place, run):
    return {"--report": place / "new/out.csv/page.html"}, "one of --output and --report is inside the other"


def report_within_the_output_by_another_path(place, run):
    report = place / "new/out.csv/page.html"
    return {"--output": os.path.relpath(place / "new/out.csv"), "--report": report}, "is inside the other"


def output_within_the_report(place, run):
    return {"--output": place / "x/tables", "--report": place / "x", "--format": "raven"}, "is inside the other"


def output_is_a_pipe(place, run):
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to(place / "pipe")
    return {"--output": place / "link"}, "a device or a pipe"


def output_without_a_name(place, run):
    return {"--output": "/", "--format": "raven"}, "/: this is not the name of a file; add one"


def output_behind_a_file(place, run):
    (place / "file").write_text("")
    return {"--output": place / "file/deep/out.csv"}, "is a file, not a folder"


def output_where_nobody_may_write(place, run):
    return {"--output": "/proc/nowhere/out.csv"}, "/proc"


def tables_where_a_file_is(place, run):
    (place / "file").write_text("")
    return {
        "--output": place / "file",
        "--format": "raven",
    }, "and several recordings, --output is a folder"


def two_of_one_name(place, run):
    return {"--format": "submission"}, "have the same name"


def sample_with_other_columns(place, run):
    (place / "sample.csv").write_text("row_id,x,y\nr1_5,0,0\n")
    values = {"--sample-submission": place / "sample.csv", "--format": "submission"}
    return values | {"--input": "RECORDINGS/a"}, "none of its 2 species"


def sample_with_other_recordings(place, run):
    (place / "sample.csv").write_text("row_id,asbfly,bkskit1,comgre\nr1_5,0,0,0\nr8_5,0,0,0\n")
    values = {"--sample-submission": place / "sample.csv", "--format": "submission"}
    return values | {"--input": "RECORDINGS/a"}, "the first is r8"


def sample_with_other_windows(place, run):
    (place / "sample.csv").write_text("row_id,asbfly,bkskit1,comgre\nr1_5,0,0,0\nr2_5,0,0,0\nr2_7,0,0,0\n")
    values = {"--sample-submission": place / "sample.csv", "--format": "submission"}
    return values | {"--input": "RECORDINGS/a"}, "the first is r2_7"


MISTAKES = [
    no_such_run, no_best_checkpoint, damaged_checkpoint, truncated_checkpoint, network_of_another_version,
    export_without_labels, damaged_export, other_labels, no_such_input, folder_without_recordings, output_is_a_folder,
    output_is_a_recording, output_is_the_checkpoint, output_is_the_sample, report_is_a_recording, report_is_the_output,
    report_is_a_folder, report_within_the_output, report_within_the_output_by_another_path, output_within_the_report,
    output_is_a_pipe, output_without_a_name, output_behind_a_file, output_where_nobody_may_write,
    tables_where_a_file_is, two_of_one_name,
    sample_with_other_columns, sample_with_other_recordings, sample_with_other_windows,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda function: function.__name__)
def test_a_mistake_is_one_line_and_nothing_is_written(command, tiny_run, recordings, tmp_path, mistake):
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx"))
    shutil.copytree(recordings, tmp_path / "in")
    changes, message = mistake(tmp_path, run)
    line = {"--run": run, "--input": recordings, "--output": tmp_path / "new/out.csv", "--format": "csv"} | changes
    arguments = []
    for name, values in line.items():
        values = values if isinstance(values, list) else [values]
        arguments += [name, *(str(value).replace("RECORDINGS", str(recordings)) for value in values)]
    before = [(path, path.is_file() and path.read_bytes()) for path in everything(tmp_path)]
    assert message in one_line(command(*arguments, code=1))
    assert [(path, path.is_file() and path.read_bytes()) for path in everything(tmp_path)] == before


def test_only_bad_recordings_are_an_error_and_nothing_is_left(command, tiny_run, sound, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/empty.ogg").write_bytes(b"")
    (tmp_path / "in/noise.mp3").write_bytes(bytes(range(256)) * 50)
    sf.write(tmp_path / "in/short.wav", sound(0.1), 16_000)
    line = ["--run", tiny_run, "--input", tmp_path / "in", "--output", tmp_path / "out.csv", "--format", "csv"]
    printed = command(*line, code=1).err.splitlines()
    assert sum(text.startswith("warning: ") and ": left out: " in text for text in printed) == 3
    assert printed[-1] == "no recording could be scored (3 tried); nothing is written"
    assert everything(tmp_path) == sorted([tmp_path / "in", *(tmp_path / "in").iterdir()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window-s", "0"], "--window-s: 0 is not above 0"),
        (["--window-s", "86401"], "--window-s: 86401 s is more than a day"),
        (["--combine", "rank"], "use it with --format submission, no --report"),
        (
            ["--format", "submission", "--combine", "rank", "--report", "r"],
            "use it with --format submission, no --report",
        ),
        (["--time-expansion", "0"], "--time-expansion: 0 is not above 0"),
        (["--time-expansion", "1e9"], "--time-expansion: 1e9 is above 1000"),
        (["--step-s", "nan"], "--step-s: nan is not above 0"),
        (["--step-s", "five"], "--step-s: five is not a number"),
        (["--threshold", "2"], "--threshold: 2 is not between 0 and 1"),
        (["--top-k", "0"], "--top-k: '0' is not a whole number of at least 1"),
        (["--top-k", "1.5"], "--top-k: '1.5' is not a whole number of at least 1"),
        (["--sample-submission", "x.csv"], "--sample-submission needs --format submission"),
        (["--format", "submission", "--merge"], "a submission holds every score"),
        (["--format", "submission", "--threshold", "0"], "a submission holds every score"),
    ],
)
def test_wrong_options_are_reported_before_anything_is_loaded(command, arguments, message):
    printed = command("--run", "x", "--input", "y", "--output", "z", "--format", "csv", *arguments, code=2)
    assert message in printed.err.splitlines()[-1]


def test_help_answers_at_once():
    for script in ("predict.py", "export.py"):
        line = [sys.executable, "-X", "importtime", script, "--help"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "--run" in done.stdout
        loaded = {text.split("|")[-1].strip() for text in done.stderr.splitlines()}
        assert not loaded & {"torch", "timm", "pandas", "numpy", "librosa", "onnx", "openvino"}


# export.py


@pytest.mark.skipif(not EXPORTS, reason="onnx and onnxruntime are not installed")
def test_export_prints_the_difference_and_predict_takes_the_file(command, tiny_run, recordings, tmp_path):
    output = tmp_path / "model.onnx"
    printed = command("--run", tiny_run, "--to", "onnx", "--output", output, "--audio", recordings, main=export.main)
    first, second = printed.out.splitlines()
    assert first.startswith("largest difference of a logit: ")
    assert float(first.rpartition(" ")[2]) < 1e-3
    assert second == f"exported: {output}"
    for run, name in ((output, "exported.csv"), (tiny_run, "run.csv")):
        command("--run", run, "--input", recordings, "--output", tmp_path / name, "--format", "csv")
    pairs = zip(rows_of(tmp_path / "exported.csv"), rows_of(tmp_path / "run.csv"), strict=True)
    assert max(abs(float(one["score"]) - float(other["score"])) for one, other in pairs) < 1e-4
    printed = command("--run", tmp_path, "--to", "onnx", main=export.main, code=1)
    assert "this is not a run" in one_line(printed)
