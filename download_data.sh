#!/usr/bin/env bash
# Where do the BirdCLEF 2024 recordings come from? Fetched from Kaggle and unpacked into a folder:
#
#     bash download_data.sh [DIR]        DIR is data where it is not given
#
# It can be stopped at any point: started again, it goes on from there. Until all is unpacked, everything
# is in DIR/.download, and train_metadata.csv is moved to its place last, so a DIR that has it is complete.
set -euo pipefail

competition=birdclef-2024
site=https://www.kaggle.com/competitions/$competition
zip_gb=24    # about; the recordings are compressed already, so unpacked they take as much again
data=${1:-data}
work=$data/.download
zip=$work/$competition.zip
log=$work/log

PATH=$PATH:$(cd "$(dirname "$0")" && pwd)/.venv/bin    # a kaggle command installed by hand comes first

fail() {
    echo "download_data.sh: $1" >&2
    exit "${2:-1}"
}

# The kaggle command answers Ctrl-C with exit code 0, so only a trap tells that it was pressed.
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

# The list of a zip stands at its end, so a zip that can be listed has arrived to the end.
is_whole() {
    [[ -f $1 ]] && python3 -m zipfile -l "$1" >/dev/null 2>&1
}

check_needs() {
    command -v python3 >/dev/null || fail "python3 is missing; install Python 3.11"
    is_whole "$zip" && return
    command -v kaggle >/dev/null || fail "the kaggle command is missing; get it with: .venv/bin/pip install kaggle"
    has_credentials || fail "no Kaggle credentials; make a token at https://www.kaggle.com/settings/api and save it as ~/.kaggle/access_token, or set KAGGLE_API_TOKEN"
}

check_space() {
    local free_mb needed_mb
    free_mb=$(df -Pk "$data" | awk 'NR == 2 { print int($4 * 1.024 / 1000) }')
    needed_mb=$((2 * zip_gb * 1000 - $(size "$zip") / 1000000))
    ((free_mb >= needed_mb)) || fail "$data: $((free_mb / 1000)) GB free, $(((needed_mb + 999) / 1000)) GB needed; free some, or name a folder on another disk"
}

download() {
    local before after refused=0
    before=$(size "$zip")
    echo "downloading about $zip_gb GB to $zip" >&2
    # An exit code of 0 says nothing; its words and what has arrived say more.
    kaggle competitions download "$competition" -p "$work" 2>&1 | tee "$log" >&2 || refused=1
    is_whole "$zip" && return
    after=$(size "$zip")
    # A part that did not grow is damaged only if Kaggle had no more to send: without a network it is as good as before.
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
    if ! python3 -m zipfile -e "$zip" "$work/unpacking" 2>"$log"; then
        rm -rf "$work/unpacking"
        if grep -qE 'BadZipFile|zlib\.error|EOFError' "$log"; then
            rm -f "$zip"
            fail "$zip was damaged and has been removed; start again"
        fi
        fail "$zip cannot be unpacked: $(tail -n 1 "$log")"
    fi
    [[ -f $work/unpacking/train_metadata.csv && -d $work/unpacking/train_audio ]] \
        || fail "$zip holds no train_metadata.csv and train_audio; remove it and look at $site/data"
    mv "$work/unpacking" "$work/unpacked"    # only what is complete has this name
    rm -f "$zip"
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
        [[ $(basename "$item") == train_metadata.csv ]] || mv "$item" "$data/"
    done
    mv "$work/unpacked/train_metadata.csv" "$data/"
    rm -rf "$work"
}

if [[ -f $data/train_metadata.csv && -d $data/train_audio ]]; then
    echo "data: $data is there already"
    exit 0
fi
mkdir -p "$work" 2>/dev/null || fail "$data: cannot be written to; name another folder"
if [[ ! -d $work/unpacked ]]; then
    refuse_to_overwrite train_audio train_metadata.csv    # now, rather than after the download
    check_needs
    rm -rf "$work/unpacking"    # half of it, of a try that was stopped
    check_space
    is_whole "$zip" || download
    unpack
fi
put_in_place
echo "data: $data"
