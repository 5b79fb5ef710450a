"""Are the tables of each year of BirdCLEF read, and sources joined, renamed and filtered?"""

# ruff: noqa: E501 - a table's row is on one line

import logging

import pytest

from dataloader.metadata import class_labels, class_names, load_table, read_sources
from tests.dataloader.tables.conftest import SOUNDS, labels, make, read, times
from utils import settings  # a name Testing here would look like a test class to pytest
from utils.config import load_config
from utils.errors import DataError
from utils.settings import Config, Paths

# BirdCLEF, year by year
HEADER = "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author"
ROW = "['song'],1,2,Avis una,First Bird,Ann"
YEARS = {
    2021: {
        "train_metadata.csv": f"{HEADER},date,filename\nacafly,[],{ROW},2020-01-01,XC1.ogg\nastfly,\"['acafly']\",{ROW},,XC2.ogg\n",
        "train_short_audio/acafly/XC1.ogg": None, "train_short_audio/astfly/XC2.ogg": None,
        "train_soundscapes/7019_COR_20190904.ogg": None,
        "train_soundscape_labels.csv": "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,nocall\n"
        "7019_COR_10,COR,7019,10,acafly rucwar\n",
    },
    2024: {
        "train_metadata.csv": f"{HEADER},license,rating,url,filename\nasbfly,[],{ROW},x,5,u,asbfly/XC1.ogg\n",
        "train_audio/asbfly/XC1.ogg": None,
        "eBird_Taxonomy_v2021.csv": "\ufeffTAXON_ORDER,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\n1,lorlor1,Loris,Loris loris\n",
        "sample_submission.csv": "row_id,asbfly,lorlor1\nsoundscape_1_5,0,0\n",
    },
    2025: {
        "train.csv": "primary_label,secondary_labels,type,filename,collection,rating,author,latitude,longitude\n"
        "1139490,[''],[''],1139490/CSA1.ogg,CSA,0,Ann,,\n",
        "train_audio/1139490/CSA1.ogg": None,
        "taxonomy.csv": "primary_label,inat_taxon_id,scientific_name,common_name,class_name\n1139490,1139490,Ragoniella pulchella,Katydid,Insecta\n",
    },
    2026: {
        "train.csv": "primary_label,secondary_labels,filename,author,latitude,longitude\n47158son01,[''],47158son01/iNat1.ogg,Ann,,\n",
        "train_audio/47158son01/iNat1.ogg": None,
        "train_soundscapes/s1.ogg": None,
        "train_soundscapes_labels.csv": "filename,start,end,primary_label\n"
        + 2 * "s1.ogg,00:00:05,00:00:10,1161364;toctou1\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("year", YEARS)
def test_every_year_of_birdclef_is_found_out(tmp_path, caplog, year):
    caplog.set_level(logging.INFO)
    table = read(make(tmp_path / "data", YEARS[year]))
    assert "layout birdclef (detected" in caplog.text
    if year == 2021:
        assert labels(table)["astfly/XC2.ogg"] == ("astfly",)
        assert table.set_index("filename")["secondary_labels"]["astfly/XC2.ogg"] == ("acafly",)
        spans = times(table)["train_soundscapes/7019_COR_20190904.ogg"]
        assert spans == [(0.0, 5.0, "nocall"), (5.0, 10.0, "acafly"), (5.0, 10.0, "rucwar")]
        assert class_labels(load_table(Config(paths=Paths(data_dir=tmp_path / "data"), testing=settings.Testing(testing=False)))) == [
            "acafly", "astfly", "rucwar",
        ]  # fmt: skip
    if year == 2024:
        assert class_labels(table) == ["asbfly", "lorlor1"]  # a species without a recording keeps a column
        assert class_names(table, ["lorlor1"])["common_name"].tolist() == ["Loris"]
    if year == 2025:
        assert labels(table) == {"1139490/CSA1.ogg": ("1139490",)}
        assert table["secondary_labels"].tolist() == [()]
        assert class_names(table, ["1139490"])["scientific_name"].tolist() == ["Ragoniella pulchella"]
        assert table["class_name"].tolist() == ["Insecta"]
    if year == 2026:
        assert times(table)["train_soundscapes/s1.ogg"] == [(5.0, 10.0, "1161364"), (5.0, 10.0, "toctou1")]


@pytest.mark.parametrize("header", ["row_id,birds", "row_id,target"])
def test_the_columns_of_old_sample_submissions_are_no_species(tmp_path, header):
    files = YEARS[2021] | {"sample_submission.csv": f"{header}\n7019_COR_5,nocall\n"}
    table = read(make(tmp_path / "data", files))
    assert table.attrs["classes"] == []
    assert class_labels(table) == ["acafly", "astfly", "rucwar"]


def test_a_sample_submission_of_other_species_is_not_used(tmp_path, caplog):
    files = YEARS[2024] | {"sample_submission.csv": "row_id,x,y\ns_5,0,0\n"}
    assert class_labels(read(make(tmp_path / "data", files))) == ["asbfly"]
    assert "none of its columns is a species of these data (x, y); it is not used" in caplog.text


def test_a_trial_does_not_keep_columns_for_all_species(tmp_path):
    folder = make(tmp_path / "data", YEARS[2024])
    config = Config(paths=Paths(data_dir=folder), testing=settings.Testing(testing=True, data_samples_for_testing=1))
    assert class_labels(load_table(config)) == ["asbfly", "lorlor1"]  # nothing was left out
    rows = "".join(f"c{number},[],{ROW},x,5,u,c{number}/XC1.ogg\n" for number in range(9))
    make(folder, {"train_metadata.csv": f"{HEADER},license,rating,url,filename\n{rows}"})
    assert len(class_labels(load_table(config))) == 2


# Sources, label maps, filters


def sources(tmp_path, text):
    (tmp_path / "config.ini").write_text(f"[data]\noutput_dir = cache\n{text}")
    return read_sources(load_config(tmp_path / "config.ini"))


def test_two_sources_with_a_label_map_are_one_data_set(tmp_path):
    make(tmp_path / "x", {"robin/1.wav": None, "bat/2.wav": None})
    make(
        tmp_path / "y",
        {"1.wav": None, "t.csv": "file,label,start,end,group\n1.wav,Rotkehlchen,0,1,g\n1.wav,Geräusch,2,3,g\n"},
    )
    make(tmp_path, {"map.csv": "old,new\nRotkehlchen,robin\nbat,\nGeräusch,\n"})
    text = "[source.x]\ndata_dir = x\nlabel_map = map.csv\n[source.y]\ndata_dir = y\nlabel_map = map.csv\nweight = 2\n"
    table = sources(tmp_path, text)
    assert labels(table) == {"x/robin/1.wav": ("robin",), "y/1.wav": ("robin",)}
    assert times(table) == {"x/robin/1.wav": None, "y/1.wav": [(0.0, 1.0, "robin"), (2.0, 3.0, "?")]}
    assert table["sampling_weight"].tolist() == [1.0, 2.0]
    assert table["group"].tolist() == ["x/robin/1.wav", "y/g"]
    assert table["path"].tolist() == [str(tmp_path / "x/robin/1.wav"), str(tmp_path / "y/1.wav")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("old,new\na,b\nb,c\nc,a\n", r"map\.csv: a -> b -> c -> a is a circle; remove"),
        ("old,new\na,b\na,c\n", r"map\.csv: line 3: 'a' becomes 'c' here and 'b' above; keep one"),
        ("old\na\n", r"map\.csv: it has one column; a label map needs two, old and new"),
    ],
)
def test_a_label_map_that_cannot_be_is_reported(tmp_path, text, message):
    folder = make(tmp_path / "data", {"a/1.wav": None, "b/2.wav": None})
    make(tmp_path, {"map.csv": text})
    with pytest.raises(DataError, match=message):
        read(folder, label_map=tmp_path / "map.csv")


def test_a_label_map_finds_a_label_however_its_accents_are_composed(tmp_path):
    make(tmp_path, {"map.csv": "old,new\n\u00e9tourneau,starling\n"})
    folder = make(tmp_path / "data", {"e\u0301tourneau/1.wav": None})
    assert class_labels(read(folder, label_map=tmp_path / "map.csv")) == ["starling"]


def test_filters_leave_out_by_column(tmp_path):
    text = "file,label,rating,collection\na.wav,x,4.5,XC\nb.wav,x,2,XC\nc.wav,x,,iNat\nd.wav,x,5,CSA\n"
    folder = make(tmp_path / "data", {"t.csv": text})
    assert read(folder, filter="rating >= 3")["filename"].tolist() == ["a.wav", "d.wav"]
    assert read(folder, filter="rating > 3, collection = XC|iNat")["filename"].tolist() == ["a.wav"]
    assert read(folder, filter="collection != XC")["filename"].tolist() == ["c.wav", "d.wav"]
    with pytest.raises(DataError, match="filter names column 'ratng', but the columns are"):
        read(folder, filter="ratng > 3")
    with pytest.raises(DataError, match="'rating' is not a condition such as rating >= 3"):
        read(folder, filter="rating")
    with pytest.raises(DataError, match="the label map and the filter leave no recording"):
        read(folder, filter="rating > 9")


def test_times_of_a_time_expanded_recording_are_those_that_were_recorded(tmp_path):
    text = "file,label,start,end,low_hz,high_hz,time_expansion\na.wav,bat,10,20,2000,5000,10\nb/c.flac,bat,1,2,,,\n"
    table = read(make(tmp_path / "data", SOUNDS | {"t.csv": text}))
    assert table["time_expansion"].tolist() == [10.0, 1.0]
    assert table["annotations"][0][0] == (1.0, 2.0, "bat", 20_000.0, 50_000.0)
    assert times(table)["b/c.flac"] == [(1.0, 2.0, "bat")]
    assert read(tmp_path / "data", time_expansion=5.0)["time_expansion"].tolist() == [10.0, 5.0]
