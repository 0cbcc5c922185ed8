/* SPDX-License-Identifier: Apache-2.0
 *
 * A tree over rows in memory, and short ways to write commands for it, for the tests of the tree.
 * Every command goes the whole way: packed, unpacked, applied.
 */
#ifndef QUORUMFS_TESTS_TREE_FIXTURE_H
#define QUORUMFS_TESTS_TREE_FIXTURE_H

#include "common/omap.h"
#include "common/wire.h"
#include "server/tree/tree.h"

struct tree_fixture {
    struct omap *rows;
    struct tree *tree;
    struct tree_result result; /* of the newest command */
    int64_t now_ns;            /* of the next entry; grows by one with each */
    uint64_t session;          /* whose commands they are */
    uint64_t epoch;
    uint64_t sequence; /* of the newest command */
    Wire__Identity identity;
    struct buffer packed; /* the newest command */
};

/* cmocka's setup and teardown: *state is the fixture, with a session open and a trusted identity.
 * Teardown counts everything again (fixture_recount). */
int fixture_setup(void **state);
int fixture_teardown(void **state);

struct tree_fixture *fixture_new(void);
void fixture_free(struct tree_fixture *fixture);

/* Gives up the tree in memory and opens it again over the same rows. */
void fixture_reopen(struct tree_fixture *fixture);

/* Fails the test unless all counts, rows and paths fit together. */
void fixture_recount(struct tree_fixture *fixture);

/* Applies an entry with these bytes. */
enum err fixture_apply_bytes(struct tree_fixture *fixture, const uint8_t *bytes, size_t len);
enum err fixture_apply_command(struct tree_fixture *fixture, const Wire__Command *command);
/* As the next command of the session. */
enum err fixture_apply(struct tree_fixture *fixture, Wire__Op *op);
/* As a command of the session with this number. */
enum err fixture_apply_as(struct tree_fixture *fixture, uint64_t sequence, Wire__Op *op);

/* Opens a session (nonce and password are made of `seed`) and uses it from now on. */
void fixture_open(struct tree_fixture *fixture, uint8_t seed);
/* Applies what the leader writes when all replicas know this level. */
enum err fixture_raise(struct tree_fixture *fixture, uint32_t level);
enum err fixture_attach(struct tree_fixture *fixture, uint64_t session, uint8_t password_seed,
                        uint8_t nonce_seed);
enum err fixture_close(struct tree_fixture *fixture, uint64_t session, uint64_t epoch);

/* Who the following commands come from. */
void fixture_become(struct tree_fixture *fixture, uint32_t uid, uint32_t gid);
void fixture_become_trusted(struct tree_fixture *fixture);
struct tree_identity fixture_reader(const struct tree_fixture *fixture);

/* The operations, by path. */
enum err fixture_create(struct tree_fixture *fixture, const char *path, enum node_kind kind,
                        const char *data);
enum err fixture_create_with(struct tree_fixture *fixture, const char *path, Wire__CreateOp *op);
enum err fixture_write(struct tree_fixture *fixture, const char *path, const char *text);
enum err fixture_write_with(struct tree_fixture *fixture, const char *path, Wire__WriteOp *op);
enum err fixture_setattr(struct tree_fixture *fixture, const char *path, Wire__SetattrOp *op);
enum err fixture_remove(struct tree_fixture *fixture, const char *path, Wire__RemoveWhat what);

enum err fixture_stage(struct tree_fixture *fixture, uint64_t stage, uint32_t part,
                       Wire__StageOp *op);
enum err fixture_xattr(struct tree_fixture *fixture, const char *path, Wire__XattrOp *op);

enum {
    FIXTURE_RENAME = 0,
    FIXTURE_NO_REPLACE = 1,
    FIXTURE_EXCHANGE = 2
};
enum err fixture_rename(struct tree_fixture *fixture, const char *from, const char *to, int flags);

/* Reads as the present identity. */
enum err fixture_lookup(struct tree_fixture *fixture, const char *path, struct node_attr *out);
/* The attributes of a node that must be there. */
struct node_attr fixture_attr(struct tree_fixture *fixture, const char *path);
/* Fails the test unless the data is this text. */
void fixture_expect_data(struct tree_fixture *fixture, const char *path, const char *text);
void fixture_expect_path(struct tree_fixture *fixture, uint64_t ino, const char *path);

/* xorshift64*: the same run for the same seed on every machine. Not for *state == 0. */
uint64_t fixture_random(uint64_t *state);

#endif
