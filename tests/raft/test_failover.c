/* SPDX-License-Identifier: Apache-2.0
 *
 * How long an ensemble is without a leader after the leader was killed: its connections break, a
 * hop of a message takes up to a millisecond, a sync of the disk up to five.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/raft_ensemble.h"

#define SEEDS      300u
#define SYNC_MS    5u
#define CLOSED_MS  3u
#define MS_MAX     5000u
#define MEDIAN_MAX 50u
#define P95_MAX    100u

/* Moves all by a millisecond: what lies in the network arrives, disks finish now and then. */
static void millisecond(struct ensemble *e, uint64_t *sync_at)
{
    size_t count = ensemble_packet_count(e);

    ensemble_wait(e, 1);
    for (size_t i = 0; i < count; i++) {
        ensemble_deliver(e, e->packets);
    }
    for (uint64_t id = 1; id <= e->count; id++) {
        struct ensemble_node *node = &e->node[id];
        if (node->raft == NULL) {
            continue;
        }
        if (node->saves != NULL && sync_at[id] == 0) {
            sync_at[id] = e->now_ms + 1 + (e->now_ms * 7 + id) % SYNC_MS;
        }
        if (sync_at[id] != 0 && e->now_ms >= sync_at[id]) {
            ensemble_sync(e, id); /* the log writes all that waits as one group */
            sync_at[id] = 0;
        }
        if (e->now_ms >= node->deadline_ms) {
            ensemble_tick(e, id);
        }
    }
}

static uint64_t leader_of(const struct ensemble *e)
{
    for (uint64_t id = 1; id <= e->count; id++) {
        if (e->node[id].raft != NULL && ensemble_status(e, id).leader_ready) {
            return id;
        }
    }
    return 0;
}

/* Milliseconds from the leader's death until another one is ready for writes. */
static uint64_t failover_ms(size_t nodes, uint64_t seed)
{
    struct ensemble *e = ensemble_new(nodes, 0, seed);
    uint64_t sync_at[ENSEMBLE_NODES_MAX + 1] = {0};
    uint64_t old = 0;
    uint64_t killed_ms = 0;
    uint64_t took_ms = 0;

    for (size_t i = 0; i < MS_MAX && (old == 0 || i < 2000); i++) {
        millisecond(e, sync_at);
        old = leader_of(e);
        if (old != 0 && i % 3 == 0) {
            (void)ensemble_propose(e, old, "work"); /* disks are busy when it happens */
        }
    }
    assert_true(old != 0);
    ensemble_crash(e, old, 0);
    killed_ms = e->now_ms;
    for (uint64_t id = 1; id <= e->count; id++) {
        uint64_t closed_ms = (seed + id * 5) % CLOSED_MS;
        while (e->now_ms < killed_ms + closed_ms && id != old) {
            millisecond(e, sync_at);
        }
        if (id != old) {
            ensemble_drop_all(e, old, id); /* a connection ends behind its last byte */
            (void)ensemble_step(e, id,
                                (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = old});
        }
    }
    while (leader_of(e) == 0 && e->now_ms - killed_ms < MS_MAX) {
        millisecond(e, sync_at);
    }
    took_ms = e->now_ms - killed_ms;
    ensemble_free(e);
    return took_ms;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void check_failover(size_t nodes)
{
    uint64_t ms[SEEDS];

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        ms[seed] = failover_ms(nodes, seed);
    }
    qsort(ms, SEEDS, sizeof(ms[0]), by_value);
    fprintf(stderr, "%zu nodes: median %" PRIu64 " ms, 95%% %" PRIu64 " ms, most %" PRIu64 " ms\n",
            nodes, ms[SEEDS / 2], ms[SEEDS * 95 / 100], ms[SEEDS - 1]);
    assert_true(ms[SEEDS / 2] <= MEDIAN_MAX);
    assert_true(ms[SEEDS * 95 / 100] <= P95_MAX);
}

static void a_killed_leader_is_replaced_within_100_ms_among_three(void **state)
{
    (void)state;
    check_failover(3);
}

static void a_killed_leader_is_replaced_within_100_ms_among_five(void **state)
{
    (void)state;
    check_failover(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_leader_is_replaced_within_100_ms_among_three),
        cmocka_unit_test(a_killed_leader_is_replaced_within_100_ms_among_five),
    };

    return cmocka_run_group_tests_name("raft failover", tests, NULL, NULL);
}
