/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of the tree, their keys, and nodes in memory. Included by server/tree/tree_*.c only.
 *
 * Rows (numbers big-endian; CONSENSUS, Storage schema):
 *     'N' be64(parent) be64(cookie) name   one node; the cookie is a hash of the name, so that a
 *                                          listing goes on behind a cookie without any state
 *     'R'                                  the root, which has no name
 *     'P' be64(ino)                        be64(parent) name of the node: where its row is
 *     'D' be64(ino)                        its data, when too large for the node's row: the first
 *                                          DATA_CHUNK_BYTES of it
 *     'D' be64(ino) be32(chunk)            a further chunk of it, from 1; what is missing is zeros
 *     'X' be64(ino)                        its stored attributes
 *     'E' be64(session) be64(ino)          empty: an ephemeral node of a session
 *     'S' be64(session)                    a session
 *     'O' nonce                            be64(session) that was opened with it
 *     'W' be64(session) be16(slot)         a kept answer
 *     'T' be64(session)                    be64: what all stages of the session take
 *     'T' be64(session) be64(stage)        what is known of a staged write
 *     'T' be64(session) be64(stage) be32(part)
 *     'L' be64(ino) space 'h' be64(session) be64(owner) be64(start)   a lock that is held
 *     'L' be64(ino) space 'w' be64(ticket)                            one that is waited for
 *     'K' be64(session)                    be64: count of its locks
 *     'K' be64(session) be64(owner) state space be64(ino) be64(start or ticket)   empty: where one is
 *     'M' 's', 'M' 'm'                     state of the tree, newest members entry
 */
#ifndef QUORUMFS_TREE_NODE_H
#define QUORUMFS_TREE_NODE_H

#include "server/tree/tree.h"

#define ROW_KEY_BYTES_MAX (1u + 8u + 8u + NAME_BYTES_MAX)
#define COOKIE_MIN        16u /* smaller ones are left to the readers, for "." and the like */
#define NONCE_BYTES       16u

struct row_key {
    size_t len;
    uint8_t bytes[ROW_KEY_BYTES_MAX];
};

/* A node in memory with its row: attributes are changed in `attr`, the holder and small data stay
 * in the row as they were read. */
struct node {
    struct node_attr attr;
    struct node_name name; /* of the root: empty */
    struct buffer row;
};

/* ---- tree_key.c: keys, and the kv with the digest ---- */

struct row_key key_of_root(void);
struct row_key key_of_child(uint64_t parent, const uint8_t *name, size_t name_len);
struct row_key key_of_children(uint64_t parent, uint64_t cookie); /* where a listing begins */
struct row_key key_of_path(uint64_t ino);
struct row_key key_of_data(uint64_t ino);
struct row_key key_of_chunk(uint64_t ino, uint32_t chunk); /* chunk 0: key_of_data */
struct row_key key_of_xattrs(uint64_t ino);
struct row_key key_of_ephemeral(uint64_t session, uint64_t ino);
struct row_key key_of_session(uint64_t session);
struct row_key key_of_nonce(const uint8_t *nonce);
struct row_key key_of_answer(uint64_t session, uint64_t sequence);
struct row_key key_of_staged(uint64_t session);
struct row_key key_of_stage(uint64_t session, uint64_t stage);
struct row_key key_of_part(uint64_t session, uint64_t stage, uint32_t part);
/* `space` is an enum lock_space, `state` 'h' or 'w'; what follows is appended by tree_lock_row.c. */
struct row_key key_of_locks(uint64_t ino, uint8_t space, uint8_t state);
struct row_key key_of_session_locks(uint64_t session);
void key_append_be64(struct row_key *key, uint64_t number);
struct row_key key_of_state(void);
struct row_key key_of_members(void);

/* The parts of a child's key behind the parent. */
uint64_t key_cookie(const uint8_t *key, size_t key_len);
const uint8_t *key_name(const uint8_t *key, size_t key_len, size_t *out_len);

bool row_get(struct tree *tree, const struct row_key *key, struct buffer *out);
void row_put(struct tree *tree, const struct row_key *key, const void *value, size_t len);
void row_remove(struct tree *tree, const struct row_key *key);
uint64_t digest_with(uint64_t digest, const void *bytes, size_t len);

/* ---- tree_node.c: rows of nodes ---- */

void node_done(struct node *node);
void node_attr_decode(const uint8_t *row, size_t len, uint64_t parent, struct node_attr *out);
bool node_load_child(struct tree *tree, uint64_t parent, const uint8_t *name, size_t name_len,
                     struct node *out);
bool node_load(struct tree *tree, uint64_t ino, struct node *out);
/* The ino of the parent; false: no such node. The root's parent is itself. */
bool node_parent(struct tree *tree, uint64_t ino, uint64_t *out_parent);

/* Makes *node a new one without data: its attributes and name are set by the caller. */
void node_init(struct node *node, const uint8_t *holder, size_t holder_len);
/* Writes the node's row, under its attr.parent and name. */
void node_store(struct tree *tree, struct node *node);
/* Writes the row that leads from the ino to the name. */
void node_store_path(struct tree *tree, const struct node *node);
/* Removes the row that node_store wrote; before a rename changes parent or name. */
void node_unlink(struct tree *tree, const struct node *node);
/* Removes all rows of the node. */
void node_remove(struct tree *tree, const struct node *node);
/* The data, or the holder, that lies in the node's row; valid until the node is loaded again. */
const uint8_t *node_inline_data(const struct node *node);
const uint8_t *node_holder(const struct node *node, size_t *out_len);
/* Gives the row these data instead. node_store has to come. */
void node_set_inline_data(struct node *node, const uint8_t *data, size_t len);

bool node_data_is_inline(uint64_t data_bytes);
bool node_may_have_children(const struct node_attr *attr);
bool node_shows_as_dir(const struct node_attr *attr);

/* ---- tree_data.c: the data of a node ---- */

/* Appends data[offset, offset + len), all of which must be there. ERR_MEMORY. */
enum err data_read(struct tree *tree, const struct node *node, uint64_t offset, size_t len,
                   struct buffer *out);
/* Removes the rows of the data, as the node goes. */
void data_remove(struct tree *tree, const struct node *node);

#define PATCH_CHUNKS 8u /* that are in memory at a time */

/* New data of a node, made in windows of some chunks:
 *
 *     data_patch_begin(&patch, tree, node, kept, bytes);
 *     while (data_patch_next(&patch)) {
 *         data_patch_write(&patch, ...); ... all that is to be written, in the same order each time
 *     }
 */
struct data_patch {
    struct tree *tree;
    struct node *node;
    uint64_t kept;  /* so many bytes of the old data stay as they are */
    uint64_t bytes; /* afterwards */
    uint64_t at;    /* of the window */
    size_t len;     /* 0: before the first window */
    bool is_loaded[PATCH_CHUNKS];
};

/* `kept` <= both lengths. Bytes that are neither kept nor written become zeros. */
void data_patch_begin(struct data_patch *patch, struct tree *tree, struct node *node, uint64_t kept,
                      uint64_t bytes);
/* The next window; what was written to the one before is stored. False: all is done, and
 * attr.data_bytes is the new length; node_store has to come. */
bool data_patch_next(struct data_patch *patch);
/* Whether [from, to) has a part in the window. */
bool data_patch_overlaps(const struct data_patch *patch, uint64_t from, uint64_t to);
/* Takes what lies in the window; all of it lies below `bytes`. */
void data_patch_write(struct data_patch *patch, uint64_t offset, const uint8_t *data, size_t len);

#endif
