/* SPDX-License-Identifier: Apache-2.0
 *
 * Elections: who asks for votes when, and who gets them. Called by raft.c with ticks and
 * messages; a candidate that wins goes on in raft_replicate.c.
 *
 *                 time over, own log durable        majority would vote
 *     FOLLOWER ----------------------> PRE_CANDIDATE -----------------> CANDIDATE
 *        ^  ^                               |                             |    |
 *        |  +--- leader heard, refused -----+-----------------------------+    | majority voted
 *        |                                                                     v
 *        +----- newer term, or no majority heard for election_max_ms ------ LEADER
 *
 * A candidate asked by its leader (transfer) goes from FOLLOWER to CANDIDATE at once.
 *
 * Rules, each for its own kind of fault (CONSENSUS 1-4):
 *   1. A term begins only after a majority said it would vote (PreVote, dissertation 9.6).
 *   2. Who hears its leader refuses both kinds of votes (stickiness, 4.2.3), a leader always.
 *   3. A leader that hears no majority steps down (CheckQuorum, 6.2): raft_replicate.c.
 *   4. Candidates and voters show and compare the durable end of their logs, nothing newer; who
 *      has entries that are not durable does not campaign.
 *   5. The own vote counts when it is durable, as everybody else's.
 *   6. Whoever is asked votes, also as a learner: it may have been made a voter without knowing it,
 *      and its vote be needed. Who counts is for the candidate to know.
 *   7. Who lost its vote by an entry that is not known as committed may still campaign, its own vote
 *      not counted: perhaps only such replicas have the entry (dissertation 4.2.2).
 *
 * Rule 2 yields when the leader's connection broke: a killed process is replaced at once.
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

#define GONE_MS         30u /* leader's connection broke: pre-vote after 0 to this */
#define RETRY_MS_MIN    5u  /* between two attempts without a leader */
#define RETRY_SHIFT_MAX 4u  /* the span of the retry doubles so often, from GONE_MS */
#define YIELD_MS        20u /* for another pre-candidate, before we try ourselves */
#define UNSYNCED_MS     10u /* until we look again whether the disk has caught up */

/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"). */
uint64_t raft_random(struct raft *raft)
{
    uint64_t z = 0;

    raft->random += UINT64_C(0x9E3779B97F4A7C15);
    z = raft->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t random_between(struct raft *raft, uint64_t min, uint64_t max)
{
    CHECK(min <= max);
    return min + raft_random(raft) % (max - min + 1);
}

void raft_election_reset(struct raft *raft)
{
    raft->timeout_ms =
        random_between(raft, raft->config.election_min_ms, raft->config.election_max_ms);
    raft->election_deadline_ms = raft->now_ms + raft->timeout_ms;
}

/* The next attempt of a replica that knows that there is no leader: soon, but at another time
 * than its rivals. */
static void retry_soon(struct raft *raft)
{
    uint32_t shift = raft->attempts > 0 ? raft->attempts - 1 : 0;
    uint64_t span = (uint64_t)GONE_MS << (shift < RETRY_SHIFT_MAX ? shift : RETRY_SHIFT_MAX);

    raft->election_deadline_ms =
        raft->now_ms + random_between(raft, RETRY_MS_MIN, RETRY_MS_MIN + span);
}

void raft_set_leader(struct raft *raft, uint64_t leader)
{
    if (raft->leader == leader) {
        return;
    }
    if (raft->leader != 0) {
        raft_reads_fail(raft);
    }
    raft->leader = leader;
}

/* All that belongs to the term before. */
static void enter_term(struct raft *raft, uint64_t term, uint64_t vote)
{
    CHECK_OP(term, >, raft->term);
    raft->term = term;
    raft->vote = vote;
    raft->verified = 0;
    raft->acked = 0;
    raft->ack_wanted = false;
    raft->transfer_waits = false;
    raft_outbox_clear(&raft->held);
}

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
    if (term > raft->term) {
        enter_term(raft, term, 0 /* no vote */);
    }
    CHECK_OP(term, ==, raft->term);
    raft->role = RAFT_FOLLOWER;
    raft->own_vote = RAFT_VOTE_NONE;
    raft->campaign_waits = false;
    raft->transfer_to = 0;
    raft->heartbeat_wanted = false;
    raft_set_leader(raft, leader);
    raft_election_reset(raft);
    if (leader == 0 && raft->leader_gone) {
        retry_soon(raft);
    }
}

void raft_leader_heard(struct raft *raft, uint64_t leader)
{
    CHECK(raft->role != RAFT_LEADER);
    if (raft->role != RAFT_FOLLOWER || raft->leader != leader) {
        raft_become_follower(raft, raft->term, leader);
    }
    raft->heard_ms = raft->now_ms;
    raft->leader_gone = false;
    raft->attempts = 0;
    raft->campaign_waits = false;
    raft->election_deadline_ms = raft->now_ms + raft->timeout_ms;
}

bool raft_election_is_sticky(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        return true;
    }
    return raft->leader != 0 && !raft->leader_gone &&
           raft->now_ms - raft->heard_ms < raft->config.election_min_ms;
}

static bool log_is_durable(const struct raft *raft)
{
    return raft->log.durable_index == raft->log.last_index;
}

static void request_votes(struct raft *raft, enum raft_message_type type, uint64_t term, bool force)
{
    CHECK(log_is_durable(raft));
    for (size_t i = 0; i < raft->peer_count; i++) {
        raft->peer[i].vote = RAFT_VOTE_NONE;
        if (!raft_peer_votes(&raft->peer[i])) {
            continue;
        }
        raft_send(raft, (struct raft_message){
                            .type = type,
                            .to = raft->peer[i].id,
                            .term = term,
                            .log_index = raft->log.durable_index,
                            .log_term = raft->log.durable_term,
                            .force = force,
                        });
    }
}

static void campaign(struct raft *raft, bool force)
{
    CHECK(raft_may_campaign(raft) && raft->role != RAFT_LEADER);
    enter_term(raft, raft->term + 1, raft->config.id);
    raft->role = RAFT_CANDIDATE;
    raft->own_vote = RAFT_VOTE_NONE; /* until it is durable */
    raft->campaign_waits = false;
    raft_set_leader(raft, 0);
    raft_election_reset(raft);
    request_votes(raft, RAFT_MSG_VOTE, raft->term, force);
}

/* 1: this voter is for us. */
static uint64_t granted_by(const struct raft_progress *peer)
{
    return peer->vote == RAFT_VOTE_GRANTED ? 1 : 0;
}

/* 1: this voter is or may still be for us: one that is gone does not answer. */
static uint64_t possible_of(const struct raft_progress *peer)
{
    return granted_by(peer) == 1 || (peer->vote == RAFT_VOTE_NONE && !peer->closed) ? 1 : 0;
}

static bool is_won(const struct raft *raft)
{
    uint64_t own = raft->own_vote == RAFT_VOTE_GRANTED ? 1 : 0;

    return raft_voters_reach(raft, own, granted_by) == 1;
}

static bool is_lost(const struct raft *raft)
{
    return raft_voters_reach(raft, 1 /* we are for us */, possible_of) == 0;
}

static void win_if_won(struct raft *raft)
{
    if (raft->role == RAFT_PRE_CANDIDATE && is_won(raft)) {
        campaign(raft, false /* not forced */);
    } else if (raft->role == RAFT_CANDIDATE && is_won(raft)) {
        raft_become_leader(raft);
    }
}

/* Not waiting for those who cannot help any more makes a split vote cheap. */
static void give_up_if_lost(struct raft *raft)
{
    bool voted = raft->role == RAFT_CANDIDATE;

    if ((!voted && raft->role != RAFT_PRE_CANDIDATE) || !is_lost(raft)) {
        return;
    }
    raft_become_follower(raft, raft->term, 0 /* no leader */);
    if (voted) {
        retry_soon(raft); /* the vote was split: nobody leads this term */
    }
}

static void start_prevote(struct raft *raft)
{
    CHECK(raft_may_campaign(raft) && raft->role != RAFT_LEADER);
    raft->role = RAFT_PRE_CANDIDATE;
    raft->own_vote = RAFT_VOTE_GRANTED; /* promises nothing, so it needs no disk */
    raft->campaign_waits = false;
    raft_set_leader(raft, 0);
    raft->attempts++;
    raft_election_reset(raft);
    if (raft->leader_gone) {
        retry_soon(raft);
    }
    request_votes(raft, RAFT_MSG_PREVOTE, raft->term + 1, false /* not forced */);
    win_if_won(raft); /* alone */
}

void raft_election_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER || !raft_may_campaign(raft) ||
        raft->now_ms < raft->election_deadline_ms) {
        return;
    }
    if (!log_is_durable(raft) || !raft_record_is_durable(raft)) {
        raft->campaign_waits = raft->role == RAFT_FOLLOWER;
        raft->election_deadline_ms = raft->now_ms + UNSYNCED_MS;
        return;
    }
    start_prevote(raft);
}

void raft_election_on_log_durable(struct raft *raft)
{
    if (raft->role != RAFT_FOLLOWER || !raft_may_campaign(raft) || !log_is_durable(raft)) {
        return;
    }
    if (raft->transfer_waits) {
        campaign(raft, true /* forced */);
    } else if (raft->campaign_waits && raft_record_is_durable(raft)) {
        start_prevote(raft);
    }
}

void raft_election_on_record_durable(struct raft *raft)
{
    if (raft->role == RAFT_CANDIDATE && raft->own_vote == RAFT_VOTE_NONE) {
        CHECK_OP(raft->saved_vote, ==, raft->config.id);
        raft->own_vote = RAFT_VOTE_GRANTED;
        win_if_won(raft);
    }
}

void raft_election_on_peer_closed(struct raft *raft, uint64_t id)
{
    uint64_t deadline_ms = 0;

    if (raft->role == RAFT_FOLLOWER && raft->leader == id && !raft->leader_gone) {
        raft->leader_gone = true;
        deadline_ms = raft->now_ms + random_between(raft, 0, GONE_MS);
        if (deadline_ms < raft->election_deadline_ms) {
            raft->election_deadline_ms = deadline_ms;
        }
    }
    give_up_if_lost(raft);
}

static bool is_up_to_date(const struct raft *raft, const struct raft_message *message)
{
    if (message->log_term != raft->log.durable_term) {
        return message->log_term > raft->log.durable_term;
    }
    return message->log_index >= raft->log.durable_index;
}

/* Two who ask at the same time would both win the pre-vote and split the vote: of equals, the one
 * with the lower id steps back. Others give the one they support a little time. */
static void yield_to(struct raft *raft, const struct raft_message *message)
{
    uint64_t deadline_ms = raft->now_ms + YIELD_MS + random_between(raft, 0, GONE_MS);

    if (raft->role == RAFT_PRE_CANDIDATE) {
        bool equal = message->log_term == raft->log.durable_term &&
                     message->log_index == raft->log.durable_index;
        if (equal && message->from < raft->config.id) {
            return;
        }
        raft_become_follower(raft, raft->term, 0 /* no leader */);
    }
    if (raft->role == RAFT_FOLLOWER && raft->election_deadline_ms < deadline_ms) {
        raft->election_deadline_ms = deadline_ms;
    }
}

void raft_on_prevote(struct raft *raft, const struct raft_message *message)
{
    bool grant = message->term > raft->term && !raft_election_is_sticky(raft) &&
                 is_up_to_date(raft, message);

    if (grant) {
        yield_to(raft, message);
    }
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_PREVOTE_ANSWER,
                        .to = message->from,
                        .term = grant ? message->term : raft->term,
                        .reject = !grant,
                    });
}

void raft_on_vote(struct raft *raft, const struct raft_message *message)
{
    bool is_free = raft->vote == message->from || (raft->vote == 0 && raft->leader == 0);
    bool grant = message->term == raft->term && is_free &&
                 PLANT(VOTE_ANY_LOG, true, is_up_to_date(raft, message));

    CHECK_OP(message->term, <=, raft->term);
    if (grant) {
        CHECK(raft->role == RAFT_FOLLOWER || raft->role == RAFT_PRE_CANDIDATE);
        raft->vote = message->from;
        raft->role = RAFT_FOLLOWER;
        raft->campaign_waits = false;
        raft_election_reset(raft);
    }
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_VOTE_ANSWER,
                        .to = message->from,
                        .reject = !grant,
                    });
}

void raft_on_vote_answer(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MSG_PREVOTE_ANSWER;
    uint64_t term = pre && !message->reject ? raft->term + 1 : raft->term;
    struct raft_progress *peer = raft_progress_find(raft, message->from);

    if (raft->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE) || message->term != term ||
        peer == NULL || !raft_peer_votes(peer) || peer->vote == RAFT_VOTE_GRANTED) {
        return;
    }
    peer->vote = message->reject ? RAFT_VOTE_REFUSED : RAFT_VOTE_GRANTED;
    win_if_won(raft);
    give_up_if_lost(raft);
}

void raft_on_transfer(struct raft *raft, const struct raft_message *message)
{
    raft_leader_heard(raft, message->from);
    if (!raft_may_campaign(raft)) {
        return;
    }
    if (log_is_durable(raft)) {
        campaign(raft, true /* forced */);
    } else {
        raft->transfer_waits = true;
    }
}
