# The table of one pipelining depth, and its rows for bench.json, which are appended to the file `rows`. Reads
#     SERVER RESPONSE-BYTES                          (sizes)
#     DEPTH SERVER REQUESTS INSTRUCTIONS             (counts)
#     DEPTH SERVER LABEL REQUESTS SECONDS CPU-NS     (runs)
# and is told the `depth`, by which `method` instructions were counted, and in `equal` which label is compared and how
# many runs each server has at least.

BEGIN {
    split(equal, verdict, " ")
    known["instructions"] = 1
    known["rps"] = known["cpu"] = known["busy"] = verdict[2] >= 3
}

NF == 2 { size[$1] = $2 }
NF == 4 && $1 == depth { add($2, "instructions", $4 / $3) }
NF == 6 && $1 == depth { labelled[$3]++ }
NF == 6 && $1 == depth && $3 == verdict[1] {
    add($2, "rps", $4 / $5)
    add($2, "busy", $6 / $5 / 1e7)
    add($2, "cpu", $6 / $4)
}

function cell(server, column) {
    return known[column] ? grouped(median(server, column)) : "no verdict"
}

function ratio(column, peer) {
    return known[column] ? sprintf("%.2f", median("weft", column) / median(peer, column)) : "-"
}

function line(name, rps, busy, cpu, instructions, bytes) {
    printf "  %-14s %12s %11s %15s %26s %15s\n", name, rps, busy, cpu, instructions, bytes
}

function json(server, column) {
    return known[column] ? sprintf("%.0f", median(server, column)) : "null"
}

function row(suffix, column, unit, how,    name) {
    name = (depth == 1 ? "plaintext" : "pipelined_" depth) suffix
    printf "{\"bench\":\"http\",\"row\":\"%s\",\"unit\":\"%s\",\"weft\":%s,\"peers\":{\"nginx\":%s,", name, unit,
        json("weft", column), json("nginx", column) >>rows
    printf "\"limit\":%s},\"method\":\"%s\"}\n", json("limit", column), how >>rows
}

END {
    times = known["cpu"] ? "medians of " verdict[2] " or more " verdict[1] " runs each" \
        : "no verdict, too few equal runs"
    for (label in labelled)
        all = all (all ? ", " : "") labelled[label] " " label

    printf "\nhttp: GET / answered with 14 bytes, %s\n", depth == 1 ? "one request at a time" : depth " pipelined"
    printf "  times: %s (%s); instructions: %s\n\n", times, all, method
    line("", "requests/s", "core busy %", "CPU ns/request", "user instructions/request", "response bytes")
    split("weft nginx limit", servers, " ")
    for (i = 1; i in servers; i++)
        line(servers[i], cell(servers[i], "rps"), cell(servers[i], "busy"), cell(servers[i], "cpu"),
            cell(servers[i], "instructions"), size[servers[i]])
    for (i = 2; i in servers; i++)
        line("weft / " servers[i], ratio("rps", servers[i]), "", ratio("cpu", servers[i]),
            ratio("instructions", servers[i]), "")

    row("", "instructions", "instructions/request", method)
    row("_cpu", "cpu", "ns/request", "schedstat, " times)
    row("_rps", "rps", "requests/s", "wrk, " times)
}
