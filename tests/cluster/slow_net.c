/* SPDX-License-Identifier: Apache-2.0
 *
 * A slow network for replicas in network namespaces: `slow_net NAMESPACE...`. Makes the interface
 * eth0 in each (10.77.0.I in the I-th) and carries IP packets between them, each after a delay, in
 * the order of each link. Not every kernel has netem; all have /dev/net/tun.
 *
 * The delay is zero at first. A line `MIN_MS JITTER_MS` on stdin changes it for the packets from now
 * on; the end of stdin ends the program. `ready` on stdout: all interfaces are there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/parse.h"

#define PORTS_MAX      9u
#define PACKET_BYTES   2048u  /* more than the MTU */
#define QUEUED_MAX     20000u /* packets under way; above: lost, as a real network does it */
#define DESTINATION_AT 19u    /* last byte of the destination in an IPv4 header */
#define DELAY_MS_MAX   10000u

struct packet {
    TAILQ_ENTRY(packet) link;
    uint64_t due_ms;
    size_t len;
    unsigned char bytes[PACKET_BYTES];
};

/* One direction between two ports. */
struct way {
    TAILQ_HEAD(, packet) packets;
    uint64_t last_due_ms; /* no packet overtakes another one of the same way */
};

struct net {
    size_t count;
    int fd[PORTS_MAX + 1]; /* from 1, as the last byte of the addresses */
    struct way way[PORTS_MAX + 1][PORTS_MAX + 1];
    size_t queued;
    uint64_t min_ms;
    uint64_t jitter_ms;
};

/* ---- interfaces ---- */

/* What follows in this process happens in that namespace. */
static void enter(const char *namespace)
{
    char path[256];
    int fd = -1;

    CHECK((size_t)snprintf(path, sizeof path, "/run/netns/%s", namespace) < sizeof path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        perror(path);
        exit(1);
    }
    (void)close(fd);
}

static int make_interface(void)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    memcpy(request.ifr_name, "eth0", sizeof "eth0");
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        perror("/dev/net/tun");
        exit(1);
    }
    return fd;
}

/* ---- packets ---- */

static void take_packet(struct net *net, size_t from)
{
    struct packet *packet = malloc(sizeof *packet);
    size_t to = 0;
    ssize_t len = 0;

    CHECK(packet != NULL);
    len = read(net->fd[from], packet->bytes, sizeof packet->bytes);
    if (len > (ssize_t)DESTINATION_AT && packet->bytes[0] >> 4 == 4) {
        to = packet->bytes[DESTINATION_AT];
    }
    if (to < 1 || to > net->count || to == from || net->queued >= QUEUED_MAX) {
        free(packet);
        return;
    }
    struct way *way = &net->way[from][to];
    packet->len = (size_t)len;
    packet->due_ms = clock_monotonic_ms() + net->min_ms;
    if (net->jitter_ms > 0) {
        packet->due_ms += (uint64_t)random() % (net->jitter_ms + 1);
    }
    if (packet->due_ms < way->last_due_ms) {
        packet->due_ms = way->last_due_ms;
    }
    way->last_due_ms = packet->due_ms;
    TAILQ_INSERT_TAIL(&way->packets, packet, link);
    net->queued++;
}

/* Hands over what is due on one way. What the other side does not take is lost. */
static void deliver(struct net *net, struct way *way, int fd, uint64_t now_ms)
{
    struct packet *packet = NULL;

    while ((packet = TAILQ_FIRST(&way->packets)) != NULL && packet->due_ms <= now_ms) {
        if (write(fd, packet->bytes, packet->len) < 0) {
            CHECK(errno == EAGAIN || errno == ENOBUFS || errno == EIO || errno == EINVAL);
        }
        TAILQ_REMOVE(&way->packets, packet, link);
        free(packet);
        net->queued--;
    }
}

/* Hands over what is due; returns the milliseconds until more is, -1: nothing is under way. */
static int deliver_all(struct net *net)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t next_ms = UINT64_MAX;

    for (size_t from = 1; from <= net->count; from++) {
        for (size_t to = 1; to <= net->count; to++) {
            struct way *way = &net->way[from][to];
            deliver(net, way, net->fd[to], now_ms);
            if (!TAILQ_EMPTY(&way->packets) && TAILQ_FIRST(&way->packets)->due_ms < next_ms) {
                next_ms = TAILQ_FIRST(&way->packets)->due_ms;
            }
        }
    }
    return next_ms == UINT64_MAX ? -1 : (int)(next_ms - now_ms);
}

/* ---- the loop ---- */

/* False: stdin has ended. */
static bool take_command(struct net *net)
{
    char line[64];
    char *space = NULL;

    if (fgets(line, sizeof line, stdin) == NULL) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    space = strchr(line, ' ');
    if (space != NULL) {
        *space = '\0';
    }
    if (space == NULL || parse_u64(line, 0, DELAY_MS_MAX, &net->min_ms) != ERR_OK ||
        parse_u64(space + 1, 0, DELAY_MS_MAX, &net->jitter_ms) != ERR_OK) {
        (void)fprintf(stderr, "slow_net: not a delay: %s\n", line);
        exit(1);
    }
    return true;
}

static void run(struct net *net)
{
    struct pollfd poll_fds[PORTS_MAX + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
    bool running = true;

    for (size_t i = 1; i <= net->count; i++) {
        poll_fds[i] = (struct pollfd){.fd = net->fd[i], .events = POLLIN};
    }
    while (running) {
        int count = poll(poll_fds, net->count + 1, deliver_all(net));
        CHECK(count >= 0 || errno == EINTR);
        for (size_t i = 1; i <= net->count && count > 0; i++) {
            if ((poll_fds[i].revents & POLLIN) != 0) {
                take_packet(net, i);
            }
        }
        if (count > 0 && poll_fds[0].revents != 0) {
            running = take_command(net);
        }
    }
}

int main(int argc, char **argv)
{
    static struct net net;

    if (argc < 2 || (size_t)argc - 1 > PORTS_MAX) {
        (void)fputs("usage: slow_net NAMESPACE...\n", stderr);
        return 2;
    }
    /* A line at a time, so that poll and the buffer of stdin do not disagree. */
    CHECK(setvbuf(stdin, NULL, _IONBF, 0) == 0);
    net.count = (size_t)argc - 1;
    for (size_t from = 1; from <= net.count; from++) {
        enter(argv[from]);
        net.fd[from] = make_interface();
        for (size_t to = 1; to <= net.count; to++) {
            TAILQ_INIT(&net.way[from][to].packets);
        }
    }
    (void)puts("ready");
    (void)fflush(stdout);
    run(&net);
    return 0;
}
