/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection as a stream of frames: cuts what comes into frames, gathers what is to be sent
 * and writes it with one system call per turn of the loop, closes exactly once.
 *
 * All streams of a loop share a hub. A turn of the loop is: stream_hub_resume, the turn of the
 * conductor, stream_hub_flush, waiting. All functions from the thread of the loop.
 */
#ifndef QUORUMFS_NET_STREAM_H
#define QUORUMFS_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <uv.h>

#include "common/err.h"
#include "common/frame.h"

struct stream;

TAILQ_HEAD(stream_list, stream);

struct stream_hub {
    uv_loop_t *loop;
    struct stream_list changed; /* something is to be written or ended */
    struct stream_list resumed; /* reading goes on at the next turn */
    uint8_t *read_bytes;        /* what a stream without half a frame reads into */
    size_t count;               /* streams that are not yet freed */
    bool is_busy;               /* something happened since the last stream_hub_flush began */
};

enum stream_break {
    STREAM_CLOSED,         /* the other side has closed, between two frames */
    STREAM_LOST,           /* the network or the other side's machine */
    STREAM_CONNECT_FAILED, /* stream_dial only */
    STREAM_MALFORMED,      /* not a frame, or only half a frame before the end */
    STREAM_FULL,           /* SEND_QUEUE_BYTES_MAX */
    STREAM_NO_MEMORY,
};

struct stream_events {
    /* stream_dial only: it is open now. */
    void (*connected)(void *arg);
    /* A whole frame, valid during the call. */
    void (*frame)(void *arg, const struct frame *frame);
    /* It is of no use any more; `reason` is a sentence (static). Comes at most once and not after
     * stream_close; then only `closed` comes. The owner calls stream_close, now or later. */
    void (*broken)(void *arg, enum stream_break what, const char *reason);
    /* It is closed and freed; the last event of each stream. */
    void (*closed)(void *arg);
};

/* ERR_MEMORY. The hub must outlive its streams. */
enum err stream_hub_init(struct stream_hub *hub, uv_loop_t *loop);
void stream_hub_done(struct stream_hub *hub);

/* Hands over frames that waited because their stream was paused. */
void stream_hub_resume(struct stream_hub *hub);

/* Writes what was sent since the last call. True: another turn is due at once. */
bool stream_hub_flush(struct stream_hub *hub);

/* Accepts the connection that waits at `server`. NULL with *out_err: no memory, or it has gone. */
struct stream *stream_accept(struct stream_hub *hub, uv_stream_t *server,
                             const struct stream_events *events, void *arg, enum err *out_err);

/* Connects to a host (name or address; it is copied) and port. Every failure but that of memory
 * (NULL) comes as `broken`, in a later turn. */
struct stream *stream_dial(struct stream_hub *hub, const char *host, uint16_t port,
                           const struct stream_events *events, void *arg);

/* The buffer to pack frames into; call stream_send_end behind it. NULL: nothing can be sent any
 * more (ended, broken, full), drop it. */
struct buffer *stream_send_begin(struct stream *stream);
/* `err` is that of the packing; not ERR_OK: the stream breaks at its next flush. */
void stream_send_end(struct stream *stream, enum err err);

/* Bytes sent but not yet taken by the kernel. */
size_t stream_unsent_bytes(const struct stream *stream);

/* No frame comes after the present one until stream_resume, from the next turn on. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* No frame comes any more; closes when all that was sent is written. The owner limits the time by
 * stream_close. */
void stream_end(struct stream *stream);

/* Closes now. Again: no effect. */
void stream_close(struct stream *stream);

/* The first bytes (at most 4) that ever came in. */
const uint8_t *stream_first_bytes(const struct stream *stream, size_t *out_len);

/* The descriptor; -1 while there is none. */
int stream_fd(const struct stream *stream);

/* "127.0.0.1:4711", "[::1]:4711"; "unix" for a unix socket; "?" if it cannot be told. */
void stream_address(const struct stream *stream, char *to, size_t to_bytes);

bool stream_is_unix(const struct stream *stream);

#endif
