/* SPDX-License-Identifier: Apache-2.0
 *
 * Replicas to each other: streams on one side, the conductor on the other.
 *
 * Invariants:
 *   1. Nothing of a connection reaches the conductor before the other side has proved the key and
 *      the conductor has accepted its hello.
 *   2. At most one dialed connection a peer, at most one accepted one that is known.
 *   3. The struct is freed by the last event of its stream, nowhere else.
 *   4. A bulk connection carries snapshots and nothing else, and they nothing but offers and ends
 *      on the usual connections.
 */
#include "server/net/peer_conn.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/parse.h"
#include "server/net/peer_wire.h"

#define DIAL_MS_MIN    50u /* between two attempts; doubles up to the other */
#define DIAL_MS_MAX    1000u
#define INTRODUCE_MS   3000u /* for connecting and introducing itself */
#define PEER_SILENT_MS 3000u /* sent bytes that nobody confirms */

struct peer_conn {
    LIST_ENTRY(peer_conn) link;
    struct peer_conns *conns;
    struct stream *stream;
    struct dialed *dialed; /* NULL: it was accepted, or it was given up */
    struct handshake handshake;
    char address[128];
    uint64_t limit_ms; /* for the handshake; 0: done */
    uint64_t id;       /* 0: not known yet */
    bool is_bulk;
    struct dialed *bulk_to; /* a bulk connection that we dialed; NULL: the other side did */
};

/* One replica that we dial. */
struct dialed {
    uint64_t id; /* 0: a free slot */
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    struct peer_conn *conn; /* NULL: none */
    bool is_up;             /* it has introduced itself: messages can be sent */
    uint64_t next_ms;
    uint64_t pause_ms;
};

struct peer_conns {
    struct stream_hub *hub;
    struct replica *replica;
    const struct handshake_self *self;
    struct bulk_events bulk;
    LIST_HEAD(, peer_conn) all;
    size_t count;
    bool closing;
    struct dialed dialed[MEMBERS_MAX];
};

static struct dialed *find_dialed(struct peer_conns *conns, uint64_t id)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (conns->dialed[i].id == id) {
            return &conns->dialed[i];
        }
    }
    return NULL;
}

/* ---- ends ---- */

static void dial_later(struct dialed *dialed)
{
    dialed->conn = NULL;
    dialed->is_up = false;
    dialed->next_ms = clock_monotonic_ms() + dialed->pause_ms;
    dialed->pause_ms = dialed->pause_ms * 2 < DIAL_MS_MAX ? dialed->pause_ms * 2 : DIAL_MS_MAX;
}

/* Nothing more is expected of it; the conductor learns of it if it knew the peer. */
static void give_up(struct peer_conn *conn)
{
    uint64_t id = conn->id;

    conn->id = 0;
    conn->limit_ms = 0;
    if (conn->is_bulk) {
        conn->is_bulk = false;
        conn->conns->bulk.closed(conn->conns->bulk.arg, conn);
    } else if (conn->dialed != NULL) {
        dial_later(conn->dialed);
        conn->dialed = NULL;
    } else if (id != 0) {
        replica_time(conn->conns->replica, clock_monotonic_ms());
        replica_peer_closed(conn->conns->replica, id);
    }
    stream_close(conn->stream);
}

static void refuse(struct peer_conn *conn, const char *reason)
{
    log_warn("net", "peer_refused", "address=%s peer=%" PRIu64 " reason=\"%s\" action=closed",
             conn->address, conn->id, reason);
    give_up(conn);
}

static void on_broken(void *arg, enum stream_break what, const char *reason)
{
    struct peer_conn *conn = arg;
    bool was_up = conn->limit_ms == 0;

    if (what == STREAM_MALFORMED || what == STREAM_FULL || what == STREAM_NO_MEMORY) {
        refuse(conn, reason);
        return;
    }
    if (was_up && conn->dialed != NULL) {
        log_info("net", "peer_lost", "peer=%" PRIu64 " address=%s reason=\"%s\"", conn->dialed->id,
                 conn->address, reason);
    } else {
        log_debug("net", "peer_unreachable", "address=%s reason=\"%s\"", conn->address, reason);
    }
    give_up(conn);
}

static void on_closed(void *arg)
{
    struct peer_conn *conn = arg;

    handshake_done(&conn->handshake);
    LIST_REMOVE(conn, link);
    conn->conns->count--;
    free(conn);
}

/* ---- introducing ---- */

static void send_hello(struct peer_conn *conn)
{
    struct buffer *out = stream_send_begin(conn->stream);
    struct replica_hello own;

    replica_own_hello(conn->conns->replica, &own);
    if (out != NULL) {
        stream_send_end(conn->stream, handshake_begin(&conn->handshake, &own,
                                                      conn->dialed != NULL || conn->bulk_to != NULL,
                                                      conn->bulk_to != NULL, out));
    }
}

static void on_connected(void *arg)
{
    struct peer_conn *conn = arg;
    const unsigned int silent_ms = PEER_SILENT_MS;

    /* Else a connection across a partition is tried again only after minutes. */
    (void)setsockopt(stream_fd(conn->stream), IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms,
                     sizeof(silent_ms));
    send_hello(conn);
}

/* A newer connection from the same peer replaces an older one, which may have been swallowed. */
static void replace_older(struct peer_conn *conn)
{
    struct peer_conn *older = NULL;

    LIST_FOREACH(older, &conn->conns->all, link)
    {
        if (older != conn && older->dialed == NULL && !older->is_bulk && older->id == conn->id) {
            older->id = 0;
            stream_close(older->stream);
            replica_peer_closed(conn->conns->replica, conn->id);
        }
    }
}

/* The other side has proved the key. */
static void introduced(struct peer_conn *conn)
{
    struct peer_conns *conns = conn->conns;
    const struct replica_hello *other = &conn->handshake.said;
    struct dialed *dialed = find_dialed(conns, other->id);
    struct dialed *wanted = conn->bulk_to != NULL ? conn->bulk_to : conn->dialed;

    if (wanted != NULL && wanted != dialed) {
        refuse(conn, "another replica answers at this address");
        return;
    }
    if (replica_peer_hello(conns->replica, other) != ERR_OK) {
        give_up(conn); /* the conductor has said why, once */
        return;
    }
    conn->limit_ms = 0;
    conn->id = other->id;
    if (conn->bulk_to != NULL) {
        conns->bulk.opened(conns->bulk.arg, conn);
        return;
    }
    if (conn->handshake.is_bulk) {
        conn->is_bulk = true;
        return;
    }
    if (conn->dialed == NULL) {
        replace_older(conn);
        if (dialed != NULL && dialed->conn == NULL) {
            dialed->next_ms = 0; /* it is there: dial it at once */
        }
        return;
    }
    dialed->is_up = true;
    dialed->pause_ms = DIAL_MS_MIN;
    log_info("net", "peer_connected", "peer=%" PRIu64 " address=%s", conn->id, conn->address);
    replica_peer_connected(conns->replica, conn->id);
}

static void take_introduction(struct peer_conn *conn, const struct frame *frame)
{
    struct buffer *out = stream_send_begin(conn->stream);
    bool done = false;
    enum err err = ERR_MEMORY;

    if (out != NULL) {
        err = handshake_take(&conn->handshake, conn->conns->self, frame, out, &done);
        stream_send_end(conn->stream, ERR_OK);
    }
    if (err == ERR_STRANGER) {
        refuse(conn, "it does not know the key");
    } else if (err != ERR_OK) {
        refuse(conn, err_text(err));
    } else if (done) {
        introduced(conn);
    }
}

/* ---- messages ---- */

/* A frame whose body is for the snapshots. ERR_UNSUPPORTED: it is not. */
static enum err take_bulk(struct peer_conn *conn, const Wire__PeerMessage *message,
                          const struct frame *frame)
{
    const struct bulk_events *bulk = &conn->conns->bulk;
    bool is_own = conn->bulk_to != NULL;

    if (message->body_case == WIRE__PEER_MESSAGE__BODY_SNAPSHOT_CHUNK && conn->is_bulk && is_own) {
        return bulk->chunk(bulk->arg, conn, message->snapshot_chunk, frame->raw, frame->raw_len);
    }
    if (conn->is_bulk && !is_own && frame->raw_len == 0 &&
        message->body_case == WIRE__PEER_MESSAGE__BODY_SNAPSHOT_READ) {
        return bulk->read(bulk->arg, conn, message->snapshot_read);
    }
    if (conn->is_bulk || frame->raw_len != 0) {
        return ERR_MALFORMED;
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_SNAPSHOT_OFFER) {
        return bulk->offer(bulk->arg, conn->id, message->snapshot_offer);
    }
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_SNAPSHOT_END) {
        return bulk->end(bulk->arg, conn->id, message->snapshot_end);
    }
    return ERR_UNSUPPORTED;
}

static enum err take_raft(struct peer_conn *conn, const Wire__Raft *raft, const struct frame *frame)
{
    struct raft_message message = {0};
    enum err err = peer_wire_unpack(raft, frame->raw, frame->raw_len, &message);

    if (err == ERR_OK) {
        err = message.from == conn->id ? replica_peer_raft(conn->conns->replica, &message)
                                       : ERR_MALFORMED;
        peer_wire_free(&message);
    }
    return err;
}

static enum err take_message(struct peer_conn *conn, const struct frame *frame)
{
    ProtobufCMessage *unpacked = NULL;
    const Wire__PeerMessage *message = NULL;
    enum err err =
        wire_unpack(&wire__peer_message__descriptor, frame->message, frame->message_len, &unpacked);

    if (err != ERR_OK) {
        return err;
    }
    message = (const Wire__PeerMessage *)unpacked;
    if (message->body_case == WIRE__PEER_MESSAGE__BODY_RAFT && !conn->is_bulk) {
        err = take_raft(conn, message->raft, frame);
    } else {
        err = take_bulk(conn, message, frame);
        if (err == ERR_UNSUPPORTED) {
            err = replica_peer_message(conn->conns->replica, conn->id, message);
        }
    }
    wire_free(unpacked);
    return err;
}

static void on_frame(void *arg, const struct frame *frame)
{
    struct peer_conn *conn = arg;
    enum err err = ERR_OK;

    replica_time(conn->conns->replica, clock_monotonic_ms());
    if (conn->limit_ms != 0) {
        take_introduction(conn, frame);
        return;
    }
    err = conn->dialed == NULL ? take_message(conn, frame) : ERR_MALFORMED;
    if (err != ERR_OK) {
        refuse(conn, err_text(err));
    }
}

/* The stream of an open connection to a peer; NULL: there is none. */
static struct stream *stream_to(struct peer_conns *conns, uint64_t id)
{
    struct dialed *dialed = find_dialed(conns, id);

    return dialed != NULL && dialed->is_up ? dialed->conn->stream : NULL;
}

void peer_conns_send_raft(struct peer_conns *conns, const struct raft_message *message)
{
    struct stream *stream = stream_to(conns, message->to);
    struct buffer *out = stream != NULL ? stream_send_begin(stream) : NULL;

    if (out != NULL) {
        stream_send_end(stream, peer_wire_pack(message, out));
    }
}

void peer_conns_send(struct peer_conns *conns, uint64_t replica, const Wire__PeerMessage *message)
{
    struct stream *stream = stream_to(conns, replica);
    struct buffer *out = stream != NULL ? stream_send_begin(stream) : NULL;

    if (out != NULL) {
        stream_send_end(stream, wire_frame(&message->base, NULL, 0, out));
    }
}

bool peer_conns_is_connected(const struct peer_conns *conns, uint64_t replica)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (conns->dialed[i].id == replica) {
            return conns->dialed[i].is_up;
        }
    }
    return false;
}

size_t peer_conns_unsent_bytes(struct peer_conns *conns, uint64_t replica)
{
    const struct stream *stream = stream_to(conns, replica);

    return stream != NULL ? stream_unsent_bytes(stream) : 0;
}

/* ---- opening ---- */

static const struct stream_events events = {
    .connected = on_connected, .frame = on_frame, .broken = on_broken, .closed = on_closed};

/* Enters a connection whose stream is there. */
static void enter(struct peer_conns *conns, struct peer_conn *conn)
{
    conn->conns = conns;
    conn->limit_ms = clock_monotonic_ms() + INTRODUCE_MS;
    LIST_INSERT_HEAD(&conns->all, conn, link);
    conns->count++;
}

void peer_conns_accept(void *arg, uv_stream_t *server)
{
    struct peer_conns *conns = arg;
    struct peer_conn *conn = calloc(1, sizeof(*conn));
    enum err err = ERR_OK;

    if (conn == NULL) {
        return;
    }
    conn->stream = stream_accept(conns->hub, server, &events, conn, &err);
    if (conn->stream == NULL) {
        log_warn("net", "accept_failed", "err=%s", err_name(err));
        free(conn);
        return;
    }
    enter(conns, conn);
    stream_address(conn->stream, conn->address, sizeof(conn->address));
    send_hello(conn);
}

/* A connection to that replica; NULL: no memory. */
static struct peer_conn *dial(struct peer_conns *conns, const struct dialed *to)
{
    struct peer_conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL) {
        return NULL;
    }
    conn->stream = stream_dial(conns->hub, to->host, to->port, &events, conn);
    if (conn->stream == NULL) {
        free(conn);
        return NULL;
    }
    enter(conns, conn);
    (void)snprintf(conn->address, sizeof(conn->address), "%.100s:%u", to->host, (unsigned)to->port);
    return conn;
}

static void dial_usual(struct peer_conns *conns, struct dialed *dialed)
{
    struct peer_conn *conn = dial(conns, dialed);

    if (conn == NULL) {
        dial_later(dialed);
        return;
    }
    conn->dialed = dialed;
    dialed->conn = conn;
}

struct peer_conn *peer_conns_dial_bulk(struct peer_conns *conns, uint64_t replica)
{
    struct dialed *to = find_dialed(conns, replica);
    struct peer_conn *conn = to != NULL && !conns->closing ? dial(conns, to) : NULL;

    if (conn != NULL) {
        conn->is_bulk = true;
        conn->bulk_to = to;
    }
    return conn;
}

void peer_conn_close_bulk(struct peer_conn *conn)
{
    conn->is_bulk = false;
    conn->limit_ms = 0;
    conn->id = 0;
    stream_close(conn->stream);
}

void peer_conn_send_bulk(struct peer_conn *conn, const Wire__PeerMessage *message, const void *raw,
                         size_t raw_len)
{
    struct buffer *out = stream_send_begin(conn->stream);

    if (out != NULL) {
        stream_send_end(conn->stream, wire_frame(&message->base, raw, raw_len, out));
    }
}

uint64_t peer_conn_replica(const struct peer_conn *conn)
{
    return conn->id;
}

uint64_t peer_conns_turn(struct peer_conns *conns, uint64_t now_ms)
{
    uint64_t deadline = now_ms + DIAL_MS_MAX;
    struct peer_conn *conn = NULL;

    if (conns->closing) {
        return deadline;
    }
    LIST_FOREACH(conn, &conns->all, link)
    {
        if (conn->limit_ms == 0 || now_ms < conn->limit_ms) {
            continue;
        }
        if (conn->dialed != NULL) {
            log_debug("net", "peer_unreachable", "address=%s reason=\"no answer\"", conn->address);
            give_up(conn);
        } else {
            refuse(conn, "it did not introduce itself in time");
        }
    }
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct dialed *dialed = &conns->dialed[i];

        if (dialed->id == 0) {
            continue;
        }
        if (dialed->conn == NULL && now_ms >= dialed->next_ms) {
            dial_usual(conns, dialed);
        }
        if (dialed->conn == NULL && dialed->next_ms < deadline) {
            deadline = dialed->next_ms;
        }
    }
    return deadline;
}

/* ---- all ---- */

struct peer_conns *peer_conns_new(struct stream_hub *hub, struct replica *replica,
                                  const struct handshake_self *self, const struct bulk_events *bulk)
{
    struct peer_conns *conns = calloc(1, sizeof(*conns));

    if (conns == NULL) {
        return NULL;
    }
    conns->hub = hub;
    conns->replica = replica;
    conns->self = self;
    conns->bulk = *bulk;
    LIST_INIT(&conns->all);
    return conns;
}

/* It is dialed no more. Its slot is free at once: no connection points at it any more. */
static void drop_dialed(struct peer_conns *conns, struct dialed *dialed)
{
    struct peer_conn *conn = NULL;

    log_info("net", "peer_dropped", "peer=%" PRIu64, dialed->id);
    LIST_FOREACH(conn, &conns->all, link)
    {
        if (conn->dialed == dialed || conn->bulk_to == dialed) {
            conn->bulk_to = NULL;
            give_up(conn);
        }
    }
    *dialed = (struct dialed){.id = 0};
}

/* Dials it from now on, or goes on doing so. */
static void keep_dialed(struct peer_conns *conns, const struct raft_member *member)
{
    struct dialed *dialed = find_dialed(conns, member->id);
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port = 0;

    if (parse_address(member->address, 0, host, sizeof(host), &port) != ERR_OK) {
        return; /* addresses were checked where they came in: only itself may have none */
    }
    if (dialed != NULL && (dialed->port != port || strcmp(dialed->host, host) != 0)) {
        drop_dialed(conns, dialed);
        dialed = NULL;
    }
    if (dialed == NULL) {
        dialed = find_dialed(conns, 0 /* a free slot */);
        CHECK(dialed != NULL);
        *dialed = (struct dialed){.id = member->id, .port = port, .pause_ms = DIAL_MS_MIN};
        memcpy(dialed->host, host, sizeof(host));
    }
}

void peer_conns_set_members(struct peer_conns *conns, const struct raft_members *members)
{
    struct replica_hello own;

    replica_own_hello(conns->replica, &own);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct dialed *dialed = &conns->dialed[i];
        if (dialed->id != 0 && raft_members_find(members, dialed->id) == NULL) {
            drop_dialed(conns, dialed);
        }
    }
    for (size_t i = 0; i < members->count; i++) {
        if (members->member[i].id != own.id) {
            keep_dialed(conns, &members->member[i]);
        }
    }
}

void peer_conns_close(struct peer_conns *conns)
{
    struct peer_conn *conn = NULL;

    conns->closing = true;
    LIST_FOREACH(conn, &conns->all, link)
    {
        if (conn->dialed != NULL) {
            dial_later(conn->dialed);
            conn->dialed = NULL;
        }
        conn->id = 0;
        conn->is_bulk = false;
        stream_close(conn->stream);
    }
}

size_t peer_conns_count(const struct peer_conns *conns)
{
    return conns->count;
}

void peer_conns_free(struct peer_conns *conns)
{
    free(conns);
}
