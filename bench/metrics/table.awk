# The table, and the rows for bench.json, which are appended to the file `rows`. Reads lines "ROW NS INSTRUCTIONS ALLOCATIONS
# OPERATIONS" of so many `rounds`.

{ add($1, "ns", $2); add($1, "allocations", $4) }
!($1 in seen) { seen[$1]; names[++count] = $1 }

function goal(name) {
    if (name != "metric_inc")
        return ""
    return "at most counter_read: " (median(name, "ns") <= median("counter_read", "ns") ? "reached" : "MISSED")
}

END {
    printf "\nmetrics: CPU ns of an operation through the shared library, medians of %d rounds\n\n", rounds
    printf "  %-21s %8s %8s\n", "", "ns", "allocs"
    for (i = 1; i <= count; i++) {
        printf "  %-21s %8.1f %8.2f  %s\n", names[i], median(names[i], "ns"), median(names[i], "allocations"), goal(names[i])
        printf "{\"bench\":\"metrics\",\"row\":\"%s\",\"unit\":\"ns\",\"weft\":%.2f,\"peers\":{},\"method\":\"CPU time, " \
            "median of %d rounds\"}\n", names[i], median(names[i], "ns"), rounds >>rows
    }
}
