#!/bin/sh
# Fetch the real slides into data/ with curl. It needs no Python.
#
#   sh get_data.sh [--large] [--dest FOLDER] [NAME ...]
#
# The names, sizes and hashes of the slides are in slideqc/slides/slides.tsv, which get_data.py reads too. --large adds
# the slides over 100 MB. SLIDES_MIRROR=http://192.168.0.7:8000 sh get_data.sh fetches the same names from a laptop
# in the room. Exit status: 0 all requested slides are there, 1 a slide is missing, 2 the command is wrong.

timeout=8 # seconds without data after which the host is given up; curl averages, so it can take up to 7 s more
large=100000000
tab=$(printf '\t')
cr=$(printf '\r')

complain() {
    printf 'get_data.sh: %s\n' "$*" >&2
}

wrong_command() {
    complain "$* (usage: sh get_data.sh [--large] [--dest FOLDER] [NAME ...])"
    exit 2
}

megabytes() {
    if [ "$1" -lt 9950000 ]; then
        tenths=$((($1 + 50000) / 100000))
        echo "$((tenths / 10)).$((tenths % 10)) MB"
    else
        echo "$((($1 + 500000) / 1000000)) MB"
    fi
}

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum=$(sha256sum <"$1")
    else
        sum=$(shasum -a 256 <"$1")
    fi
    echo "${sum%% *}"
}

# Checks the file $1, which should have $2 bytes and the sha256 $3. Sets $flaw to what is wrong; empty if it is right.
look_for_flaw() {
    size=$(($(wc -c <"$1")))
    flaw=
    if [ "$size" -eq "$2" ] && [ "$(sha256_of "$1")" = "$3" ]; then
        return
    elif dd if="$1" bs=512 count=1 2>/dev/null | LC_ALL=C grep -aqi '<!doctype\|<html\|<head'; then
        flaw="looks like a web page, not a slide (does this network have a sign-in page?)"
    elif [ "$size" -ne "$2" ]; then
        flaw="has $size bytes instead of $2"
    else
        flaw="has a wrong sha256"
    fi
}

# Fetches $url to the hidden folder, then moves it to $dest/$name. Returns 1 if this slide failed, 2 if all would fail.
fetch() {
    part=$hidden/$name
    host=${url#*://}
    host=${host%%/*}
    quiet=-s
    if [ -t 2 ]; then quiet=; fi # in a terminal, curl shows size and speed
    # shellcheck disable=SC2086
    curl $quiet --fail --location --connect-timeout "$timeout" --speed-limit 1 --speed-time "$timeout" \
        --output "$part" "$url"
    status=$?
    case $status in
    0) ;;
    6) complain "$host: host not found (no network, or no DNS)"; return 2 ;;
    7) complain "$host: cannot be reached (it refuses connections, or the network is unreachable)"; return 2 ;;
    18 | 52 | 56) complain "$name: $host closed the connection; run the script again"; return 1 ;;
    22) complain "$name: $host has no such file, or had an error; run the script again"; return 1 ;;
    23) complain "$dest: the disk is full or read-only; free some space, or choose another --dest"; return 2 ;;
    28) complain "$host: no data for $timeout s or more"; return 2 ;;
    35 | 60) complain "$host: its certificate is not trusted (a sign-in page, or a wrong clock?)"; return 2 ;;
    130) stopped ;;
    *) complain "$name: curl failed with status $status; run the script again"; return 1 ;;
    esac
    look_for_flaw "$part" "$bytes" "$sha256"
    if [ -n "$flaw" ]; then
        complain "$name: the file from $host $flaw; run the script again"
        rm -f "$part"
        return 1
    fi
    if ! mv -f "$part" "$dest/$name" 2>/dev/null; then
        complain "$dest: cannot write slides there; choose another --dest"
        return 2
    fi
    echo "$name: $(megabytes "$bytes") from $host, verified"
}

stopped() {
    trap - INT TERM
    complain "stopped; no incomplete file is left; run the script again to fetch the missing slides"
    exit 130
}

here=$(cd "$(dirname "$0")" && pwd) || exit 2
list=$here/slideqc/slides/slides.tsv
dest=$here/data
with_large=
names=
while [ $# -gt 0 ]; do
    case $1 in
    --large) with_large=yes ;;
    --dest) [ -n "${2-}" ] || wrong_command "--dest needs a folder"
        dest=$2
        shift ;;
    --dest=?*) dest=${1#--dest=} ;;
    -*) wrong_command "unknown option $1" ;;
    *)
        known=$(grep -v '^#' "$list" | cut -f 1)
        # shellcheck disable=SC2086 # the message is one line
        echo "$known" | grep -Fqx -- "$1" || wrong_command "no slide is called $1; the slides are" $known
        names="$names $1" ;;
    esac
    shift
done
command -v curl >/dev/null 2>&1 || wrong_command "this machine has no curl; python get_data.py does not need it"
command -v sha256sum >/dev/null 2>&1 || command -v shasum >/dev/null 2>&1 ||
    wrong_command "this machine has neither sha256sum nor shasum; python get_data.py does not need them"

hidden=$dest/.fetching-sh-$$
trap 'rm -rf "$hidden"' EXIT
trap stopped INT TERM HUP
if ! { mkdir -p "$dest" && mkdir "$hidden"; } 2>/dev/null; then
    complain "$dest: cannot write slides there; choose another --dest"
    exit 1
fi

failed=
# The list is read from descriptor 3, since curl may read standard input.
# shellcheck disable=SC2034 # only get_data.py uses the licence
while IFS=$tab read -r name bytes sha256 licence url <&3; do
    case $name in '#'* | '') continue ;; esac
    url=${url%"$cr"}
    case " $names " in
    *" $name "*) [ "$bytes" -le "$large" ] || [ -n "$with_large" ] ||
        wrong_command "$name has $(megabytes "$bytes"): add --large to fetch it" ;;
    '  ') [ "$bytes" -le "$large" ] || [ -n "$with_large" ] || continue ;;
    *) continue ;;
    esac
    if [ -f "$dest/$name" ]; then
        look_for_flaw "$dest/$name" "$bytes" "$sha256"
        if [ -z "$flaw" ]; then
            echo "$name: already there, verified"
            continue
        fi
        complain "$dest/$name: $flaw; fetching it again"
    fi
    if [ -n "${SLIDES_MIRROR-}" ]; then url=${SLIDES_MIRROR%/}/$name; fi
    fetch
    case $? in
    1) failed=yes ;;
    2) failed=yes; break ;;
    esac
done 3<"$list"

set -- "$dest"/*.svs
if [ ! -e "$1" ]; then set --; fi # the pattern itself: no file matches it
echo "$dest: number of slides there: $#"
if [ -n "$failed" ]; then
    complain "some slides are missing; python get_data.py has other sources"
    exit 1
fi
echo "next: python pipeline.py"
