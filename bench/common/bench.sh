# shellcheck shell=bash disable=SC2154
# For the run scripts of the benches, which source it at the root of the repository with the build folder in $build.

# bench_need COMMAND PACKAGE …: ends the bench when a command is missing.
bench_need() {
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || { echo "bench: $1 is missing: apt-get install $2" >&2; exit 1; }
        shift 2
    done
}

# What can count user-space instructions here: perf where the machine has counters for it, else callgrind.
bench_counter() {
    if perf stat -x, -e instructions:u true 2>&1 | grep -q '^[0-9]'; then
        echo perf
    else
        echo callgrind
    fi
}

# ---- benches on two cores, whose times compare only under equal labels -------------------------------------------

# bench_distance CORE CORE: near or far, at this moment.
bench_distance() {
    "$build/bench/common/cores" "$1" "$2" | cut -d' ' -f1
}

# bench_label BEFORE AFTER WAITED: what a run of a second can be compared with, when these were the distances before and
# after it, and a program of ours waited so many nanoseconds for its core. It waits 3 ms when nobody else is there.
bench_label() {
    if [ "$3" -gt 20000000 ]; then
        echo disturbed
    elif [ "$1" != "$2" ]; then
        echo mixed
    else
        echo "$1"
    fi
}

# bench_equal_runs FILE GROUP SERVERS: which of near and far has more runs of every one of the servers, and how many the
# one with fewest has. A run is a line "GROUP SERVER LABEL …".
bench_equal_runs() {
    awk -v group="$2" -v servers="$3" '
        $1 == group { runs[$2, $3]++ }
        function fewest(label,    server, least) {
            least = 1e9
            for (server in named)
                if (runs[server, label] + 0 < least)
                    least = runs[server, label] + 0
            return least
        }
        END {
            for (i = split(servers, list, " "); i; i--)
                named[list[i]]
            if (fewest("far") > fewest("near"))
                print "far", fewest("far")
            else
                print "near", fewest("near")
        }' "$1"
}

# ---- results -----------------------------------------------------------------------------------------------------

# bench_rows NAME: its input, one JSON object a line, replaces the rows of the bench NAME in bench.json, an array with
# one row a line.
bench_rows() {
    local file=$build/bench.json
    { grep '^{' "$file" 2>/dev/null | grep -vF "{\"bench\":\"$1\"," || true; cat; } |
        sed 's/,$//; $!s/$/,/; 1i [
            $a ]' >"$file.new"
    mv "$file.new" "$file"
}
