/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the tree share: its state, the entry that is being applied, the operations. Included by server/tree/tree_*.c only.
 *
 * A function that refuses has written nothing. Running out of memory here would make this replica
 * another than the rest, so it ends the process (CHECK).
 */
#ifndef QUORUMFS_TREE_INTERNAL_H
#define QUORUMFS_TREE_INTERNAL_H

#include "common/wire.h"
#include "server/tree/tree.h"
#include "server/tree/tree_node.h"

#define MODE_SETUID      04000u
#define MODE_SETGID      02000u
#define MODE_STICKY      01000u
#define MODE_GROUP_EXECS 00010u
#define MODE_MASK        07777u

/* Where an address leads. `node` and `parent` point at the two slots, in either order. */
struct place {
    struct node *parent;
    struct node *node;
    bool has_parent; /* *parent is loaded; never for the root */
    bool has_node;
    struct node_name name;
    struct node slots[2];
};

struct tree {
    struct kv kv;
    uint64_t index;
    uint64_t term;
    int64_t time_ns;
    uint64_t digest;
    uint64_t next_ino;
    uint64_t node_count;
    uint64_t data_bytes;
    uint64_t session_count;
    uint32_t feature_level;

    /* Memory that is used again and again. */
    struct buffer value; /* of a small row that was just read */
    struct buffer large; /* of a 'D' row that was just read */
    struct buffer data;  /* window of a patch, or new attributes of a node */
    struct buffer part;  /* of a staged write */
    struct buffer list;  /* be64 inos of nodes to remove */
    struct place at;
    struct place to; /* of a rename */
    struct node walker;
    struct tree_change *changes;
    size_t change_count;
    size_t change_capacity;
    struct buffer grants;    /* struct tree_grant each, of this entry */
    struct tree_part *parts; /* of the newest transaction */
    struct tree_undo *undo;  /* of the transaction that is being applied, or NULL */
};

/* The command that is being applied. */
struct apply {
    struct tree *tree;
    uint64_t zxid;
    int64_t now_ns;
    uint64_t session;
    struct tree_identity who;
    struct tree_result *out;
};

/* ---- tree_access.c ---- */

enum access {
    ACCESS_READ = 4,
    ACCESS_WRITE = 2,
    ACCESS_SEARCH = 1
};

bool access_in_group(const struct tree_identity *who, uint32_t gid);
bool access_is_owner(const struct node_attr *attr, const struct tree_identity *who);
/* ERR_OK or ERR_ACCESS; `wanted` is a sum of enum access. */
enum err access_check(const struct node_attr *attr, const struct tree_identity *who,
                      unsigned wanted);
/* Whether a name may be taken out of `parent`. ERR_ACCESS, ERR_PERM (sticky directory). */
enum err access_check_removal(const struct node_attr *parent, const struct node_attr *node,
                              const struct tree_identity *who);
/* Search permission on all directories above the node `ino`, that a path would have passed. */
enum err access_check_way(struct tree *tree, uint64_t ino, const struct tree_identity *who);

/* ---- tree_dir.c ---- */

void place_init(struct place *place);
void place_done(struct place *place);
/* ERR_OK also if the last name is missing: then has_node is false (and has_parent true). */
enum err place_resolve(struct tree *tree, const struct tree_address *at,
                       const struct tree_identity *who, struct place *out);
/* The same, and ERR_NO_NODE without a node. */
enum err place_find(struct tree *tree, const struct tree_address *at,
                    const struct tree_identity *who, struct place *out);
void place_load_parent(struct tree *tree, struct place *place);
struct tree_address address_from_wire(const Wire__Address *at);

enum dir_step {
    DIR_ADDED,
    DIR_REMOVED,
    DIR_REPLACED
};
/* What a name that was added, removed, or given to another node does to its directory. */
void dir_changed(const struct apply *apply, struct node *dir, enum dir_step what, bool node_was_dir,
                 bool node_is_dir);
enum err tree_dir_create(struct apply *apply, const Wire__CreateOp *op);
enum err tree_dir_remove(struct apply *apply, const Wire__RemoveOp *op);
/* Removes a node without children; tells it as a change. */
void tree_dir_drop(struct apply *apply, struct node *node, struct node *parent);
/* Removes the node `ino` and all below, children first. Nothing if it is gone. */
void tree_dir_drop_all(struct apply *apply, uint64_t ino);
/* ---- tree_rename.c ---- */
enum err tree_rename(struct apply *apply, const Wire__RenameOp *op);

/* ---- tree_file.c, tree_attr.c, tree_xattr.c ---- */

enum err tree_file_write(struct apply *apply, const Wire__WriteOp *op);
enum err tree_attr_set(struct apply *apply, const Wire__SetattrOp *op);
enum err tree_xattr_set(struct apply *apply, const Wire__XattrOp *op);
/* Calls each() for the stored attributes, ascending by name. */
void xattrs_each(struct tree *tree, const struct node *node, tree_xattr_fn *each, void *arg);

/* ---- tree_stage.c ---- */

/* A staged write: the parts 0 .. part_count - 1, if highest is part_count - 1. */
struct stage {
    uint64_t session;
    uint64_t id;
    uint32_t part_count; /* 0: there is no such stage */
    uint32_t highest;    /* number of a part */
    uint64_t row_bytes;  /* what it takes, of STAGED_BYTES_MAX */
    uint64_t end;        /* behind the last byte of all ranges */
    uint64_t append_bytes;
};

enum err tree_stage(struct apply *apply, const Wire__StageOp *op);
/* All zeros if there is no such stage. */
void stage_load(struct tree *tree, uint64_t session, uint64_t id, struct stage *out);
/* Where the bytes of a part go in a patch; what is known when it was read once. */
struct stage_part {
    uint64_t from; /* of all ranges */
    uint64_t to;
    uint64_t append_at;
    uint64_t append_to;
    bool is_known;
};
/* Writes what all parts have for the window of the patch; their appended bytes go to append_at.
 * `parts` is memory for part_count of them, zeroed before the first window. */
void stage_patch(const struct stage *stage, struct data_patch *patch, uint64_t append_at,
                 struct stage_part *parts);
/* Removes the stage. */
void stage_drop(struct tree *tree, const struct stage *stage);
/* The end of the session. */
void tree_stages_drop(struct tree *tree, uint64_t session);

/* ---- tree_multi.c ---- */

enum err tree_multi(struct apply *apply, const Wire__MultiOp *op);
/* Memory for the results of this many parts, zeroed; the tree's, until it is asked for again. */
struct tree_part *tree_parts_reserve(struct tree *tree, size_t count);
/* Before a row is written, or removed, while tree->undo is set. */
void undo_note(struct tree *tree, const struct row_key *key);

/* ---- tree_session.c ---- */

enum err tree_session_open(struct apply *apply, const Wire__SessionOpenOp *op);
enum err tree_session_attach(struct apply *apply, const Wire__SessionAttachOp *op);
enum err tree_session_close(struct apply *apply, const Wire__SessionCloseOp *op);

/* ---- tree_lock.c ---- */

enum err tree_lock(struct apply *apply, const Wire__LockOp *op);
/* The end of the session: its locks go to those that wait for them. */
void tree_locks_drop(struct apply *apply, uint64_t session);

/* ---- tree_lock_row.c: the rows of locks ---- */

struct lock_set {
    uint64_t ino;
    enum lock_space space;
};

enum lock_state {
    LOCK_HELD = 'h',
    LOCK_WAITS = 'w',
};

/* Calls each() until it returns false: those held in order of (session, owner, start), those that wait
 * in order of their tickets. */
typedef bool lock_fn(void *arg, const struct tree_lock *lock);
void lock_each(struct tree *tree, struct lock_set set, enum lock_state state, lock_fn *each,
               void *arg);
/* Those held by one owner, by start. */
void lock_each_of_owner(struct tree *tree, struct lock_set set, const struct tree_lock *owner,
                        lock_fn *each, void *arg);
/* All of a session: those of one owner too, if it is not NULL. */
typedef bool lock_of_session_fn(void *arg, struct lock_set set, enum lock_state state,
                                uint64_t owner, uint64_t start_or_ticket);
void lock_each_of_session(struct tree *tree, uint64_t session, const uint64_t *owner,
                          lock_of_session_fn *each, void *arg);
bool lock_load(struct tree *tree, struct lock_set set, enum lock_state state,
               const struct tree_lock *which, struct tree_lock *out);
void lock_store(struct tree *tree, struct lock_set set, enum lock_state state,
                const struct tree_lock *lock);
/* It is there. */
void lock_remove(struct tree *tree, struct lock_set set, enum lock_state state,
                 const struct tree_lock *lock);
/* Held and waited for by the session. */
uint64_t lock_count(struct tree *tree, uint64_t session);

/* ---- tree_answer.c ---- */

struct kept_answer {
    uint64_t sequence;
    enum err err;
    uint64_t zxid;
    uint64_t ino;
    bool has_node;
    bool created;
    uint8_t queued;          /* lock: the space that it is waited for in; else 0 */
    size_t part_count;       /* of a transaction; else 0 */
    struct tree_part *parts; /* found: err, ino and created of each; tree_parts_reserve's */
};

/* ERR_OK and *out_found, or ERR_ANSWER_LOST: the slot holds a newer one. */
enum err tree_answer_find(struct tree *tree, uint64_t session, uint64_t sequence,
                          struct kept_answer *out, bool *out_found);
void tree_answer_keep(struct tree *tree, uint64_t session, const struct kept_answer *kept);
void tree_answers_drop(struct tree *tree, uint64_t session);
/* Fills in the result from a kept answer; the attributes are those of now. */
void tree_answer_replay(struct apply *apply, const struct kept_answer *kept);
enum err tree_answer_cancel(struct apply *apply, const Wire__CancelOp *op);

/* ---- tree_command.c, tree_event.c, tree.c ---- */

/* Unpacks and judges all that can be judged without the tree but for its level; ERR_MALFORMED. *out
 * (wire_free) may be set even so, when it says at least whose command it is; NULL if not. */
enum err tree_command_decode(const uint8_t *bytes, size_t len, uint32_t feature_level,
                             Wire__Command **out);
/* tree_news.c. Whether a packed command, that could be unpacked, has fields that programs which do
 * not know FEATURE_FILES take for unknown ones. */
bool command_has_files_news(const uint8_t *bytes, size_t len);
void tree_event_clear(struct tree *tree);
/* A new change at the end of the list, with the fields of the node; all others are zero. */
struct tree_change *tree_event_add(struct apply *apply, enum change_kind kind,
                                   const struct node *node);
void tree_state_store(struct tree *tree);

#endif
