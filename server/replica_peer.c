/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor among replicas: forming the ensemble (CONSENSUS 0), commands of followers for the
 * leader, touches of sessions and their confirmation (CONSENSUS 22-25), expiry. Handed messages by
 * the rim; hands on to the core and the sessions.
 *
 * Invariants:
 *   1. An ensemble is founded only by the configured replica with the lowest id, only while every
 *      configured replica has said that its folder is empty.
 *   2. What a replica answers counts only if its incarnation is the one among the members.
 */
#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "server/replica_internal.h"

#define FORM_AGAIN_MS        500u  /* an empty peer is told again after this */
#define OFFER_AGAIN_MS       1000u /* a command whose fate is unknown is offered again after this */
#define TOUCH_MS             100u  /* touches are gathered for this long */
#define EXPIRE_MS            100u  /* deadlines are looked at this often */
#define TOUCH_SESSIONS_MAX   8192u
#define FORWARD_COMMANDS_MAX 1024u
#define FORWARD_BYTES_MAX    (2u * MIB)

struct peer *peers_find(struct replica *replica, uint64_t id)
{
    for (size_t i = 0; i < replica->peer_count; i++) {
        if (replica->peer[i].id == id) {
            return &replica->peer[i];
        }
    }
    return NULL;
}

/* ---- forming ---- */

static enum err refuse(struct peer *peer, uint64_t id, const char *why)
{
    if (peer == NULL || !peer->refused) {
        log_warn("replica", "stranger_refused", "peer=%" PRIu64 " reason=\"%s\"", id, why);
    }
    if (peer != NULL) {
        peer->refused = true;
    }
    return ERR_STRANGER;
}

enum err replica_peer_hello(struct replica *replica, const struct replica_hello *hello)
{
    struct peer *peer = peers_find(replica, hello->id);
    bool empty = hello->ensemble_len == 0;
    if (hello->id == replica->identity.id) {
        return refuse(NULL, hello->id, "it has the id of this replica");
    }
    if (replica->identity.formed && !empty &&
        (hello->ensemble_len != ENSEMBLE_ID_BYTES ||
         memcmp(hello->ensemble, replica->identity.ensemble, ENSEMBLE_ID_BYTES) != 0)) {
        return refuse(peer, hello->id, "belongs to another ensemble");
    }
    if (replica->identity.formed && !empty) {
        members_take_hello(replica, hello);
    }
    if (peer == NULL && !empty) {
        peer = members_invite(replica, hello);
    }
    if (peer == NULL) {
        return refuse(NULL, hello->id, "not among the members");
    }
    peer->known = true;
    peer->empty = empty;
    peer->refused = false;
    agreement_met(peer, hello);
    replica->agreement_due_ms = 0; /* Its level may be the last that was missing. */
    peer->incarnation = hello->incarnation;
    peer->form_again_ms = 0;
    return ERR_OK;
}

static void send_form(struct replica *replica, uint64_t to)
{
    struct buffer members = {0};
    struct buffer now = {0};
    if (raft_members_encode(&replica->identity.founders, &members) != ERR_OK ||
        raft_members_encode(members_now(replica), &now) != ERR_OK) {
        replica->env.fail(replica->env.context, ERR_MEMORY, "encoding the members");
        return;
    }
    Wire__Form form = WIRE__FORM__INIT;
    form.ensemble = wire_bytes(replica->identity.ensemble, ENSEMBLE_ID_BYTES);
    form.members = wire_bytes(members.data, members.len);
    form.members_now = wire_bytes(now.data, now.len);
    form.time_ns = replica->identity.founded_ns;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    message.body_case = WIRE__PEER_MESSAGE__BODY_FORM;
    message.form = &form;
    replica->env.peer_send(replica->env.context, to, &message);
    buffer_done(&now);
    buffer_done(&members);
}

/* Founds the ensemble if it is this replica's turn to do so and all are empty. */
static void found(struct replica *replica)
{
    struct replica_identity identity = replica->identity;
    if (replica->join) {
        return;
    }
    identity.founders = replica->configured;
    for (size_t i = 0; i < identity.founders.count; i++) {
        struct raft_member *member = &identity.founders.member[i];
        const struct peer *peer = peers_find(replica, member->id);
        if (member->id == identity.id) {
            member->incarnation = identity.incarnation;
        } else if (peer == NULL || !peer->known || !peer->empty || member->id < identity.id) {
            return;
        } else {
            member->incarnation = peer->incarnation;
        }
    }
    identity.founders.last_id = identity.founders.member[identity.founders.count - 1].id;
    identity.formed = true;
    identity.founded_ns = replica->time_ns;
    replica->env.random(replica->env.context, identity.ensemble, ENSEMBLE_ID_BYTES);
    replica->identity = identity;
    log_info("replica", "ensemble_founded", "members=%zu", identity.founders.count);
    replica->env.formed(replica->env.context, &identity);
}

/* An empty replica is told of the ensemble that it belongs to. */
static enum err take_form(struct replica *replica, const Wire__Form *form)
{
    if (replica->identity.formed) {
        return ERR_OK; /* Told twice. */
    }
    struct replica_identity identity = replica->identity;
    struct raft_members now;
    if (form->ensemble.len != ENSEMBLE_ID_BYTES ||
        raft_members_decode(form->members.data, form->members.len, &identity.founders) != ERR_OK ||
        raft_members_decode(form->members_now.data, form->members_now.len, &now) != ERR_OK) {
        return ERR_MALFORMED;
    }
    const struct raft_member *self = raft_members_find(&now, identity.id);
    if (self == NULL || self->incarnation != identity.incarnation) {
        return ERR_STRANGER;
    }
    memcpy(identity.ensemble, form->ensemble.data, ENSEMBLE_ID_BYTES);
    identity.formed = true;
    identity.founded_ns = form->time_ns;
    replica->identity = identity;
    log_info("replica", "ensemble_joined", "members=%zu", identity.founders.count);
    replica->env.formed(replica->env.context, &identity);
    return ERR_OK;
}

static void forming_turn(struct replica *replica)
{
    if (!replica->identity.formed) {
        found(replica);
        return;
    }
    for (size_t i = 0; i < replica->peer_count; i++) {
        struct peer *peer = &replica->peer[i];
        if (peer->known && peer->empty && members_is_member(replica, peer) &&
            replica->now_ms >= peer->form_again_ms &&
            replica->env.peer_is_connected(replica->env.context, peer->id)) {
            peer->form_again_ms = replica->now_ms + FORM_AGAIN_MS;
            send_form(replica, peer->id);
        }
    }
}

/* ---- connections and messages ---- */

void replica_peer_connected(struct replica *replica, uint64_t id)
{
    if (id == replica->leader) {
        proposals_unsend(replica->proposals); /* What was on the old connection may be lost. */
    }
}

void replica_peer_closed(struct replica *replica, uint64_t id)
{
    if (replica->raft != NULL) {
        struct raft_event event = {.type = RAFT_EV_PEER_CLOSED, .peer = id};
        (void)replica_step(replica, &event);
    }
}

/* Whether the message is counted towards a majority. */
static bool counts(enum raft_message_type type)
{
    switch (type) {
    case RAFT_MSG_PREVOTE_ANSWER:
    case RAFT_MSG_VOTE_ANSWER:
    case RAFT_MSG_APPEND_ANSWER:
    case RAFT_MSG_HEARTBEAT_ANSWER:
        return true;
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE:
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_READ_INDEX:
    case RAFT_MSG_READ_INDEX_ANSWER:
    case RAFT_MSG_TRANSFER:
        return false;
    }
    return true; /* the core refuses it */
}

enum err replica_peer_raft(struct replica *replica, const struct raft_message *message)
{
    struct peer *peer = peers_find(replica, message->from);
    if (peer == NULL || message->to != replica->identity.id) {
        return ERR_MALFORMED;
    }
    if (replica->raft == NULL || (counts(message->type) && !members_is_member(replica, peer))) {
        return ERR_OK; /* Not formed yet, or not replaced yet: Raft sends again. */
    }
    peer->empty = false;
    struct raft_event event = {.type = RAFT_EV_MESSAGE, .message = message};
    return replica_step(replica, &event);
}

/* Appends a command to the log if this is the leader. */
static enum err propose(struct replica *replica, const void *bytes, size_t len)
{
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, bytes, len);
    if (entry == NULL) {
        replica->env.fail(replica->env.context, ERR_MEMORY, "new entry");
        return ERR_MEMORY;
    }
    entry->time_ns = replica->time_ns;
    struct raft_event event = {.type = RAFT_EV_PROPOSE, .entry = entry};
    enum err err = replica_step(replica, &event);
    raft_entry_unref(entry);
    return err;
}

/* Commands of a follower. What cannot be taken now is offered again by the follower. */
static enum err take_forward(struct replica *replica, const Wire__Forward *forward)
{
    for (size_t i = 0; i < forward->n_commands; i++) {
        if (forward->commands[i].len > COMMAND_BYTES_MAX) {
            return ERR_MALFORMED;
        }
        if (propose(replica, forward->commands[i].data, forward->commands[i].len) != ERR_OK) {
            break;
        }
    }
    return ERR_OK;
}

/* Leader: the sessions were heard of; a quorum round from now on confirms it to their replica. A
 * confirmed session must live on for its whole timeout (CONSENSUS 25). So none is confirmed while
 * a close of one of them may already stand in the log: one of an earlier leader is applied before
 * leader_ready, the own ones are marked. */
static void take_touch(struct replica *replica, uint64_t from, uint64_t batch, const uint64_t *ids,
                       size_t count)
{
    replica_follow_role(replica); /* Another event of this turn may have ended the leadership. */
    if (!replica->leader_ready) {
        return;
    }
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        all = sessions_extend(replica->sessions, ids[i], replica->now_ms) && all;
    }
    if (!all) {
        return; /* The next touch of the others confirms them. */
    }
    uint64_t number = ++replica->last_round;
    replica->round[number % TOUCH_ROUNDS_MAX] =
        (struct touch_round){.replica = from, .batch = batch};
    struct raft_event event = {.type = RAFT_EV_READ,
                               .context = READ_CONTEXT(READ_FOR_TOUCH, number)};
    (void)replica_step(replica, &event); /* Refused: unconfirmed, the next touch does it. */
}

/* This replica's clients learn which of their pings is confirmed. */
static void ping_confirmed(void *arg, struct session *session, uint64_t ping)
{
    struct replica *replica = arg;
    struct client *client = session->client;
    if (ping > client->confirmed_ping) {
        client->confirmed_ping = ping;
        client_send_pong(replica, client);
    }
}

static void touch_confirmed_here(struct replica *replica, uint64_t batch)
{
    sessions_confirm_batch(replica->sessions, batch, ping_confirmed, replica);
}

void peers_touch_confirmed(struct replica *replica, uint64_t number, enum err err)
{
    struct touch_round *round = &replica->round[number % TOUCH_ROUNDS_MAX];
    if (err != ERR_OK || round->replica == 0 || number + TOUCH_ROUNDS_MAX <= replica->last_round) {
        return;
    }
    if (round->replica == replica->identity.id) {
        touch_confirmed_here(replica, round->batch);
    } else {
        Wire__Touched touched = WIRE__TOUCHED__INIT;
        touched.batch = round->batch;
        Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
        message.body_case = WIRE__PEER_MESSAGE__BODY_TOUCHED;
        message.touched = &touched;
        replica->env.peer_send(replica->env.context, round->replica, &message);
    }
    round->replica = 0;
}

enum err replica_peer_message(struct replica *replica, uint64_t from,
                              const Wire__PeerMessage *message)
{
    struct peer *peer = peers_find(replica, from);
    if (peer == NULL) {
        return ERR_MALFORMED;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_FORM) {
        return take_form(replica, message->form);
    }
    if (replica->raft == NULL) {
        return ERR_OK;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_FORWARD) {
        return take_forward(replica, message->forward);
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_TOUCH) {
        take_touch(replica, from, message->touch->batch, message->touch->sessions,
                   message->touch->n_sessions);
        return ERR_OK;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_TOUCHED) {
        touch_confirmed_here(replica, message->touched->batch);
        return ERR_OK;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_SPACE) {
        upkeep_take_space(replica, peer, message->space);
        return ERR_OK;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_STATE_DIGESTS) {
        return agreement_take_digests(replica, peer, message->state_digests);
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_MEMBERS_ASK) {
        return members_take_ask(replica, from, message->members_ask);
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_MEMBERS_TOLD) {
        members_take_told(replica, message->members_told);
        return ERR_OK;
    }
    return ERR_MALFORMED;
}

/* ---- offering commands to the leader ---- */

static bool offer_here(void *arg, const struct proposal *proposal)
{
    struct replica *replica = arg;
    return propose(replica, proposal->bytes.data, proposal->bytes.len) == ERR_OK;
}

struct forward {
    ProtobufCBinaryData commands[FORWARD_COMMANDS_MAX];
    size_t count;
    size_t bytes;
};

static bool offer_to_leader(void *arg, const struct proposal *proposal)
{
    struct forward *forward = arg;
    if (forward->count == FORWARD_COMMANDS_MAX ||
        (forward->count > 0 && forward->bytes + proposal->bytes.len > FORWARD_BYTES_MAX)) {
        return false;
    }
    forward->commands[forward->count++] = wire_bytes(proposal->bytes.data, proposal->bytes.len);
    forward->bytes += proposal->bytes.len;
    return true;
}

static void offer(struct replica *replica)
{
    if (proposals_count(replica->proposals) == 0) {
        return;
    }
    if (replica->role == RAFT_LEADER) {
        proposals_offer(replica->proposals, replica->now_ms, OFFER_AGAIN_MS, offer_here, replica);
        return;
    }
    if (replica->leader == 0 ||
        !replica->env.peer_is_connected(replica->env.context, replica->leader) ||
        !replica->env.peer_has_room(replica->env.context, replica->leader)) {
        return;
    }
    struct forward forward = {.count = 0};
    proposals_offer(replica->proposals, replica->now_ms, OFFER_AGAIN_MS, offer_to_leader, &forward);
    if (forward.count > 0) {
        Wire__Forward body = WIRE__FORWARD__INIT;
        body.n_commands = forward.count;
        body.commands = forward.commands;
        Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
        message.body_case = WIRE__PEER_MESSAGE__BODY_FORWARD;
        message.forward = &body;
        replica->env.peer_send(replica->env.context, replica->leader, &message);
    }
}

/* ---- touches and expiry ---- */

static void send_touches(struct replica *replica)
{
    if (replica->now_ms < replica->touch_due_ms || replica->leader == 0) {
        return;
    }
    replica->touch_due_ms = replica->now_ms + TOUCH_MS;
    uint64_t ids[TOUCH_SESSIONS_MAX];
    uint64_t batch = 0;
    size_t count = sessions_take_batch(replica->sessions, ids, TOUCH_SESSIONS_MAX, &batch);
    if (count == 0) {
        return;
    }
    if (replica->role == RAFT_LEADER) {
        take_touch(replica, replica->identity.id, batch, ids, count);
        return;
    }
    Wire__Touch touch = WIRE__TOUCH__INIT;
    touch.batch = batch;
    touch.n_sessions = count;
    touch.sessions = ids;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    message.body_case = WIRE__PEER_MESSAGE__BODY_TOUCH;
    message.touch = &touch;
    replica->env.peer_send(replica->env.context, replica->leader, &message);
}

enum err peers_propose_op(struct replica *replica, Wire__Op *op)
{
    Wire__Command command = WIRE__COMMAND__INIT;
    command.op = op;
    struct buffer bytes = {0};
    enum err err = wire_pack(&command.base, &bytes);
    if (err == ERR_OK) {
        err = propose(replica, bytes.data, bytes.len);
    } else {
        replica->env.fail(replica->env.context, err, "packing an operation of the ensemble");
    }
    buffer_done(&bytes);
    return err;
}

/* The leader asks for the end of a session by a log entry; it does nothing if the epoch moved. */
static bool expire(void *arg, struct session *session)
{
    struct replica *replica = arg;
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;
    close.session = session->id;
    close.epoch = session->epoch;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    enum err err = peers_propose_op(replica, &op);
    if (err == ERR_OK) {
        log_info("replica", "session_expired",
                 "session=%" PRIu64 " epoch=%" PRIu64 " timeout_ms=%u", session->id, session->epoch,
                 session->timeout_ms);
    }
    return err == ERR_OK;
}

static void expire_sessions(struct replica *replica)
{
    if (!replica->leader_ready || replica->now_ms < replica->expire_due_ms) {
        return;
    }
    replica->expire_due_ms = replica->now_ms + EXPIRE_MS;
    sessions_expired(replica->sessions, replica->now_ms, expire, replica);
}

uint64_t peers_turn(struct replica *replica)
{
    forming_turn(replica);
    if (replica->raft == NULL) {
        return replica->now_ms + FORM_AGAIN_MS;
    }
    offer(replica);
    send_touches(replica);
    expire_sessions(replica);
    return replica->now_ms + TOUCH_MS;
}
