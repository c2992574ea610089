# The tables, and the rows for bench.json, which are appended to the file `rows`. Reads
#     time PROGRAM ROW NS [INSTRUCTIONS ALLOCATIONS OPERATIONS]
#     count PROGRAM ROW INSTRUCTIONS
#     http DEPTH ROUND BUILD REQUESTS SECONDS CPU-NS
# and is told of how many `rounds`, and which `counter` counted the instructions.

BEGIN {
    split("change set_and_back yield child child_suffix with_context spawn spawn_with_context log_disabled log_text " \
        "log_json metric_inc", names, " ")
    split("limit getrusage", peers, " ")

    # What is to be reached: weft / peer at most.
    split("change set_and_back yield", changes, " ")
    for (i in changes) {
        goal[changes[i], "limit"] = 1.4
        goal[changes[i], "getrusage"] = 0.15
    }
    least_throughput = 0.98
    # From slabs.
    split("change set_and_back yield child with_context spawn spawn_with_context log_disabled metric_inc", \
        from_slabs, " ")
    for (i in from_slabs)
        allocates_nothing[from_slabs[i]] = 1
}

$1 == "time" { add($3, $2 " ns", $4) }
$1 == "time" && NF > 4 { add($3, $2 " allocations", $6) }
$1 == "time" && $5 ~ /^[0-9]/ { add($3, $2 " instructions", $5) }
# Of the limit, spawning in a context is the sum of the two.
$1 == "time" && $2 == "limit" && $3 == "own_context" { own_context = $4 }
$1 == "time" && $2 == "limit" && $3 == "spawn" { add("spawn_with_context", "limit ns", $4 + own_context) }
$1 == "count" { add($3, $2 " instructions", $4) }

# The two builds of a round are compared with each other alone.
$1 == "http" && $4 == "accounted" { requests = $5 / $6; cpu = $7 / $5 }
$1 == "http" && $4 == "unaccounted" { other_requests = $5 / $6; other_cpu = $7 / $5 }
$1 == "http" && ++seen[$2, $3] == 2 {
    add("http " $2, "throughput", requests / other_requests)
    add("http " $2, "cpu", cpu / other_cpu)
    add("http " $2, "ns", cpu)
}

# The row of a peer that a row of the table is compared with: a yield is a change, a context of one's own is an object.
function source(name, program) {
    if (program == "weft")
        return name
    if (name == "yield")
        return "change"
    if (name ~ /^(child|child_suffix|with_context)$/)
        return program == "limit" ? "own_context" : "set_and_back"
    if (name == "spawn_with_context" && program == "getrusage")
        return "set_and_back"
    return name
}

function ns(name, program) {
    if (!known(name, program, "ns"))
        return "-"
    return value(name, program, "ns") < 100 ? cell(name, program, "ns", "%.1f") : grouped(value(name, program, "ns"))
}

function ratio(name, peer) {
    return value(name, "weft", "ns") / value(name, peer, "ns")
}

function ratio_cell(name, peer) {
    return known(name, peer, "ns") ? sprintf("%.2f", ratio(name, peer)) : "-"
}

function verdicts(name,    i, peer, text) {
    for (i = 1; i in peers; i++) {
        peer = peers[i]
        if ((name, peer) in goal)
            text = text peer " " goal[name, peer] " " verdict(ratio(name, peer) <= goal[name, peer]) ", "
    }
    if (name in allocates_nothing)
        text = text "no allocation " verdict(value(name, "weft", "allocations") < 0.001) ", "
    return substr(text, 1, length(text) - 2)
}

function row(name, unit, weft, others, more, how) {
    printf "{\"bench\":\"context\",\"row\":\"%s\",\"unit\":\"%s\",\"weft\":%s,", name, unit, weft >>rows
    printf "\"peers\":{%s}%s,\"method\":\"%s\"}\n", substr(others, 2), more, how >>rows
}

function rows_of(name,    i, others) {
    for (i = 1; i in peers; i++)
        if (known(name, peers[i], "ns"))
            others = others sprintf(",\"%s\":%s", peers[i], json(name, peers[i], "ns", "%.2f"))
    row(name, "ns", json(name, "weft", "ns", "%.2f"), others, ",\"allocations\":" json(name, "weft", "allocations", "%.2f"),
        "CPU time, median of " rounds " rounds")

    others = ""
    if (known(name, "limit", "instructions"))
        others = ",\"limit\":" json(name, "limit", "instructions", "%.0f")
    row(name "_instructions", "instructions", json(name, "weft", "instructions", "%.0f"), others, "", counter)
}

function line(name, weft, limit, getrusage, to_limit, to_getrusage, instructions, of_limit, allocs, goals) {
    printf "  %-19s %7s %7s %10s %8s %12s %8s %6s %7s  %s\n", name, weft, limit, getrusage, to_limit, to_getrusage,
        instructions, of_limit, allocs, goals
}

function print_costs(    i, name) {
    printf "\ncontext: CPU ns of an operation through the shared library, medians of %d rounds\n", rounds
    printf "  user instructions: %s; a set_and_back is two changes\n\n", counter
    line("", "weft", "limit", "getrusage", "/ limit", "/ getrusage", "instr.", "limit", "allocs", "at most")
    for (i = 1; i in names; i++) {
        name = names[i]
        line(name, ns(name, "weft"), ns(name, "limit"), ns(name, "getrusage"), ratio_cell(name, "limit"),
            ratio_cell(name, "getrusage"), cell(name, "weft", "instructions", "%.0f"),
            cell(name, "limit", "instructions", "%.0f"), cell(name, "weft", "allocations", "%.2f"), verdicts(name))
        rows_of(name)
    }
}

function quartile(name, what, part,    n) {
    n = many[name, what]
    return values[name, what, 1 + int(part * (n - 1) / 4 + 0.5)]
}

function print_http(depth,    name, how, throughput, cpu) {
    name = "http " depth
    throughput = median(name, "throughput")
    cpu = median(name, "cpu")
    how = "median of the ratios of " many[name, "cpu"] " pairs of runs"
    printf "  %-12s %9.3f (%.3f to %.3f) %9.3f (%.3f to %.3f) %12s  %s\n", depth == 1 ? "plaintext" : "pipelined " depth,
        throughput, quartile(name, "throughput", 1), quartile(name, "throughput", 3),
        cpu, quartile(name, "cpu", 1), quartile(name, "cpu", 3), grouped(median(name, "ns")),
        depth == 1 ? "throughput at least " least_throughput " " verdict(throughput >= least_throughput) ", CPU at most " \
            sprintf("%.3f", 1 / least_throughput) " " verdict(cpu <= 1 / least_throughput) : ""
    row(depth == 1 ? "http_throughput" : "http_pipelined_throughput", "ratio", sprintf("%.4f", throughput), "", "", how)
    row(depth == 1 ? "http_cpu" : "http_pipelined_cpu", "ratio", sprintf("%.4f", cpu), "", "", how)
}

END {
    print_costs()
    printf "\n  HTTP with accounting / without: medians of pairs of runs, and their quartiles\n\n"
    printf "  %-12s %26s %26s %12s\n", "", "requests/s", "CPU of a request", "ns with"
    print_http(1)
    print_http(16)
}
