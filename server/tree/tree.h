/* SPDX-License-Identifier: Apache-2.0
 *
 * The replicated tree: what a committed command does to nodes, sessions and kept answers, and how
 * they are read. Pure and deterministic: a function of (rows in the kv, entry) only. Times, ids and
 * identities come in the entry (CONSENSUS 19).
 *
 * All functions from one thread. Names are bytes, not NUL-terminated.
 */
#ifndef QUORUMFS_TREE_H
#define QUORUMFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/limits.h"
#include "server/tree/kv.h"

#define ROOT_INO 0u

enum node_kind { /* the numbers of wire.proto's Kind */
    NODE_NONE = 0,
    NODE_PLAIN = 1,
    NODE_FILE = 2,
    NODE_DIR = 3,
    NODE_SYMLINK = 4,
    NODE_FIFO = 5,
    NODE_SOCKET = 6,
    NODE_CHAR_DEVICE = 7,
    NODE_BLOCK_DEVICE = 8,
};

/* All about a node but its data; the fields are those of wire.proto's Attr. */
struct node_attr {
    uint64_t ino;
    uint64_t parent;
    enum node_kind kind;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint64_t data_bytes;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t children_mtime_ns;
    int64_t ctime_ns;
    int64_t birth_ns;
    uint64_t czxid;
    uint64_t mzxid;
    uint64_t pzxid;
    uint64_t azxid;
    uint32_t version;
    uint32_t cversion;
    uint32_t aversion;
    uint64_t creates; /* children ever made: the next sequence number */
    uint64_t children;
    uint64_t subdirs;
    uint64_t owner;
    bool has_xattrs;
};

enum change_kind { /* the numbers of wire.proto's EventKind */
    CHANGE_CREATED = 1,
    CHANGE_DATA = 2,
    CHANGE_ATTR = 3,
    CHANGE_REMOVED = 4,
    CHANGE_RENAMED = 5,
};

struct node_name {
    uint8_t len;
    uint8_t bytes[NAME_BYTES_MAX];
};

/* One change of the tree. For the fields by kind see Event in wire.proto. A rename over an
 * existing node is one RENAMED with replaced_ino, without a REMOVED. */
struct tree_change {
    enum change_kind kind;
    uint64_t zxid;
    uint64_t parent;
    struct node_name name;
    uint64_t ino;
    struct node_attr attr;        /* afterwards; of a removed node: before */
    struct node_attr parent_attr; /* afterwards */
    uint64_t to_parent;
    struct node_name to_name;
    struct node_attr to_parent_attr;
    bool replaced;
    bool exchanged;
    bool truncated;                 /* DATA: the length was set first */
    struct node_attr replaced_attr; /* exchanged: afterwards; replaced: before */
};

/* What came of a part of a transaction. */
struct tree_part {
    enum err err;
    uint64_t ino; /* node made or changed */
    bool has_attr;
    bool created;
    struct node_attr attr; /* behind this part (replayed: as it is now) */
    struct node_name name; /* create: the name, with its sequence number */
};

/* A lock that was waited for is its session's now. */
struct tree_grant {
    uint64_t session;
    uint64_t ino;
    uint64_t ticket;
};

/* The outcome of one command. */
struct tree_result {
    enum err err;
    uint64_t session; /* of the command; open and attach: the session */
    uint64_t epoch;
    uint64_t sequence;
    bool replayed; /* the command had been applied before: this is its kept answer */
    uint64_t zxid; /* of the entry that did it (replayed: of the first one) */
    bool has_attr;
    uint64_t ino;          /* node made, changed, removed */
    struct node_attr attr; /* as it is after this entry (replayed: as it is now, if it is there) */
    bool has_parent_attr;
    struct node_attr parent_attr;
    bool has_to_parent_attr;
    struct node_attr to_parent_attr;
    struct node_name name; /* create: the name, with its sequence number */
    uint32_t timeout_ms;   /* open, attach */
    uint8_t password[PASSWORD_BYTES];
    uint8_t nonce[16];   /* open, attach: of the command; how the asker knows its answer */
    bool session_opened; /* the sets of sessions changed so */
    bool session_attached;
    bool session_closed;           /* `session` is gone, with its ephemerals */
    bool session_close;            /* the command was to close one, also if it was refused */
    size_t part_count;             /* of a transaction, else 0 */
    const struct tree_part *parts; /* valid until the next tree_apply */
    size_t change_count;
    const struct tree_change *changes; /* in order; valid until the next tree_apply */
    bool queued; /* lock: it is waited for (replayed: still); zxid: its ticket */
    size_t grant_count;
    const struct tree_grant *grants; /* valid until the next tree_apply */
};

struct tree_entry {
    uint64_t index; /* the zxid; must be applied index + 1, CHECKed */
    uint64_t term;
    int64_t time_ns;
    bool command;        /* false: no-op or members, only the applied index moves */
    const uint8_t *data; /* struct Command of wire.proto, packed */
    size_t len;
};

struct tree;

/* A tree over the rows in `kv` (copied; its context outlives the tree). An empty kv gets the root
 * directory (ino 0, mode 0755, uid 0). NULL: no memory. */
struct tree *tree_new(const struct kv *kv);
void tree_free(struct tree *tree);

/* Applies one committed entry: rows, applied index, term and digest go into the kv; *out tells the
 * rest. A malformed or refused command is a result (out->err), not an error of this function, and
 * changes nothing but the applied index (and the kept answer). Check order: session known
 * (SESSION_EXPIRED), epoch (SESSION_MOVED), kept answer (replayed), then the operation. */
void tree_apply(struct tree *tree, const struct tree_entry *entry, struct tree_result *out);

/* What the kv holds as applied. 0 in an empty one. */
uint64_t tree_applied_index(const struct tree *tree);
uint64_t tree_applied_term(const struct tree *tree);
int64_t tree_applied_time_ns(const struct tree *tree);
uint64_t tree_digest(const struct tree *tree); /* CONSENSUS 32 */

/* What all replicas of this tree know (common/version.h). */
uint32_t tree_feature_level(const struct tree *tree);

/* The applied index that the kv would hold after a crash now. */
uint64_t tree_durable_index(struct tree *tree);

/* The newest members entry is kept beside the applied index, as opaque bytes. */
void tree_members_set(struct tree *tree, uint64_t index, const uint8_t *data, size_t len);
bool tree_members_get(struct tree *tree, uint64_t *out_index, struct buffer *out);

/* ---- reading ---- */

/* How a node is named; wire.proto's Address. path_len > 0: by path. */
struct tree_address {
    const uint8_t *path;
    size_t path_len;
    uint64_t ino;
    const uint8_t *name; /* name_len 0: the node `ino` itself */
    size_t name_len;
};

/* Who reads: `trusted`, or the mode bits decide. */
struct tree_identity {
    bool trusted;
    uint32_t uid;
    uint32_t gid;
    size_t group_count;
    const uint32_t *groups;
};

/* ERR_OK; ERR_NO_NODE (no such name), ERR_STALE (no such ino), ERR_NOT_DIR, ERR_ACCESS (search
 * permission on the way), ERR_BAD_NAME, ERR_NAME_TOO_LONG. parent_attr may be NULL; it is also set
 * with ERR_NO_NODE when the parent was found (for a promise on the missing name), its ino is
 * UINT64_MAX otherwise. */
enum err tree_lookup(struct tree *tree, const struct tree_address *at,
                     const struct tree_identity *who, struct node_attr *out,
                     struct node_attr *parent_attr);

/* Replaces *out by data[offset, offset + bytes_max). Beyond the end: empty. Also ERR_ACCESS. */
enum err tree_read(struct tree *tree, const struct tree_address *at,
                   const struct tree_identity *who, uint64_t offset, uint64_t bytes_max,
                   struct node_attr *out_attr, struct buffer *out);

/* The stored attributes, ascending by name, and the holder (replaces *out_holder). The pointers
 * given to each() are valid during the call. Errors as tree_read. */
typedef void tree_xattr_fn(void *arg, const uint8_t *name, size_t name_len, const uint8_t *value,
                           size_t value_len);
enum err tree_xattrs(struct tree *tree, const struct tree_address *at,
                     const struct tree_identity *who, tree_xattr_fn *each, void *arg,
                     struct node_attr *out_attr, struct buffer *out_holder);

/* Calls each() for the children with a cookie above `cookie`, ascending, until it returns false.
 * A cookie is a hash of the name, 63 bits, >= 16, stable as long as the entry lives; entries with
 * equal cookies must not be parted: each() is called with `same` set for one that equals the
 * previous, and must take it. *out_end: all were given. */
typedef bool tree_child_fn(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie,
                           bool same, const struct node_attr *attr);
enum err tree_children(struct tree *tree, const struct tree_address *at,
                       const struct tree_identity *who, uint64_t cookie, tree_child_fn *each,
                       void *arg, struct node_attr *out_attr, bool *out_end);

/* The absolute path of a node, NUL-terminated behind len. ERR_STALE. */
enum err tree_path(struct tree *tree, uint64_t ino, struct buffer *out);

enum lock_space { /* the numbers of wire.proto's LockSpace */
    LOCK_FLOCK = 1,
    LOCK_RANGE = 2,
};

enum lock_type { /* the numbers of wire.proto's LockType */
    LOCK_NONE = 0,
    LOCK_READ = 1,
    LOCK_WRITE = 2,
};

struct tree_lock {
    enum lock_type type;
    uint64_t session;
    uint64_t owner;
    uint64_t start;
    uint64_t end;  /* last byte */
    uint64_t zxid; /* since when it is held; of one that waits: its ticket */
    uint32_t pid;
};

/* Whether a lock of another owner is in the way of `wanted`; *out is one of those. */
bool tree_lock_conflict(struct tree *tree, uint64_t ino, enum lock_space space,
                        const struct tree_lock *wanted, struct tree_lock *out);
bool tree_lock_waits(struct tree *tree, uint64_t ino, enum lock_space space, uint64_t ticket);
/* The zxid of the newest lock held on the node; 0: none is. */
uint64_t tree_lock_fence(struct tree *tree, uint64_t ino);

uint64_t tree_node_count(const struct tree *tree);
uint64_t tree_data_bytes(const struct tree *tree);

struct tree_session {
    uint64_t id;
    uint64_t epoch;
    uint32_t timeout_ms;
};

/* False: no such session. */
bool tree_session_get(struct tree *tree, uint64_t id, struct tree_session *out);

/* All sessions, in order of id. */
void tree_sessions(struct tree *tree, void (*each)(void *arg, const struct tree_session *session),
                   void *arg);

#endif
