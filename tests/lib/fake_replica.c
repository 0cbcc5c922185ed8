/* SPDX-License-Identifier: Apache-2.0
 *
 * See fake_replica.h. One connection at a time is the newest; answers go to it.
 */
#include "tests/lib/fake_replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buffer.h"
#include "common/check.h"
#include "common/frame.h"
#include "common/limits.h"

struct fake_conn {
    struct fake_replica *fake;
    uv_pipe_t pipe;
    struct buffer in;
    size_t number;
    uint64_t last_ping;
};

struct fake_write {
    uv_write_t request;
    struct buffer bytes;
};

static void on_conn_closed(uv_handle_t *handle)
{
    struct fake_conn *conn = handle->data;

    buffer_done(&conn->in);
    free(conn);
}

static void conn_close(struct fake_conn *conn)
{
    if (conn->fake->conn == conn) {
        conn->fake->conn = NULL;
    }
    if (!uv_is_closing((uv_handle_t *)&conn->pipe)) {
        uv_close((uv_handle_t *)&conn->pipe, on_conn_closed);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct fake_write *write = request->data;
    (void)status;
    buffer_done(&write->bytes);
    free(write);
}

static void send_buffer(struct fake_replica *fake, struct buffer *bytes)
{
    if (fake->conn == NULL) {
        buffer_done(bytes);
        return;
    }
    struct fake_write *write = calloc(1, sizeof *write);
    CHECK(write != NULL);
    write->bytes = *bytes;
    write->request.data = write;
    uv_buf_t buf = {.base = (char *)bytes->data, .len = bytes->len};
    if (uv_write(&write->request, (uv_stream_t *)&fake->conn->pipe, &buf, 1, on_written) != 0) {
        on_written(&write->request, -1);
    }
}

void fake_send(struct fake_replica *fake, const Wire__ToClient *message)
{
    struct buffer bytes = {0};

    CHECK(wire_frame(&message->base, NULL, 0, &bytes) == ERR_OK);
    send_buffer(fake, &bytes);
}

void fake_bytes(struct fake_replica *fake, const void *bytes, size_t len)
{
    struct buffer copy = {0};

    CHECK(buffer_append(&copy, bytes, len) == ERR_OK);
    send_buffer(fake, &copy);
}

static void send_welcome(struct fake_replica *fake)
{
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;
    uint8_t ensemble[16];

    memset(ensemble, fake->ensemble, sizeof ensemble);
    welcome.version = 1;
    welcome.ensemble = wire_bytes(ensemble, sizeof ensemble);
    welcome.replica = 1;
    welcome.leader = fake->leader;
    welcome.file_bytes_max = FILE_BYTES_MAX;
    welcome.watches = !fake->old;
    message.body_case = WIRE__TO_CLIENT__BODY_WELCOME;
    message.welcome = &welcome;
    fake_send(fake, &message);
}

static void take_open(struct fake_replica *fake, const Wire__OpenSession *open)
{
    static const uint8_t password[PASSWORD_BYTES] = "0123456789abcde";
    Wire__Opened opened = WIRE__OPENED__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    fake->opens++;
    fake->open_session = open->session;
    fake->open_zxid_seen = open->zxid_seen;
    opened.err = fake->open_err;
    if (open->session == 0) {
        opened.err = 0; /* Only an attach can be refused here. */
    } else if (open->password.len != PASSWORD_BYTES ||
               memcmp(open->password.data, password, PASSWORD_BYTES) != 0) {
        opened.err = ERR_BAD_PASSWORD;
    }
    if (opened.err == 0) {
        opened.session = open->session != 0 ? open->session : fake->session;
        opened.password = wire_bytes(password, sizeof password);
        opened.epoch = ++fake->epoch;
        opened.timeout_ms = fake->timeout_ms;
    }
    message.body_case = WIRE__TO_CLIENT__BODY_OPENED;
    message.opened = &opened;
    fake_send(fake, &message);
}

void fake_answer(struct fake_replica *fake, uint64_t call, int32_t err)
{
    Wire__Answer answer = WIRE__ANSWER__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    answer.call = call;
    answer.err = err;
    answer.zxid = ++fake->zxid;
    answer.grant = 5;
    message.body_case = WIRE__TO_CLIENT__BODY_ANSWER;
    message.answer = &answer;
    fake_send(fake, &message);
}

void fake_pong(struct fake_replica *fake)
{
    Wire__Pong pong = WIRE__PONG__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    if (fake->conn == NULL) {
        return;
    }
    pong.ping = fake->conn->last_ping;
    pong.confirmed_ping = fake->confirming ? fake->conn->last_ping : 0;
    pong.leader = fake->leader;
    message.body_case = WIRE__TO_CLIENT__BODY_PONG;
    message.pong = &pong;
    fake_send(fake, &message);
}

void fake_event(struct fake_replica *fake, uint64_t zxid, uint64_t ino)
{
    Wire__Event event = WIRE__EVENT__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    event.zxid = zxid;
    event.kind = WIRE__EVENT_KIND__EVENT_DATA;
    event.ino = ino;
    message.body_case = WIRE__TO_CLIENT__BODY_EVENT;
    message.event = &event;
    fake_send(fake, &message);
}

void fake_reclaimed(struct fake_replica *fake, uint64_t batch)
{
    Wire__Reclaimed reclaimed = WIRE__RECLAIMED__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    reclaimed.batch = batch;
    message.body_case = WIRE__TO_CLIENT__BODY_RECLAIMED;
    message.reclaimed = &reclaimed;
    fake_send(fake, &message);
}

static void take_request(struct fake_replica *fake, const struct fake_conn *conn,
                         const Wire__Request *request)
{
    CHECK_OP(fake->request_count, <, FAKE_REQUESTS_MAX);
    struct fake_request *kept = &fake->request[fake->request_count++];

    *kept = (struct fake_request){
        .call = request->call,
        .sequence = request->sequence,
        .answered_below = request->answered_below,
        .zxid_seen = request->zxid_seen,
        .body = request->body_case,
        .connection = conn->number,
    };
    if (request->body_case == WIRE__REQUEST__BODY_OP) {
        kept->op = request->op->body_case;
        if (kept->op == WIRE__OP__BODY_CANCEL) {
            kept->cancel_sequence = request->op->cancel->sequence;
        }
    }
    if (fake->answering && !fake->mute) {
        fake_answer(fake, request->call, fake->answer_err);
    }
}

static void take_message(struct fake_replica *fake, struct fake_conn *conn,
                         const Wire__ToReplica *message)
{
    switch (message->body_case) {
    case WIRE__TO_REPLICA__BODY_HELLO:
        fake->hellos++;
        if (!fake->mute) {
            send_welcome(fake);
        }
        break;
    case WIRE__TO_REPLICA__BODY_OPEN:
        if (!fake->mute) {
            take_open(fake, message->open);
        }
        break;
    case WIRE__TO_REPLICA__BODY_REQUEST:
        take_request(fake, conn, message->request);
        break;
    case WIRE__TO_REPLICA__BODY_PING:
        fake->pings++;
        conn->last_ping = message->ping->ping;
        if (!fake->mute) {
            fake_pong(fake);
        }
        break;
    case WIRE__TO_REPLICA__BODY_FORGET:
        fake->forget_messages++;
        fake->forget_nodes += message->forget->n_nodes;
        break;
    case WIRE__TO_REPLICA__BODY_RECLAIM:
        fake->reclaim_messages++;
        fake->reclaim_nodes += message->reclaim->n_nodes;
        fake->reclaim_batch = message->reclaim->batch;
        break;
    case WIRE__TO_REPLICA__BODY_WATCH:
        fake->watches++;
        fake->watch = message->watch->watch;
        fake->watch_has_since = message->watch->has_since;
        fake->watch_zxid = message->watch->since_zxid;
        fake->watch_skip = message->watch->since_skip;
        break;
    case WIRE__TO_REPLICA__BODY_WATCH_MORE:
        fake->watch_mores++;
        break;
    case WIRE__TO_REPLICA__BODY_UNWATCH:
        fake->unwatches++;
        break;
    case WIRE__TO_REPLICA__BODY__NOT_SET:
    case _WIRE__TO_REPLICA__BODY__CASE_IS_INT_SIZE:
        CHECK(message->body_case != message->body_case);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct fake_conn *conn = handle->data;
    (void)suggested;
    uint8_t *room = buffer_reserve(&conn->in, 65536);
    CHECK(room != NULL);
    *buf = uv_buf_init((char *)room, 65536);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct fake_conn *conn = stream->data;
    struct frame frame;
    (void)buf;

    if (count < 0) {
        conn_close(conn);
        return;
    }
    conn->in.len += (size_t)count;
    while (conn->in.len > 0 && !uv_is_closing((uv_handle_t *)stream)) {
        enum frame_state state = frame_parse(conn->in.data, conn->in.len, &frame);
        ProtobufCMessage *message = NULL;
        CHECK(state != FRAME_MALFORMED);
        if (state == FRAME_PARTIAL) {
            break;
        }
        CHECK(wire_unpack(&wire__to_replica__descriptor, frame.message, frame.message_len,
                          &message) == ERR_OK);
        take_message(conn->fake, conn, (Wire__ToReplica *)message);
        wire_free(message);
        buffer_consume(&conn->in, frame.total_len);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct fake_replica *fake = listener->data;
    struct fake_conn *conn = calloc(1, sizeof *conn);

    CHECK(status == 0 && conn != NULL);
    conn->fake = fake;
    conn->number = ++fake->connections;
    CHECK(uv_pipe_init(fake->loop, &conn->pipe, 0) == 0);
    conn->pipe.data = conn;
    CHECK(uv_accept(listener, (uv_stream_t *)&conn->pipe) == 0);
    CHECK(uv_read_start((uv_stream_t *)&conn->pipe, on_alloc, on_read) == 0);
    fake->conn = conn;
}

void fake_start(struct fake_replica *fake, uv_loop_t *loop, const char *folder, int number)
{
    *fake = (struct fake_replica){.loop = loop,
                                  .answering = true,
                                  .confirming = true,
                                  .leader = 1,
                                  .ensemble = 1,
                                  .session = 7,
                                  .timeout_ms = 10000,
                                  .zxid = 100};
    (void)snprintf(fake->path, sizeof fake->path, "%s/%d.sock", folder, number);
    CHECK(uv_pipe_init(loop, &fake->listener, 0) == 0);
    fake->listener.data = fake;
    CHECK(uv_pipe_bind(&fake->listener, fake->path) == 0);
    CHECK(uv_listen((uv_stream_t *)&fake->listener, 16, on_connection) == 0);
}

void fake_break(struct fake_replica *fake)
{
    if (fake->conn != NULL) {
        conn_close(fake->conn);
    }
}

void fake_stop(struct fake_replica *fake)
{
    fake_break(fake);
    uv_close((uv_handle_t *)&fake->listener, NULL);
}
