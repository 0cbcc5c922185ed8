/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor and the members: who may talk to this replica, whom it dials, what an operator asks
 * to be changed, and what the leader changes by itself (CONSENSUS 0, 14, 15). Handed hellos and
 * requests by replica_peer.c and request.c; hands on to the core (RAFT_EV_CHANGE) and the rim.
 *
 * The way of a new replica, or of one whose folder was wiped:
 *
 *     voter, wiped --(demoted)--+
 *                               v
 *     added: learner, incarnation not known --(its hello)--> learner, joining --(caught up)--> voter
 *
 * Each arrow is one change, made by whoever leads. Only the first needs a look at the old life: it
 * must be silent, as two processes with one id would be an operator's mistake.
 *
 * Invariants:
 *   1. A vote or an acknowledgement counts for the incarnation among the members only: answers of
 *      another one never reach the core. Questions of a leader or a candidate do: who lags behind
 *      does not know the members of today, and to refuse them would be to lag for ever.
 *   2. An id above all that ever were is the only one that can be added: none is used twice.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/parse.h"
#include "server/replica_internal.h"

#define LOOK_MS    100u  /* the leader looks so often whether a change is due */
#define CAUGHT_UP  1000u /* entries that a new voter may lack */
#define ASK_MS     5000u /* for the answer of the leader */
#define HOST_BYTES 256u

/* ---- who is who ---- */

const struct raft_members *members_now(const struct replica *replica)
{
    return replica->raft != NULL ? raft_members(replica->raft) : &replica->identity.founders;
}

static bool self_is_member(const struct replica *replica)
{
    const struct raft_member *self = raft_members_find(members_now(replica), replica->identity.id);

    return self != NULL && self->incarnation == replica->identity.incarnation;
}

bool members_is_member(const struct replica *replica, const struct peer *peer)
{
    const struct raft_member *member = raft_members_find(members_now(replica), peer->id);

    return member != NULL && member->incarnation == peer->incarnation;
}

/* The newest members that are known to be committed: only of those an index says which of two are
 * newer. */
static const struct raft_members *members_committed(const struct replica *replica,
                                                    uint64_t *out_index)
{
    *out_index = 0;
    return replica->raft != NULL ? raft_members_committed(replica->raft, out_index)
                                 : &replica->identity.founders;
}

void replica_own_hello(const struct replica *replica, struct replica_hello *out)
{
    const struct replica_identity *identity = &replica->identity;
    const struct raft_member *self = raft_members_find(members_now(replica), identity->id);
    const struct raft_members *members = NULL;

    if (self == NULL) {
        self = raft_members_find(&replica->configured, identity->id);
    }
    *out = (struct replica_hello){
        .id = identity->id,
        .incarnation = identity->incarnation,
        .ensemble_len = identity->formed ? ENSEMBLE_ID_BYTES : 0,
        .feature_level = replica->feature_level,
    };
    memcpy(out->ensemble, identity->ensemble, out->ensemble_len);
    members = members_committed(replica, &out->members_index);
    for (size_t i = 0; i < members->count; i++) {
        out->member[out->member_count++] = members->member[i].id;
    }
    if (self != NULL) {
        memcpy(out->address, self->address, sizeof out->address);
    }
}

/* ---- whom to dial ---- */

static void add_missing(struct raft_members *to, const struct raft_members *from)
{
    for (size_t i = 0; i < from->count && to->count < MEMBERS_MAX; i++) {
        if (raft_members_find(to, from->member[i].id) == NULL) {
            to->member[to->count++] = from->member[i];
        }
    }
}

static void add_guest(const struct replica *replica, const struct peer *peer,
                      struct raft_members *to)
{
    struct raft_members guest = {.count = 1, .member = {{.id = peer->id}}};
    uint64_t own_index = 0;

    (void)members_committed(replica, &own_index);
    if (peer->members_index > own_index) {
        memcpy(guest.member[0].address, peer->address, sizeof peer->address);
        add_missing(to, &guest);
    }
}

/* The members; who is none of them keeps to its configuration too. Then guests. */
static void peers_wanted(const struct replica *replica, struct raft_members *out)
{
    *out = (struct raft_members){.count = 0};
    if (replica->removed) {
        return;
    }
    if (replica->identity.formed) {
        *out = *members_now(replica);
    }
    if (!replica->identity.formed || !self_is_member(replica)) {
        add_missing(out, &replica->configured);
    }
    for (size_t i = 0; i < replica->peer_count; i++) {
        add_guest(replica, &replica->peer[i], out);
    }
}

void members_follow(struct replica *replica)
{
    struct raft_members wanted;
    struct peer old[MEMBERS_MAX];
    size_t old_count = replica->peer_count;

    replica->members_stale = false;
    peers_wanted(replica, &wanted);
    memcpy(old, replica->peer, sizeof old);
    replica->peer_count = 0;
    for (size_t i = 0; i < wanted.count; i++) {
        struct peer *peer = &replica->peer[replica->peer_count];
        if (wanted.member[i].id == replica->identity.id) {
            continue;
        }
        *peer = (struct peer){.id = wanted.member[i].id};
        for (size_t j = 0; j < old_count; j++) {
            *peer = old[j].id == peer->id ? old[j] : *peer;
        }
        replica->peer_count++;
    }
    replica->env.members(replica->env.context, &wanted);
}

struct peer *members_invite(struct replica *replica, const struct replica_hello *hello)
{
    struct peer *peer = NULL;
    uint64_t own_index = 0;

    (void)members_committed(replica, &own_index);
    if (hello->members_index <= own_index || replica->peer_count == MEMBERS_MAX) {
        return NULL;
    }
    log_info("replica", "guest", "peer=%" PRIu64 " members_index=%" PRIu64 " own=%" PRIu64,
             hello->id, hello->members_index, own_index);
    peer = &replica->peer[replica->peer_count++];
    *peer = (struct peer){.id = hello->id, .members_index = hello->members_index};
    memcpy(peer->address, hello->address, sizeof peer->address);
    replica->members_stale = true; /* The rim hears of it in the turn. */
    return peer;
}

/* The members of the core have changed since the last turn. */
static void follow_core(struct replica *replica, const struct raft_status *status)
{
    if (status->members_index == replica->members_index) {
        if (replica->members_stale) {
            members_follow(replica);
        }
        return;
    }
    replica->members_index = status->members_index;
    log_info("replica", "members", "index=%" PRIu64 " count=%zu joint=%d member=%d",
             status->members_index, members_now(replica)->count,
             raft_members_is_joint(members_now(replica)) ? 1 : 0, self_is_member(replica) ? 1 : 0);
    members_follow(replica);
}

/* ---- leaving ---- */

static void leave(struct replica *replica, uint64_t index)
{
    if (replica->removed) {
        return;
    }
    log_warn("replica", "removed", "index=%" PRIu64 " action=\"serves no clients any more\"",
             index);
    replica->removed = true;
    replica->members_stale = true; /* Nobody is dialed any more. */
    replica->serving = false;
    for (struct client *client = replica->clients; client != NULL; client = client->next) {
        replica->env.client_close(replica->env.context, client->conn, "the replica was removed");
    }
}

void members_take_hello(struct replica *replica, const struct replica_hello *hello)
{
    const struct raft_member *self = NULL;
    uint64_t own_index = 0;

    self = raft_members_find(members_committed(replica, &own_index), replica->identity.id);
    if (hello->members_index <= own_index || self == NULL ||
        self->incarnation != replica->identity.incarnation) {
        return; /* Its view is older, or ours is from before we were a member. */
    }
    for (size_t i = 0; i < hello->member_count; i++) {
        if (hello->member[i] == replica->identity.id) {
            return;
        }
    }
    /* Both are committed, and theirs is the newer one: it is final. */
    leave(replica, hello->members_index);
}

void members_applied(struct replica *replica, const struct raft_entry *entry)
{
    struct raft_members members;
    const struct raft_member *self = raft_members_find(members_now(replica), replica->identity.id);

    if (self != NULL && !self->leaving) {
        return; /* A later entry names it again: the ensemble was recovered from this replica. */
    }
    CHECK(raft_members_decode(entry->data, entry->len, &members) == ERR_OK);
    self = raft_members_find(&members, replica->identity.id);
    if (self != NULL && self->leaving && self->incarnation == replica->identity.incarnation) {
        leave(replica, entry->index);
    }
}

/* ---- changes ---- */

static enum err change(struct replica *replica, const struct raft_members *wanted)
{
    struct raft_event event = {.type = RAFT_EV_CHANGE, .members = wanted};

    return replica_step(replica, &event);
}

static struct raft_member *find(struct raft_members *members, uint64_t id)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->member[i].id == id) {
            return &members->member[i];
        }
    }
    return NULL;
}

static enum err add(struct raft_members *members, uint64_t id, const char *address)
{
    struct raft_member member = {.id = id, .joining = true};
    char host[HOST_BYTES];
    uint16_t port = 0;

    if (id == 0 || parse_address(address, 0, host, sizeof host, &port) != ERR_OK || port == 0) {
        return ERR_INVALID;
    }
    if (id <= members->last_id) {
        return ERR_MEMBER_USED;
    }
    if (members->count == MEMBERS_MAX) {
        return ERR_LIMIT;
    }
    (void)memccpy(member.address, address, 0, sizeof member.address - 1);
    members->member[members->count++] = member;
    members->last_id = id;
    return ERR_OK;
}

static void drop(struct raft_members *members, const struct raft_member *member)
{
    size_t at = (size_t)(member - members->member);

    memmove(&members->member[at], &members->member[at + 1],
            (members->count - at - 1) * sizeof members->member[0]);
    members->count--;
}

/* Does to `members` what is asked for. ERR_MEMBERS_BUSY: leadership goes first. */
static enum err edit(struct replica *replica, const Wire__MembersChange *wanted,
                     struct raft_members *members)
{
    struct raft_member *member = find(members, wanted->id);

    if (wanted->action == WIRE__MEMBERS_ACTION__MEMBERS_ADD) {
        return add(members, wanted->id, wanted->address);
    }
    if (member == NULL) {
        return ERR_MEMBER_NONE;
    }
    if (wanted->action == WIRE__MEMBERS_ACTION__MEMBERS_PROMOTE) {
        member->joining = !member->voter;
        return ERR_OK;
    }
    if (member->voter && raft_members_voters(members) == 1) {
        return ERR_LAST_VOTER;
    }
    if (wanted->id == replica->identity.id) {
        replica_transfer_leader(replica);
        return ERR_MEMBERS_BUSY;
    }
    if (wanted->action == WIRE__MEMBERS_ACTION__MEMBERS_REMOVE) {
        drop(members, member);
    } else {
        member->voter = false;
        member->joining = false;
    }
    return ERR_OK;
}

static enum err transfer(struct replica *replica, uint64_t id)
{
    struct raft_event event = {.type = RAFT_EV_TRANSFER, .peer = id};

    if (id == replica->identity.id) {
        return ERR_OK;
    }
    if (id == 0) {
        replica_transfer_leader(replica);
        return ERR_OK;
    }
    return replica_step(replica, &event);
}

/* On the leader. */
static enum err execute(struct replica *replica, const Wire__MembersChange *wanted)
{
    struct raft_members members = *members_now(replica);
    struct raft_status status;
    enum err err = ERR_OK;

    raft_status(replica->raft, &status);
    if (status.role != RAFT_LEADER) {
        return ERR_NO_LEADER;
    }
    if (wanted->action == WIRE__MEMBERS_ACTION__MEMBERS_TRANSFER) {
        return transfer(replica, wanted->id);
    }
    if (!status.change_ready) {
        return ERR_MEMBERS_BUSY;
    }
    switch (wanted->action) {
    case WIRE__MEMBERS_ACTION__MEMBERS_ADD:
    case WIRE__MEMBERS_ACTION__MEMBERS_REMOVE:
    case WIRE__MEMBERS_ACTION__MEMBERS_PROMOTE:
    case WIRE__MEMBERS_ACTION__MEMBERS_DEMOTE:
        err = edit(replica, wanted, &members);
        break;
    case WIRE__MEMBERS_ACTION__MEMBERS_NONE:
    case WIRE__MEMBERS_ACTION__MEMBERS_TRANSFER:
    case _WIRE__MEMBERS_ACTION_IS_INT_SIZE:
        err = ERR_INVALID;
        break;
    }
    if (err == ERR_OK) {
        err = change(replica, &members);
    }
    log_info("replica", "members_change", "action=%d id=%" PRIu64 " address=\"%s\" err=%s",
             (int)wanted->action, wanted->id, wanted->address, err_name(err));
    return err;
}

/* ---- changes by the leader itself ---- */

static const struct raft_peer_status *status_of(const struct raft_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->peer_count; i++) {
        if (status->peer[i].id == id) {
            return &status->peer[i];
        }
    }
    return NULL;
}

/* One step of a member on its way, if it is due. True: `member` was changed. */
static bool step(struct replica *replica, const struct raft_status *status,
                 struct raft_member *member)
{
    const struct peer *peer = peers_find(replica, member->id);
    const struct raft_peer_status *known = status_of(status, member->id);
    /* Also if it has formed: the change that named it may have been lost with its leader. */
    bool is_other = peer != NULL && peer->known && peer->incarnation != member->incarnation &&
                    replica->env.peer_is_connected(replica->env.context, member->id);

    if (known == NULL) {
        return false;
    }
    if (is_other && !known->active && member->voter) {
        log_warn("replica", "member_wiped", "peer=%" PRIu64 " action=\"replaced\"", member->id);
        member->voter = false;
        member->joining = true;
        return true;
    }
    if (is_other && !known->active) {
        member->incarnation = peer->incarnation;
        return true;
    }
    if (member->joining && !member->voter && member->incarnation != 0 && known->active &&
        !known->snapshot && known->match_index + CAUGHT_UP >= status->commit_index &&
        known->match_index > 0) {
        member->voter = true;
        member->joining = false;
        return true;
    }
    return false;
}

static void look(struct replica *replica, const struct raft_status *status)
{
    struct raft_members members = *members_now(replica);

    for (size_t i = 0; i < members.count; i++) {
        if (step(replica, status, &members.member[i])) {
            enum err err = change(replica, &members);
            log_info("replica", "members_step", "peer=%" PRIu64 " voter=%d err=%s",
                     members.member[i].id, members.member[i].voter ? 1 : 0, err_name(err));
            return;
        }
    }
}

/* ---- requests of clients ---- */

static void answer_ask(struct replica *replica, struct ask *ask, enum err err)
{
    struct client *client = ask->client;

    ask->number = 0;
    if (client == NULL) {
        return;
    }
    if (err == ERR_OK) {
        status_members_answer(replica, client, ask->call);
    } else {
        answer_error(replica, client, ask->call, err);
    }
}

static struct ask *find_ask(struct replica *replica, uint64_t number)
{
    for (size_t i = 0; i < ASKS_MAX; i++) {
        if (replica->ask[i].number == number) {
            return &replica->ask[i];
        }
    }
    return NULL;
}

void members_request(struct replica *replica, struct client *client, const Wire__Request *request)
{
    Wire__MembersAsk body = WIRE__MEMBERS_ASK__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    struct ask *ask = find_ask(replica, 0);
    enum err err = client->origin.trusted ? ERR_OK : ERR_ACCESS;

    if (err == ERR_OK && replica->leader == 0) {
        err = ERR_NO_LEADER;
    }
    if (err == ERR_OK && ask == NULL) {
        err = ERR_LIMIT;
    }
    if (err != ERR_OK) {
        answer_error(replica, client, request->call, err);
        return;
    }
    *ask = (struct ask){.number = ++replica->last_ask,
                        .client = client,
                        .call = request->call,
                        .until_ms = replica->now_ms + ASK_MS};
    if (replica->role == RAFT_LEADER) {
        answer_ask(replica, ask, execute(replica, request->members_change));
        return;
    }
    body.number = ask->number;
    body.change = request->members_change;
    message.body_case = WIRE__PEER_MESSAGE__BODY_MEMBERS_ASK;
    message.members_ask = &body;
    replica->env.peer_send(replica->env.context, replica->leader, &message);
}

enum err members_take_ask(struct replica *replica, uint64_t from, const Wire__MembersAsk *ask)
{
    Wire__MembersTold told = WIRE__MEMBERS_TOLD__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;

    if (ask->change == NULL) {
        return ERR_MALFORMED;
    }
    told.number = ask->number;
    told.err = (int32_t)execute(replica, ask->change);
    message.body_case = WIRE__PEER_MESSAGE__BODY_MEMBERS_TOLD;
    message.members_told = &told;
    replica->env.peer_send(replica->env.context, from, &message);
    return ERR_OK;
}

void members_take_told(struct replica *replica, const Wire__MembersTold *told)
{
    struct ask *ask = told->number != 0 ? find_ask(replica, told->number) : NULL;

    if (ask != NULL) {
        answer_ask(replica, ask, err_from_number(told->err));
    }
}

void members_client_closed(struct replica *replica, const struct client *client)
{
    for (size_t i = 0; i < ASKS_MAX; i++) {
        if (replica->ask[i].client == client) {
            replica->ask[i].client = NULL;
        }
    }
}

static void end_late_asks(struct replica *replica)
{
    for (size_t i = 0; i < ASKS_MAX; i++) {
        struct ask *ask = &replica->ask[i];
        if (ask->number != 0 && replica->now_ms >= ask->until_ms) {
            answer_ask(replica, ask, ERR_TIMEOUT);
        }
    }
}

/* ---- the turn ---- */

void members_turn(struct replica *replica)
{
    struct raft_status status;

    raft_status(replica->raft, &status);
    follow_core(replica, &status);
    end_late_asks(replica);
    if (status.change_ready && replica->now_ms >= replica->look_due_ms) {
        replica->look_due_ms = replica->now_ms + LOOK_MS;
        look(replica, &status);
    }
}
