/* The house itself: what the other tests and every user lean on before the first line of weft runs. Faults are planted
 * in tests/planted/planted.c, and each must fail the run that meets it. */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Runs a shell command quietly; its exit status. BXFI_MAP would tell a Criterion inside that it is one of our tests. */
static int run(const char *format, const char *argument)
{
    char command[1024];
    int status;

    snprintf(command, sizeof command, format, argument);
    unsetenv("BXFI_MAP");
    status = system(command);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run_planted(const char *name)
{
    return run("exec tests/support/run \"$WEFT_BUILD_DIR\" planted --filter 'planted/%s' >/dev/null 2>&1", name);
}

Test(house, a_passing_run_passes)
{
    cr_assert_eq(run_planted("nothing"), 0);
}

Test(house, a_run_without_a_test_fails_and_says_so)
{
    cr_assert_eq(run("tests/support/run \"$WEFT_BUILD_DIR\" planted --filter 'planted/%s' 2>&1 | grep -q '^FAILED: no test'",
                     "nothng"), 0);
    cr_assert_neq(run_planted("nothng"), 0);
}

Test(house, a_failing_test_fails_the_run)
{
    cr_assert_neq(run_planted("failure"), 0);
}

Test(house, a_crash_fails_the_run)
{
    cr_assert_neq(run_planted("crash"), 0);
}

Test(house, a_hang_fails_the_run)
{
    cr_assert_neq(run_planted("hang"), 0);
}

Test(house, a_descriptor_left_open_fails_the_run)
{
    cr_assert_neq(run_planted("descriptor"), 0);
}

Test(house, a_live_object_left_behind_fails_the_run)
{
    cr_assert_neq(run_planted("live_object"), 0);
}

Test(house, each_rule_has_a_test)
{
    cr_assert_eq(run("exec tests/support/%s", "rules"), 0, "it says which have none");
}

#if defined WEFT_TEST_SAN_address || defined WEFT_TEST_SAN_valgrind
Test(house, lost_memory_fails_the_run)
{
    cr_assert_neq(run_planted("lost_memory"), 0);
}

Test(house, lost_memory_of_a_started_process_fails_the_run)
{
    cr_assert_neq(run_planted("lost_memory_of_a_child"), 0);
}
#endif

#ifdef WEFT_TEST_SAN_undefined
Test(house, undefined_behaviour_fails_the_run)
{
    cr_assert_neq(run_planted("undefined_behaviour"), 0);
}

Test(house, undefined_behaviour_of_a_started_process_fails_the_run)
{
    cr_assert_neq(run_planted("undefined_behaviour_of_a_child"), 0);
}
#endif

#ifdef WEFT_TEST_SAN_thread
Test(house, a_data_race_fails_the_run)
{
    cr_assert_neq(run_planted("race"), 0);
}
#endif

#ifndef WEFT_TEST_SANITIZED
/* What `make install` put below build/installed, as a user finds it: by pkg-config alone. */
static int with_installed(const char *command)
{
    return run("installed=$WEFT_BUILD_DIR/installed lib=$WEFT_BUILD_DIR/installed/usr/local/lib;"
               " export PKG_CONFIG_SYSROOT_DIR=$installed PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib; %s",
               command);
}

Test(house, a_program_outside_the_tree_links_the_shared_libraries)
{
    cr_assert_eq(with_installed("gcc docs/examples/rooms/*.c -o $WEFT_BUILD_DIR/rooms-shared"
                                " $(pkg-config --cflags --libs libweft-http)"), 0);
    cr_assert_eq(with_installed("ldd $WEFT_BUILD_DIR/rooms-shared | grep -q 'libweft-http.so.0 => '$lib"), 0);
    cr_assert_neq(with_installed("ldd $WEFT_BUILD_DIR/rooms-shared | grep 'not found'"), 0);
}

Test(house, a_program_outside_the_tree_links_the_static_libraries)
{
    cr_assert_eq(with_installed("gcc -static docs/examples/rooms/*.c -o $WEFT_BUILD_DIR/rooms-static"
                                " $(pkg-config --static --cflags --libs libweft-http)"), 0);
}

Test(house, a_program_in_cxx_uses_deferreds_errors_fibers_and_http)
{
    cr_assert_eq(with_installed("g++ -std=c++17 -Wall -Wextra -Werror tests/integration/cxx/program.cpp"
                                " -o $WEFT_BUILD_DIR/program-cxx $(pkg-config --cflags --libs libweft-http)"), 0);
    cr_assert_eq(with_installed("$WEFT_BUILD_DIR/program-cxx | diff tests/integration/cxx/output.txt -"), 0);
}

Test(house, a_coroutine_in_cxx_is_driven_with_the_core_alone)
{
    cr_assert_eq(with_installed("g++ -std=c++20 -Wall -Wextra -Werror tests/integration/cxx/coroutine.cpp"
                                " -o $WEFT_BUILD_DIR/coroutine-cxx $(pkg-config --cflags --libs libweft-core)"), 0);
    cr_assert_eq(with_installed("$WEFT_BUILD_DIR/coroutine-cxx | diff tests/integration/cxx/coroutine.txt -"), 0);
}

Test(house, the_shared_libraries_export_only_weft)
{
    cr_assert_neq(with_installed("nm -D --defined-only $lib/*.so | grep -E ' [A-Z] ' | grep -vE ' (weft|WEFT)_'"), 0);
}

#if (defined __CET__ && __CET__ & 1) || defined __ARM_FEATURE_BTI_DEFAULT
/* What the linker makes of the properties of all objects. Start-up code of a C library that has none takes them from the
 * shared library, which is not for us to mend: so it stays out. */
static int properties_match(const char *pattern)
{
    return run("cd \"$WEFT_BUILD_DIR\" && readelf=${CROSS:+$CROSS-linux-gnu-}readelf &&"
               " ${CROSS:+$CROSS-linux-gnu-}ld -shared --whole-archive lib/libweft.a -o properties.so &&"
               " $readelf -n properties.so | grep -q 'Properties: %s$'",
               pattern);
}

Test(house, the_library_is_fit_for_indirect_branch_tracking_and_does_not_ask_for_shadow_stacks)
{
#if defined __ARM_FEATURE_PAC_DEFAULT
    cr_assert_eq(properties_match("AArch64 feature: BTI, PAC"), 0);
#elif defined __aarch64__
    cr_assert_eq(properties_match("AArch64 feature: BTI"), 0);
#elif defined WEFT_FIBER_UCONTEXT /* the C library switches those too */
    cr_assert_eq(properties_match("x86 feature: IBT, SHSTK"), 0);
#else
    cr_assert_eq(properties_match("x86 feature: IBT"), 0);
#endif
}
#endif

Test(house, the_core_library_needs_only_the_c_library)
{
    cr_assert_neq(with_installed("readelf -d $lib/libweft-core.so | grep NEEDED | grep -v 'libc\\.so'"), 0);
}
#endif
