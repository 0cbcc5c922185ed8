/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumd --recover-alone: a majority of an ensemble is lost for good, and one survivor is made an
 * ensemble of its own (CONSENSUS 15). Offline, on a data folder that no replica runs on.
 *
 * What it does, in this order, each durable before the next:
 *     1. the identity gets a new random ensemble id
 *     2. the record {term, vote}: a term above all of the log, voted for itself
 *     3. the log gets one more entry in that term: members, this replica alone
 *
 * The identity comes first: from then on every other replica of the old ensemble is a stranger, so
 * that no two histories ever go on under one id. Whoever starts a replica that was cut off before 3
 * has one that finds no majority and does no harm; asking again ends it. At the start behind 3 the
 * replica elects itself, and all that its log holds is committed by that, also what no majority ever
 * had.
 */
#ifndef QUORUMFS_SERVER_RECOVER_H
#define QUORUMFS_SERVER_RECOVER_H

#include <stdbool.h>

#include "common/buffer.h"
#include "common/err.h"
#include "server/config.h"

enum recover_result {
    RECOVER_NEEDED,     /* not asked to do it: nothing was changed */
    RECOVER_NOT_NEEDED, /* it is the only voter already: nothing was changed */
    RECOVER_DONE,
};

/* Opens the folder as a start would, says in `text` what is there and what is lost, and does it if
 * `yes`. The process is to end afterwards. ERR_OK, or `error` has one sentence: ERR_CONFIG: the
 * folder is of another id; ERR_INVALID: it holds no ensemble, or a snapshot waits in it; ERR_BUSY: a
 * replica runs on it; ERR_CORRUPT, ERR_IO, ERR_NO_SPACE, ERR_MEMORY: ask again when that is solved. */
enum err recover_alone(const struct config *config, bool yes, enum recover_result *out,
                       struct buffer *text, struct buffer *error);

#endif
