/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor and what replicas must agree on beside the log: that the same entries made the same
 * state (CONSENSUS 32), and which formats all of them know (CONSENSUS 33). Handed applied indices by
 * replica.c and messages by replica_peer.c; hands on to the rim.
 *
 * Digests. Each replica notes the digest of its tree at every DIGEST_EVERY-th entry and tells all
 * others. At an index where a majority of the voters has told the same digest, one that is not ours
 * means that this replica has diverged: it stops. Digests travel on a timer and not in the messages
 * of the core, as nothing in consensus depends on them. The digest is a chain over all writes, so
 * one difference stays visible at every later index. It covers what entries write and not what lies
 * in the store: a row that a disk changed is seen when an entry makes another row of it, not before.
 *
 * Levels. Each replica tells the highest level that it knows when it meets others. When all members
 * have told a higher one than the tree has, the leader raises it by a log entry. A replica that finds
 * a level above its own in its tree stops: it would apply what it does not understand.
 */
#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/version.h"
#include "server/replica_internal.h"

#define TELL_MS 1000u /* digests are told this often */

/* ---- digests ---- */

static struct digest_note *note_at(struct digest_note *notes, uint64_t index)
{
    return &notes[index / DIGEST_EVERY % DIGEST_NOTES];
}

/* A voter's digest at the index; NULL: it has not told it, or it is long ago. */
static const struct digest_note *told_by(struct replica *replica, uint64_t id, uint64_t index)
{
    struct digest_note *note = note_at(replica->digests, index);

    if (id != replica->identity.id) {
        struct peer *peer = peers_find(replica, id);
        note = peer != NULL ? note_at(peer->digests, index) : NULL;
    }
    return note != NULL && note->index == index ? note : NULL;
}

/* How many voters told this digest at the index. */
static size_t supporters(struct replica *replica, uint64_t index, uint64_t digest)
{
    const struct raft_members *members = members_now(replica);
    size_t count = 0;

    for (size_t i = 0; i < members->count; i++) {
        const struct digest_note *note = told_by(replica, members->member[i].id, index);
        count += members->member[i].voter && note != NULL && note->digest == digest ? 1 : 0;
    }
    return count;
}

/* A peer told another digest than ours: who is right? */
static void judge(struct replica *replica, struct peer *peer, uint64_t index)
{
    const struct digest_note *own = note_at(replica->digests, index);
    const struct digest_note *other = note_at(peer->digests, index);
    size_t majority = raft_members_voters(members_now(replica)) / 2 + 1;

    if (own->index != index || other->index != index || own->digest == other->digest) {
        return;
    }
    if (supporters(replica, index, other->digest) >= majority) {
        log_error("replica", "state_diverged",
                  "index=%" PRIu64 " own=%016" PRIx64 " theirs=%016" PRIx64
                  " action=\"stops; wipe the data folder and start again\"",
                  index, own->digest, other->digest);
        replica->env.fail(replica->env.context, ERR_CORRUPT, "state differs from the majority's");
        return;
    }
    /* A first alarm may come before all have told; the graver one is said when it is known. */
    enum peer_alarm alarm =
        supporters(replica, index, own->digest) >= majority ? PEER_DIVERGED : PEER_DIFFERS;
    if (peer->alarm >= alarm) {
        return;
    }
    peer->alarm = alarm;
    if (alarm == PEER_DIVERGED) {
        log_warn("replica", "peer_diverged", "peer=%" PRIu64 " index=%" PRIu64, peer->id, index);
    } else {
        log_error("replica", "states_differ",
                  "peer=%" PRIu64 " index=%" PRIu64 " action=\"no majority says yet who is right\"",
                  peer->id, index);
    }
}

static void judge_all(struct replica *replica, uint64_t index)
{
    for (size_t i = 0; i < replica->peer_count; i++) {
        judge(replica, &replica->peer[i], index);
    }
}

void agreement_applied(struct replica *replica)
{
    uint64_t index = replica->applied_index;

    if (index % DIGEST_EVERY == 0) {
        *note_at(replica->digests, index) =
            (struct digest_note){.index = index, .digest = tree_digest(replica->tree)};
        judge_all(replica, index);
    }
}

void agreement_met(struct peer *peer, const struct replica_hello *hello)
{
    /* CONSENSUS 0: what a former life told was told by another one. */
    if (peer->incarnation != hello->incarnation) {
        memset(peer->digests, 0, sizeof peer->digests);
        peer->alarm = PEER_AGREES;
    }
    peer->feature_level = hello->feature_level;
}

enum err agreement_take_digests(struct replica *replica, struct peer *from,
                                const Wire__StateDigests *digests)
{
    if (digests->n_index != digests->n_digest || digests->n_index > DIGEST_NOTES) {
        return ERR_MALFORMED;
    }
    if (!members_is_member(replica, from)) {
        return ERR_OK;
    }
    for (size_t i = 0; i < digests->n_index; i++) {
        if (digests->index[i] == 0 || digests->index[i] % DIGEST_EVERY != 0) {
            return ERR_MALFORMED;
        }
        *note_at(from->digests, digests->index[i]) =
            (struct digest_note){.index = digests->index[i], .digest = digests->digest[i]};
        /* Others may have told the same before: what is a majority now was none then. */
        judge_all(replica, digests->index[i]);
    }
    return ERR_OK;
}

static void tell_digests(struct replica *replica)
{
    Wire__StateDigests digests = WIRE__STATE_DIGESTS__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    uint64_t index[DIGEST_NOTES];
    uint64_t digest[DIGEST_NOTES];

    for (size_t i = 0; i < DIGEST_NOTES; i++) {
        if (replica->digests[i].index > replica->digests_told) {
            index[digests.n_index] = replica->digests[i].index;
            digest[digests.n_index++] = replica->digests[i].digest;
        }
    }
    if (digests.n_index == 0) {
        return;
    }
    replica->digests_told = replica->applied_index / DIGEST_EVERY * DIGEST_EVERY;
    digests.index = index;
    digests.n_digest = digests.n_index;
    digests.digest = digest;
    message.body_case = WIRE__PEER_MESSAGE__BODY_STATE_DIGESTS;
    message.state_digests = &digests;
    for (size_t i = 0; i < replica->peer_count; i++) {
        /* A guest or a newcomer may know less than the members do. */
        if (replica->peer[i].feature_level >= FEATURE_DIGESTS) {
            replica->env.peer_send(replica->env.context, replica->peer[i].id, &message);
        }
    }
}

/* ---- levels ---- */

uint32_t agreement_common_level(struct replica *replica)
{
    const struct raft_members *members = members_now(replica);
    uint32_t level = replica->feature_level;

    for (size_t i = 0; i < members->count; i++) {
        const struct peer *peer = peers_find(replica, members->member[i].id);
        if (members->member[i].id == replica->identity.id) {
            continue;
        }
        if (peer == NULL || !peer->known || !members_is_member(replica, peer)) {
            return 0;
        }
        level = peer->feature_level < level ? peer->feature_level : level;
    }
    return level;
}

static void raise_level(struct replica *replica)
{
    uint32_t level = agreement_common_level(replica);
    Wire__FeatureLevelOp raise = WIRE__FEATURE_LEVEL_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;

    if (!replica->leader_ready || level <= tree_feature_level(replica->tree)) {
        return;
    }
    raise.level = level;
    op.body_case = WIRE__OP__BODY_FEATURE_LEVEL;
    op.feature_level = &raise;
    if (peers_propose_op(replica, &op) == ERR_OK) {
        log_info("replica", "feature_level_raised", "level=%u", level);
    }
}

bool agreement_knows_level(const struct replica *replica)
{
    uint32_t level = tree_feature_level(replica->tree);

    if (level <= replica->feature_level) {
        return true;
    }
    log_error("replica", "feature_level_unknown",
              "level=%u known=%u action=\"stops; a newer quorumd is needed\"", level,
              replica->feature_level);
    return false;
}

void agreement_turn(struct replica *replica)
{
    if (replica->now_ms < replica->agreement_due_ms) {
        return;
    }
    replica->agreement_due_ms = replica->now_ms + TELL_MS;
    raise_level(replica);
    if (tree_feature_level(replica->tree) >= FEATURE_DIGESTS) {
        tell_digests(replica);
    }
}
