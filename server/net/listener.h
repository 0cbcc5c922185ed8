/* SPDX-License-Identifier: Apache-2.0
 *
 * A listening socket, TCP or unix. Thread: that of the loop.
 */
#ifndef QUORUMFS_NET_LISTENER_H
#define QUORUMFS_NET_LISTENER_H

#include <stdint.h>
#include <uv.h>

#include "common/buffer.h"
#include "common/err.h"

struct listener;

/* Binds and listens, but tells of no connection before listener_start. `host` is an address or a
 * name. ERR_BUSY: in use; ERR_IO; `error` gets one sentence. */
enum err listener_open_tcp(uv_loop_t *loop, const char *host, uint16_t port, struct listener **out,
                           struct buffer *error);

/* The same at a path, for everybody on this host (mode 0666). A socket that a dead process left
 * there is replaced; one that answers is ERR_BUSY. Its folder is made if its parent exists. */
enum err listener_open_unix(uv_loop_t *loop, const char *path, struct listener **out,
                            struct buffer *error);

/* `ready` is called for each waiting connection; it must take it (stream_accept). */
enum err listener_start(struct listener *listener, void (*ready)(void *arg, uv_stream_t *server),
                        void *arg);

/* Stops and frees (in a later turn); the socket file is removed. NULL is fine. */
void listener_close(struct listener *listener);

#endif
