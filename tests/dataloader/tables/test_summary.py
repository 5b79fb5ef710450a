"""Does --check say what was understood of the data, and what will hurt?"""

import numpy as np
import pytest
import soundfile

from dataloader import metadata

ROWS = """file,species,start,end,author,license,low_hz,high_hz
a1.wav,Phylloscopus collybita,0,1,Ann,CC0,100,200
a2.wav,Phylloscopus collybita,0,1,Ann,CC0,,
a3.wav,Phylloscopus collybita,0.5,9,Ann,CC BY,,
a4.wav,nocall,0,1,Bo,CC0,,
a5.wav,Philloscopus collybita,0,1,Cy,CC0,,
gone.wav,Parus major,,,Bo,,,
"""


@pytest.fixture
def data(tmp_path):
    for number in range(1, 6):
        soundfile.write(tmp_path / f"a{number}.wav", np.zeros(16_000 * number), 16_000)
    (tmp_path / "t.csv").write_text(ROWS)
    (tmp_path / "map.csv").write_text("old,new\nParus major,Parus major\n")
    (tmp_path / "config.ini").write_text(
        "[paths]\ndata_dir = .\n[data]\noutput_dir = cache\nmin_samples_in_class = 2\nlabel_map = map.csv\n"
    )
    return tmp_path / "config.ini"


@pytest.mark.parametrize(
    "line",
    [
        "recordings: 6, 0.00 h; the longest 5.0 s (a5.wav), half are shorter than 2.5 s",
        "classes: 3; recordings of each: Phylloscopus collybita 3, Philloscopus collybita 1, Parus major 1",
        "recordings without a species: 1",
        "annotations: 5 in 5 recordings, 6.5 s together; 4 of a species, 1 of nocall, 1 with frequencies",
        "1 annotation ends after the recording; only what is inside it counts: a3.wav (0.5 to 9 of 3.00 s)",
        "license: CC0 4, CC BY 1, (empty) 1",
        "groups (kept in one subset): 3; the largest has 3 recordings (Ann||)",
        "recordings that cannot be opened: 1; gone.wav (missing: no such file)",
        "  - 2 classes have fewer than 2 recordings ([data] min_samples_in_class) and will be left out: Parus",
        "  - 1 class is of one group (one recordist and place), so that no other recording can test it: Phylloscopus",
        "  - 1 class was recorded by one person: Phylloscopus collybita",
        "  - Phylloscopus collybita has 55% of the hours; [data] class_cap or balance_power can balance this",
        "  - 'Philloscopus collybita' may be another spelling of 'Phylloscopus collybita'",
        "map.csv: 2 labels of the data that the label map does not name, kept as they are: Philloscopus collybita",
    ],
)
def test_the_check_describes_the_data_and_warns(data, capsys, line):
    assert metadata.main(["--check", "--config", str(data)]) == 0
    assert line in capsys.readouterr().out


def test_the_check_names_classes_of_too_few_groups_to_be_scored(tmp_path, capsys):
    rows = "a.wav,wren,Ann\nb.wav,wren,Bo\nc.wav,robin,Ann\nd.wav,owl,Ann\ne.wav,owl,Bo\nf.wav,owl,Cy\n"
    (tmp_path / "t.csv").write_text("file,species,author\n" + rows)
    (tmp_path / "config.ini").write_text(
        "[paths]\ndata_dir = .\n[data]\noutput_dir = cache\nmin_samples_in_class = 1\n"
    )
    metadata.main(["--check", "--config", str(tmp_path / "config.ini")])
    printed = capsys.readouterr().out
    assert "1 class is of one group" in printed
    assert "that no other recording can test it: robin\n" in printed
    assert "1 class has two groups only, which cannot train, validate and test at once" in printed
    assert "scores every recording): wren\n" in printed
