/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tree needs of a store: an ordered map of byte strings, as a struct of functions. The
 * store's overlay implements it; the simulator and the tests have a map in memory.
 *
 * One thread. A failing read of the store below is not an answer the tree could go on with: the
 * implementation ends the process (log line) or, in tests, fails the test.
 */
#ifndef QUORUMFS_TREE_KV_H
#define QUORUMFS_TREE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"

struct kv {
    void *context;
    /* Replaces the content of *out by the value; false (and out empty) if there is no such key. */
    bool (*get)(void *context, const void *key, size_t key_len, struct buffer *out);
    /* The same as it would be after a crash now. */
    bool (*get_durable)(void *context, const void *key, size_t key_len, struct buffer *out);
    void (*put)(void *context, const void *key, size_t key_len, const void *value,
                size_t value_len);
    void (*remove)(void *context, const void *key, size_t key_len);
    /* Calls each() in key order for entries with a key >= from that begin with the first
     * prefix_len bytes of `from`, until it returns false. The pointers are valid during the call;
     * each() must not write to the store. */
    void (*scan)(void *context, const void *from, size_t from_len, size_t prefix_len,
                 bool (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                              size_t value_len),
                 void *arg);
};

#endif
