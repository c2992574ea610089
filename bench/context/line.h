/* The log line of the rows about those: what a server says when it has answered. Limits write it as it is, in one piece. */
#ifndef BENCH_CONTEXT_LINE_H
#define BENCH_CONTEXT_LINE_H

#define LINE_FORMAT "%s %s: %d, %d bytes"
#define LINE_ARGUMENTS "GET", "/rooms/lobby", 200, 14
#define LINE_MESSAGE "GET /rooms/lobby: 200, 14 bytes"
#define LINE_CONTEXT "GET"
#define LINE_NUMBER 42

/* Times are as long as the clock's. */
#define LINE_TEXT_TIME "2026-03-01 12:00:00.250"
#define LINE_TEXT LINE_TEXT_TIME " INFO  GET-42 " LINE_MESSAGE "\n"
#define LINE_JSON_HEAD "{\"log\": \"" LINE_MESSAGE "\", \"namespace\": \"root\", \"level\": \"INFO\", \"time\": "
#define LINE_JSON_TAIL ", \"request\": \"GET-42\"}\n"
#define LINE_JSON LINE_JSON_HEAD "1772366400.250" LINE_JSON_TAIL

#endif
