/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a socket to frames and back. The connections of clients and peers hand their frames to
 * it and get frames from it; it hands on to libuv.
 *
 * Invariants:
 *   1. At most one write request is under way; what comes meanwhile gathers in `out`.
 *   2. The struct is freed when its handle is closed and no resolver request is under way, nowhere
 *      else.
 *   3. After `broken`, stream_end or stream_close no frame is handed over.
 *   4. Half a frame lies in `in`; a stream without one needs no buffer of its own.
 *   5. While more than CHOKE_BYTES are unsent no further frame is handed over: who asks without
 *      reading the answers waits, and only what nobody asked for can fill the queue.
 */
#include "server/net/stream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buffer.h"
#include "common/check.h"
#include "common/limits.h"

#define READ_BYTES       (256u * KIB)
#define CHOKE_BYTES      (1u * MIB)
#define KEEP_BYTES       (64u * KIB) /* empty buffers above this are freed */
#define FIRST_BYTES      4u
#define KEEPALIVE_SECOND 30u

struct stream {
    struct stream_hub *hub;
    const struct stream_events *events;
    void *arg;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    TAILQ_ENTRY(stream) in_changed;
    TAILQ_ENTRY(stream) in_resumed;
    struct buffer writing; /* bytes of the request under way */
    struct buffer out;
    struct buffer in;
    int dial_status; /* an error of stream_dial, told at the next flush */
    uint8_t first[FIRST_BYTES];
    uint8_t first_len;
    bool is_unix;
    bool resolving;
    bool is_connected;
    bool is_reading;
    bool is_writing;
    bool is_changed; /* in hub->changed */
    bool is_resumed; /* in hub->resumed */
    bool is_paused;  /* by the owner */
    bool is_choked;  /* invariant 5 */
    bool no_memory;  /* for bytes to send: breaks at the next flush */
    bool is_full;    /* the same: SEND_QUEUE_BYTES_MAX */
    bool ending;
    bool broken;
    bool closing;
    bool closed;
};

/* ---- life ---- */

static bool is_over(const struct stream *stream)
{
    return stream->closing || stream->broken;
}

static void note_change(struct stream *stream)
{
    if (!stream->is_changed && !stream->closing) {
        stream->is_changed = true;
        TAILQ_INSERT_TAIL(&stream->hub->changed, stream, in_changed);
    }
}

static void leave_lists(struct stream *stream)
{
    if (stream->is_changed) {
        stream->is_changed = false;
        TAILQ_REMOVE(&stream->hub->changed, stream, in_changed);
    }
    if (stream->is_resumed) {
        stream->is_resumed = false;
        TAILQ_REMOVE(&stream->hub->resumed, stream, in_resumed);
    }
}

/* Invariant 2. */
static void release(struct stream *stream)
{
    const struct stream_events *events = stream->events;
    void *arg = stream->arg;

    if (!stream->closed || stream->resolving) {
        return;
    }
    stream->hub->count--;
    stream->hub->is_busy = true;
    buffer_done(&stream->writing);
    buffer_done(&stream->out);
    buffer_done(&stream->in);
    free(stream);
    events->closed(arg);
}

static void on_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;

    stream->closed = true;
    release(stream);
}

void stream_close(struct stream *stream)
{
    if (stream->closing) {
        return;
    }
    leave_lists(stream);
    stream->closing = true;
    if (stream->resolving) {
        (void)uv_cancel((uv_req_t *)&stream->resolve);
    }
    uv_close(&stream->uv.handle, on_closed);
}

static void stop_reading(struct stream *stream)
{
    if (stream->is_reading) {
        stream->is_reading = false;
        (void)uv_read_stop(&stream->uv.stream);
    }
}

static void give_up(struct stream *stream, enum stream_break what, const char *reason)
{
    if (is_over(stream)) {
        return;
    }
    stream->broken = true;
    stream->hub->is_busy = true;
    stop_reading(stream);
    leave_lists(stream);
    if (stream->ending) {
        stream_close(stream); /* the owner has no interest any more */
        return;
    }
    stream->events->broken(stream->arg, what, reason);
}

/* ---- in ---- */

static bool may_hand_over(const struct stream *stream)
{
    return !is_over(stream) && !stream->ending && !stream->is_paused && !stream->is_choked;
}

/* Hands over whole frames; returns how many bytes they took. */
static size_t cut_frames(struct stream *stream, const uint8_t *bytes, size_t len)
{
    size_t offset = 0;

    while (offset < len && may_hand_over(stream)) {
        struct frame frame = {0};

        switch (frame_parse(bytes + offset, len - offset, &frame)) {
        case FRAME_PARTIAL:
            return offset;
        case FRAME_MALFORMED:
            give_up(stream, STREAM_MALFORMED, "bytes that are no frame");
            return offset;
        case FRAME_WHOLE:
            offset += frame.total_len;
            stream->events->frame(stream->arg, &frame);
            stream->is_choked = stream_unsent_bytes(stream) > CHOKE_BYTES;
            break;
        }
    }
    return offset;
}

static void keep_first(struct stream *stream, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len && stream->first_len < FIRST_BYTES; i++) {
        stream->first[stream->first_len++] = bytes[i];
    }
}

/* Takes bytes that lie in the shared buffer: what is not a whole frame moves into `in`. */
static void take_shared(struct stream *stream, const uint8_t *bytes, size_t len)
{
    size_t taken = cut_frames(stream, bytes, len);

    if (!is_over(stream) && !stream->ending && taken < len &&
        buffer_append(&stream->in, bytes + taken, len - taken) != ERR_OK) {
        give_up(stream, STREAM_NO_MEMORY, "no memory");
    }
}

/* Takes what lies in `in`. */
static void take_own(struct stream *stream)
{
    size_t taken = cut_frames(stream, stream->in.data, stream->in.len);

    if (is_over(stream) || stream->ending) {
        return;
    }
    buffer_consume(&stream->in, taken);
    if (stream->in.len == 0 && stream->in.capacity > KEEP_BYTES) {
        buffer_done(&stream->in);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct stream *stream = handle->data;
    uint8_t *room = stream->hub->read_bytes;

    (void)suggested;
    if (stream->in.len != 0) {
        room = buffer_reserve(&stream->in, READ_BYTES);
    }
    /* Without memory libuv gives UV_ENOBUFS to on_read. */
    *buf = uv_buf_init((char *)room, room == NULL ? 0 : READ_BYTES);
}

static void on_read_end(struct stream *stream, ssize_t status)
{
    if (status == UV_EOF && stream->in.len != 0) {
        give_up(stream, STREAM_MALFORMED, "ends within a frame");
    } else if (status == UV_EOF) {
        give_up(stream, STREAM_CLOSED, "closed by the other side");
    } else if (status == UV_ENOBUFS) {
        give_up(stream, STREAM_NO_MEMORY, "no memory");
    } else {
        give_up(stream, STREAM_LOST, uv_strerror((int)status));
    }
}

static void on_read(uv_stream_t *uv_stream, ssize_t count, const uv_buf_t *buf)
{
    struct stream *stream = uv_stream->data;
    const uint8_t *bytes = (const uint8_t *)buf->base;

    if (is_over(stream) || count == 0) {
        return;
    }
    if (count < 0) {
        on_read_end(stream, count);
        return;
    }
    stream->hub->is_busy = true;
    keep_first(stream, bytes, (size_t)count);
    if (stream->in.len != 0) {
        stream->in.len += (size_t)count;
        take_own(stream);
    } else {
        take_shared(stream, bytes, (size_t)count);
    }
    if (!is_over(stream) && !may_hand_over(stream)) {
        stop_reading(stream);
        note_change(stream); /* the flush finds out whether it may go on */
    }
}

static void start_reading(struct stream *stream)
{
    int status = 0;

    if (stream->is_reading || !stream->is_connected || !may_hand_over(stream)) {
        return;
    }
    status = uv_read_start(&stream->uv.stream, on_alloc, on_read);
    stream->is_reading = status == 0;
    if (status != 0) {
        give_up(stream, STREAM_LOST, uv_strerror(status));
    }
}

/* Frames go on in the next turn, not within the call that allowed it. */
static void note_resumed(struct stream *stream)
{
    if (!stream->is_resumed && may_hand_over(stream)) {
        stream->is_resumed = true;
        TAILQ_INSERT_TAIL(&stream->hub->resumed, stream, in_resumed);
    }
}

void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
}

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
    note_resumed(stream);
}

/* ---- opening ---- */

static struct stream *stream_new(struct stream_hub *hub, bool is_unix,
                                 const struct stream_events *events, void *arg)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    int status = 0;

    if (stream == NULL) {
        return NULL;
    }
    *stream = (struct stream){.hub = hub, .events = events, .arg = arg, .is_unix = is_unix};
    status = is_unix ? uv_pipe_init(hub->loop, &stream->uv.pipe, 0)
                     : uv_tcp_init(hub->loop, &stream->uv.tcp);
    if (status != 0) {
        free(stream);
        return NULL;
    }
    stream->uv.handle.data = stream;
    hub->count++;
    return stream;
}

static void set_up_socket(struct stream *stream)
{
    stream->is_connected = true;
    if (!stream->is_unix) {
        /* Answers must not wait for more of them; failing is harmless. */
        (void)uv_tcp_nodelay(&stream->uv.tcp, 1);
        (void)uv_tcp_keepalive(&stream->uv.tcp, 1, KEEPALIVE_SECOND);
    }
}

struct stream *stream_accept(struct stream_hub *hub, uv_stream_t *server,
                             const struct stream_events *events, void *arg, enum err *out_err)
{
    struct stream *stream = stream_new(hub, server->type == UV_NAMED_PIPE, events, arg);
    int status = 0;

    if (stream == NULL) {
        *out_err = ERR_MEMORY;
        return NULL;
    }
    status = uv_accept(server, &stream->uv.stream);
    if (status == 0) {
        set_up_socket(stream);
    } else {
        stream->dial_status = status;
    }
    /* A failure of these is told at the next flush: no event comes from within this function. */
    start_reading(stream);
    note_change(stream);
    *out_err = ERR_OK;
    return stream;
}

static void on_connect(uv_connect_t *request, int status)
{
    struct stream *stream = request->data;

    if (is_over(stream)) {
        return;
    }
    stream->hub->is_busy = true;
    if (status != 0) {
        give_up(stream, STREAM_CONNECT_FAILED, uv_strerror(status));
        return;
    }
    set_up_socket(stream);
    start_reading(stream);
    if (!is_over(stream)) {
        stream->events->connected(stream->arg);
    }
}

static int dial_address(struct stream *stream, const struct sockaddr *address)
{
    stream->connect.data = stream;
    return uv_tcp_connect(&stream->connect, &stream->uv.tcp, address, on_connect);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct stream *stream = request->data;

    stream->resolving = false;
    if (!is_over(stream)) {
        if (status == 0) {
            status = list != NULL ? dial_address(stream, list->ai_addr) : UV_EAI_NONAME;
        }
        if (status != 0) {
            give_up(stream, STREAM_CONNECT_FAILED, uv_strerror(status));
        }
    }
    uv_freeaddrinfo(list);
    release(stream);
}

static int dial_host(struct stream *stream, const char *host, uint16_t port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    char port_text[8];
    int status = 0;

    if (uv_ip4_addr(host, port, &v4) == 0) {
        return dial_address(stream, (const struct sockaddr *)&v4);
    }
    if (uv_ip6_addr(host, port, &v6) == 0) {
        return dial_address(stream, (const struct sockaddr *)&v6);
    }
    (void)snprintf(port_text, sizeof(port_text), "%u", (unsigned)port);
    stream->resolve.data = stream;
    status =
        uv_getaddrinfo(stream->hub->loop, &stream->resolve, on_resolved, host, port_text, &hints);
    stream->resolving = status == 0;
    return status;
}

struct stream *stream_dial(struct stream_hub *hub, const char *host, uint16_t port,
                           const struct stream_events *events, void *arg)
{
    struct stream *stream = stream_new(hub, /* is_unix */ false, events, arg);

    if (stream == NULL) {
        return NULL;
    }
    stream->dial_status = dial_host(stream, host, port);
    if (stream->dial_status != 0) {
        note_change(stream);
    }
    return stream;
}

/* ---- out ---- */

struct buffer *stream_send_begin(struct stream *stream)
{
    if (is_over(stream) || stream->ending || stream->no_memory || stream->is_full) {
        return NULL;
    }
    if (stream_unsent_bytes(stream) > SEND_QUEUE_BYTES_MAX) {
        stream->is_full = true;
        note_change(stream);
        return NULL;
    }
    return &stream->out;
}

void stream_send_end(struct stream *stream, enum err err)
{
    stream->no_memory = stream->no_memory || err != ERR_OK;
    note_change(stream);
}

size_t stream_unsent_bytes(const struct stream *stream)
{
    return stream->out.len + stream->writing.len;
}

static void flush(struct stream *stream);

static void on_written(uv_write_t *request, int status)
{
    struct stream *stream = request->data;

    stream->is_writing = false;
    buffer_clear(&stream->writing);
    if (stream->writing.capacity > KEEP_BYTES) {
        buffer_done(&stream->writing);
    }
    if (is_over(stream)) {
        return;
    }
    if (status != 0) {
        give_up(stream, STREAM_LOST, uv_strerror(status));
    } else {
        flush(stream);
    }
}

/* Hands what the kernel did not take at once to a write request. */
static void write_rest(struct stream *stream)
{
    struct buffer empty = stream->writing;
    uv_buf_t rest = {0};
    int status = 0;

    CHECK(!stream->is_writing && empty.len == 0);
    stream->writing = stream->out;
    stream->out = empty;
    stream->write.data = stream;
    rest = uv_buf_init((char *)stream->writing.data, (unsigned)stream->writing.len);
    status = uv_write(&stream->write, &stream->uv.stream, &rest, 1, on_written);
    if (status != 0) {
        give_up(stream, STREAM_LOST, uv_strerror(status));
        return;
    }
    stream->is_writing = true;
}

static void write_now(struct stream *stream)
{
    uv_buf_t all = uv_buf_init((char *)stream->out.data, (unsigned)stream->out.len);
    int status = uv_try_write(&stream->uv.stream, &all, 1);

    if (status < 0 && status != UV_EAGAIN) {
        give_up(stream, STREAM_LOST, uv_strerror(status));
        return;
    }
    if (status > 0) {
        buffer_consume(&stream->out, (size_t)status);
    }
    if (stream->out.len != 0) {
        write_rest(stream);
    } else if (stream->out.capacity > KEEP_BYTES) {
        buffer_done(&stream->out);
    }
}

static void flush(struct stream *stream)
{
    if (is_over(stream)) {
        return;
    }
    if (stream->dial_status != 0) {
        give_up(stream, STREAM_CONNECT_FAILED, uv_strerror(stream->dial_status));
        return;
    }
    if (stream->no_memory) {
        give_up(stream, STREAM_NO_MEMORY, "no memory");
        return;
    }
    if (stream->is_connected && !stream->is_writing && stream->out.len != 0) {
        write_now(stream);
    }
    if (is_over(stream)) {
        return;
    }
    if (stream->is_full || stream_unsent_bytes(stream) > SEND_QUEUE_BYTES_MAX) {
        give_up(stream, STREAM_FULL, "does not read what is sent to it");
        return;
    }
    if (stream->ending && stream_unsent_bytes(stream) == 0) {
        stream_close(stream);
        return;
    }
    if (stream->is_choked && stream_unsent_bytes(stream) <= CHOKE_BYTES) {
        stream->is_choked = false;
        note_resumed(stream);
    }
}

void stream_end(struct stream *stream)
{
    stream->ending = true;
    stop_reading(stream);
    note_change(stream);
}

/* ---- what is known of it ---- */

const uint8_t *stream_first_bytes(const struct stream *stream, size_t *out_len)
{
    *out_len = stream->first_len;
    return stream->first;
}

int stream_fd(const struct stream *stream)
{
    uv_os_fd_t fd = -1;

    return uv_fileno(&stream->uv.handle, &fd) == 0 ? fd : -1;
}

bool stream_is_unix(const struct stream *stream)
{
    return stream->is_unix;
}

void stream_address(const struct stream *stream, char *to, size_t to_bytes)
{
    struct sockaddr_storage address = {0};
    int len = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&address;

    (void)snprintf(to, to_bytes, "%s", stream->is_unix ? "unix" : "?");
    if (stream->is_unix ||
        uv_tcp_getpeername(&stream->uv.tcp, (struct sockaddr *)&address, &len) != 0) {
        return;
    }
    if (address.ss_family == AF_INET && uv_ip4_name(v4, host, sizeof(host)) == 0) {
        (void)snprintf(to, to_bytes, "%s:%u", host, (unsigned)ntohs(v4->sin_port));
    } else if (address.ss_family == AF_INET6 && uv_ip6_name(v6, host, sizeof(host)) == 0) {
        (void)snprintf(to, to_bytes, "[%s]:%u", host, (unsigned)ntohs(v6->sin6_port));
    }
}

/* ---- hub ---- */

enum err stream_hub_init(struct stream_hub *hub, uv_loop_t *loop)
{
    *hub = (struct stream_hub){.loop = loop, .read_bytes = malloc(READ_BYTES)};
    TAILQ_INIT(&hub->changed);
    TAILQ_INIT(&hub->resumed);
    return hub->read_bytes != NULL ? ERR_OK : ERR_MEMORY;
}

void stream_hub_done(struct stream_hub *hub)
{
    CHECK_OP(hub->count, ==, 0u);
    free(hub->read_bytes);
    hub->read_bytes = NULL;
}

void stream_hub_resume(struct stream_hub *hub)
{
    struct stream_list now = TAILQ_HEAD_INITIALIZER(now);

    /* What resumes meanwhile belongs to the next turn. */
    TAILQ_CONCAT(&now, &hub->resumed, in_resumed);
    while (!TAILQ_EMPTY(&now)) {
        struct stream *stream = TAILQ_FIRST(&now);

        TAILQ_REMOVE(&now, stream, in_resumed);
        stream->is_resumed = false;
        take_own(stream);
        if (may_hand_over(stream)) {
            start_reading(stream);
        } else if (!is_over(stream)) {
            note_change(stream);
        }
    }
}

bool stream_hub_flush(struct stream_hub *hub)
{
    hub->is_busy = false;
    while (!TAILQ_EMPTY(&hub->changed)) {
        struct stream *stream = TAILQ_FIRST(&hub->changed);

        TAILQ_REMOVE(&hub->changed, stream, in_changed);
        stream->is_changed = false;
        flush(stream);
    }
    return hub->is_busy || !TAILQ_EMPTY(&hub->resumed);
}
