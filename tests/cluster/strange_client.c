/* SPDX-License-Identifier: Apache-2.0
 *
 * A client that says what no client would, in well-formed messages:
 * `strange_client ADDRESS SEED MESSAGES`. Messages are made from the descriptors of wire.proto with
 * numbers and names at and beyond their limits, most of them writes within a session, so that they
 * are admitted, logged and applied by every replica. What is answered is not looked at; whoever
 * starts this sees whether the replicas still run and agree.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/frame.h"
#include "common/limits.h"
#include "common/parse.h"
#include "common/wire.h"

#define DEPTH_MAX       4u
#define REPEATED_MAX    3u
#define CONN_MESSAGES   300u  /* then another connection */
#define ANSWER_WAIT_MS  5000u /* for the session */
#define RECEIVED_BYTES  65536u
#define WIRE_TYPE_BYTES 2u
#define TREE_OPS        5u /* create, write, setattr, remove, rename */

struct strange {
    uint64_t random;
    int fd; /* -1: none */
    uint64_t sequence;
    struct buffer received;
};

/* splitmix64 */
static uint64_t next_random(struct strange *strange)
{
    uint64_t z = strange->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool one_in(struct strange *strange, uint64_t count)
{
    return next_random(strange) % count == 0;
}

/* ---- messages ---- */

static void append(struct buffer *to, const void *bytes, size_t len)
{
    CHECK(buffer_append(to, bytes, len) == ERR_OK);
}

static void append_varint(struct buffer *to, uint64_t number)
{
    for (; number > 0x7f; number >>= 7) {
        CHECK(buffer_append_u8(to, (uint8_t)(number | 0x80)) == ERR_OK);
    }
    CHECK(buffer_append_u8(to, (uint8_t)number) == ERR_OK);
}

static void append_number(struct buffer *to, uint32_t field, uint64_t number)
{
    append_varint(to, (uint64_t)field << 3);
    append_varint(to, number);
}

static void append_bytes(struct buffer *to, uint32_t field, const void *bytes, size_t len)
{
    append_varint(to, (uint64_t)field << 3 | WIRE_TYPE_BYTES);
    append_varint(to, len);
    append(to, bytes, len);
}

/* Small ones most of the time: they are inos, kinds, flags and versions that are there. */
static uint64_t strange_number(struct strange *strange)
{
    static const uint64_t limits[] = {0x7f,
                                      0xff,
                                      0xffff,
                                      07777,
                                      FILE_BYTES_MAX,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x100000000,
                                      FILE_BYTES_MAX + 1,
                                      0x7fffffffffff,
                                      INT64_MAX,
                                      (uint64_t)INT64_MAX + 1,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};

    if (!one_in(strange, 4)) {
        return next_random(strange) % 8;
    }
    return one_in(strange, 3) ? next_random(strange)
                              : limits[next_random(strange) % (sizeof limits / sizeof limits[0])];
}

static void append_strange_bytes(struct strange *strange, struct buffer *to, uint32_t field)
{
    static const char *const words[] = {"/",   "/a", "/b", "/a/b", "/a/b/c", "a",       "b",
                                        "c",   "",   ".",  "..",   "/.",     "//",      "/a/../b",
                                        "/a/", "/",  "/a", "a/b",  "/b",     "\xff\xfe"};
    static const size_t lengths[] = {1, 16, 20, 32, 254, 255, 256, 4095, 4096, 4097, 70000};
    static uint8_t many[70000];
    size_t len = lengths[next_random(strange) % (sizeof lengths / sizeof lengths[0])];

    if (!one_in(strange, 5)) {
        const char *word = words[next_random(strange) % (sizeof words / sizeof words[0])];
        append_bytes(to, field, word, strlen(word));
        return;
    }
    memset(many, one_in(strange, 4) ? (int)(next_random(strange) & 0xff) : 'x', len);
    many[0] = one_in(strange, 2) ? '/' : many[0];
    append_bytes(to, field, many, len);
}

static void append_message(struct strange *strange, const ProtobufCMessageDescriptor *type,
                           unsigned depth, struct buffer *to);

static void append_field(struct strange *strange, const ProtobufCFieldDescriptor *field,
                         unsigned depth, struct buffer *to)
{
    struct buffer inner = {0};

    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        append_message(strange, field->descriptor, depth + 1, &inner);
        append_bytes(to, field->id, inner.data, inner.len);
        buffer_done(&inner);
    } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
        append_strange_bytes(strange, to, field->id);
    } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        append_varint(&inner, strange_number(strange));
        append_bytes(to, field->id, inner.data, inner.len);
        buffer_done(&inner);
    } else if (field->type == PROTOBUF_C_TYPE_ENUM && !one_in(strange, 50)) {
        const ProtobufCEnumDescriptor *names = field->descriptor; /* numbered from 0 */
        append_number(to, field->id, next_random(strange) % names->n_values);
    } else {
        append_number(to, field->id, strange_number(strange));
    }
}

/* Most of the fields, and one of a oneof. */
static void append_message(struct strange *strange, const ProtobufCMessageDescriptor *type,
                           unsigned depth, struct buffer *to)
{
    unsigned chosen = (unsigned)(next_random(strange) % (type->n_fields + 1u));

    for (unsigned i = 0; i < type->n_fields && depth < DEPTH_MAX; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        uint64_t times = is_oneof ? i == chosen : !one_in(strange, 3);

        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            times = next_random(strange) % (REPEATED_MAX + 1);
        }
        for (; times > 0; times--) {
            append_field(strange, field, depth, to);
        }
    }
}

/* ---- the connection ---- */

static int connect_to(const char *address)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char host[sizeof local.sun_path];
    uint16_t port = 0;
    int fd = -1;
    int status = 0;

    CHECK(parse_address(address, 0, host, sizeof host, &port) == ERR_OK);
    fd = socket(port == 0 ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (port == 0) {
        memcpy(local.sun_path, host, sizeof host);
        status = connect(fd, (const struct sockaddr *)&local, sizeof local);
    } else {
        remote.sin_port = htons(port);
        status = connect(fd, (const struct sockaddr *)&remote, sizeof remote);
    }
    if (status != 0) {
        perror("strange_client: connect");
        exit(1);
    }
    return fd;
}

static void hang_up(struct strange *strange)
{
    (void)close(strange->fd);
    strange->fd = -1;
    strange->received.len = 0;
}

/* Takes what is there; waits for at most that long if nothing is. */
static void receive(struct strange *strange, int wait_ms)
{
    static uint8_t bytes[RECEIVED_BYTES];
    struct pollfd poll_fd = {.fd = strange->fd, .events = POLLIN};

    while (strange->fd >= 0 && poll(&poll_fd, 1, wait_ms) > 0) {
        ssize_t len = recv(strange->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (len <= 0) {
            hang_up(strange);
        } else if (strange->received.len < RECEIVED_BYTES) {
            append(&strange->received, bytes, (size_t)len);
        }
        wait_ms = 0;
    }
}

/* Hangs up when the other side has. */
static void send_message(struct strange *strange, const struct buffer *message)
{
    struct buffer frame = {0};
    size_t start = 0;
    size_t sent = 0;

    CHECK(frame_begin(&frame, &start) == ERR_OK);
    append(&frame, message->data, message->len);
    CHECK(frame_end(&frame, start, 0) == ERR_OK);
    while (strange->fd >= 0 && sent < frame.len) {
        struct pollfd poll_fd = {.fd = strange->fd, .events = POLLOUT | POLLIN};
        CHECK(poll(&poll_fd, 1, -1) > 0);
        ssize_t len =
            send(strange->fd, frame.data + sent, frame.len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += len > 0 ? (size_t)len : 0;
        if (len < 0 && errno != EAGAIN) {
            hang_up(strange);
        }
        receive(strange, 0);
    }
    buffer_done(&frame);
}

/* Whether so many whole frames have come. */
static bool has_frames(const struct strange *strange, unsigned count)
{
    size_t at = 0;
    struct frame frame;

    for (; count > 0; count--) {
        if (at >= strange->received.len ||
            frame_parse(strange->received.data + at, strange->received.len - at, &frame) !=
                FRAME_WHOLE) {
            return false;
        }
        at += frame.total_len;
    }
    return true;
}

/* Says hello and opens a session. */
static void introduce(struct strange *strange, const char *address)
{
    struct buffer message = {0};
    struct buffer inner = {0};
    uint64_t nonce[2] = {next_random(strange), next_random(strange)};

    strange->fd = connect_to(address);
    strange->sequence = 0;
    append_number(&inner, 1, 1);
    append_bytes(&message, 1, inner.data, inner.len);
    send_message(strange, &message);
    message.len = 0;
    inner.len = 0;
    append_number(&inner, 3, SESSION_TIMEOUT_MS_MIN);
    append_bytes(&inner, 4, nonce, sizeof nonce);
    append_number(&inner, 6, next_random(strange) % 2);
    append_bytes(&message, 2, inner.data, inner.len);
    send_message(strange, &message);
    for (unsigned tries = 0; strange->fd >= 0 && !has_frames(strange, 2); tries++) {
        if (tries == ANSWER_WAIT_MS / 100) {
            (void)fputs("strange_client: no session\n", stderr);
            exit(1);
        }
        receive(strange, 100);
    }
    buffer_done(&inner);
    buffer_done(&message);
}

/* A write whose numbers are in order, so that it is admitted. */
static void append_write(struct strange *strange, struct buffer *message)
{
    struct buffer request = {0};
    struct buffer op = {0};

    if (one_in(strange, 20)) {
        append_message(strange, &wire__op__descriptor, 0, &op);
    } else { /* the first of them change the tree, the others are refused */
        append_field(strange, &wire__op__descriptor.fields[next_random(strange) % TREE_OPS], 0,
                     &op);
    }
    append_number(&request, 1, strange->sequence + 1);
    append_number(&request, 2, ++strange->sequence);
    append_number(&request, 3, strange->sequence);
    if (one_in(strange, 3)) {
        append_field(
            strange,
            protobuf_c_message_descriptor_get_field_by_name(&wire__request__descriptor, "identity"),
            0, &request);
    }
    append_bytes(&request, 10, op.data, op.len);
    append_bytes(message, 3, request.data, request.len);
    buffer_done(&op);
    buffer_done(&request);
}

int main(int argc, char **argv)
{
    struct strange strange = {.fd = -1};
    struct buffer message = {0};
    uint64_t count = 0;
    uint64_t connections = 0;

    if (argc != 4 || parse_u64(argv[2], 0, UINT64_MAX, &strange.random) != ERR_OK ||
        parse_u64(argv[3], 1, UINT32_MAX, &count) != ERR_OK) {
        (void)fputs("usage: strange_client ADDRESS SEED MESSAGES\n", stderr);
        return 2;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (strange.fd >= 0 && i % CONN_MESSAGES == 0) {
            hang_up(&strange);
        }
        if (strange.fd < 0) {
            introduce(&strange, argv[1]);
            connections++;
        }
        message.len = 0;
        if (one_in(&strange, 20)) {
            append_message(&strange, &wire__to_replica__descriptor, 0, &message);
        } else {
            append_write(&strange, &message);
        }
        if (strange.fd >= 0) {
            send_message(&strange, &message);
        }
    }
    if (strange.fd >= 0) {
        receive(&strange, 1000);
        hang_up(&strange);
    }
    (void)printf("messages=%s connections=%llu\n", argv[3], (unsigned long long)connections);
    buffer_done(&message);
    buffer_done(&strange.received);
    return 0;
}
