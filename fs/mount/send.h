/* SPDX-License-Identifier: Apache-2.0
 *
 * From a patch to the log: as one entry, or, above FILE_BYTES_MAX bytes, as parts that nobody sees
 * and one entry that makes them the content (wire.proto, StageOp).
 */
#ifndef QUORUMFS_SEND_H
#define QUORUMFS_SEND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "fs/mount/mount.h"
#include "fs/mount/patch.h"

struct sending {
    uint64_t ino;
    const struct patch *patch; /* stays as it is until `done` */
    bool if_version;           /* BAD_VERSION unless the data has this version */
    uint32_t version;
    uint32_t timeout_ms; /* of each call; 0: none */
    /* Once, from the loop, never from within send_patch; answer as client_answer_fn. */
    void (*done)(void *arg, enum err err, const Wire__Answer *answer);
    /* A part has arrived. */
    void (*progress)(void *arg);
    void *arg;
};

/* ERR_OK: `done` will come (also through client_close). Others of client_call: it will not. */
enum err send_patch(struct mount *mount, const struct sending *sending);

#endif
