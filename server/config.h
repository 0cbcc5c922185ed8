/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration of a replica: an INI file, checked as a whole before anything starts.
 *
 *     id = 1                               own number among the members
 *     data = /var/lib/quorumfs             folder; its parent must exist
 *     listen = 127.0.0.1:2181              clients (repeatable); loopback only; `none`: no TCP
 *     socket = /run/quorumfs/quorumd.sock  clients; `none`: no unix socket
 *     peer_listen = 127.0.0.1:2888         replicas; default: the own address under [members]
 *     key_file = /etc/quorumfs/peer.key    shared secret of the replicas, mode 0600; needed when
 *                                          there are two members or more, or a peer_listen
 *     log_level = info                     error, warn, info, debug
 *     heartbeat_ms = 50
 *     election_min_ms = 300                at least 3 heartbeats
 *     election_max_ms = 600                more than election_min_ms
 *     file_bytes_max = 1M                  how long a file may become, 1M to 64M
 *     [members]                            the initial voters, the same in every file
 *     1 = 127.0.0.1:2888
 *
 * Relative paths belong to the working directory. A line has at most 198 bytes (inih). Thread: any.
 */
#ifndef QUORUMFS_SERVER_CONFIG_H
#define QUORUMFS_SERVER_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/logging.h"
#include "server/raft/raft.h"

#define LISTEN_MAX        8u
#define KEY_BYTES_MIN     16u
#define KEY_BYTES_MAX     1024u
#define CONFIG_PORT       2181u
#define CONFIG_PATH_BYTES 512u

struct config_address {
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port;
};

struct config {
    uint64_t id;
    char data[CONFIG_PATH_BYTES];
    struct config_address listen[LISTEN_MAX];
    size_t listen_count;
    char socket[CONFIG_PATH_BYTES];    /* "": none */
    struct config_address peer_listen; /* host "": a single replica without peers */
    uint8_t key[KEY_BYTES_MAX];        /* content of key_file */
    size_t key_len;
    enum log_level log_level;
    uint32_t heartbeat_ms;
    uint32_t election_min_ms;
    uint32_t election_max_ms;
    uint32_t feature_level;  /* the highest that is used; for upgrades that are to be held back */
    uint64_t file_bytes_max; /* data of a node, FILE_BYTES_MAX to FILE_BYTES_LIMIT */
    uint64_t log_keep_bytes; /* of log, for replicas that fall behind */
    bool join;               /* never found an ensemble: wait to be added to one */
    struct raft_members members; /* voters by ascending id, incarnations 0 */
};

/* The embedded default: one replica, id 1, data in ./quorum-data, 127.0.0.1:2181, the socket in
 * the data folder. */
void config_default(struct config *config);

/* Reads the file over the defaults (socket then: /run/quorumfs/quorumd.sock). ERR_CONFIG with one
 * sentence in `error` that names file, line (where there is one), key and value: unknown section or
 * key, key twice, bad value, missing id or data, id not among the members, address twice, listen
 * address that is not loopback, key file unreadable, open to others or of a wrong length. */
enum err config_read(const char *path, struct config *config, struct buffer *error);

/* Of the log, which whole segments are removed from. */
size_t config_segment_bytes(const struct config *config);

#endif
