/* SPDX-License-Identifier: Apache-2.0
 *
 * The clients of this replica: hello, session, requests. Decides for each request: a read now, a
 * read that waits for a state or a read index, or a command for the log. Handed messages by the
 * rim; hands on to answer.c, proposal.c and the core; gets outcomes from replica.c.
 *
 * Invariants:
 *   1. Every request of a living connection ends in exactly one Answer.
 *   2. client->waiting counts its waits and its proposals.
 *   3. A client is ATTACHED exactly while sessions_find(client->session)->client == client.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/plant.h"
#include "common/version.h"
#include "server/replica_internal.h"

#define NONCE_BYTES      16u
#define PROTOCOL_VERSION 1u

/* ---- connections ---- */

struct client *replica_client_opened(struct replica *replica, struct client_conn *conn,
                                     const struct client_origin *origin)
{
    if (replica->client_count >= CONNECTIONS_MAX) {
        return NULL;
    }
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->conn = conn;
    client->origin = *origin;
    client->watcher.owner = client;
    client->next = replica->clients;
    if (replica->clients != NULL) {
        replica->clients->previous = client;
    }
    replica->clients = client;
    replica->client_count++;
    return client;
}

void replica_client_closed(struct replica *replica, struct client *client)
{
    struct session *session = sessions_find(replica->sessions, client->session);
    if (session != NULL && session->client == client) {
        session->client = NULL;
    }
    for (struct wait *wait = replica->waits; wait != NULL; wait = wait->next) {
        if (wait->client == client) {
            wait->client = NULL;
        }
    }
    members_client_closed(replica, client);
    proposals_drop_client(replica->proposals, client);
    watch_drop(replica->watches, &client->watcher);
    feeds_client_closed(replica, client);
    if (client->previous != NULL) {
        client->previous->next = client->next;
    } else {
        replica->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    replica->client_count--;
    free(client);
}

static bool is_crowded(const struct replica *replica, size_t part)
{
    return proposals_count(replica->proposals) >= PROPOSALS_MAX / part ||
           proposals_bytes(replica->proposals) >= PROPOSALS_BYTES_MAX / part;
}

static bool has_much(const struct client *client, size_t part)
{
    return client->waiting >= REQUESTS_WAITING_MAX / part ||
           client->waiting_bytes >= WRITES_WAITING_BYTES_MAX / part;
}

bool replica_client_is_full(struct replica *replica, struct client *client)
{
    bool is_crowd = client->waiting_bytes > 0 && is_crowded(replica, 1);
    bool is_full = is_crowd || has_much(client, 1);
    replica->crowded = replica->crowded || is_crowd;
    client->was_full = client->was_full || is_full;
    return is_full;
}

static void resume(struct replica *replica, struct client *client)
{
    if (client->was_full && !has_much(client, 2) && !replica->crowded) {
        client->was_full = false;
        replica->env.client_resume(replica->env.context, client->conn);
    }
}

/* There is room again for all who write. */
static void resume_crowd(struct replica *replica)
{
    if (!replica->crowded || is_crowded(replica, 2)) {
        return;
    }
    replica->crowded = false;
    for (struct client *client = replica->clients; client != NULL; client = client->next) {
        resume(replica, client);
    }
}

void client_send(struct replica *replica, struct client *client, const Wire__ToClient *message)
{
    replica->env.client_send(replica->env.context, client->conn, message);
}

static void client_hold(struct client *client, size_t bytes)
{
    client->waiting++;
    client->waiting_bytes += bytes;
}

void client_release(struct replica *replica, struct client *client, size_t bytes)
{
    if (client == NULL) {
        return;
    }
    CHECK(client->waiting > 0 && client->waiting_bytes >= bytes);
    client->waiting--;
    client->waiting_bytes -= bytes;
    resume(replica, client);
}

/* ---- hello, ping ---- */

/* How long a client may make data. */
static uint64_t file_bytes_max(const struct replica *replica)
{
    bool is_more = replica->file_bytes_max > FILE_BYTES_MAX &&
                   tree_feature_level(replica->tree) >= FEATURE_FILES;
    return is_more ? replica->file_bytes_max : FILE_BYTES_MAX;
}

static void send_welcome(struct replica *replica, struct client *client)
{
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.version = PROTOCOL_VERSION;
    welcome.ensemble = wire_bytes(replica->identity.ensemble, ENSEMBLE_ID_BYTES);
    welcome.replica = replica->identity.id;
    welcome.leader = replica->leader;
    welcome.applied_zxid = replica->applied_index;
    welcome.file_bytes_max = file_bytes_max(replica);
    welcome.trusted = client->origin.trusted;
    welcome.watches = true;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_WELCOME;
    message.welcome = &welcome;
    client->hello_waits = false;
    client->phase = CLIENT_GREETED;
    client_send(replica, client, &message);
}

static enum err take_hello(struct replica *replica, struct client *client,
                           const Wire__ClientHello *hello)
{
    if (client->phase != CLIENT_CONNECTED || client->hello_waits) {
        return ERR_MALFORMED;
    }
    if (hello->version < PROTOCOL_VERSION) {
        return ERR_PROTOCOL_VERSION;
    }
    if (replica->serving) {
        send_welcome(replica, client);
    } else {
        client->hello_waits = true;
    }
    return ERR_OK;
}

void client_send_pong(struct replica *replica, struct client *client)
{
    Wire__Pong pong = WIRE__PONG__INIT;
    pong.ping = client->ping;
    pong.confirmed_ping = PLANT(LEASE_ALONE, client->ping, client->confirmed_ping);
    pong.applied_zxid = replica->applied_index;
    pong.leader = replica->leader;
    pong.file_bytes_max = file_bytes_max(replica);
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_PONG;
    message.pong = &pong;
    client_send(replica, client, &message);
}

/* ---- sessions ---- */

static void send_opened(struct replica *replica, struct client *client, enum err err,
                        const struct tree_result *result)
{
    Wire__Opened opened = WIRE__OPENED__INIT;
    opened.err = (int32_t)err;
    if (err == ERR_OK) {
        opened.session = result->session;
        opened.password = wire_bytes(result->password, PASSWORD_BYTES);
        opened.epoch = result->epoch;
        opened.timeout_ms = result->timeout_ms;
        opened.zxid = result->zxid;
    }
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_OPENED;
    message.opened = &opened;
    client_send(replica, client, &message);
}

/* Packs a command and hands it to the proposals. */
static enum err propose_op(struct replica *replica, struct proposal *proposal,
                           Wire__Command *command)
{
    struct client *client = proposal->client;
    proposal->bytes = (struct buffer){.max = COMMAND_BYTES_MAX};
    enum err err = wire_pack(&command->base, &proposal->bytes);
    if (err == ERR_OK) {
        /* A reconnected client asks again while its old connection still stands. */
        const struct proposal *first = proposals_find(replica->proposals, &proposal->key);
        struct client *holder = first != NULL ? first->client : NULL;
        size_t held_bytes = first != NULL ? first->bytes.len : 0;
        size_t len = proposal->bytes.len;
        err = proposals_add(replica->proposals, proposal);
        if (err == ERR_OK) {
            client_hold(client, len);
            client_release(replica, holder, held_bytes);
        }
    }
    buffer_done(&proposal->bytes);
    return err == ERR_TOO_BIG ? ERR_FILE_TOO_BIG : err;
}

static uint32_t clamp_timeout(uint32_t wanted_ms)
{
    if (wanted_ms == 0) {
        return SESSION_TIMEOUT_MS_DEFAULT;
    }
    wanted_ms = wanted_ms < SESSION_TIMEOUT_MS_MIN ? SESSION_TIMEOUT_MS_MIN : wanted_ms;
    return wanted_ms > SESSION_TIMEOUT_MS_MAX ? SESSION_TIMEOUT_MS_MAX : wanted_ms;
}

static enum err take_open(struct replica *replica, struct client *client,
                          const Wire__OpenSession *open)
{
    if (client->phase != CLIENT_GREETED || client->opening || open->nonce.len != NONCE_BYTES ||
        (open->session != 0 && open->password.len != PASSWORD_BYTES)) {
        return ERR_MALFORMED;
    }
    if (replica->leader == 0) {
        send_opened(replica, client, ERR_NO_LEADER, NULL);
        return ERR_OK;
    }
    uint8_t password[PASSWORD_BYTES];
    struct proposal proposal = {.client = client,
                                .key = {.kind = PROPOSAL_OPEN,
                                        .a = get_be64(open->nonce.data),
                                        .b = get_be64(open->nonce.data + 8)}};
    Wire__SessionOpenOp session_open = WIRE__SESSION_OPEN_OP__INIT;
    Wire__SessionAttachOp session_attach = WIRE__SESSION_ATTACH_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Command command = WIRE__COMMAND__INIT;
    command.op = &op;
    if (open->session == 0) {
        replica->env.random(replica->env.context, password, sizeof password);
        session_open.timeout_ms = clamp_timeout(open->timeout_ms);
        session_open.password = wire_bytes(password, sizeof password);
        session_open.nonce = open->nonce;
        op.body_case = WIRE__OP__BODY_SESSION_OPEN;
        op.session_open = &session_open;
    } else {
        session_attach.session = open->session;
        session_attach.password = open->password;
        session_attach.nonce = open->nonce;
        op.body_case = WIRE__OP__BODY_SESSION_ATTACH;
        op.session_attach = &session_attach;
    }
    if (sessions_count(replica->sessions) >= SESSIONS_MAX && open->session == 0) {
        send_opened(replica, client, ERR_LIMIT, NULL);
        return ERR_OK;
    }
    client->opening = true;
    client->promises = open->promises;
    return propose_op(replica, &proposal, &command);
}

/* An open or attach that was sent again on another connection leaves the epoch as it is, so the
 * connection before it is not parted by it. */
static void detach(struct replica *replica, struct session *session, const struct client *newer)
{
    struct client *old = session->client;
    if (old != NULL && old != newer) {
        old->session = 0;
        session->client = NULL;
        replica->env.client_close(replica->env.context, old->conn, "session attached again");
    }
}

/* The open or attach of this client is applied. */
static void opened(struct replica *replica, struct client *client, const struct tree_result *result)
{
    client->opening = false;
    struct session *session =
        result->err == ERR_OK ? sessions_find(replica->sessions, result->session) : NULL;
    if (session != NULL && session->epoch == result->epoch) {
        client->phase = CLIENT_ATTACHED;
        client->session = result->session;
        client->epoch = result->epoch;
        detach(replica, session, client);
        session->client = client;
        session->attachment = ++replica->last_attachment;
        session->ping = client->ping;
        session_touch(replica->sessions, session);
    }
    send_opened(replica, client, result->err, result);
}

static void touch(struct replica *replica, struct client *client)
{
    struct session *session = sessions_find(replica->sessions, client->session);
    if (session != NULL && session->client == client) {
        session->ping = client->ping;
        session_touch(replica->sessions, session);
    }
}

/* ---- requests ---- */

static enum err wait_add(struct replica *replica, struct client *client,
                         const Wire__ToReplica *message, bool read_index)
{
    struct buffer bytes = {0};
    struct wait *wait = calloc(1, sizeof *wait);
    ProtobufCMessage *copy = NULL;
    enum err err = wait != NULL ? wire_pack(&message->base, &bytes) : ERR_MEMORY;
    if (err == ERR_OK) {
        err = wire_unpack(&wire__to_replica__descriptor, bytes.data, bytes.len, &copy);
    }
    buffer_done(&bytes);
    if (err != ERR_OK) {
        free(wait);
        return err;
    }
    wait->client = client;
    wait->message = (Wire__ToReplica *)copy;
    wait->zxid = read_index ? UINT64_MAX : message->request->zxid_seen;
    wait->number = read_index ? ++replica->last_wait : 0;
    *replica->waits_end = wait;
    replica->waits_end = &wait->next;
    client_hold(client, 0);
    return ERR_OK;
}

/* What the log will hold of this request. */
static enum err take_write(struct replica *replica, struct client *client,
                           const Wire__Request *request)
{
    Wire__Identity identity = WIRE__IDENTITY__INIT;
    identity.trusted = client->origin.trusted;
    identity.uid = client->origin.uid;
    identity.gid = client->origin.gid;
    Wire__Command command = WIRE__COMMAND__INIT;
    command.session = client->session;
    command.epoch = client->epoch;
    command.sequence = request->sequence;
    command.answered_below = request->answered_below;
    command.identity =
        client->origin.trusted && request->identity != NULL ? request->identity : &identity;
    command.op = request->op;
    Wire__Op op = *request->op;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    if (op.body_case == WIRE__OP__BODY_WRITE) {
        uint64_t bytes_max = file_bytes_max(replica);
        write = *op.write;
        write.bytes_max = bytes_max > FILE_BYTES_MAX ? bytes_max : 0;
        op.write = &write;
        command.op = &op;
    }
    struct proposal proposal = {
        .key = {.kind = PROPOSAL_COMMAND, .a = client->session, .b = request->sequence},
        .client = client,
        .call = request->call,
        .tell_me = request->tell_me,
    };
    return propose_op(replica, &proposal, &command);
}

/* The polite end of a session: of the own one only. */
static enum err take_close(struct replica *replica, struct client *client,
                           const Wire__Request *request)
{
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;
    close.session = client->session;
    close.epoch = client->epoch;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    Wire__Command command = WIRE__COMMAND__INIT;
    command.op = &op;
    struct proposal proposal = {
        .key = {.kind = PROPOSAL_CLOSE, .a = close.session, .b = close.epoch},
        .client = client,
        .call = request->call,
    };
    return propose_op(replica, &proposal, &command);
}

/* What not all replicas know yet. */
static bool is_news(const Wire__Op *op)
{
    switch (op->body_case) {
    case WIRE__OP__BODY_STAGE:
    case WIRE__OP__BODY_XATTR:
    case WIRE__OP__BODY_MULTI:
    case WIRE__OP__BODY_LOCK:
        return true;
    case WIRE__OP__BODY_WRITE:
        return op->write->stage != 0 || op->write->stage_parts != 0;
    case WIRE__OP__BODY_SETATTR:
        return op->setattr->of_data;
    case WIRE__OP__BODY_CREATE:
    case WIRE__OP__BODY_REMOVE:
    case WIRE__OP__BODY_RENAME:
    case WIRE__OP__BODY_SESSION_OPEN:
    case WIRE__OP__BODY_SESSION_ATTACH:
    case WIRE__OP__BODY_SESSION_CLOSE:
    case WIRE__OP__BODY_CANCEL:
    case WIRE__OP__BODY_FEATURE_LEVEL:
    case WIRE__OP__BODY__NOT_SET:
    case _WIRE__OP__BODY__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

static bool is_growth_of_part(const Wire__Part *part)
{
    return part->body_case == WIRE__PART__BODY_CREATE ||
           part->body_case == WIRE__PART__BODY_WRITE ||
           (part->body_case == WIRE__PART__BODY_XATTR && !part->xattr->remove);
}

/* Whether it takes space. */
static bool is_growth(const Wire__Op *op)
{
    if (op->body_case == WIRE__OP__BODY_MULTI) {
        for (size_t i = 0; i < op->multi->n_parts; i++) {
            if (is_growth_of_part(op->multi->parts[i])) {
                return true;
            }
        }
        return false;
    }
    return op->body_case == WIRE__OP__BODY_CREATE || op->body_case == WIRE__OP__BODY_WRITE ||
           (op->body_case == WIRE__OP__BODY_STAGE && !op->stage->drop) ||
           (op->body_case == WIRE__OP__BODY_XATTR && !op->xattr->remove);
}

/* What this replica takes for the log at all. */
static enum err check_op(struct replica *replica, const Wire__Op *op)
{
    if (is_news(op) && tree_feature_level(replica->tree) < FEATURE_FILES) {
        return ERR_UNSUPPORTED;
    }
    if (op->body_case == WIRE__OP__BODY_STAGE && !op->stage->drop &&
        file_bytes_max(replica) <= FILE_BYTES_MAX) {
        return ERR_FILE_TOO_BIG;
    }
    return is_growth(op) && upkeep_refuses_growth(replica) ? ERR_DISK_LOW : ERR_OK;
}

static enum err take_op(struct replica *replica, struct client *client,
                        const Wire__Request *request)
{
    Wire__Op__BodyCase body = request->op->body_case;
    if (body == WIRE__OP__BODY_SESSION_OPEN || body == WIRE__OP__BODY_SESSION_ATTACH ||
        body == WIRE__OP__BODY_FEATURE_LEVEL || body == WIRE__OP__BODY__NOT_SET) {
        return ERR_MALFORMED;
    }
    enum err err = ERR_OK;
    if (client->phase != CLIENT_ATTACHED) {
        err = ERR_SESSION_EXPIRED;
    } else if (client->session == 0) {
        err = ERR_SESSION_MOVED; /* The end of this connection is on its way. */
    } else if (body == WIRE__OP__BODY_SESSION_CLOSE) {
        err = take_close(replica, client, request);
    } else if (request->sequence == 0) {
        return ERR_MALFORMED;
    } else {
        err = check_op(replica, request->op);
        err = err == ERR_OK ? take_write(replica, client, request) : err;
    }
    if (err != ERR_OK) {
        answer_error(replica, client, request->call, err);
    }
    return ERR_OK;
}

static enum err take_request(struct replica *replica, struct client *client,
                             const Wire__ToReplica *message)
{
    const Wire__Request *request = message->request;
    if (client->phase == CLIENT_CONNECTED || request->body_case == WIRE__REQUEST__BODY__NOT_SET) {
        return ERR_MALFORMED;
    }
    if (request->body_case == WIRE__REQUEST__BODY_OP) {
        return take_op(replica, client, request);
    }
    bool read_index = request->body_case == WIRE__REQUEST__BODY_SYNC;
    if (read_index || request->zxid_seen > replica->applied_index) {
        enum err err = wait_add(replica, client, message, read_index);
        if (err != ERR_OK) {
            answer_error(replica, client, request->call, err);
        }
        return ERR_OK;
    }
    answer_read(replica, client, request);
    return ERR_OK;
}

/* ---- promises ---- */

static void take_forget(struct replica *replica, struct client *client, const Wire__Forget *forget)
{
    for (size_t i = 0; i < forget->n_nodes; i++) {
        watch_forget(replica->watches, &client->watcher, forget->nodes[i]->ino,
                     forget->nodes[i]->grant);
    }
}

/* Tells one node of a Reclaim as it is, if it is not what the client knew. */
static void resync(struct replica *replica, struct client *client, const Wire__Reclaim__One *known)
{
    struct tree_address at = {.ino = known->ino};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    enum err err = tree_lookup(replica->tree, &at, &trusted, &attr, NULL);
    if (err == ERR_OK && attr.azxid <= known->zxid) {
        return;
    }
    Wire__Attr wire_attr;
    Wire__Event event = WIRE__EVENT__INIT;
    event.zxid = replica->applied_index;
    event.kind = WIRE__EVENT_KIND__EVENT_RESYNC;
    event.ino = known->ino;
    if (err == ERR_OK) {
        attr_to_wire(&attr, &wire_attr);
        event.attr = &wire_attr;
    }
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_EVENT;
    message.event = &event;
    client_send(replica, client, &message);
}

static enum err take_reclaim(struct replica *replica, struct client *client,
                             const Wire__Reclaim *reclaim)
{
    if (client->phase != CLIENT_ATTACHED || !client->promises) {
        return ERR_MALFORMED;
    }
    client->watcher.last_grant++;
    for (size_t i = 0; i < reclaim->n_nodes; i++) {
        PLANT(RECLAIM_NO_PROMISE, (void)0, answer_grant(replica, client, reclaim->nodes[i]->ino));
        resync(replica, client, reclaim->nodes[i]);
    }
    Wire__Reclaimed reclaimed = WIRE__RECLAIMED__INIT;
    reclaimed.batch = reclaim->batch;
    reclaimed.zxid = replica->applied_index;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    message.body_case = WIRE__TO_CLIENT__BODY_RECLAIMED;
    message.reclaimed = &reclaimed;
    client_send(replica, client, &message);
    return ERR_OK;
}

enum err replica_client_message(struct replica *replica, struct client *client,
                                const Wire__ToReplica *message)
{
    enum err err = ERR_OK;
    switch (message->body_case) {
    case WIRE__TO_REPLICA__BODY_HELLO:
        return take_hello(replica, client, message->hello);
    case WIRE__TO_REPLICA__BODY_OPEN:
        return take_open(replica, client, message->open);
    case WIRE__TO_REPLICA__BODY_REQUEST:
        err = take_request(replica, client, message);
        break;
    case WIRE__TO_REPLICA__BODY_PING:
        client->ping = message->ping->ping;
        client_send_pong(replica, client);
        break;
    case WIRE__TO_REPLICA__BODY_FORGET:
        take_forget(replica, client, message->forget);
        break;
    case WIRE__TO_REPLICA__BODY_RECLAIM:
        err = take_reclaim(replica, client, message->reclaim);
        break;
    case WIRE__TO_REPLICA__BODY_WATCH:
        err = feeds_watch(replica, client, message->watch);
        break;
    case WIRE__TO_REPLICA__BODY_WATCH_MORE:
        feeds_more(replica, client, message->watch_more->watch);
        break;
    case WIRE__TO_REPLICA__BODY_UNWATCH:
        feeds_unwatch(replica, client, message->unwatch->watch);
        break;
    case WIRE__TO_REPLICA__BODY__NOT_SET:
    case _WIRE__TO_REPLICA__BODY__CASE_IS_INT_SIZE:
        return ERR_MALFORMED;
    }
    touch(replica, client); /* Every packet counts as a touch (CONSENSUS 24). */
    return err;
}

/* ---- outcomes ---- */

void requests_read_confirmed(struct replica *replica, uint64_t number, uint64_t index, enum err err)
{
    for (struct wait *wait = replica->waits; wait != NULL; wait = wait->next) {
        if (wait->number == number) {
            wait->asked_ms = err == ERR_OK ? wait->asked_ms : 0; /* Given up: ask again. */
            wait->zxid = err == ERR_OK ? index : UINT64_MAX;
            return;
        }
    }
}

/* Asks for the read index of a wait that has none yet. */
static void wait_ask(struct replica *replica, struct wait *wait)
{
    bool lately = wait->asked_ms != 0 && replica->now_ms - wait->asked_ms < READ_AGAIN_MS;
    if (wait->number == 0 || wait->zxid != UINT64_MAX || lately || replica->leader == 0) {
        return;
    }
    struct raft_event event = {.type = RAFT_EV_READ,
                               .context = READ_CONTEXT(READ_FOR_CLIENT, wait->number)};
    wait->asked_ms = replica_step(replica, &event) == ERR_OK ? replica->now_ms : 0;
}

void requests_serving(struct replica *replica)
{
    for (struct client *client = replica->clients; client != NULL; client = client->next) {
        if (client->hello_waits) {
            send_welcome(replica, client);
        }
    }
}

void requests_turn(struct replica *replica)
{
    resume_crowd(replica);
    struct wait **link = &replica->waits;
    while (*link != NULL) {
        struct wait *wait = *link;
        if (wait->client != NULL && wait->zxid > replica->applied_index) {
            wait_ask(replica, wait);
            link = &wait->next;
            continue;
        }
        *link = wait->next;
        if (wait->next == NULL) {
            replica->waits_end = link;
        }
        if (wait->client != NULL) {
            answer_read(replica, wait->client, wait->message->request);
            client_release(replica, wait->client, 0);
        }
        wire_free(&wait->message->base);
        free(wait);
    }
}

static struct proposal_key key_of(const struct tree_result *result)
{
    if (result->session_close) {
        return (struct proposal_key){
            .kind = PROPOSAL_CLOSE, .a = result->session, .b = result->epoch};
    }
    if (result->sequence == 0) {
        return (struct proposal_key){
            .kind = PROPOSAL_OPEN, .a = get_be64(result->nonce), .b = get_be64(result->nonce + 8)};
    }
    return (struct proposal_key){
        .kind = PROPOSAL_COMMAND, .a = result->session, .b = result->sequence};
}

void requests_result(struct replica *replica, const struct tree_result *result)
{
    struct proposal_key key = key_of(result);
    struct proposal *proposal = proposals_find(replica->proposals, &key);
    if (proposal == NULL) {
        return; /* Of another replica's client, or its client has gone. */
    }
    struct client *client = proposal->client;
    uint64_t call = proposal->call;
    bool tell_me = proposal->tell_me;
    /* An old epoch's resend may meet the same number under the new one: only its own counts. */
    if (key.kind == PROPOSAL_COMMAND && client->epoch != result->epoch) {
        return;
    }
    size_t bytes = proposal->bytes.len;
    proposals_remove(replica->proposals, proposal);
    if (key.kind == PROPOSAL_OPEN) {
        opened(replica, client, result);
    } else {
        answer_write(replica, client, call, result, tell_me);
        if (key.kind == PROPOSAL_CLOSE) {
            replica->env.client_close(replica->env.context, client->conn, "session closed");
        }
    }
    client_release(replica, client, bytes);
}
