#!/usr/bin/env bash
# Where do the recordings of BirdCLEF come from? They are downloaded from Kaggle and unpacked into a folder:
#
#     bash download_data.sh [--competition birdclef-2021 ... birdclef-2026] [--from-zip FILE] [--skip-unlabeled] [DIR]
#
# Without these arguments the competition is birdclef-2024 and DIR is data. --from-zip unpacks a zip that you already
# have, and keeps it. --skip-unlabeled does not unpack recordings without labels: unlabeled_soundscapes of 2024,
# train_soundscapes of 2025, and those of 2026 that its table of labels does not name.
#
# It can be stopped at any time and continues when it is started again. Everything is in DIR/.download until all files
# are unpacked. The table is moved to DIR last, so a DIR that has the table is complete.
set -euo pipefail

fail() {
    echo "download_data.sh: $1" >&2
    exit "${2:-1}"
}

usage="use: bash download_data.sh [--competition birdclef-2024] [--from-zip FILE] [--skip-unlabeled] [DIR]"
competition=birdclef-2024
data=
given_zip=
skip=
while (($#)); do
    case $1 in
        --competition) competition=${2:-}; shift ;;
        --competition=*) competition=${1#*=} ;;
        --from-zip) given_zip=${2:-}; shift; [[ -f $given_zip ]] || fail "--from-zip '$given_zip': no such file" ;;
        --from-zip=*) given_zip=${1#*=}; [[ -f $given_zip ]] || fail "--from-zip '$given_zip': no such file" ;;
        --skip-unlabeled) skip=yes ;;
        -h | --help) echo "$usage"; exit 0 ;;
        -*) fail "$1: unknown; $usage" 2 ;;
        *) [[ -z $data ]] || fail "two folders, $data and $1; $usage" 2; data=$1 ;;
    esac
    shift || break
done
data=${data:-data}

# What each year holds: its table, its folder of recordings, and its recordings without labels.
table=train_metadata.csv
audio=train_audio
unlabeled=
with_times=    # its table of labels with times
zip_gb=0    # about; 0 where it is not known before Kaggle is asked. The unpacked recordings need as much again
case $competition in
    birdclef-2021) audio=train_short_audio; with_times=train_soundscape_labels.csv:audio_id,site,seconds,birds ;;
    birdclef-2022 | birdclef-2023) ;;
    birdclef-2024) unlabeled=unlabeled_soundscapes; zip_gb=24 ;;
    birdclef-2025) table=train.csv; unlabeled=train_soundscapes ;;
    birdclef-2026)
        table=train.csv; unlabeled=train_soundscapes
        with_times=train_soundscapes_labels.csv:filename,start,end,primary_label ;;
    *) fail "--competition '$competition': unknown; known are birdclef-2021 to birdclef-2026" 2 ;;
esac
site=https://www.kaggle.com/competitions/$competition
work=$data/.download
zip=${given_zip:-$work/$competition.zip}
log=$work/log

PATH=$PATH:$(cd "$(dirname "$0")" && pwd)/.venv/bin    # a kaggle command installed by hand comes first

# The kaggle command answers Ctrl-C with exit code 0, so only a trap shows that it was pressed.
trap 'fail "interrupted; start it again and it goes on from here" 130' INT
trap 'fail "stopped; start it again and it goes on from here" 143' TERM

has_credentials() {
    [[ -n ${KAGGLE_API_TOKEN:-} ]] && return
    [[ -n ${KAGGLE_USERNAME:-} && -n ${KAGGLE_KEY:-} ]] && return
    local folder name
    for folder in "${KAGGLE_CONFIG_DIR:-}" ~/.kaggle "${XDG_CONFIG_HOME:-$HOME/.config}/kaggle"; do
        for name in kaggle.json access_token access_token.txt credentials.json; do
            [[ -n $folder && -s $folder/$name ]] && return
        done
    done
    return 1
}

size() {
    if [[ -f $1 ]]; then wc -c <"$1"; else echo 0; fi
}

# The list of files is at the end of a zip, so a zip that can be listed is complete.
is_whole() {
    [[ -f $1 ]] && python3 -m zipfile -l "$1" >/dev/null 2>&1
}

check_needs() {
    command -v python3 >/dev/null || fail "python3 is missing; install Python 3.11"
    is_whole "$zip" && return
    command -v kaggle >/dev/null || fail "the kaggle command is missing; get it with: .venv/bin/pip install kaggle"
    has_credentials || fail "no Kaggle credentials; make a token at https://www.kaggle.com/settings/api and save it as ~/.kaggle/access_token, or set KAGGLE_API_TOKEN"
}

# The names of the share and of the folder may contain blanks, so the numbers are found by the percent sign after them.
free_mb() {
    df -Pk "$data" | awk 'NR > 1 && match($0, /[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+%/) {
        split(substr($0, RSTART, RLENGTH), number, / +/)
        print int(number[3] * 1.024 / 1000)
        exit
    }'
}

# check_space NEEDED_MB: stop if there is less.
check_space() {
    local free
    free=$(free_mb)
    [[ -n $free ]] || fail "$data: the free space is not known, as df answers: $(df -Pk "$data" | tail -n 1)"
    ((free >= $1)) || fail "$data: $((free / 1000)) GB free, $((($1 + 999) / 1000)) GB needed; free some, or name a folder on another disk"
}

# Print the output of kaggle, and stop it if the size in its progress bar, which ends in "0.00/23.4G", does not fit.
watch_size() {
    local line checked= total
    while IFS= read -r line || [[ -n $line ]]; do
        echo "$line"
        if [[ -z $checked && $line =~ /([0-9.]+)([MGT])\  ]]; then
            checked=yes
            total=$(awk -v n="${BASH_REMATCH[1]}" -v unit="${BASH_REMATCH[2]}" \
                'BEGIN { print int(n * (unit == "T" ? 1099512 : unit == "G" ? 1073.8 : 1.0486)) }')
            if (($(free_mb) < 2 * total - $(size "$zip") / 1000000)); then
                echo $((2 * total)) >"$work/too_large"
                return 1
            fi
        fi
    done
}

download() {
    local before after refused=0
    before=$(size "$zip")
    echo "downloading $competition to $zip" >&2
    rm -f "$work/too_large"
    # The exit code is 0 even after some failures, so the output and the file are checked.
    kaggle competitions download "$competition" -p "$work" 2>&1 | tr '\r' '\n' | watch_size | tee "$log" >&2 || refused=1
    [[ ! -f $work/too_large ]] || check_space "$(($(cat "$work/too_large") - $(size "$zip") / 1000000))"
    is_whole "$zip" && return
    after=$(size "$zip")
    # A zip that did not grow is damaged only if Kaggle had no more to send; without a network it can be continued later.
    ((after == 0 || (refused && after == before))) && explain_refusal
    ((after == before)) && rm -f "$zip" "$zip".* && fail "$zip was damaged and has been removed; start again"
    fail "the download stopped after $((after / 1000000)) MB; start it again and it goes on from there"
}

explain_refusal() {
    if grep -q 403 "$log"; then
        fail "Kaggle refused (403); accept the rules at $site/rules and verify your phone number at https://www.kaggle.com/settings"
    elif grep -qE '401|Authentication required' "$log"; then
        fail "Kaggle does not know these credentials (401); make a new token at https://www.kaggle.com/settings/api"
    fi
    fail "nothing arrived from Kaggle: $(grep -v '^ *$' "$log" | tail -n 1)"
}

unpack() {
    echo "unpacking $zip" >&2
    # Unpacking checks each file's checksum. Not `unzip`, which not every machine has.
    if ! python3 -c '
import csv, io, sys, zipfile
path, folder, left_out, labels = sys.argv[1:]
with zipfile.ZipFile(path) as archive:
    names, labelled = archive.namelist(), set()
    if left_out and labels in names:
        rows = csv.DictReader(io.StringIO(archive.read(labels).decode("utf-8-sig")))
        labelled = {left_out + "/" + (row.get("filename") or "") for row in rows}
    if left_out:
        names = [name for name in names if name in labelled or not name.startswith(left_out + "/")]
    archive.extractall(folder, names)
' "$zip" "$work/unpacking" "${skip:+$unlabeled}" "${with_times%%:*}" 2>"$log"; then
        rm -rf "$work/unpacking"
        if grep -qE 'BadZipFile|zlib\.error|EOFError' "$log"; then
            [[ -z $given_zip ]] || fail "$zip is damaged; fetch it again"
            rm -f "$zip"
            fail "$zip was damaged and has been removed; start again"
        fi
        fail "$zip cannot be unpacked: $(tail -n 1 "$log")"
    fi
    if [[ ! -f $work/unpacking/$table || ! -d $work/unpacking/$audio ]]; then
        rm -rf "$work/unpacking"
        fail "$zip holds no $table and $audio, as $competition has them; is it another year's? Look at $site/data"
    fi
    check_table "$table" primary_label,filename
    [[ ! -f $work/unpacking/${with_times%%:*} || -z $with_times ]] || check_table "${with_times%%:*}" "${with_times#*:}"
    mv "$work/unpacking" "$work/unpacked"    # only what is complete has this name
    [[ -n $given_zip ]] || rm -f "$zip"
}

# check_table NAME COLUMNS: the first line of a table names the columns, separated by commas, that training needs.
check_table() {
    local header column
    header=,$(head -n 1 "$work/unpacking/$1" | tr -d '\r"'),
    for column in ${2//,/ }; do
        if [[ $header != *",$column,"* ]]; then
            rm -rf "$work/unpacking"
            fail "$zip: its table $1 has no column $column; look at $site/data"
        fi
    done
}

refuse_to_overwrite() {
    local item
    for item in "$@"; do
        [[ ! -e $data/$(basename "$item") ]] || fail "$data/$(basename "$item") is in the way; move it and start again"
    done
}

put_in_place() {
    local item
    refuse_to_overwrite "$work"/unpacked/*
    for item in "$work"/unpacked/*; do
        [[ $(basename "$item") == "$table" ]] || mv "$item" "$data/"
    done
    mv "$work/unpacked/$table" "$data/"
    rm -rf "$work"
}

if [[ -f $data/$table && -d $data/$audio ]]; then
    echo "data: $data is there already"
    exit 0
fi
mkdir -p "$work" 2>/dev/null || fail "$data: cannot be written to; name another folder"
if [[ ! -d $work/unpacked ]]; then
    refuse_to_overwrite "$audio" "$table"    # now, rather than after the download
    [[ -z $given_zip ]] || is_whole "$given_zip" || fail "$given_zip is no zip, or its end is missing; fetch it again"
    check_needs
    rm -rf "$work/unpacking"    # half of it, of a try that was stopped
    if is_whole "$zip"; then
        check_space $(($(size "$zip") / 1000000))
    else
        check_space $((2 * zip_gb * 1000 - $(size "$zip") / 1000000))
        download
    fi
    unpack
fi
put_in_place
echo "data: $data"
