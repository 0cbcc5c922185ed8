/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream against a plain TCP socket of the test, on the loopback: frames in any pieces, bad
 * bytes, full queues, both ways of ending.
 */
#include "server/net/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/wire.h"
#include "server/net/listener.h"

#define ROUNDS_MAX 200000

struct fixture {
    uv_loop_t loop;
    struct stream_hub hub;
    struct listener *listener;
    struct stream *stream; /* the accepted side; NULL: not yet, or closed */
    int fd;                /* the test's side */
    int frames;
    uint64_t last_sequence;
    bool pause_after_frame;
    bool broken;
    enum stream_break what;
    bool closed;
};

static void on_frame(void *arg, const struct frame *frame)
{
    struct fixture *fixture = arg;

    fixture->frames++;
    fixture->last_sequence = frame->raw_len == 8 ? get_be64(frame->raw) : 0;
    if (fixture->pause_after_frame) {
        stream_pause(fixture->stream);
    }
}

static void on_broken(void *arg, enum stream_break what, const char *reason)
{
    struct fixture *fixture = arg;

    assert_non_null(reason);
    assert_false(fixture->broken);
    fixture->broken = true;
    fixture->what = what;
    stream_close(fixture->stream);
}

static void on_closed(void *arg)
{
    struct fixture *fixture = arg;

    assert_false(fixture->closed);
    fixture->closed = true;
    fixture->stream = NULL;
}

static const struct stream_events events = {
    .frame = on_frame, .broken = on_broken, .closed = on_closed};

static void accept_it(void *arg, uv_stream_t *server)
{
    struct fixture *fixture = arg;
    enum err err = ERR_OK;

    fixture->stream = stream_accept(&fixture->hub, server, &events, fixture, &err);
    assert_non_null(fixture->stream);
}

/* Turns of the loop until the condition holds. */
static void turn(struct fixture *fixture)
{
    stream_hub_resume(&fixture->hub);
    (void)stream_hub_flush(&fixture->hub);
    (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

#define TURN_UNTIL(fixture, condition)                                     \
    do {                                                                   \
        for (int round = 0; round < ROUNDS_MAX && !(condition); round++) { \
            turn(fixture);                                                 \
        }                                                                  \
        assert_true(condition);                                            \
    } while (0)

static int find_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct buffer error = {0};
    int port = find_port();

    assert_non_null(fixture);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(stream_hub_init(&fixture->hub, &fixture->loop), ERR_OK);
    assert_int_equal(
        listener_open_tcp(&fixture->loop, "127.0.0.1", (uint16_t)port, &fixture->listener, &error),
        ERR_OK);
    assert_int_equal(listener_start(fixture->listener, accept_it, fixture), ERR_OK);
    fixture->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
    assert_int_equal(connect(fixture->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    TURN_UNTIL(fixture, fixture->stream != NULL);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    if (fixture->stream != NULL) {
        stream_close(fixture->stream);
    }
    listener_close(fixture->listener);
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    stream_hub_done(&fixture->hub);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    if (fixture->fd >= 0) {
        (void)close(fixture->fd);
    }
    free(fixture);
    return 0;
}

/* A frame with a number as its raw bytes. */
static void append_frame(struct buffer *out, uint64_t sequence)
{
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;
    Wire__Touched touched = WIRE__TOUCHED__INIT;
    uint8_t raw[8];

    put_be64(raw, sequence);
    message.body_case = WIRE__PEER_MESSAGE__BODY_TOUCHED;
    message.touched = &touched;
    assert_int_equal(wire_frame(&message.base, raw, sizeof(raw), out), ERR_OK);
}

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void frames_in_pieces_of_one_byte_arrive_whole(void **state)
{
    struct fixture *fixture = *state;
    struct buffer bytes = {0};

    append_frame(&bytes, 1);
    append_frame(&bytes, 2);
    for (size_t i = 0; i < bytes.len; i++) {
        write_all(fixture->fd, bytes.data + i, 1);
        turn(fixture);
    }
    TURN_UNTIL(fixture, fixture->frames == 2);
    assert_int_equal(fixture->last_sequence, 2);
    assert_false(fixture->broken);
    buffer_done(&bytes);
}

static void a_paused_stream_keeps_its_frames_until_it_is_resumed(void **state)
{
    struct fixture *fixture = *state;
    struct buffer bytes = {0};

    fixture->pause_after_frame = true;
    for (uint64_t i = 1; i <= 3; i++) {
        append_frame(&bytes, i);
    }
    write_all(fixture->fd, bytes.data, bytes.len);
    TURN_UNTIL(fixture, fixture->frames == 1);
    for (int i = 0; i < 100; i++) {
        turn(fixture);
    }
    assert_int_equal(fixture->frames, 1);
    stream_resume(fixture->stream);
    TURN_UNTIL(fixture, fixture->frames == 2);
    stream_resume(fixture->stream);
    TURN_UNTIL(fixture, fixture->frames == 3);
    assert_int_equal(fixture->last_sequence, 3);
    buffer_done(&bytes);
}

static void bytes_that_are_no_frame_break_it(void **state)
{
    struct fixture *fixture = *state;

    write_all(fixture->fd, (const uint8_t *)"GET / HTTP/1.1\r\n", 16);
    TURN_UNTIL(fixture, fixture->closed);
    assert_int_equal(fixture->what, STREAM_MALFORMED);
    assert_int_equal(fixture->frames, 0);
}

static void a_frame_of_two_gib_breaks_it_at_its_header(void **state)
{
    struct fixture *fixture = *state;
    uint8_t header[8] = {0xD1, 'Q', 'F', 1, 0x80, 0, 0, 0};

    write_all(fixture->fd, header, sizeof(header));
    TURN_UNTIL(fixture, fixture->closed);
    assert_int_equal(fixture->what, STREAM_MALFORMED);
}

static void the_end_within_a_frame_is_told_apart_from_the_end_between_two(void **state)
{
    struct fixture *fixture = *state;
    struct buffer bytes = {0};

    append_frame(&bytes, 1);
    append_frame(&bytes, 2);
    write_all(fixture->fd, bytes.data, bytes.len - 3);
    (void)close(fixture->fd);
    fixture->fd = -1;
    TURN_UNTIL(fixture, fixture->closed);
    assert_int_equal(fixture->frames, 1);
    assert_int_equal(fixture->what, STREAM_MALFORMED);
    buffer_done(&bytes);
}

static void the_end_between_two_frames_is_a_polite_one(void **state)
{
    struct fixture *fixture = *state;
    struct buffer bytes = {0};

    append_frame(&bytes, 1);
    write_all(fixture->fd, bytes.data, bytes.len);
    (void)close(fixture->fd);
    fixture->fd = -1;
    TURN_UNTIL(fixture, fixture->closed);
    assert_int_equal(fixture->frames, 1);
    assert_int_equal(fixture->what, STREAM_CLOSED);
    buffer_done(&bytes);
}

static void who_never_reads_is_closed_at_the_limit(void **state)
{
    struct fixture *fixture = *state;
    size_t packed = 0;

    while (packed < 4u * SEND_QUEUE_BYTES_MAX) {
        struct buffer *out = stream_send_begin(fixture->stream);
        size_t before = out != NULL ? out->len : 0;

        if (out == NULL) {
            break;
        }
        assert_non_null(buffer_reserve(out, MIB));
        memset(out->data + out->len, 0, MIB);
        out->len += MIB;
        packed += out->len - before;
        stream_send_end(fixture->stream, ERR_OK);
        assert_true(stream_unsent_bytes(fixture->stream) <= SEND_QUEUE_BYTES_MAX + MIB);
    }
    TURN_UNTIL(fixture, fixture->closed);
    assert_int_equal(fixture->what, STREAM_FULL);
}

static void an_ended_stream_still_sends_what_it_has(void **state)
{
    struct fixture *fixture = *state;
    struct buffer *out = stream_send_begin(fixture->stream);
    char text[8] = "";

    assert_int_equal(buffer_append(out, "goodbye", 7), ERR_OK);
    stream_send_end(fixture->stream, ERR_OK);
    stream_end(fixture->stream);
    TURN_UNTIL(fixture, fixture->closed);
    assert_false(fixture->broken);
    assert_int_equal(recv(fixture->fd, text, sizeof(text), 0), 7);
    assert_string_equal(text, "goodbye");
    assert_int_equal(recv(fixture->fd, text, sizeof(text), 0), 0);
}

static void dialing_where_nobody_listens_breaks_with_that_reason(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.fd = -1};

    other.stream = stream_dial(&fixture->hub, "127.0.0.1", (uint16_t)find_port(), &events, &other);
    assert_non_null(other.stream);
    TURN_UNTIL(fixture, other.closed);
    assert_int_equal(other.what, STREAM_CONNECT_FAILED);
}

static void a_port_in_use_is_told_with_its_address(void **state)
{
    struct fixture *fixture = *state;
    struct listener *second = NULL;
    struct buffer error = {0};
    char address[64];
    int port = find_port();

    assert_int_equal(
        listener_open_tcp(&fixture->loop, "127.0.0.1", (uint16_t)port, &second, &error), ERR_OK);
    stream_address(fixture->stream, address, sizeof(address));
    assert_ptr_equal(strstr(address, "127.0.0.1:"), address);
    struct listener *third = NULL;
    assert_int_equal(listener_open_tcp(&fixture->loop, "127.0.0.1", (uint16_t)port, &third, &error),
                     ERR_BUSY);
    assert_non_null(strstr((const char *)error.data, "127.0.0.1:"));
    assert_non_null(strstr((const char *)error.data, "in use"));
    buffer_done(&error);
    listener_close(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define STREAM_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        STREAM_TEST(frames_in_pieces_of_one_byte_arrive_whole),
        STREAM_TEST(a_paused_stream_keeps_its_frames_until_it_is_resumed),
        STREAM_TEST(bytes_that_are_no_frame_break_it),
        STREAM_TEST(a_frame_of_two_gib_breaks_it_at_its_header),
        STREAM_TEST(the_end_within_a_frame_is_told_apart_from_the_end_between_two),
        STREAM_TEST(the_end_between_two_frames_is_a_polite_one),
        STREAM_TEST(who_never_reads_is_closed_at_the_limit),
        STREAM_TEST(an_ended_stream_still_sends_what_it_has),
        STREAM_TEST(dialing_where_nobody_listens_breaks_with_that_reason),
        STREAM_TEST(a_port_in_use_is_told_with_its_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
