#!/usr/bin/env bash
# From CT volumes to Table 1 and the figures, in one command. `bash reproduce.sh --help` lists the flags.
# Every stage does only what is not done yet, so the same command goes on after an interruption.
set -euo pipefail

usage() {
    cat <<'HELP'
bash reproduce.sh [--preset NAME] [--data DIR] [--external DIR] [--out DIR] [--seed N]
                  [--cohort NAME] [--external-cohort NAME] [--split FILE] [--shared-patients refuse|drop|allow]
                  [--test N,N] [--validation N,N] [--same-patient N,N] [--subset N,N,N] [--by-slice] [--jobs N]
                  [--ignore-label-affine] [--allow-non-hu] [--skip-bad] [--orient anatomy] [--joint-sweep] [--all-systems]
                  [--nominal-spacing] [--setup]

  --preset NAME     smoke (minutes), demo (default, half an hour on 2 cores), mini (real CT at
                    128 px, an hour), mini-augmented, mini-short, paper, paper-short (512 px, a GPU); python -m
                    training.presets lists them all
  --data DIR        a cohort: LiTS, Task03_Liver, 3D-IRCADb-01, HCC-TACE-Seg or a folder of pairs; default: the
                    synthetic phantom
  --external DIR    a second cohort, only tested on; default: the external phantom, where the cohort is the
                    phantom, else none
  --out DIR         where everything goes; default out/PRESET
  --seed N          of the training (initialisation, order, dropout); data and split stay the same; default 0
  --cohort, --external-cohort
                    their layouts, where they are not recognised; python -m data.prepare --help lists them
  --split FILE      use this split.json, cases and slices, instead of drawing one
  --shared-patients what happens to patients that are in both cohorts: refuse (default), drop them from training,
                    or allow them, and the tables say so
  --jobs N          cases to prepare at once
  --test, --validation, --same-patient
                    volumes for these sets; volumes of one patient (data.prepare has the same flags)
  --subset N,N,N    slices for training, validation and test; default the preset's
  --by-slice        split by slice, not by patient, to measure how much of such a score is memory
  --ignore-label-affine, --allow-non-hu, --skip-bad, --orient anatomy
                    as data.prepare: take labels voxel for voxel, values that do not look like HU; go on without
                    cases that cannot be used; mirror volumes that lie otherwise than their header says
  --joint-sweep     also sweep beta / alpha of the joint loss, from the pair and from scratch (a training on 2 CPU cores takes three to four times as long)
  --all-systems     also train the systems of the other documents, and compare all (with demo two hours and more on 2 CPU cores)
  --nominal-spacing the headers do not give the scanner's spacing: no distances in mm
  --setup           only make the virtual environment
HELP
}

fail() { echo "reproduce.sh: $1" >&2; exit 2; }

preset=demo data="" external="" out="" seed=0 setup_only=false
spacing_flags=() system_flags=()
split_flags=() check_flags=() cohort_flags=() external_flags=() shared_flags=() split="" subset=""
while [ $# -gt 0 ]; do
    case "$1" in
        --help|-h) usage; exit 0 ;;
        --setup) setup_only=true; shift; continue ;;
        --joint-sweep|--all-systems) system_flags+=("$1"); shift; continue ;;
        --nominal-spacing) spacing_flags+=("$1"); shift; continue ;;
        --by-slice) split_flags+=("$1"); shift; continue ;;
        --ignore-label-affine|--allow-non-hu|--skip-bad) check_flags+=("$1"); shift; continue ;;
    esac
    [ $# -ge 2 ] && [ -n "$2" ] || fail "$1: needs a value, or is unknown"
    case "$1" in
        --preset) preset=$2 ;;
        --data) data=$2 ;;
        --external) external=$2 ;;
        --out) out=$2 ;;
        --seed) seed=$2 ;;
        --cohort) cohort_flags+=("$1" "$2") ;;
        --external-cohort) external_flags+=(--cohort "$2") ;;
        --split) split=$2 ;;
        --subset) subset=$2 ;;
        --shared-patients) shared_flags+=("$1" "$2") ;;
        --jobs|--orient) check_flags+=("$1" "$2") ;;
        --test|--validation|--same-patient) split_flags+=("$1" "$2") ;;
        *) fail "$1: unknown flag; --help lists them" ;;
    esac
    shift 2
done
[ -z "$data" ] || [ -d "$data" ] || fail "--data $data: no such folder"
[ -z "$external" ] || [ -d "$external" ] || fail "--external $external: no such folder"
[[ "$seed" =~ ^[0-9]{1,10}$ ]] && [ "$seed" -lt 4294967296 ] ||
    fail "--seed $seed: must be a whole number from 0 to 2**32 - 1"

if [[ " ${system_flags[*]-} " == *" --all-systems "* ]] && [[ " ${split_flags[*]-} " == *" --by-slice "* ]]; then
    fail "--all-systems: the other systems are scored on whole cases; leave out --by-slice"
fi

# Paths are the user's, relative to where the command was called; the project's modules lie beside this file.
absolute() { case "$1" in ""|/*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }
[ -z "$split" ] || [ -f "$split" ] || fail "--split $split: no such file"
data=$(absolute "$data") split=$(absolute "$split") external=$(absolute "$external") out=$(absolute "$out")
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${out:-$PWD/out/$preset}

# The virtual environment, made once and again whenever requirements.txt changes; the preset is checked before.
setup() {
    local base=${PYTHON:-python3} stamp=.venv/made-from.txt
    if ! cat requirements.txt tests/requirements.txt | cmp -s - $stamp; then
        "$base" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
            fail "$base: needs Python 3.11, 3.12 or 3.13, as TensorFlow does (PYTHON=/path/to/python names another)"
        "$base" -m training.presets "$preset" --field size >/dev/null  # it needs Python alone
        echo "making the virtual environment .venv (a few minutes)"
        "$base" -m venv --clear .venv || fail "$base -m venv: failed; Debian and Ubuntu need the package python3-venv"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
        cat requirements.txt tests/requirements.txt >$stamp
    fi
}
setup
if $setup_only; then exit 0; fi

python() { "$PWD/.venv/bin/python" "$@"; }
fields=$(python -m training.presets "$preset" --field size subset phantom_cases)  # a line each
{ read -r size; read -r preset_subset; read -r cases; } <<<"$fields"
subset=${subset:-$preset_subset}
mkdir -p "$out" 2>/dev/null || fail "--out $out: cannot be made"

# The stages, as commands for data.stages: a process for the data, one for training, one for the results.
data_stages=() training_stages=() result_stages=()
if [ -z "$data" ]; then
    data=$out/phantom
    # So few cases would leave a set without tumor by chance; a split by slice knows no cases.
    [[ " ${split_flags[*]-} " == *" --by-slice "* ]] || split_flags+=(--stratify)
    data_stages+=(-- data.phantom --out "$data" --cases "${cases%,*}" --size "$size")
    if [ -z "$external" ]; then
        external=$out/phantom-external
        data_stages+=(-- data.phantom --out "$external" --cases "${cases#*,}" --size "$size" --external)
    fi
fi
external_store=()
if [ -n "$external" ]; then
    data_stages+=(-- data.prepare --source "$external" --store "$out/store-external" --size "$size" --external
        ${external_flags[@]+"${external_flags[@]}"} ${check_flags[@]+"${check_flags[@]}"})
    external_store=(--external "$out/store-external")
    shared_flags+=(--external-store "$out/store-external")
fi
if [ -n "$split" ]; then split_flags+=(--split "$split"); elif [ -n "$subset" ]; then split_flags+=(--subset "$subset"); fi
data_stages+=(-- data.prepare --source "$data" --store "$out/store" --size "$size"
    ${cohort_flags[@]+"${cohort_flags[@]}"} ${split_flags[@]+"${split_flags[@]}"}
    ${shared_flags[@]+"${shared_flags[@]}"} ${check_flags[@]+"${check_flags[@]}"})
training_stages+=(-- training.all_stages --store "$out/store" --run "$out/run" --preset "$preset" --seed "$seed"
    ${system_flags[@]+"${system_flags[@]}"})
result_stages+=(-- evaluation.evaluate --run "$out/run" --store "$out/store" --out "$out"
    ${external_store[@]+"${external_store[@]}"} ${spacing_flags[@]+"${spacing_flags[@]}"})
for command in figures tables report; do result_stages+=(-- evaluation.$command --out "$out"); done
for page in joint-sweep:joint-demo all-systems:systems-demo; do  # table and figure, into OUT
    if [[ " ${system_flags[*]-} " == *" --${page%:*} "* ]]; then
        result_stages+=(-- evaluation.publish --name "${page#*:}" --out "$out" "$out")
    fi
done

first=1
total=$(printf '%s\n' "${data_stages[@]}" "${training_stages[@]}" "${result_stages[@]}" | grep -cx -- --)
for name in data training result; do
    stages="${name}_stages[@]"
    python -m data.stages --first $first --total "$total" "${!stages}"
    first=$((first + $(printf '%s\n' "${!stages}" | grep -cx -- --)))
done
echo
echo "time      $((SECONDS / 60)) min $((SECONDS % 60)) s, this call"
echo "scores    $out/scores.csv, summary.json"
echo "tables    $out/tables/"
echo "figures   $out/figures/"
echo "report    $out/report.html, the paper's tables and figures in one page, with the slices"
echo "models    $out/run/"
