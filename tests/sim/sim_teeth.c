/* SPDX-License-Identifier: Apache-2.0
 *
 * The program `sim-teeth`: would the simulator find a bug? `sim-teeth SEEDS [FIRST]` plants one bug
 * of common/plant.h after the other and runs seeds until one fails; a bug that holds out for SEEDS
 * seeds is a tooth that is missing. Writes TAP. `sim-teeth --plant NAME --seed N` shows with a trace
 * how a seed meets a bug. Built with QUORUMFS_PLANTS, see `make sim-teeth`.
 *
 * Each seed runs in a process of its own, each bug has a process that counts. A seed that fails
 * without the bug, too, has found something else and does not count.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/parse.h"
#include "tests/sim/sim.h"

#define GREEN_SEEDS  50u /* that must hold without a bug */
#define SEED_SECONDS 60u
#define JOBS_MAX     64u
#define TEXT_BYTES   512u

enum plant planted;

struct tooth {
    const char *name;
    const char *what;
};

static const struct tooth teeth[PLANT_COUNT] = {
    [PLANT_NONE] = {"none", "nothing is planted"},
    [PLANT_NO_SYNC] = {"no-sync", "the disk says synced and has not done it"},
    [PLANT_VOTE_NOT_SAVED] = {"vote-not-saved", "term and vote are not written"},
    [PLANT_EARLY_SAVED] = {"early-saved", "entries are acknowledged before they are durable"},
    [PLANT_FOLDER_NOT_SYNCED] = {"folder-not-synced", "the folder of the log is not synced"},
    [PLANT_TRUNCATION_NOT_SYNCED] = {"truncation-not-synced", "a truncation is not durable"},
    [PLANT_WIPED_VOTER] = {"wiped-voter", "a voter whose folder was wiped goes on voting"},
    [PLANT_INDEX_APART] = {"index-apart", "the applied index is not flushed with its rows"},
    [PLANT_DEDUP_DROPPED] = {"dedup-dropped", "kept answers are lost when the leader changes"},
    [PLANT_EVENT_LATE] = {"event-late", "data is shown before the event of its change"},
    [PLANT_RESYNC_LOST] = {"resync-lost", "what changed during a reconnect is not told"},
    [PLANT_SNAPSHOT_TWICE] = {"snapshot-twice", "an entry is applied again after a snapshot"},
    [PLANT_OLD_TERM_COMMIT] = {"old-term-commit",
                               "entries of older terms are committed by counting"},
    [PLANT_HEARTBEAT_COMMIT] = {"heartbeat-commit", "a heartbeat commits beyond what is equal"},
    [PLANT_VOTE_EARLY] = {"vote-early", "a vote is told before it is durable"},
    [PLANT_VOTE_ANY_LOG] = {"vote-any-log", "a candidate with an older log gets votes"},
    [PLANT_APPLY_UNSYNCED] = {"apply-unsynced", "entries are applied that are not durable here"},
    [PLANT_READ_NO_ROUND] = {"read-no-round", "a read index is given without asking a majority"},
    [PLANT_READ_BEFORE_NOOP] = {"read-before-noop", "a leader is ready before its no-op commits"},
    [PLANT_ACK_UNVERIFIED] = {"ack-unverified", "entries of an older leader are acknowledged"},
    [PLANT_EPOCH_IGNORED] = {"epoch-ignored", "numbers of a session are taken in any epoch"},
    [PLANT_CLOSE_OLD_EPOCH] = {"close-old-epoch", "a session that moved is closed by its past"},
    [PLANT_EPHEMERALS_STAY] = {"ephemerals-stay", "ephemeral nodes outlive their session"},
    [PLANT_EXPIRE_NEW_LEADER] = {"expire-new-leader", "a new leader gives sessions no time"},
    [PLANT_SERVE_EARLY] = {"serve-early", "a replica serves before it has caught up"},
    [PLANT_LEASE_ALONE] = {"lease-alone", "a replica that is cut off renews leases"},
    [PLANT_RECLAIM_NO_PROMISE] = {"reclaim-no-promise", "a promise is not made again"},
    [PLANT_FORGET_CROSSES] = {"forget-crosses", "a forget takes back a newer promise"},
    [PLANT_COMPACT_UNFLUSHED] = {"compact-unflushed",
                                 "the log loses what the store has not flushed"},
};

/* ---- one seed ---- */

static void on_abort(int signal_number)
{
    static const char text[] = "a CHECK of the replica\n";
    (void)signal_number;
    ssize_t written = write(STDOUT_FILENO, text, sizeof text - 1);
    _exit(written >= 0 ? 1 : 2);
}

static _Noreturn void run_in_child(enum plant plant, uint64_t seed, int out)
{
    struct sim_totals totals = {0};
    CHECK(dup2(out, STDOUT_FILENO) >= 0);
    if (freopen("/dev/null", "w", stderr) == NULL) {
        _exit(2);
    }
    (void)signal(SIGABRT, on_abort);
    (void)alarm(SEED_SECONDS);
    planted = plant;
    sim_run(seed, plant, false /* no trace */, &totals);
    _exit(0);
}

/* What the failed check said, without the seed: `... us: what (a, b)` or a line of on_abort. */
static void shorten(char *text)
{
    char *from = strstr(text, " us: ");
    char *to = strstr(text, " (");
    from = from != NULL ? from + strlen(" us: ") : text;
    if (to != NULL && to > from) {
        *to = '\0';
    }
    from[strcspn(from, "\n")] = '\0';
    memmove(text, from, strlen(from) + 1);
}

/* True: the seed fails, `why` says of what. */
static bool fails(enum plant plant, uint64_t seed, char why[static TEXT_BYTES])
{
    int ends[2];
    size_t len = 0;
    ssize_t got = 1;
    int status = 0;
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_in_child(plant, seed, ends[1]);
    }
    (void)close(ends[1]);
    while (got > 0 && len < TEXT_BYTES - 1) {
        got = read(ends[0], why + len, TEXT_BYTES - 1 - len);
        len += got > 0 ? (size_t)got : 0;
    }
    (void)close(ends[0]);
    why[len] = '\0';
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
        (void)snprintf(why, TEXT_BYTES, "%s",
                       WTERMSIG(status) == SIGALRM ? "it does not end" : "it crashes");
        return true;
    }
    shorten(why);
    return WEXITSTATUS(status) != 0;
}

/* ---- one bug ---- */

/* Tells in one line how it went; returns whether all is as it should be. */
static bool hunt(enum plant plant, uint64_t seeds, uint64_t first, char line[static TEXT_BYTES])
{
    char why[TEXT_BYTES];
    char other[TEXT_BYTES];
    const struct tooth *tooth = &teeth[plant];
    for (uint64_t i = 0; i < seeds; i++) {
        if (fails(plant, first + i, why) && !fails(PLANT_NONE, first + i, other)) {
            (void)snprintf(line, TEXT_BYTES,
                           "%s: %s: found by seed %" PRIu64 " after %" PRIu64 ": %.200s",
                           tooth->name, tooth->what, first + i, i + 1, why);
            return true;
        }
    }
    (void)snprintf(line, TEXT_BYTES, "%s: %s: not found in %" PRIu64 " seeds", tooth->name,
                   tooth->what, seeds);
    return false;
}

/* The same build without a bug: else everything would be found. */
static bool graze(uint64_t first, char line[static TEXT_BYTES])
{
    char why[TEXT_BYTES];
    for (uint64_t i = 0; i < GREEN_SEEDS; i++) {
        if (fails(PLANT_NONE, first + i, why)) {
            (void)snprintf(line, TEXT_BYTES, "without a bug seed %" PRIu64 " fails: %.200s",
                           first + i, why);
            return false;
        }
    }
    (void)snprintf(line, TEXT_BYTES, "without a bug %u seeds hold", GREEN_SEEDS);
    return true;
}

/* ---- all bugs, some at a time ---- */

struct job {
    pid_t pid; /* 0: free */
    FILE *said;
};

static void job_begin(struct job *job, enum plant plant, uint64_t seeds, uint64_t first)
{
    job->said = tmpfile();
    CHECK(job->said != NULL);
    job->pid = fork();
    CHECK(job->pid >= 0);
    if (job->pid == 0) {
        char line[TEXT_BYTES];
        bool is_ok = plant == PLANT_NONE ? graze(first, line) : hunt(plant, seeds, first, line);
        (void)fputs(line, job->said);
        (void)fflush(job->said);
        _exit(is_ok ? 0 : 1);
    }
}

static bool job_end(struct job *jobs, size_t count, size_t number)
{
    char line[TEXT_BYTES] = "";
    int status = 0;
    pid_t pid = wait(&status);
    size_t i = 0;
    while (i < count && jobs[i].pid != pid) {
        i++;
    }
    CHECK(pid > 0 && i < count);
    rewind(jobs[i].said);
    if (fgets(line, sizeof line, jobs[i].said) == NULL) {
        (void)snprintf(line, sizeof line, "a hunt ended without a word");
    }
    (void)fclose(jobs[i].said);
    jobs[i].pid = 0;
    bool is_ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%s %zu - %s\n", is_ok ? "ok" : "not ok", number, line);
    (void)fflush(stdout);
    return is_ok;
}

static int test(uint64_t seeds, uint64_t first)
{
    struct job jobs[JOBS_MAX] = {0};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t at_once = processors < 1 ? 1 : processors > JOBS_MAX ? JOBS_MAX : (size_t)processors;
    size_t running = 0;
    size_t ended = 0;
    size_t failures = 0;
    printf("1..%d\n", (int)PLANT_COUNT);
    (void)fflush(stdout);
    for (int plant = PLANT_NONE; ended < PLANT_COUNT;) {
        if (running == at_once || plant == PLANT_COUNT) {
            failures += job_end(jobs, at_once, ++ended) ? 0 : 1;
            running--;
            continue;
        }
        size_t i = 0;
        while (jobs[i].pid != 0) {
            i++;
        }
        job_begin(&jobs[i], (enum plant)plant, seeds, first);
        plant++;
        running++;
    }
    return failures == 0 ? 0 : 1;
}

/* ---- */

static int show(const char *name, uint64_t seed)
{
    struct sim_totals totals = {0};
    size_t plant = 0;
    while (plant < PLANT_COUNT && strcmp(name, teeth[plant].name) != 0) {
        plant++;
    }
    if (plant == PLANT_COUNT) {
        fprintf(stderr, "sim-teeth: no such bug: %s\n", name);
        return 2;
    }
    logging_set_level(LOG_LEVEL_INFO);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    planted = (enum plant)plant;
    sim_run(seed, planted, true /* trace */, &totals);
    printf("nothing was found\n");
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 2000;
    uint64_t first = 1;
    bool is_show = argc == 5 && strcmp(argv[1], "--plant") == 0 && strcmp(argv[3], "--seed") == 0;
    logging_set_level(LOG_LEVEL_ERROR);
    if (is_show && parse_u64(argv[4], 0, UINT64_MAX, &first) == ERR_OK) {
        return show(argv[2], first);
    }
    if (is_show || argc > 3 || (argc > 1 && parse_u64(argv[1], 1, 100000000, &seeds) != ERR_OK) ||
        (argc > 2 && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK)) {
        fprintf(stderr, "usage: sim-teeth [SEEDS [FIRST]] | sim-teeth --plant NAME --seed N\n");
        return 2;
    }
    return test(seeds, first);
}
