# The tables, and the rows for bench.json, which are appended to the file `rows`. Reads
#     time PROGRAM ROW VALUE [INSTRUCTIONS ALLOCATIONS OPERATIONS]
#     count PROGRAM ROW INSTRUCTIONS
# and is told of how many `rounds`, and which `counter` counted the instructions.

BEGIN {
    split("raw_switch yield_accounted yield_1000 ring_50000 spawn_finish spawn_own_context await_ready await_pending " \
        "park_cancel sleepers_start sleepers_cancel", costs, " ")
    split("parked_bytes parked_page_tables sleepers_bytes sleepers_page_tables", sizes, " ")
    split("limit boost_context ucontext go twisted", peers, " ")
    split("weft limit boost_context ucontext go twisted", programs, " ")

    # What is to be reached: weft / peer at most.
    goal["raw_switch", "boost_context"] = 0.7
    goal["yield_accounted", "counter_read"] = 1.33
    goal["yield_accounted", "go"] = 0.25
    goal["spawn_finish", "boost_context"] = goal["spawn_own_context", "boost_context"] = 0.7
    goal["spawn_finish", "go"] = goal["spawn_own_context", "go"] = 0.2
    goal["park_cancel", "twisted"] = 0.025
    # At most so much of weft's own.
    most["park_cancel", "value"] = 150
    most["yield_accounted", "instructions"] = 80
    most["parked_bytes", "value"] = 6 * 1024
    most_growth = 4
    all_sleepers = 200000
    most_mappings = 65529
}

$1 == "time" { add($3, $2 " value", $4) }
$1 == "time" && NF > 4 { add($3, $2 " allocations", $6) }
$1 == "time" && $5 ~ /^[0-9]/ && $3 != "ring_50000" { add($3, $2 " instructions", $5) }
$1 == "count" { add($3, $2 " instructions", $4) }

# The row of a peer that a row of the table is compared with.
function source(name, program) {
    if (name == "spawn_own_context" && program != "weft")
        return "spawn_finish"
    return name
}

function amount(name, program) {
    if (!known(name, program, "value"))
        return "-"
    if (value(name, program, "value") >= 100)
        return grouped(value(name, program, "value"))
    return cell(name, program, "value", "%.1f")
}

function compared(name, peer,    ratio) {
    if (!((name, peer) in goal) || !known(name, peer, "value"))
        return ""
    ratio = value(name, "weft", "value") / value(name, peer, "value")
    return sprintf("%s %.3g of %s %s, ", peer, ratio, goal[name, peer], verdict(ratio <= goal[name, peer]))
}

function bounded(name, what, unit) {
    if (!((name, what) in most) || !known(name, "weft", what))
        return ""
    return sprintf("%s %s %s, ", grouped(most[name, what]), unit, verdict(value(name, "weft", what) <= most[name, what]))
}

# "PEER RATIO of GOAL reached".
function verdicts(name, unit,    i, text, ratio) {
    if (name == "yield_accounted" && known("read_counter", "limit", "value")) {
        ratio = value(name, "weft", "value") / value("read_counter", "limit", "value")
        text = sprintf("counter read %.3g of %s %s, ", ratio, goal[name, "counter_read"],
            verdict(ratio <= goal[name, "counter_read"]))
    }
    for (i = 1; i in peers; i++)
        text = text compared(name, peers[i])
    text = text bounded(name, "value", unit) bounded(name, "instructions", "instr.")
    return substr(text, 1, length(text) - 2)
}

function growth(program) {
    return value("ring_50000", program, "value") / value("yield_accounted", program, "value")
}

function row(name, unit, weft, others, more, how) {
    printf "{\"bench\":\"fiber\",\"row\":\"%s\",\"unit\":\"%s\",\"weft\":%s,", name, unit, weft >>rows
    printf "\"peers\":{%s}%s,\"method\":\"%s\"}\n", substr(others, 2), more, how >>rows
}

function others(name, what, format,    i, text) {
    for (i = 1; i in peers; i++)
        if (known(name, peers[i], what))
            text = text sprintf(",\"%s\":%s", peers[i], json(name, peers[i], what, format))
    if (name == "yield_accounted" && what == "value" && known("read_counter", "limit", "value"))
        text = text ",\"counter_read\":" json("read_counter", "limit", "value", "%.2f")
    return text
}

function rows_of_cost(name,    more, how) {
    how = "CPU time, median of " rounds " rounds"
    if (name ~ /^sleepers/)
        how = how "; twisted: of 20,000"
    if (known(name, "weft", "allocations") && name !~ /^sleepers/)
        more = ",\"allocations\":" json(name, "weft", "allocations", "%.2f")
    row(name, "ns", json(name, "weft", "value", "%.2f"), others(name, "value", "%.2f"), more, how)
    if (known(name, "weft", "instructions"))
        row(name "_instructions", "instructions", json(name, "weft", "instructions", "%.0f"),
            others(name, "instructions", "%.0f"), "", counter)
}

function line(name, weft, limit, boost, ucontext, go, twisted, instructions, of_limit, goals) {
    printf "  %-20s %7s %7s %7s %8s %7s %8s %7s %6s  %s\n", name, weft, limit, boost, ucontext, go, twisted,
        instructions, of_limit, goals
}

function print_line(name, unit) {
    line(name, amount(name, "weft"), amount(name, "limit"), amount(name, "boost_context"), amount(name, "ucontext"),
        amount(name, "go"), amount(name, "twisted"), cell(name, "weft", "instructions", "%.0f"),
        cell(name, "limit", "instructions", "%.0f"), verdicts(name, unit))
}

function print_costs(    i) {
    printf "\nfiber: CPU ns of an operation, medians of %d rounds; user instructions: %s\n\n", rounds, counter
    line("", "weft", "limit", "boost", "ucontext", "go", "twisted", "instr.", "limit", "at most")
    for (i = 1; i in costs; i++) {
        print_line(costs[i], "ns")
        rows_of_cost(costs[i])
    }
    printf "\n"
    if (known("read_counter", "limit", "value"))
        printf "  a bare read of the time stamp counter takes %s ns\n", cell("read_counter", "limit", "value", "%.1f")
    printf "  of await_ready, %.1f ns, making and dropping what is awaited takes %.1f\n",
        value("await_ready", "weft", "value"), value("ready_made", "weft", "value")
    row("ready_made", "ns", json("ready_made", "weft", "value", "%.2f"), "", "", "what of await_ready is not the await")
}

function print_growth(    i, program, text) {
    for (i = 1; i in programs; i++) {
        program = programs[i]
        if (!known("ring_50000", program, "value") || !known("yield_accounted", program, "value"))
            continue
        printf "  a yield among 50,000 / between two: %s %.2f", program, growth(program)
        printf "%s\n", program == "weft" ? ", at most " most_growth " " verdict(growth(program) <= most_growth) : ""
        if (program != "weft")
            text = text sprintf(",\"%s\":%.2f", program, growth(program))
    }
    row("ring_growth", "ratio", sprintf("%.2f", growth("weft")), text, "", "ns of a yield among 50,000 / between two")
}

function print_memory(    i, name, count, mappings) {
    printf "\n  bytes of each fiber\n\n"
    for (i = 1; i in sizes; i++) {
        name = sizes[i]
        print_line(name, "bytes")
        row(name, "bytes", json(name, "weft", "value", "%.0f"), others(name, "value", "%.0f"), "",
            (name ~ /page_tables/ ? "VmPTE" : "Rss of smaps_rollup") (name ~ /^parked/ ? ", 100,000 parked" : \
                ", 200,000 asleep, twisted 20,000"))
    }
    count = value("sleepers_count", "weft", "value")
    mappings = value("sleepers_mappings", "weft", "value")
    printf "\n  asleep at once: %s of %s %s; mappings: %s, at most %s %s\n", grouped(count), grouped(all_sleepers),
        verdict(count == all_sleepers), grouped(mappings), grouped(most_mappings), verdict(mappings <= most_mappings)
    row("sleepers_count", "fibers", count, "", "", "asleep at once")
    row("sleepers_mappings", "mappings", mappings, "", "", "lines of /proc/self/maps, all asleep")
}

END {
    print_costs()
    print_growth()
    print_memory()
}
