/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients of a replica: their streams on one side, the conductor on the other.
 *
 * Invariants:
 *   1. conn->client is not NULL from the accepting until replica_client_closed, which is called
 *      once, never from within a call of the conductor.
 *   2. The struct is freed by the last event of its stream, nowhere else.
 */
#include "server/net/client_conn.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/logging.h"

#define SILENT_MS     10000u /* a connection that has sent nothing is closed after this */
#define END_MS        2000u  /* what was sent must be taken within this */
#define UID_UNTRUSTED 65534u

struct client_conn {
    LIST_ENTRY(client_conn) link;
    struct client_conns *conns;
    struct stream *stream;
    struct client *client;
    struct client_origin origin;
    uint64_t limit_ms; /* close it then; 0: never */
};

struct client_conns {
    struct stream_hub *hub;
    struct replica *replica;
    LIST_HEAD(, client_conn) all;
    size_t count;
};

/* ---- ends ---- */

/* The conductor forgets it, once. */
static void let_go(struct client_conn *conn)
{
    struct client *client = conn->client;

    conn->client = NULL;
    if (client != NULL) {
        replica_time(conn->conns->replica, clock_monotonic_ms());
        replica_client_closed(conn->conns->replica, client);
    }
}

static void refuse(struct client_conn *conn, const char *reason)
{
    log_warn("net", "client_refused", "client=%s reason=\"%s\" action=closed", conn->origin.address,
             reason);
    let_go(conn);
    stream_close(conn->stream);
}

static void on_broken(void *arg, enum stream_break what, const char *reason)
{
    struct client_conn *conn = arg;

    if (what == STREAM_CLOSED || what == STREAM_LOST) {
        log_debug("net", "client_left", "client=%s reason=\"%s\"", conn->origin.address, reason);
        let_go(conn);
        stream_close(conn->stream);
    } else {
        refuse(conn, reason);
    }
}

static void on_closed(void *arg)
{
    struct client_conn *conn = arg;

    let_go(conn);
    LIST_REMOVE(conn, link);
    conn->conns->count--;
    free(conn);
}

/* ---- messages ---- */

static void on_frame(void *arg, const struct frame *frame)
{
    struct client_conn *conn = arg;
    struct replica *replica = conn->conns->replica;
    ProtobufCMessage *message = NULL;
    enum err err = ERR_MALFORMED;

    if (frame->raw_len == 0) {
        err = wire_unpack(&wire__to_replica__descriptor, frame->message, frame->message_len,
                          &message);
    }
    if (err != ERR_OK) {
        refuse(conn, err_text(err));
        return;
    }
    conn->limit_ms = 0;
    replica_time(replica, clock_monotonic_ms());
    err = replica_client_message(replica, conn->client, (const Wire__ToReplica *)message);
    wire_free(message);
    if (err != ERR_OK) {
        refuse(conn, err_text(err));
    } else if (replica_client_is_full(replica, conn->client)) {
        stream_pause(conn->stream);
    }
}

void client_conn_send(struct client_conn *conn, const Wire__ToClient *message)
{
    struct buffer *out = stream_send_begin(conn->stream);

    if (out != NULL) {
        stream_send_end(conn->stream, wire_frame(&message->base, NULL, 0, out));
    }
}

void client_conn_end(struct client_conn *conn, const char *reason)
{
    log_debug("net", "client_ended", "client=%s reason=\"%s\"", conn->origin.address, reason);
    conn->limit_ms = clock_monotonic_ms() + END_MS;
    stream_end(conn->stream);
}

void client_conn_resume(struct client_conn *conn)
{
    stream_resume(conn->stream);
}

/* ---- accepting ---- */

/* Who is there, as far as the kernel knows. */
static void find_origin(struct client_conn *conn)
{
    struct client_origin *origin = &conn->origin;
    struct ucred peer = {.uid = UID_UNTRUSTED, .gid = UID_UNTRUSTED};
    socklen_t len = sizeof(peer);

    *origin = (struct client_origin){.uid = UID_UNTRUSTED, .gid = UID_UNTRUSTED};
    stream_address(conn->stream, origin->address, sizeof(origin->address));
    if (stream_is_unix(conn->stream) &&
        getsockopt(stream_fd(conn->stream), SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0) {
        origin->uid = peer.uid;
        origin->gid = peer.gid;
        origin->trusted = peer.uid == 0 || peer.uid == geteuid();
    }
}

void client_conns_accept(void *arg, uv_stream_t *server)
{
    static const struct stream_events events = {
        .frame = on_frame, .broken = on_broken, .closed = on_closed};
    struct client_conns *conns = arg;
    struct client_conn *conn = calloc(1, sizeof(*conn));
    enum err err = ERR_OK;

    if (conn == NULL) {
        return; /* it waits at the server until there is memory */
    }
    conn->conns = conns;
    conn->stream = stream_accept(conns->hub, server, &events, conn, &err);
    if (conn->stream == NULL) {
        log_warn("net", "accept_failed", "err=%s", err_name(err));
        free(conn);
        return;
    }
    LIST_INSERT_HEAD(&conns->all, conn, link);
    conns->count++;
    conn->limit_ms = clock_monotonic_ms() + SILENT_MS;
    find_origin(conn);
    replica_time(conns->replica, clock_monotonic_ms());
    conn->client = replica_client_opened(conns->replica, conn, &conn->origin);
    if (conn->client == NULL) {
        refuse(conn, "too many connections");
    }
}

/* ---- all ---- */

struct client_conns *client_conns_new(struct stream_hub *hub, struct replica *replica)
{
    struct client_conns *conns = calloc(1, sizeof(*conns));

    if (conns != NULL) {
        conns->hub = hub;
        conns->replica = replica;
        LIST_INIT(&conns->all);
    }
    return conns;
}

void client_conns_sweep(struct client_conns *conns, uint64_t now_ms)
{
    struct client_conn *conn = NULL;

    LIST_FOREACH(conn, &conns->all, link)
    {
        if (conn->limit_ms == 0 || now_ms < conn->limit_ms) {
            continue;
        }
        conn->limit_ms = 0;
        refuse(conn, conn->client != NULL ? "silent, or does not read" : "does not read");
    }
}

void client_conns_close(struct client_conns *conns)
{
    struct client_conn *conn = NULL;

    LIST_FOREACH(conn, &conns->all, link)
    {
        let_go(conn);
        stream_close(conn->stream);
    }
}

size_t client_conns_count(const struct client_conns *conns)
{
    return conns->count;
}

void client_conns_free(struct client_conns *conns)
{
    free(conns);
}
