/* SPDX-License-Identifier: Apache-2.0
 *
 * Random runs of an ensemble of cores: lost, doubled and reordered messages, partitions, crashes
 * that lose what was not synced, slow disks. The rules of Raft are checked at every step
 * (raft_ensemble_rules.c); at the end the ensemble is healed and must agree. Also: the same run
 * twice has the same effects.
 *
 * RAFT_SEED=n runs one seed and prints its trace, RAFT_SEEDS=n that many.
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

#include "common/check.h"
#include "common/parse.h"
#include "tests/lib/raft_ensemble.h"

#define SEEDS        300u
#define STEPS        10000u
#define HEAL_MS_MAX  20000u
#define PACKETS_MAX  400u
#define READS_MAX    4096u
#define CHANCE_WHOLE 1000u

struct run {
    struct ensemble *e;
    uint64_t random;
    uint64_t loss; /* chances in a thousand */
    uint64_t doubled;
    uint64_t reordered;
    uint64_t crash;
    uint64_t slow_disk;
    uint64_t change;
    uint64_t compact;
    bool cut[ENSEMBLE_NODES_MAX + 1][ENSEMBLE_NODES_MAX + 1]; /* from, to */
    uint64_t read_floor[READS_MAX];
    uint64_t read_count;
    uint64_t proposals;
    uint64_t reads_answered;
    uint64_t changes;
    uint64_t snapshots;
};

static uint64_t draw(struct run *run, uint64_t below)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return run->random % below;
}

static bool chance(struct run *run, uint64_t thousandths)
{
    return draw(run, CHANCE_WHOLE) < thousandths;
}

static uint64_t any_node(struct run *run)
{
    return 1 + draw(run, run->e->count);
}

/* A read must see all that was committed anywhere when it began. */
static void check_reads(struct run *run, uint64_t id)
{
    struct ensemble_node *node = &run->e->node[id];

    for (size_t i = 0; i < node->read_count; i++) {
        const struct raft_read *read = &node->reads[i];
        if (read->err == ERR_OK) {
            CHECK_OP(read->index, >=, run->read_floor[read->context]);
            run->reads_answered++;
        } else {
            CHECK_OP(read->err, ==, ERR_NO_LEADER);
        }
    }
    node->read_count = 0;
}

static void do_network(struct run *run)
{
    struct ensemble *e = run->e;
    size_t count = ensemble_packet_count(e);
    struct ensemble_packet *packet = NULL;

    if (count == 0) {
        return;
    }
    packet = ensemble_packet(e, chance(run, run->reordered) ? draw(run, count) : 0);
    if (run->cut[packet->message.from][packet->message.to] || chance(run, run->loss) ||
        count > PACKETS_MAX) {
        ensemble_drop(e, packet);
        return;
    }
    if (chance(run, run->doubled)) {
        ensemble_duplicate(e, packet);
    }
    ensemble_deliver(e, packet);
}

static void do_time(struct run *run)
{
    struct ensemble *e = run->e;

    ensemble_wait(e, draw(run, 15));
    for (uint64_t id = 1; id <= e->count; id++) {
        if (e->node[id].raft != NULL && e->node[id].deadline_ms <= e->now_ms) {
            ensemble_tick(e, id);
        }
    }
}

static void do_client(struct run *run, uint64_t id)
{
    struct ensemble *e = run->e;
    char text[24];

    if (e->node[id].raft == NULL) {
        return;
    }
    if (chance(run, 300)) {
        if (run->read_count < READS_MAX) {
            run->read_floor[run->read_count] = e->committed_count;
            CHECK(ensemble_read(e, id, run->read_count) == ERR_OK);
            run->read_count++;
        }
        return;
    }
    (void)snprintf(text, sizeof(text), "%" PRIu64, run->proposals);
    if (ensemble_propose(e, id, text) == ERR_OK) {
        run->proposals++;
    }
}

/* What was applied lately is not yet in the store. */
static void start(struct run *run, uint64_t id)
{
    const struct ensemble_node *node = &run->e->node[id];
    uint64_t least = node->first_index > 1 ? node->first_index - 1 : 1;

    ensemble_start(run->e, id, least + draw(run, node->applied_index - least + 1));
}

static void do_crash(struct run *run, uint64_t id)
{
    struct ensemble *e = run->e;

    if (e->node[id].raft == NULL) {
        start(run, id);
        return;
    }
    ensemble_crash(e, id, draw(run, 12));
    for (uint64_t other = 1; other <= e->count; other++) {
        if (other != id && e->node[other].raft != NULL && chance(run, 700)) {
            (void)ensemble_step(e, other,
                                (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = id});
        }
    }
}

/* All nodes as voters but those in the set `learners`; bit i is node i + 1. */
static struct raft_members all_members(const struct ensemble *e, uint64_t learners)
{
    struct raft_members members = {.count = e->count};

    for (size_t i = 0; i < e->count; i++) {
        members.member[i] = (struct raft_member){
            .id = i + 1,
            .incarnation = 100 + i,
            .voter = (learners >> i & 1) == 0,
            .address = "host:2888",
        };
    }
    return members;
}

/* Other voters, sometimes without one node at all. */
static void do_change(struct run *run, uint64_t id)
{
    struct ensemble *e = run->e;
    struct raft_members wanted = all_members(e, draw(run, 1u << e->count));

    if (e->node[id].raft == NULL) {
        return;
    }
    if (chance(run, 300)) {
        size_t leaver = draw(run, wanted.count);
        memmove(&wanted.member[leaver], &wanted.member[leaver + 1],
                (wanted.count - leaver - 1) * sizeof(wanted.member[0]));
        wanted.count--;
    }
    if (ensemble_change(e, id, &wanted) == ERR_OK) {
        run->changes++;
    }
}

static void take_snapshot(struct run *run, uint64_t id, bool taken)
{
    uint64_t to = ensemble_snapshot_wanted(run->e, id);
    uint64_t applied = run->e->node[to].applied_index;

    ensemble_snapshot(run->e, id, to, taken);
    run->snapshots += run->e->node[to].applied_index > applied ? 1 : 0;
}

static void do_compact(struct run *run, uint64_t id)
{
    struct ensemble_node *node = &run->e->node[id];

    if (node->raft == NULL) {
        return;
    }
    if (node->snapshots != 0) {
        take_snapshot(run, id, chance(run, 700));
    } else if (node->applied_index > node->first_index && chance(run, run->compact)) {
        ensemble_compact(run->e, id,
                         node->first_index + 1 +
                             draw(run, node->applied_index - node->first_index + 1));
    }
}

static void do_rare(struct run *run, uint64_t id)
{
    struct ensemble *e = run->e;
    uint64_t other = any_node(run);
    bool up = e->node[id].raft != NULL;

    switch (draw(run, 6)) {
    case 0:
        run->cut[id][other] = true; /* one way */
        break;
    case 1:
    case 2:
        for (uint64_t i = 1; i <= e->count; i++) {
            run->cut[id][i] = false;
            run->cut[i][id] = false;
        }
        break;
    case 3:
        if (up && other != id) {
            (void)ensemble_step(e, id,
                                (struct raft_event){.type = RAFT_EV_TRANSFER, .peer = other});
        }
        break;
    case 4:
        if (up) {
            (void)ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_STALLED});
        }
        break;
    case 5:
        if (up && other != id) {
            ensemble_drop_all(e, other, id);
            (void)ensemble_step(e, id,
                                (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = other});
        }
        break;
    }
}

static void do_step(struct run *run)
{
    struct ensemble *e = run->e;
    uint64_t id = any_node(run);
    uint64_t what = draw(run, CHANCE_WHOLE);

    if (what < 500) {
        for (uint64_t i = draw(run, 4); i < 4; i++) {
            do_network(run);
        }
    } else if (what < 750) {
        if (!chance(run, run->slow_disk)) {
            (void)ensemble_sync_one(e, id);
        }
    } else if (what < 830) {
        do_time(run);
    } else if (what < 950) {
        do_client(run, id);
    } else if (what < 970) {
        do_compact(run, id);
    } else if (chance(run, run->crash)) {
        do_crash(run, id);
    } else if (chance(run, run->change)) {
        do_change(run, id);
    } else if (chance(run, 300)) {
        do_rare(run, id);
    }
    for (id = 1; id <= e->count; id++) {
        check_reads(run, id);
    }
}

/* Whether there is a leader and all have applied all. */
static bool agreed(const struct ensemble *e)
{
    bool leader = false;

    for (uint64_t id = 1; id <= e->count; id++) {
        struct raft_status status = ensemble_status(e, id);
        leader = leader || status.leader_ready;
        if (status.applied_index != e->committed_count || status.last_index != e->committed_count) {
            return false;
        }
    }
    return leader;
}

static bool all_vote(const struct ensemble *e, uint64_t id)
{
    const struct raft_members *members = raft_members(e->node[id].raft);
    size_t voters = 0;

    for (size_t i = 0; i < members->count; i++) {
        voters += members->member[i].voter && !members->member[i].was_voter ? 1 : 0;
    }
    return voters == e->count;
}

/* If it leads and may. */
static void want_all_to_vote(struct ensemble *e, uint64_t id)
{
    struct raft_members wanted = all_members(e, 0 /* everybody */);

    (void)ensemble_change(e, id, &wanted);
}

/* Everybody up, no faults: they must agree soon. */
static void heal(struct run *run)
{
    struct ensemble *e = run->e;
    uint64_t end_ms = e->now_ms + HEAL_MS_MAX;

    for (uint64_t id = 1; id <= e->count; id++) {
        if (e->node[id].raft == NULL) {
            start(run, id);
        }
    }
    do {
        CHECK_OP(e->now_ms, <, end_ms);
        ensemble_wait(e, 5);
        for (uint64_t id = 1; id <= e->count; id++) {
            if (e->node[id].deadline_ms <= e->now_ms) {
                ensemble_tick(e, id);
            }
        }
        ensemble_settle(e);
        for (uint64_t id = 1; id <= e->count; id++) {
            if (e->node[id].snapshots != 0) {
                take_snapshot(run, id, true /* taken */);
            }
            if (!all_vote(e, id)) {
                want_all_to_vote(e, id);
            }
        }
    } while (!agreed(e));
    ensemble_check_logs(e);
}

static void run_seed(struct run *run, uint64_t seed, bool traced)
{
    static const size_t counts[] = {3, 3, 3, 5, 5, 1, 4, 2};

    *run = (struct run){.random = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15)};
    run->loss = draw(run, 3) * draw(run, 100);
    run->doubled = draw(run, 3) * draw(run, 100);
    run->reordered = draw(run, 2) * draw(run, 600);
    run->crash = draw(run, 3) * draw(run, 300);
    run->slow_disk = draw(run, 3) * draw(run, 450);
    run->change = draw(run, 2) * draw(run, 300);
    run->compact = draw(run, 2) * draw(run, 900);
    run->e = ensemble_new(counts[draw(run, 8)], 0, seed);
    run->e->traced = traced;
    run->e->no_apply = draw(run, 10) == 0;
    for (size_t i = 0; i < STEPS; i++) {
        do_step(run);
    }
    ensemble_check_logs(run->e);
    run->e->no_apply = false;
    heal(run);
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    uint64_t number = otherwise;

    if (text != NULL && parse_u64(text, 0, UINT32_MAX, &number) != ERR_OK) {
        fail_msg("%s is not a number", variable);
    }
    return number;
}

static struct run run;

static void the_rules_of_raft_hold_in_random_runs(void **state)
{
    uint64_t seeds = number_of("RAFT_SEEDS", SEEDS);
    uint64_t only = number_of("RAFT_SEED", UINT64_MAX);
    uint64_t committed = 0;
    uint64_t reads = 0;
    uint64_t changes = 0;
    uint64_t snapshots = 0;

    (void)state;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        if (only != UINT64_MAX && seed != only) {
            continue;
        }
        /* A broken rule aborts; the seed stands on the last line before. */
        fprintf(stderr, "RAFT_SEED=%" PRIu64 "\n", seed);
        run_seed(&run, seed, only != UINT64_MAX);
        committed += run.e->committed_count;
        reads += run.reads_answered;
        changes += run.changes;
        snapshots += run.snapshots;
        if (only != UINT64_MAX) {
            fputs((const char *)run.e->trace.data, stderr);
        }
        ensemble_free(run.e);
    }
    /* The runs must have done something. */
    if (only == UINT64_MAX) {
        assert_true(committed > 100 * seeds);
        assert_true(reads > 20 * seeds);
        assert_true(changes > seeds);
        assert_true(snapshots > seeds / 10);
    }
    fprintf(stderr,
            "committed=%" PRIu64 " reads=%" PRIu64 " changes=%" PRIu64 " snapshots=%" PRIu64 "\n",
            committed, reads, changes, snapshots);
}

static void the_same_events_have_the_same_effects(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct buffer first = {0};
        run_seed(&run, seed, true /* traced */);
        assert_int_equal(buffer_append(&first, run.e->trace.data, run.e->trace.len), ERR_OK);
        ensemble_free(run.e);
        run_seed(&run, seed, true /* traced */);
        assert_true(first.len > 1000);
        assert_int_equal(first.len, run.e->trace.len);
        assert_memory_equal(first.data, run.e->trace.data, first.len);
        ensemble_free(run.e);
        buffer_done(&first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_of_raft_hold_in_random_runs),
        cmocka_unit_test(the_same_events_have_the_same_effects),
    };

    return cmocka_run_group_tests_name("raft random", tests, NULL, NULL);
}
