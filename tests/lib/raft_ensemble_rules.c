/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of Raft (dissertation, figure 3.2, and CONSENSUS.md), checked on an ensemble of cores.
 * Called by raft_ensemble.c at every turn and for every message sent.
 */
#include "tests/lib/raft_ensemble.h"

#include <stdlib.h>

#include "common/check.h"

enum fact_kind {
    FACT_LEADER = 1, /* term -> who led it */
    FACT_VOTE,       /* term, voter -> who got the vote */
};

struct ensemble_fact {
    enum fact_kind kind;
    uint64_t term;
    uint64_t voter;
    uint64_t who;
};

/* Whatever once was true about a term must stay true, over crashes too. */
static void fact_check(struct ensemble *e, struct ensemble_fact fact)
{
    for (size_t i = e->fact_count; i > 0; i--) {
        const struct ensemble_fact *known = &e->facts[i - 1];
        if (known->kind == fact.kind && known->term == fact.term && known->voter == fact.voter) {
            CHECK_OP(known->who, ==, fact.who);
            return;
        }
    }
    if (e->fact_count == e->fact_capacity) {
        e->fact_capacity = e->fact_capacity != 0 ? 2 * e->fact_capacity : 64;
        e->facts = realloc(e->facts, e->fact_capacity * sizeof(*e->facts));
        CHECK(e->facts != NULL);
    }
    e->facts[e->fact_count++] = fact;
}

static uint64_t entry_hash(const struct raft_entry *entry)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325) ^ entry->type ^ (uint64_t)entry->time_ns << 8;

    for (uint32_t i = 0; i < entry->len; i++) {
        hash = (hash ^ entry->data[i]) * UINT64_C(0x100000001B3);
    }
    return hash;
}

static const struct raft_entry *entry_of(const struct ensemble_node *node, uint64_t index)
{
    const struct raft_entry *entry = node->raft != NULL ? raft_entry_at(node->raft, index) : NULL;

    if (entry == NULL && index >= 1 && index <= node->entry_count) {
        entry = node->entries[index - 1];
    }
    return entry;
}

uint64_t ensemble_entry_term(const struct ensemble *e, uint64_t id, uint64_t index)
{
    const struct raft_entry *entry = entry_of(&e->node[id], index);

    return entry != NULL ? entry->term : 0;
}

/* Committed means: a majority of the voters has it on disk, in joint members of both kinds. */
static void check_durable(const struct ensemble *e, uint64_t id, uint64_t index, uint64_t term)
{
    const struct raft_members *members = raft_members(e->node[id].raft);
    size_t voters[2] = {0};
    size_t have[2] = {0};

    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->member[i];
        const struct ensemble_node *node = &e->node[member->id];
        size_t has = node->entry_count >= index && node->entries[index - 1]->term == term ? 1 : 0;
        voters[0] += member->voter ? 1 : 0;
        have[0] += member->voter ? has : 0;
        voters[1] += member->was_voter ? 1 : 0;
        have[1] += member->was_voter ? has : 0;
    }
    CHECK_OP(have[0], >, voters[0] / 2);
    if (raft_members_is_joint(members)) {
        CHECK_OP(have[1], >, voters[1] / 2);
    }
}

/* State machine safety: at an index everybody commits the same. */
static void check_committed(struct ensemble *e, uint64_t id, uint64_t index)
{
    const struct raft_entry *entry = entry_of(&e->node[id], index);

    CHECK(entry != NULL);
    if (index <= e->committed_count) {
        CHECK_OP(e->committed[index - 1], ==, entry->term);
        CHECK(e->committed_hash[index - 1] == entry_hash(entry));
        return;
    }
    CHECK_OP(index, ==, e->committed_count + 1);
    check_durable(e, id, index, entry->term);
    if ((index & (index - 1)) == 0) {
        size_t bytes = 2 * index * sizeof(*e->committed);
        e->committed = realloc(e->committed, bytes);
        e->committed_hash = realloc(e->committed_hash, bytes);
        CHECK(e->committed != NULL && e->committed_hash != NULL);
    }
    e->committed[index - 1] = entry->term;
    e->committed_hash[index - 1] = entry_hash(entry);
    e->committed_count = index;
}

/* Leader completeness: who leads has all that was committed before. */
static void check_leader(struct ensemble *e, uint64_t id, const struct raft_status *status)
{
    fact_check(e, (struct ensemble_fact){.kind = FACT_LEADER, .term = status->term, .who = id});
    for (uint64_t i = 1; i <= e->committed_count && e->committed[i - 1] < status->term; i++) {
        CHECK_OP(ensemble_entry_term(e, id, i), ==, e->committed[i - 1]);
    }
}

void ensemble_check_turn(struct ensemble *e, uint64_t id)
{
    struct ensemble_node *node = &e->node[id];
    struct raft_status status;

    if (e->by_hand) {
        return;
    }
    raft_status(node->raft, &status);
    CHECK_OP(status.applied_index, <=, status.commit_index);
    CHECK_OP(status.commit_index, <=, status.last_index);
    CHECK_OP(status.durable_index, <=, status.last_index);
    for (uint64_t i = e->committed_count + 1; i <= status.commit_index; i++) {
        check_committed(e, id, i);
    }
    if (status.role == RAFT_LEADER) {
        check_leader(e, id, &status);
    }
    for (uint64_t i = node->applied_index + 1; i <= status.applied_index; i++) {
        check_committed(e, id, i);
    }
}

void ensemble_check_packet(struct ensemble *e, const struct raft_message *message)
{
    const struct ensemble_node *node = &e->node[message->from];
    bool of_own_term = message->type != RAFT_MSG_PREVOTE &&
                       !(message->type == RAFT_MSG_PREVOTE_ANSWER && !message->reject);

    if (e->by_hand) {
        return;
    }
    if (of_own_term) {
        CHECK_OP(message->term, <=, node->term); /* CONSENSUS 1: durable before it is told */
    }
    if (message->type == RAFT_MSG_VOTE) {
        CHECK(node->term > message->term || node->vote == message->from);
        fact_check(e, (struct ensemble_fact){.kind = FACT_VOTE,
                                             .term = message->term,
                                             .voter = message->from,
                                             .who = message->from});
    }
    if (message->type == RAFT_MSG_VOTE_ANSWER && !message->reject) {
        CHECK(node->term > message->term || node->vote == message->to);
        fact_check(e, (struct ensemble_fact){.kind = FACT_VOTE,
                                             .term = message->term,
                                             .voter = message->from,
                                             .who = message->to});
    }
    if (message->type == RAFT_MSG_PREVOTE || message->type == RAFT_MSG_VOTE) {
        CHECK_OP(message->log_index, <=, node->entry_count); /* CONSENSUS 2 */
        CHECK_OP(node->entries[message->log_index - 1]->term, ==, message->log_term);
    }
    if (message->type == RAFT_MSG_APPEND_ANSWER && !message->reject) {
        CHECK_OP(message->log_index, <=, node->entry_count);
    }
}

/* Log matching: equal terms at an index mean equal logs up to there. */
void ensemble_check_logs(const struct ensemble *e)
{
    for (uint64_t a = 1; a <= e->count; a++) {
        for (uint64_t b = a + 1; b <= e->count; b++) {
            const struct ensemble_node *one = &e->node[a];
            const struct ensemble_node *other = &e->node[b];
            bool equal = false;
            size_t i =
                one->entry_count < other->entry_count ? one->entry_count : other->entry_count;
            for (; i > 0; i--) {
                bool same = one->entries[i - 1]->term == other->entries[i - 1]->term;
                CHECK(same || !equal);
                equal = equal || same;
                CHECK(!same ||
                      entry_hash(one->entries[i - 1]) == entry_hash(other->entries[i - 1]));
            }
        }
    }
}
