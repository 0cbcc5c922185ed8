/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of servers of a client.
 */
#ifndef QUORUMFS_CLIENT_SERVERS_H
#define QUORUMFS_CLIENT_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"

#define SERVERS_MAX         16u   /* as many as members of an ensemble (MEMBERS_MAX) */
#define SERVER_PORT_DEFAULT 2181u /* of ZooKeeper, and of our client port */
#define SERVER_HOST_BYTES   256u  /* a host name of DNS, or the path of a socket */

struct server {
    char text[SERVER_HOST_BYTES + 16]; /* as it was given */
    char host[SERVER_HOST_BYTES];      /* or the path of a unix socket */
    uint16_t port;
    bool is_unix;
};

struct servers {
    struct server *list; /* owned */
    size_t count;
};

/* "unix:/path,host:port,..."; ERR_INVALID (`error` gets a sentence), ERR_MEMORY. */
enum err servers_parse(const char *text, struct servers *out, struct buffer *error);
void servers_done(struct servers *servers);

#endif
