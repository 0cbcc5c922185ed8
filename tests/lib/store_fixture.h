/* SPDX-License-Identifier: Apache-2.0
 *
 * A store in a temporary folder, and a wait for its wake. For the tests of server/store.
 */
#ifndef QUORUMFS_TESTS_STORE_FIXTURE_H
#define QUORUMFS_TESTS_STORE_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/omap.h"
#include "server/store/store.h"

struct store_fixture {
    char folder[64];        /* made by store_fixture_init, removed by store_fixture_done */
    bool has_default_sizes; /* else small ones, so that short tests see many files */
    struct store *store;
    struct kv kv;
    struct buffer value; /* of the last store_fixture_get */
    pthread_mutex_t lock;
    pthread_cond_t woken;
    unsigned wakes;
};

/* Failures of these end the program: they run in child programs too. */
void store_fixture_init(struct store_fixture *fixture);

/* For a program that works in the folder of another's fixture; there is no _done for it. */
void store_fixture_init_at(struct store_fixture *fixture, const char *folder);

void store_fixture_open(struct store_fixture *fixture);
void store_fixture_close(struct store_fixture *fixture);
void store_fixture_done(struct store_fixture *fixture);

/* Removes the folder of a store, which is closed. */
void store_fixture_remove_folder(const char *path);

/* Waits for the next call of wake that no earlier wait has taken. */
void store_fixture_wait(struct store_fixture *fixture);

/* Freezes what is there and waits until it is in RocksDB and taken back. */
void store_fixture_drain(struct store_fixture *fixture, uint64_t *now_ms);

void store_fixture_put(struct store_fixture *fixture, const char *key, const char *value);
void store_fixture_remove(struct store_fixture *fixture, const char *key);

/* Puts or removes one of few hundred rows, in the store and in the model; some values are large. */
void store_fixture_change(struct store_fixture *fixture, struct omap *model, unsigned *seed);

/* The store must hold the rows of the model, and no other. */
void store_fixture_check(struct store_fixture *fixture, const struct omap *model);

/* A model with the same rows. */
struct omap *store_fixture_copy(const struct omap *model);

/* The value as a string, valid until the next call; NULL: no such row. */
const char *store_fixture_get(struct store_fixture *fixture, const char *key);

#endif
