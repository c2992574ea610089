# For the tables whose columns are programs: awk -f bench/common/table.awk -f bench/common/programs.awk -f bench/NAME/table.awk
# What add() was given has "PROGRAM WHAT" for a column. A bench has its own source(), which says whose row a program's is.

function known(name, program, what) {
    return many[source(name, program), program " " what] > 0
}

function value(name, program, what) {
    return median(source(name, program), program " " what)
}

function cell(name, program, what, format) {
    return known(name, program, what) ? sprintf(format, value(name, program, what)) : "-"
}

function json(name, program, what, format) {
    return known(name, program, what) ? sprintf(format, value(name, program, what)) : "null"
}

function verdict(reached) {
    return reached ? "reached" : "MISSED"
}
