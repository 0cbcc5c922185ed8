/* SPDX-License-Identifier: Apache-2.0
 *
 * The program `sim`: `sim SEEDS [FIRST]` runs that many seeds, one of them twice, and looks
 * whether bugs that are planted on purpose are found; writes TAP. `sim --seed N` replays one with
 * a trace, `sim --plant NAME SEEDS [FIRST]` shows what finds a planted bug.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/logging.h"
#include "common/parse.h"
#include "tests/sim/sim.h"

#define PLANT_SEEDS 400u /* in so many each planted bug must be found */

static const char *const plant_names[] = {
    [SIM_PLANT_NONE] = "none",
    [SIM_PLANT_NO_SYNC] = "no-sync",
    [SIM_PLANT_NO_VOTE] = "no-vote",
    [SIM_PLANT_EARLY_SAVED] = "early-saved",
};
#define PLANT_COUNT (sizeof plant_names / sizeof plant_names[0])

static char running[64]; /* what a failed CHECK of the server leaves to be said */

static void on_abort(int signal_number)
{
    (void)signal_number;
    ssize_t written = write(STDOUT_FILENO, running, strlen(running));
    _exit(written >= 0 ? 1 : 2);
}

static void run(uint64_t seed, enum sim_plant plant, bool trace, struct sim_totals *totals)
{
    (void)snprintf(running, sizeof running, "not ok 1 - seed %" PRIu64 " fails a CHECK\n", seed);
    sim_run(seed, plant, trace, totals);
}

static void run_all(uint64_t seeds, uint64_t first, enum sim_plant plant, struct sim_totals *totals)
{
    for (uint64_t i = 0; i < seeds; i++) {
        run(first + i, plant, false /* no trace */, totals);
    }
}

/* Whether a process of its own finds the planted bug. */
static bool is_found(enum sim_plant plant, uint64_t first)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        return false;
    }
    if (child == 0) {
        struct sim_totals totals = {0};
        if (freopen("/dev/null", "w", stdout) == NULL ||
            freopen("/dev/null", "w", stderr) == NULL) {
            _exit(2);
        }
        run_all(PLANT_SEEDS, first, plant, &totals);
        _exit(0);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1;
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
    printf("1..%d\n", (int)PLANT_COUNT + 1);
    run_all(seeds, first, SIM_PLANT_NONE, &totals);
    (void)snprintf(text, sizeof text,
                   "%" PRIu64 " seeds from %" PRIu64 " hold every invariant (%" PRIu64
                   " writes and %" PRIu64 " reads answered)",
                   seeds, first, totals.writes, totals.reads);
    failures += report(1, totals.writes > 0 && totals.reads > 0, text);
    run(first + seeds - 1, SIM_PLANT_NONE, false /* no trace */, &again);
    failures +=
        report(2, again.fingerprint == totals.fingerprint, "a seed gives the same run twice");
    for (size_t i = 1; i < PLANT_COUNT; i++) {
        (void)snprintf(text, sizeof text, "a planted bug is found: %s", plant_names[i]);
        failures += report((int)i + 2, is_found((enum sim_plant)i, first), text);
    }
    return failures == 0 ? 0 : 1;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [SEEDS [FIRST]] | sim --seed N | sim --plant NAME SEEDS [FIRST]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 200;
    uint64_t first = 1;
    struct sim_totals totals = {0};
    enum sim_plant plant = SIM_PLANT_NONE;
    bool trace = argc == 3 && strcmp(argv[1], "--seed") == 0;
    (void)signal(SIGABRT, on_abort);
    if (argc >= 4 && strcmp(argv[1], "--plant") == 0) {
        for (size_t i = 1; i < PLANT_COUNT; i++) {
            plant = strcmp(argv[2], plant_names[i]) == 0 ? (enum sim_plant)i : plant;
        }
        if (plant == SIM_PLANT_NONE) {
            return usage();
        }
        argc -= 2;
        argv += 2;
    }
    if ((trace && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK) || argc > 3 ||
        (!trace && argc > 1 && parse_u64(argv[1], 1, 100000000, &seeds) != ERR_OK) ||
        (!trace && argc > 2 && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK)) {
        return usage();
    }
    logging_set_level(trace ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    if (trace) {
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        run(first, plant, true /* trace */, &totals);
        printf("%" PRIu64 " writes and %" PRIu64 " reads answered\n", totals.writes, totals.reads);
        return 0;
    }
    if (plant != SIM_PLANT_NONE) {
        run_all(seeds, first, plant, &totals);
        return 0;
    }
    return test(seeds, first);
}
