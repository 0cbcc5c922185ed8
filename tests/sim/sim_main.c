/* SPDX-License-Identifier: Apache-2.0
 *
 * The program `sim`: `sim SEEDS [FIRST]` runs that many seeds, the last one twice; writes TAP.
 * `sim --seed N` replays one with a trace. Whether it would find anything: sim_teeth.c.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/logging.h"
#include "common/parse.h"
#include "tests/sim/sim.h"

static char running[64]; /* what a failed CHECK of the server leaves to be said */

static void on_abort(int signal_number)
{
    (void)signal_number;
    ssize_t written = write(STDOUT_FILENO, running, strlen(running));
    _exit(written >= 0 ? 1 : 2);
}

static void run(uint64_t seed, bool trace, struct sim_totals *totals)
{
    (void)snprintf(running, sizeof running, "not ok 1 - seed %" PRIu64 " fails a CHECK\n", seed);
    sim_run(seed, PLANT_NONE, trace, totals);
}

static int report(int number, bool is_ok, const char *what)
{
    printf("%s %d - %s\n", is_ok ? "ok" : "not ok", number, what);
    (void)fflush(stdout);
    return is_ok ? 0 : 1;
}

static int test(uint64_t seeds, uint64_t first)
{
    struct sim_totals totals = {0};
    struct sim_totals again = {0};
    char text[160];
    int failures = 0;
    printf("1..2\n");
    for (uint64_t i = 0; i < seeds; i++) {
        run(first + i, false /* no trace */, &totals);
    }
    (void)snprintf(text, sizeof text,
                   "%" PRIu64 " seeds from %" PRIu64 " hold every invariant (%" PRIu64
                   " writes and %" PRIu64 " reads answered)",
                   seeds, first, totals.writes, totals.reads);
    failures += report(1, totals.writes > 0 && totals.reads > 0, text);
    run(first + seeds - 1, false /* no trace */, &again);
    failures +=
        report(2, again.fingerprint == totals.fingerprint, "a seed gives the same run twice");
    return failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 200;
    uint64_t first = 1;
    struct sim_totals totals = {0};
    bool trace = argc == 3 && strcmp(argv[1], "--seed") == 0;
    (void)signal(SIGABRT, on_abort);
    if ((trace && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK) || argc > 3 ||
        (!trace && argc > 1 && parse_u64(argv[1], 1, 100000000, &seeds) != ERR_OK) ||
        (!trace && argc > 2 && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK)) {
        fprintf(stderr, "usage: sim [SEEDS [FIRST]] | sim --seed N\n");
        return 2;
    }
    logging_set_level(trace ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    if (trace) {
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        run(first, true /* trace */, &totals);
        printf("%" PRIu64 " writes and %" PRIu64 " reads answered\n", totals.writes, totals.reads);
        return 0;
    }
    return test(seeds, first);
}
