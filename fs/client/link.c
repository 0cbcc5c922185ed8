/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes between us and one replica. Handed frames by call.c, events.c and attach.c; hands messages
 * to attach.c. What is sent in one turn of the loop leaves with one write.
 *
 * Invariants:
 *   1. At most one write request is under way; what comes meanwhile gathers in `out`.
 *   2. The struct is freed when its handle is closed and no resolver request is under way.
 *   3. After `broken` or link_close no event but `released` comes.
 */
#include "fs/client/link.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "common/buffer.h"
#include "common/check.h"
#include "common/frame.h"
#include "common/limits.h"

#define READ_BYTES      65536u
#define LINK_FULL_BYTES (4u * MIB) /* unsent bytes above which calls are held back */

struct link {
    const struct link_events *events;
    void *arg;
    const struct server *server;
    size_t attempt;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    struct buffer writing; /* bytes of the request under way */
    struct buffer out;
    struct buffer in;
    bool resolving;
    bool is_connected;
    bool is_writing;
    bool failed; /* no memory for bytes to send: breaks at the next flush */
    bool broken;
    bool closing;
    bool closed; /* the handle */
};

static void link_release(struct link *link)
{
    if (!link->closed || link->resolving) {
        return;
    }
    const struct link_events *events = link->events;
    void *arg = link->arg;
    buffer_done(&link->writing);
    buffer_done(&link->out);
    buffer_done(&link->in);
    free(link);
    events->released(arg);
}

static void link_break(struct link *link, const char *reason)
{
    if (link->broken || link->closing) {
        return;
    }
    link->broken = true;
    link->events->broken(link->arg, link, reason);
}

/* ---- in ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct link *link = handle->data;
    (void)suggested;
    uint8_t *room = buffer_reserve(&link->in, READ_BYTES);
    /* Without memory libuv gives UV_ENOBUFS to on_read. */
    *buf = uv_buf_init((char *)room, room == NULL ? 0 : READ_BYTES);
}

/* Unpacks and hands over one frame. False: the link is no more. */
static bool link_take(struct link *link, const struct frame *frame)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        wire_unpack(&wire__to_client__descriptor, frame->message, frame->message_len, &message);

    if (err != ERR_OK) {
        link_break(link, err == ERR_MEMORY ? "no_memory" : "malformed_message");
        return false;
    }
    link->events->message(link->arg, link, (Wire__ToClient *)message);
    wire_free(message);
    return !link->closing && !link->broken;
}

static void link_parse(struct link *link)
{
    size_t offset = 0;

    for (;;) {
        struct frame frame = {0};
        enum frame_state state = frame_parse(link->in.data + offset, link->in.len - offset, &frame);

        if (state == FRAME_MALFORMED) {
            link_break(link, "malformed_frame");
            return;
        }
        if (state == FRAME_PARTIAL) {
            break;
        }
        offset += frame.total_len;
        if (!link_take(link, &frame)) {
            return;
        }
        if (offset == link->in.len) {
            break;
        }
    }
    buffer_consume(&link->in, offset);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct link *link = stream->data;
    (void)buf;

    if (link->closing || link->broken) {
        return;
    }
    if (count < 0) {
        link_break(link, count == UV_EOF ? "closed_by_replica" : uv_err_name((int)count));
        return;
    }
    if (count > 0) {
        link->in.len += (size_t)count;
        link_parse(link);
    }
}

/* ---- connecting ---- */

static void on_connect(uv_connect_t *request, int status)
{
    struct link *link = request->data;

    if (link->closing || link->broken) {
        return;
    }
    if (status == 0) {
        status = uv_read_start(&link->uv.stream, on_alloc, on_read);
    }
    if (status != 0) {
        link_break(link, uv_err_name(status));
        return;
    }
    link->is_connected = true;
    if (!link->server->is_unix) {
        (void)uv_tcp_nodelay(&link->uv.tcp, 1);
    }
    link->events->connected(link->arg, link);
}

static int link_connect_tcp(struct link *link, const struct sockaddr *address)
{
    link->connect.data = link;
    return uv_tcp_connect(&link->connect, &link->uv.tcp, address, on_connect);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct link *link = request->data;
    size_t count = 0;

    link->resolving = false;
    if (link->closing) {
        uv_freeaddrinfo(list);
        link_release(link);
        return;
    }
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        count++;
    }
    if (status == 0 && count != 0) {
        const struct addrinfo *chosen = list;
        for (size_t skip = link->attempt % count; skip > 0; skip--) {
            chosen = chosen->ai_next;
        }
        status = link_connect_tcp(link, chosen->ai_addr);
    } else if (status == 0) {
        status = UV_EAI_NONAME;
    }
    uv_freeaddrinfo(list);
    if (status != 0) {
        link_break(link, uv_err_name(status));
    }
}

static int link_start_tcp(struct link *link)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    char port[8];
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};

    if (uv_ip4_addr(link->server->host, link->server->port, &v4) == 0) {
        return link_connect_tcp(link, (const struct sockaddr *)&v4);
    }
    if (uv_ip6_addr(link->server->host, link->server->port, &v6) == 0) {
        return link_connect_tcp(link, (const struct sockaddr *)&v6);
    }
    (void)snprintf(port, sizeof port, "%u", (unsigned)link->server->port);
    link->resolve.data = link;
    int status = uv_getaddrinfo(link->uv.handle.loop, &link->resolve, on_resolved,
                                link->server->host, port, &hints);
    link->resolving = status == 0;
    return status;
}

static void on_closed(uv_handle_t *handle)
{
    struct link *link = handle->data;

    link->closed = true;
    link_release(link);
}

struct link *link_open(uv_loop_t *loop, const struct server *server, size_t attempt,
                       const struct link_events *events, void *arg)
{
    struct link *link = calloc(1, sizeof *link);

    if (link == NULL) {
        return NULL;
    }
    link->server = server;
    link->attempt = attempt;
    link->events = events;
    link->arg = arg;
    int status =
        server->is_unix ? uv_pipe_init(loop, &link->uv.pipe, 0) : uv_tcp_init(loop, &link->uv.tcp);
    if (status != 0) {
        free(link);
        return NULL;
    }
    link->uv.handle.data = link;
    if (server->is_unix) {
        link->connect.data = link;
        /* Errors come through the callback. */
        uv_pipe_connect(&link->connect, &link->uv.pipe, server->host, on_connect);
    } else {
        /* An error that is known at once breaks the link at its first flush: no event comes from
         * within this function. */
        link->failed = link_start_tcp(link) != 0;
    }
    return link;
}

/* ---- out ---- */

void link_append(struct link *link, const void *frames, size_t len)
{
    if (buffer_append(&link->out, frames, len) != ERR_OK) {
        link->failed = true;
    }
}

void link_send(struct link *link, const Wire__ToReplica *message)
{
    if (wire_frame(&message->base, NULL, 0, &link->out) != ERR_OK) {
        link->failed = true;
    }
}

bool link_is_full(const struct link *link)
{
    return link->out.len + link->writing.len >= LINK_FULL_BYTES;
}

static void on_written(uv_write_t *request, int status)
{
    struct link *link = request->data;

    link->is_writing = false;
    buffer_clear(&link->writing);
    if (status != 0) {
        link_break(link, uv_err_name(status));
    } else if (!link->closing) {
        link_flush(link);
    }
}

/* Hands what the kernel did not take at once to a write request. */
static void link_write_rest(struct link *link)
{
    struct buffer empty = link->writing;

    CHECK(!link->is_writing && empty.len == 0);
    link->writing = link->out;
    link->out = empty;
    link->write.data = link;
    uv_buf_t rest = {.base = (char *)link->writing.data, .len = link->writing.len};
    int status = uv_write(&link->write, &link->uv.stream, &rest, 1, on_written);
    if (status != 0) {
        link_break(link, uv_err_name(status));
        return;
    }
    link->is_writing = true;
}

void link_flush(struct link *link)
{
    if (link->closing || link->broken) {
        return;
    }
    if (link->failed) {
        link_break(link, link->is_connected ? "no_memory" : "connect_failed");
        return;
    }
    if (!link->is_connected || link->is_writing || link->out.len == 0) {
        return;
    }
    uv_buf_t all = {.base = (char *)link->out.data, .len = link->out.len};
    int status = uv_try_write(&link->uv.stream, &all, 1);
    if (status < 0 && status != UV_EAGAIN) {
        link_break(link, uv_err_name(status));
        return;
    }
    if (status > 0) {
        buffer_consume(&link->out, (size_t)status);
    }
    if (link->out.len != 0) {
        link_write_rest(link);
    }
}

void link_close(struct link *link)
{
    if (link == NULL || link->closing) {
        return;
    }
    link->closing = true;
    if (link->resolving) {
        (void)uv_cancel((uv_req_t *)&link->resolve);
    }
    uv_close(&link->uv.handle, on_closed);
}
