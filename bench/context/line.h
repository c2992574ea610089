/* The log line of the rows about those: what a server says when it has answered. Limits write it as it is, in one piece. */
#ifndef BENCH_CONTEXT_LINE_H
#define BENCH_CONTEXT_LINE_H

#define LINE_FORMAT "%s %s: %d, %d bytes"
#define LINE_ARGUMENTS "GET", "/rooms/lobby", 200, 14
#define LINE_MESSAGE "GET /rooms/lobby: 200, 14 bytes"
#define LINE_CONTEXT "GET"
#define LINE_NUMBER 42

#define LINE_TEXT "2026-03-01 12:00:00.250 INFO  GET-42 " LINE_MESSAGE "\n"

#endif
