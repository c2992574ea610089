# The tables, and the rows for bench.json, which are appended to the file `rows`. Reads
#     time PROGRAM ROW NS [INSTRUCTIONS ALLOCATIONS OPERATIONS]
#     count PROGRAM ROW INSTRUCTIONS
# and is told of how many `rounds`, and which `counter` counted the instructions.

BEGIN {
    split("create create_add_fire_free other_context one_more_callback chain_link errback_cancel chained_cancel " \
        "gather_10 lock_pair queue_pair timeout_pair million_callbacks million_links", names, " ")
    split("limit node twisted", peers, " ")
    split("weft limit node twisted", programs, " ")
    split("1000 10000 100000 1000000", sizes, " ")

    # What is to be reached: weft / peer at most.
    for (i = 1; i in names; i++)
        goal[names[i], "twisted"] = 0.025
    goal["create_add_fire_free", "limit"] = 2
    goal["create_add_fire_free", "node"] = 0.5
    goal["create_add_fire_free", "twisted"] = 0.016
    most_growth = 2
    # Rows with at most two callbacks on a deferred, and no errors: no allocation.
    split("create create_add_fire_free other_context one_more_callback chain_link", from_slabs, " ")
    for (i in from_slabs)
        allocates_nothing[from_slabs[i]] = 1
}

$1 == "time" { take("ns", $4) }
$1 == "time" && NF > 4 { take("allocations", $6) }
$1 == "time" && $5 ~ /^[0-9]/ { take("instructions", $5) }
$1 == "count" { take("instructions", $4) }

# One more callback is what two cost more than one, in the same run.
function take(what, amount) {
    last[$2, $3, what] = amount
    if ($3 == "two_callbacks")
        add("one_more_callback", $2 " " what, amount - last[$2, "create_add_fire_free", what])
    else
        add($3, $2 " " what, amount)
}

# The row of the programs' that a row of the table is; Twisted would take minutes for a million.
function source(name, program) {
    if (name !~ /^million_/)
        return name
    sub(/^million_/, "", name)
    return name (program == "twisted" ? "_100000" : "_1000000")
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
    if (!known(name, "weft", "ns") || !known(name, peer, "ns"))
        return "-"
    return sprintf(ratio(name, peer) < 0.1 ? "%.4f" : "%.2f", ratio(name, peer))
}

function verdicts(name,    i, peer, text) {
    if (!known(name, "weft", "ns"))
        return "not measured"
    for (i = 1; i in peers; i++) {
        peer = peers[i]
        if ((name, peer) in goal && known(name, peer, "ns"))
            text = text peer " " goal[name, peer] " " verdict(ratio(name, peer) <= goal[name, peer]) ", "
    }
    if (name in allocates_nothing)
        text = text "no allocation " verdict(value(name, "weft", "allocations") < 0.001) ", "
    return substr(text, 1, length(text) - 2)
}

# By how much the cost of each grows from the fewest to the most.
function growth(kind, program) {
    return value("million_" kind, program, "ns") / value(kind "_1000", program, "ns")
}

function row(name, unit, weft, others, more, how) {
    printf "{\"bench\":\"deferred\",\"row\":\"%s\",\"unit\":\"%s\",\"weft\":%s,", name, unit, weft >>rows
    printf "\"peers\":{%s}%s,\"method\":\"%s\"}\n", substr(others, 2), more, how >>rows
}

function rows_of(name,    i, others, allocations, how) {
    for (i = 1; i in peers; i++)
        if (known(name, peers[i], "ns"))
            others = others sprintf(",\"%s\":%s", peers[i], json(name, peers[i], "ns", "%.2f"))
    allocations = ",\"allocations\":" json(name, "weft", "allocations", "%.2f")
    how = "CPU time, median of " rounds " rounds"
    if (name == "one_more_callback")
        how = how "; two callbacks less one"
    else if (name ~ /^million/)
        how = how "; twisted: of 100,000"
    row(name, "ns", json(name, "weft", "ns", "%.2f"), others, allocations, how)

    others = ""
    if (known(name, "limit", "instructions"))
        others = ",\"limit\":" json(name, "limit", "instructions", "%.0f")
    row(name "_instructions", "instructions", json(name, "weft", "instructions", "%.0f"), others, "", counter)
}

function line(name, weft, limit, node, twisted, to_limit, to_node, to_twisted, instructions, of_limit, allocs, goals) {
    printf "  %-21s %7s %7s %7s %9s %8s %8s %10s %8s %6s %7s  %s\n", name, weft, limit, node, twisted, to_limit, to_node,
        to_twisted, instructions, of_limit, allocs, goals
}

function print_costs(    i, name) {
    printf "\ndeferred: CPU ns of an operation through the shared library, medians of %d rounds\n", rounds
    printf "  user instructions: %s; million_…: of each; twisted has 100,000 there\n\n", counter
    line("", "weft", "limit", "node", "twisted", "/ limit", "/ node", "/ twisted", "instr.", "limit", "allocs", "at most")
    for (i = 1; i in names; i++) {
        name = names[i]
        line(name, ns(name, "weft"), ns(name, "limit"), ns(name, "node"), ns(name, "twisted"), ratio_cell(name, "limit"),
            ratio_cell(name, "node"), ratio_cell(name, "twisted"), cell(name, "weft", "instructions", "%.0f"),
            cell(name, "limit", "instructions", "%.0f"), cell(name, "weft", "allocations", "%.2f"), verdicts(name))
        rows_of(name)
    }
}

function print_growth(kind, what,    i, k, program, others) {
    printf "\n  %-21s", what
    for (k = 1; k in sizes; k++)
        printf " %9s", grouped(sizes[k])
    printf " %9s\n", "growth"
    for (i = 1; i in programs; i++) {
        program = programs[i]
        printf "  %-21s", program
        for (k = 1; k in sizes; k++)
            printf " %9s", ns(kind "_" sizes[k], program)
        printf " %9.2f", growth(kind, program)
        if (program == "weft")
            printf "  at most %s %s", most_growth, verdict(growth(kind, program) <= most_growth)
        else
            others = others sprintf(",\"%s\":%.2f", program, growth(kind, program))
        printf "\n"
    }
    row("million_" kind "_growth", "ratio", sprintf("%.2f", growth(kind, "weft")), others, "",
        "ns of each of 1,000,000 / of 1,000; twisted: of 100,000 / of 1,000")
}

END {
    print_costs()
    print_growth("callbacks", "ns per callback, of")
    print_growth("links", "ns per link, of")
}
