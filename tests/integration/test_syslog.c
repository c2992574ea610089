/* The sink for syslog and a real daemon, rsyslogd, on a socket of the test's own. */
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>
#include <weft/weft.h>

#ifndef WEFT_TEST_SAN_valgrind /* it would check the daemon */

enum { BURST = 5000 };

static char folder[] = "/tmp/weft-syslog-XXXXXX", configuration[100], address[100], lock[100];

/* What it gets it writes to its stdout. */
static struct tool *daemon_start(void)
{
    FILE *stream;

    cr_assert_not_null(mkdtemp(folder));
    snprintf(configuration, sizeof configuration, "%s/conf", folder);
    snprintf(address, sizeof address, "%s/socket", folder);
    snprintf(lock, sizeof lock, "%s/pid", folder);
    stream = fopen(configuration, "we");
    cr_assert_not_null(stream);
    fprintf(stream,
            "module(load=\"imuxsock\" SysSock.Use=\"off\")\n"
            "input(type=\"imuxsock\" Socket=\"%s\" RateLimit.Interval=\"0\")\n"
            "template(name=\"line\" type=\"string\" string=\"%%syslogfacility-text%%.%%syslogseverity-text%% "
            "%%syslogtag%%%%msg%%\\n\")\n"
            "action(type=\"omfile\" file=\"/dev/stdout\" template=\"line\")\n",
            address);
    fclose(stream);
    return tool_run("/usr/sbin/rsyslogd", "-n", "-f", configuration, "-i", lock);
}

/* Its socket is there when it is ready. */
static weft_log_sink *connect_to_daemon(void)
{
    double deadline = deadline_new();
    weft_log_sink *sink = NULL;
    weft_error *error;

    while ((error = weft_log_sink_new_syslog(&sink, (weft_log_sink_options){.socket = address, .ident = "rooms",
                                                                            .facility = LOG_LOCAL3}))) {
        cr_assert(deadline_left_ms(deadline), "%s", weft_error_get_message(error));
        weft_error_unref(error);
        sched_yield();
    }
    return sink;
}

Test(syslog, a_real_daemon_gets_lines_with_their_levels_and_more_than_its_socket_holds, .timeout = 120)
{
    struct tool *daemon = daemon_start();
    weft_log_sink *sink = connect_to_daemon();

    weft_log_add_sink(sink);
    weft_log_set_level("", WEFT_LOG_DEBUG);
    weft_log_error("one");
    weft_log_warn("two");
    weft_log_info("three\nfour");
    weft_log_debug("five");
    for (int i = 0; i < BURST; i++)
        weft_log_info("burst %d", i);
    weft_log_info("the end");
    tool_wait_for_output(daemon, "^local3\\.info rooms\\[[0-9]+\\]: the end$");
    tool_wait_for_output(daemon, "^local3\\.err rooms\\[[0-9]+\\]: one$");
    tool_wait_for_output(daemon, "^local3\\.warning rooms\\[[0-9]+\\]: two$");
    tool_wait_for_output(daemon, "^local3\\.info rooms\\[[0-9]+\\]: three\\\\x0afour$");
    tool_wait_for_output(daemon, "^local3\\.debug rooms\\[[0-9]+\\]: five$");
    tool_wait_for_output(daemon, "^local3\\.info rooms\\[[0-9]+\\]: burst 4999$");
    cr_assert_eq(weft_log_sink_get_dropped(sink, WEFT_LOG_INFO), 0);
    weft_log_sink_free(sink);
    tool_signal(daemon, SIGTERM);
    cr_assert_eq(tool_finish(daemon, NULL), 0);
    unlink(configuration);
    unlink(address);
    unlink(lock);
    cr_assert_eq(rmdir(folder), 0);
}
#endif
