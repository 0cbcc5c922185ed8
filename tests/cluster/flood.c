/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that send at full speed and never read: `flood ADDRESS read|write PATH BYTES CONNECTIONS
 * SECONDS`. Each opens a session (those answers it reads), then sends one request after the other:
 * reads of the node PATH, or writes of BYTES bytes to it. Whoever starts this looks at the memory of
 * the replicas.
 *
 * Prints one line of key=value: requests and MiB that the replica took from the sockets, and the
 * connections that it closed.
 */
#include <errno.h>
#include <fcntl.h>
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
#include "common/clock.h"
#include "common/frame.h"
#include "common/limits.h"
#include "common/parse.h"
#include "common/wire.h"

#define CONNECTIONS_FLOOD_MAX 512u
#define ANSWER_WAIT_MS        10000u /* for the session */
#define RECEIVED_BYTES        65536u

/* One client. */
struct flooder {
    int fd;            /* -1: closed by the replica */
    uint64_t sequence; /* of the newest request */
    struct buffer out; /* one frame */
    size_t sent;       /* of it */
};

struct flood {
    const char *address;
    const char *path;
    bool writes;
    uint64_t bytes;
    uint64_t count;
    uint64_t seconds;
    uint8_t *data;
    struct flooder flooder[CONNECTIONS_FLOOD_MAX];
    uint64_t requests;
    uint64_t sent_bytes;
    uint64_t closed;
};

/* ---- the beginning: hello and a session ---- */

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
        perror("flood: connect");
        exit(1);
    }
    return fd;
}

static void pack(const Wire__ToReplica *message, struct buffer *out)
{
    CHECK(wire_frame(&message->base, NULL, 0, out) == ERR_OK);
}

/* Reads two frames: Welcome and Opened. */
static void await_session(int fd)
{
    static uint8_t bytes[RECEIVED_BYTES];
    size_t len = 0;
    unsigned frames = 0;
    size_t at = 0;

    while (frames < 2) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        struct frame frame;
        ssize_t got = 0;
        if (poll(&poll_fd, 1, ANSWER_WAIT_MS) == 1) {
            got = recv(fd, bytes + len, sizeof bytes - len, 0);
        }
        if (got <= 0) {
            (void)fputs("flood: no session\n", stderr);
            exit(1);
        }
        len += (size_t)got;
        while (frame_parse(bytes + at, len - at, &frame) == FRAME_WHOLE) {
            at += frame.total_len;
            frames++;
        }
    }
}

static void introduce(struct flood *flood, struct flooder *flooder, uint64_t number)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__OpenSession open = WIRE__OPEN_SESSION__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    uint64_t nonce[2] = {(uint64_t)getpid() << 32 | number, clock_boottime_ms()};
    struct buffer bytes = {0};

    hello.version = 1;
    message.body_case = WIRE__TO_REPLICA__BODY_HELLO;
    message.hello = &hello;
    pack(&message, &bytes);
    open.timeout_ms = SESSION_TIMEOUT_MS_DEFAULT;
    open.nonce = wire_bytes(nonce, sizeof nonce);
    message.body_case = WIRE__TO_REPLICA__BODY_OPEN;
    message.open = &open;
    pack(&message, &bytes);
    flooder->fd = connect_to(flood->address);
    CHECK(send(flooder->fd, bytes.data, bytes.len, MSG_NOSIGNAL) == (ssize_t)bytes.len);
    buffer_done(&bytes);
    await_session(flooder->fd);
    CHECK(fcntl(flooder->fd, F_SETFL, O_NONBLOCK) == 0);
}

/* ---- the flood ---- */

static void next_request(struct flood *flood, struct flooder *flooder)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__DataRead read = WIRE__DATA_READ__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[1] = {&range};
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    at.path = wire_bytes(flood->path, strlen(flood->path));
    request.call = ++flooder->sequence;
    if (flood->writes) {
        range.data = wire_bytes(flood->data, flood->bytes);
        write.at = &at;
        write.truncate = true;
        write.n_ranges = 1;
        write.ranges = ranges;
        op.body_case = WIRE__OP__BODY_WRITE;
        op.write = &write;
        request.sequence = flooder->sequence;
        request.answered_below = flooder->sequence;
        request.body_case = WIRE__REQUEST__BODY_OP;
        request.op = &op;
    } else {
        read.at = &at;
        read.bytes_max = FILE_BYTES_MAX;
        request.body_case = WIRE__REQUEST__BODY_DATA;
        request.data = &read;
    }
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = &request;
    flooder->out.len = 0;
    flooder->sent = 0;
    pack(&message, &flooder->out);
}

/* As much as the socket takes, but one request at most, so that all get their turn. */
static void send_some(struct flood *flood, struct flooder *flooder)
{
    ssize_t len = 0;

    if (flooder->sent == flooder->out.len) {
        next_request(flood, flooder);
    }
    len = send(flooder->fd, flooder->out.data + flooder->sent, flooder->out.len - flooder->sent,
               MSG_NOSIGNAL);
    if (len > 0) {
        flooder->sent += (size_t)len;
        flood->sent_bytes += (uint64_t)len;
        flood->requests += flooder->sent == flooder->out.len ? 1 : 0;
    } else if (errno != EAGAIN && errno != EINTR) {
        (void)close(flooder->fd);
        flooder->fd = -1;
        flood->closed++;
    }
}

static void run(struct flood *flood)
{
    static struct pollfd poll_fds[CONNECTIONS_FLOOD_MAX];
    uint64_t end_ms = clock_monotonic_ms() + flood->seconds * 1000u;

    while (clock_monotonic_ms() < end_ms) {
        for (size_t i = 0; i < flood->count; i++) {
            poll_fds[i] = (struct pollfd){.fd = flood->flooder[i].fd, .events = POLLOUT};
        }
        if (poll(poll_fds, flood->count, 100) <= 0) {
            continue;
        }
        for (size_t i = 0; i < flood->count; i++) {
            if (poll_fds[i].revents != 0) {
                send_some(flood, &flood->flooder[i]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    static struct flood flood;

    if (argc != 7 || (strcmp(argv[2], "read") != 0 && strcmp(argv[2], "write") != 0) ||
        parse_u64(argv[4], 0, FILE_BYTES_MAX, &flood.bytes) != ERR_OK ||
        parse_u64(argv[5], 1, CONNECTIONS_FLOOD_MAX, &flood.count) != ERR_OK ||
        parse_u64(argv[6], 1, 3600, &flood.seconds) != ERR_OK) {
        (void)fputs("usage: flood ADDRESS read|write PATH BYTES CONNECTIONS SECONDS\n", stderr);
        return 2;
    }
    flood.address = argv[1];
    flood.writes = strcmp(argv[2], "write") == 0;
    flood.path = argv[3];
    flood.data = calloc(1, flood.bytes + 1);
    CHECK(flood.data != NULL);
    for (uint64_t i = 0; i < flood.count; i++) {
        introduce(&flood, &flood.flooder[i], i);
    }
    run(&flood);
    (void)printf("requests=%llu mib=%llu closed=%llu\n", (unsigned long long)flood.requests,
                 (unsigned long long)(flood.sent_bytes / MIB), (unsigned long long)flood.closed);
    for (uint64_t i = 0; i < flood.count; i++) {
        if (flood.flooder[i].fd >= 0) {
            (void)close(flood.flooder[i].fd);
        }
        buffer_done(&flood.flooder[i].out);
    }
    free(flood.data);
    return 0;
}
