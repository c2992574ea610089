# Functions for the tables of the benches: awk -f bench/common/table.awk -f bench/NAME/table.awk

# Keeps the values of each row's column in order, so that the middle one is at hand.
function add(row, column, value,    i) {
    for (i = ++many[row, column]; i > 1 && values[row, column, i - 1] > value; i--)
        values[row, column, i] = values[row, column, i - 1]
    values[row, column, i] = value
}

function median(row, column,    n) {
    n = many[row, column]
    return (values[row, column, int((n + 1) / 2)] + values[row, column, int(n / 2) + 1]) / 2
}

# 1234567 as 1,234,567.
function grouped(number,    text, tail) {
    text = sprintf("%.0f", number)
    while (length(text) > 3) {
        tail = "," substr(text, length(text) - 2) tail
        text = substr(text, 1, length(text) - 3)
    }
    return text tail
}
