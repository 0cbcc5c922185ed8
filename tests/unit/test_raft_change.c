/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of the members and snapshots, step by step: what joint members need, who ends a change,
 * what a removed replica can still do, when a follower needs a snapshot (dissertation 4;
 * CONSENSUS 0, 12, 14, 15).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/lib/raft_ensemble.h"

/* The members of node `id` with other voters: bit i is node i + 1. */
static struct raft_members voters_are(const struct ensemble *e, uint64_t id, unsigned voters)
{
    struct raft_members members = *raft_members(e->node[id].raft);

    for (size_t i = 0; i < members.count; i++) {
        members.member[i].voter = (voters >> (members.member[i].id - 1) & 1) != 0;
    }
    return members;
}

static struct raft_members without(const struct ensemble *e, uint64_t id, uint64_t leaver)
{
    struct raft_members members = {.count = 0};
    const struct raft_members *now = raft_members(e->node[id].raft);

    for (size_t i = 0; i < now->count; i++) {
        if (now->member[i].id != leaver) {
            members.member[members.count++] = now->member[i];
        }
    }
    return members;
}

/* Node 1 leads, and has begun to change the voters; nobody has heard of it. */
static struct ensemble *begin_change(size_t count, size_t learners, unsigned voters)
{
    struct ensemble *e = ensemble_new(count, learners, 1);
    struct raft_members wanted;

    ensemble_elect(e, 1);
    wanted = voters_are(e, 1, voters);
    assert_int_equal(ensemble_change(e, 1, &wanted), ERR_OK);
    assert_true(raft_members_is_joint(raft_members(e->node[1].raft)));
    return e;
}

/* All have the joint members on disk, and node 1 dies before it learns that: nobody has committed
 * them. */
static void leader_dies_before_it_knows(struct ensemble *e)
{
    ensemble_sync(e, 1);
    while (ensemble_find(e, RAFT_MSG_APPEND, 0) != NULL) {
        ensemble_deliver(e, ensemble_find(e, RAFT_MSG_APPEND, 0));
    }
    for (uint64_t id = 2; id <= e->count; id++) {
        ensemble_sync(e, id);
    }
    ensemble_crash(e, 1, SIZE_MAX);
    ensemble_drop_all(e, 0, 0);
}

/* Delivers and syncs among the nodes of the set only. */
static void settle_among(struct ensemble *e, unsigned set)
{
    for (uint64_t from = 1; from <= e->count; from++) {
        for (uint64_t to = 1; to <= e->count; to++) {
            if ((set >> (from - 1) & 1) == 0 || (set >> (to - 1) & 1) == 0) {
                ensemble_drop_all(e, from, to);
            }
        }
    }
    for (size_t i = 0; i < 200; i++) {
        struct ensemble_packet *packet = ensemble_packet(e, 0);
        for (uint64_t id = 1; id <= e->count; id++) {
            if ((set >> (id - 1) & 1) != 0) {
                ensemble_sync(e, id);
            }
        }
        if (packet == NULL) {
            continue;
        }
        if ((set >> (packet->message.from - 1) & 1) != 0 &&
            (set >> (packet->message.to - 1) & 1) != 0) {
            ensemble_deliver(e, packet);
        } else {
            ensemble_drop(e, packet);
        }
    }
}

static void joint_members_commit_with_both_majorities_only(void **state)
{
    /* From {1, 2, 3} to {1, 4, 5}. */
    struct ensemble *e = begin_change(5, 2, 0x19);
    uint64_t commit = ensemble_status(e, 1).commit_index;

    (void)state;
    settle_among(e, 0x07); /* a majority of before, and one of those to come */
    assert_int_equal(ensemble_status(e, 1).commit_index, commit);
    ensemble_free(e);
    e = begin_change(5, 2, 0x19);
    settle_among(e, 0x19); /* all of those to come, and one of before */
    assert_int_equal(ensemble_status(e, 1).commit_index, commit);
    for (size_t i = 0; i < 20; i++) {
        ensemble_wait(e, 50);
        ensemble_tick(e, 1);
        ensemble_settle(e);
    }
    assert_true(ensemble_status(e, 1).commit_index > commit);
    assert_false(raft_members_is_joint(raft_members(e->node[1].raft)));
    ensemble_free(e);
}

static void who_lost_its_vote_does_not_count_in_elections(void **state)
{
    struct ensemble *e = begin_change(5, 2, 0x19);

    (void)state;
    ensemble_settle(e); /* now {1, 4, 5} vote */
    ensemble_crash(e, 1, SIZE_MAX);
    for (uint64_t id = 4; id <= 5; id++) {
        (void)ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    }
    ensemble_wait(e, 700);
    ensemble_tick(e, 2); /* has no vote any more */
    assert_int_equal(ensemble_status(e, 2).role, RAFT_FOLLOWER);
    ensemble_timeout(e, 4);
    settle_among(e, 0x0E); /* 2 and 3 would vote, but do not count */
    assert_int_not_equal(ensemble_status(e, 4).role, RAFT_LEADER);
    for (size_t i = 0; i < 5 && ensemble_status(e, 4).role != RAFT_LEADER; i++) {
        ensemble_timeout(e, 4);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 4).role, RAFT_LEADER);
    ensemble_free(e);
}

static void joint_members_elect_with_both_majorities_only(void **state)
{
    struct ensemble *e = begin_change(5, 2, 0x19);

    (void)state;
    leader_dies_before_it_knows(e);
    for (uint64_t id = 2; id <= 5; id++) {
        (void)ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    }
    ensemble_wait(e, 700);
    ensemble_timeout(e, 4);
    settle_among(e, 0x1A); /* 2, 4, 5: of those to come two of three, of before one of three */
    assert_int_not_equal(ensemble_status(e, 4).role, RAFT_LEADER);
    for (size_t i = 0; i < 5 && ensemble_status(e, 4).role != RAFT_LEADER; i++) {
        ensemble_timeout(e, 4);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 4).role, RAFT_LEADER);
    ensemble_free(e);
}

static void a_change_ends_though_its_leader_is_gone(void **state)
{
    struct ensemble *e = begin_change(4, 1, 0x0F);

    (void)state;
    leader_dies_before_it_knows(e);
    for (uint64_t id = 2; id <= 4; id++) {
        (void)ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
        assert_true(raft_members_is_joint(raft_members(e->node[id].raft)));
    }
    ensemble_wait(e, 700);
    for (size_t i = 0; i < 5 && ensemble_status(e, 2).role != RAFT_LEADER; i++) {
        ensemble_timeout(e, 2);
        ensemble_settle(e);
    }
    for (uint64_t id = 2; id <= 4; id++) {
        assert_false(raft_members_is_joint(raft_members(e->node[id].raft)));
        assert_true(raft_members(e->node[id].raft)->member[3].voter);
    }
    ensemble_free(e);
}

static void a_leader_that_is_removed_tells_it_and_hands_over(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);
    struct raft_members wanted;

    (void)state;
    ensemble_elect(e, 1);
    wanted = without(e, 1, 1);
    assert_int_equal(ensemble_change(e, 1, &wanted), ERR_OK);
    ensemble_settle(e);
    assert_int_equal(ensemble_status(e, 1).role, RAFT_FOLLOWER);
    assert_int_equal(raft_members(e->node[2].raft)->count, 2);
    /* Somebody else leads already, without a timeout. */
    assert_true(ensemble_status(e, 2).role == RAFT_LEADER ||
                ensemble_status(e, 3).role == RAFT_LEADER);
    ensemble_free(e);
}

static void a_removed_replica_does_not_disrupt(void **state)
{
    struct ensemble *e = ensemble_new(4, 0, 1);
    struct raft_members wanted;
    uint64_t term = 0;

    (void)state;
    ensemble_elect(e, 1);
    wanted = without(e, 1, 4);
    assert_int_equal(ensemble_change(e, 1, &wanted), ERR_OK);
    settle_among(e, 0x07); /* 4 does not hear of it */
    term = ensemble_status(e, 1).term;
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    for (size_t i = 0; i < 20; i++) {
        ensemble_wait(e, 50);
        ensemble_tick(e, 1);
        settle_among(e, 0x07);
        ensemble_timeout(e, 4); /* it asks again and again */
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    assert_int_equal(ensemble_status(e, 1).term, term);
    assert_int_not_equal(ensemble_status(e, 4).role, RAFT_LEADER);
    ensemble_free(e);
}

/* "Committed on 1 and 2, 2 wiped, 2 and 3 elect": the wiped one has another incarnation, so it has
 * no vote and its answers do not count. */
static void a_wiped_replica_neither_campaigns_nor_counts(void **state)
{
    struct raft_config config = {.id = 2,
                                 .incarnation = 999, /* the members say 101 */
                                 .seed = 1,
                                 .heartbeat_ms = 50,
                                 .election_min_ms = 300,
                                 .election_max_ms = 600};
    struct raft_start start = {
        .term = 1,
        .first_index = 1,
        .last_index = 1,
        .last_term = 1,
        .members = {.count = 2,
                    .member = {{.id = 1, .incarnation = 100, .voter = true},
                               {.id = 2, .incarnation = 101, .voter = true}}},
        .members_index = 1,
        .now_ms = 1000};
    struct raft *raft = raft_new(&config, &start);
    struct raft_event tick = {.type = RAFT_EV_TICK, .now_ms = 9000};
    struct raft_status status;

    (void)state;
    assert_non_null(raft);
    for (size_t i = 0; i < 10; i++) {
        tick.now_ms += 1000;
        assert_int_equal(raft_step(raft, &tick), ERR_OK);
        assert_int_equal(raft_effects(raft)->message_count, 0);
        raft_effects_done(raft);
    }
    raft_status(raft, &status);
    assert_int_equal(status.role, RAFT_FOLLOWER);
    assert_int_equal(status.term, 1);
    raft_free(raft);
}

/* ---- snapshots ---- */

/* Node 3 is down; 1 and 2 have applied `count` entries more, and 1 has compacted them all. */
static struct ensemble *leave_behind(size_t count)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    ensemble_elect(e, 1);
    ensemble_crash(e, 3, SIZE_MAX);
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 3});
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
        ensemble_settle(e);
    }
    /* The entries leave the memory of the core with its process. */
    ensemble_crash(e, 1, SIZE_MAX);
    ensemble_start(e, 1, e->node[1].applied_index);
    ensemble_compact(e, 1, e->node[1].applied_index + 1);
    for (size_t i = 0; i < 10 && ensemble_status(e, 1).role != RAFT_LEADER; i++) {
        (void)ensemble_step(e, 2, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
        ensemble_wait(e, 700);
        ensemble_timeout(e, 1);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    return e;
}

static void heartbeats(struct ensemble *e, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ensemble_wait(e, 50);
        ensemble_tick(e, 1);
        ensemble_settle(e);
    }
}

static void a_follower_behind_the_log_gets_a_snapshot_and_goes_on_from_there(void **state)
{
    struct ensemble *e = leave_behind(10);
    uint64_t end = e->node[1].applied_index;

    (void)state;
    ensemble_start(e, 3, 1);
    heartbeats(e, 3);
    assert_int_equal(ensemble_snapshot_wanted(e, 1), 3);
    assert_true(ensemble_status(e, 1).peer[1].snapshot);
    /* Meanwhile the others go on, and nothing but heartbeats goes to it. */
    assert_int_equal(ensemble_propose(e, 1, "y"), ERR_OK);
    assert_null(ensemble_find(e, RAFT_MSG_APPEND, 3));
    ensemble_settle(e);
    ensemble_snapshot(e, 1, 3, true /* taken */);
    heartbeats(e, 3);
    assert_true(e->node[3].applied_index > end);
    assert_int_equal(e->node[3].applied_index, e->node[1].applied_index);
    assert_false(ensemble_status(e, 1).peer[1].snapshot);
    assert_int_equal(ensemble_snapshot_wanted(e, 1), 0); /* no endless loop */
    ensemble_free(e);
}

static void a_snapshot_that_failed_is_asked_for_again_after_a_while(void **state)
{
    struct ensemble *e = leave_behind(10);

    (void)state;
    ensemble_start(e, 3, 1);
    heartbeats(e, 3);
    ensemble_snapshot(e, 1, 3, false /* not taken */);
    heartbeats(e, 2);
    assert_int_equal(ensemble_snapshot_wanted(e, 1), 0); /* not at once */
    heartbeats(e, 15);
    assert_int_equal(ensemble_snapshot_wanted(e, 1), 3);
    ensemble_free(e);
}

static void a_follower_that_the_log_reaches_needs_no_snapshot(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
        ensemble_settle(e);
    }
    heartbeats(e, 2);
    ensemble_compact(e, 1, e->node[1].applied_index + 1);
    ensemble_crash(e, 3, SIZE_MAX);
    ensemble_start(e, 3, e->node[3].applied_index);
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 3});
    assert_int_equal(ensemble_propose(e, 1, "y"), ERR_OK);
    heartbeats(e, 5);
    assert_int_equal(ensemble_snapshot_wanted(e, 1), 0);
    assert_int_equal(e->node[3].applied_index, e->node[1].applied_index);
    ensemble_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joint_members_commit_with_both_majorities_only),
        cmocka_unit_test(joint_members_elect_with_both_majorities_only),
        cmocka_unit_test(who_lost_its_vote_does_not_count_in_elections),
        cmocka_unit_test(a_change_ends_though_its_leader_is_gone),
        cmocka_unit_test(a_leader_that_is_removed_tells_it_and_hands_over),
        cmocka_unit_test(a_removed_replica_does_not_disrupt),
        cmocka_unit_test(a_wiped_replica_neither_campaigns_nor_counts),
        cmocka_unit_test(a_follower_behind_the_log_gets_a_snapshot_and_goes_on_from_there),
        cmocka_unit_test(a_snapshot_that_failed_is_asked_for_again_after_a_while),
        cmocka_unit_test(a_follower_that_the_log_reaches_needs_no_snapshot),
    };

    return cmocka_run_group_tests_name("raft change", tests, NULL, NULL);
}
