/* SPDX-License-Identifier: Apache-2.0
 *
 * A line of `.quorumfs/ctl`, read and turned into a message. Pure.
 *
 *     create [-s] [-e] [-d] PATH [DATA]    set [-v VERSION] PATH [DATA]    delete [-v VERSION] PATH
 *     check [-v VERSION] PATH              multi    commit    abort        sync
 *
 * PATH begins with `/` and is one from the root of the mount; DATA is the rest of the line. In both
 * \xNN stands for a byte, \n for the end of a line and \\ for a backslash; a blank in a path is \x20.
 */
#ifndef QUORUMFS_CTL_LINE_H
#define QUORUMFS_CTL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/wire.h"

enum ctl_verb {
    CTL_CREATE,
    CTL_SET,
    CTL_DELETE,
    CTL_CHECK,
    CTL_SYNC,
    CTL_MULTI,
    CTL_COMMIT,
    CTL_ABORT,
};

struct ctl_line {
    enum ctl_verb verb;
    bool sequential;
    bool ephemeral;
    bool directory;
    bool if_version;
    uint32_t version;
    struct buffer path; /* the root of the tree is its root: the mount's is in front */
    struct buffer data;
};

/* Reads a line without its end; `root` is the path of the mount's root in the tree. *out is to be
 * released also on errors. ERR_INVALID: *out_reason says why (static); ERR_MEMORY. */
enum err ctl_line_parse(const char *text, size_t len, const char *root, struct ctl_line *out,
                        const char **out_reason);
void ctl_line_done(struct ctl_line *line);

/* Who makes what the lines create. */
struct ctl_maker {
    uint32_t uid;
    uint32_t gid;
    const char *holder; /* of ephemeral nodes */
};

/* The message of a line that changes or checks something, in memory of its own; it points into the
 * line. */
struct ctl_part {
    Wire__Part part;
    Wire__Address at;
    Wire__CreateOp create;
    Wire__WriteOp write;
    Wire__RemoveOp remove;
    Wire__CheckOp check;
};
void ctl_line_part(const struct ctl_line *line, const struct ctl_maker *maker,
                   struct ctl_part *out);

/* Whether it changes or checks a node: has a part in a transaction. */
bool ctl_line_has_part(const struct ctl_line *line);

#endif
