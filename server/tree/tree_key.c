/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys of the rows, and the one way to the kv: what is written here goes into the digest of the
 * entry. Called by all of the tree; hands on to the kv.
 *
 * Invariant: the digest depends on the order and the bytes of the writes only, so that replicas
 * that apply the same entries to the same rows have the same digest (CONSENSUS 32).
 */
#include <string.h>

/* Compiled in: names and keys are short, and a call costs as much as their hash. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

/* Makes a removal another thing than writing an empty value. */
#define DIGEST_REMOVED 0x9e3779b97f4a7c15ULL

static struct row_key key_of_number(uint8_t space, uint64_t number)
{
    struct row_key key;

    key.bytes[0] = space;
    put_be64(key.bytes + 1, number);
    key.len = 9;
    return key;
}

struct row_key key_of_root(void)
{
    struct row_key key;

    key.bytes[0] = 'R';
    key.len = 1;
    return key;
}

struct row_key key_of_children(uint64_t parent, uint64_t cookie)
{
    struct row_key key = key_of_number('N', parent);

    put_be64(key.bytes + 9, cookie);
    key.len = 17;
    return key;
}

struct row_key key_of_child(uint64_t parent, const uint8_t *name, size_t name_len)
{
    uint64_t cookie = XXH3_64bits(name, name_len) & INT64_MAX;
    struct row_key key = key_of_children(parent, cookie >= COOKIE_MIN ? cookie : COOKIE_MIN);

    CHECK(name_len > 0 && name_len <= NAME_BYTES_MAX);
    memcpy(key.bytes + key.len, name, name_len);
    key.len += name_len;
    return key;
}

struct row_key key_of_path(uint64_t ino)
{
    return key_of_number('P', ino);
}

struct row_key key_of_data(uint64_t ino)
{
    return key_of_number('D', ino);
}

struct row_key key_of_chunk(uint64_t ino, uint32_t chunk)
{
    struct row_key key = key_of_data(ino);

    if (chunk != 0) {
        put_be32(key.bytes + 9, chunk);
        key.len = 13;
    }
    return key;
}

struct row_key key_of_xattrs(uint64_t ino)
{
    return key_of_number('X', ino);
}

struct row_key key_of_ephemeral(uint64_t session, uint64_t ino)
{
    struct row_key key = key_of_number('E', session);

    put_be64(key.bytes + 9, ino);
    key.len = 17;
    return key;
}

struct row_key key_of_session(uint64_t session)
{
    return key_of_number('S', session);
}

struct row_key key_of_nonce(const uint8_t *nonce)
{
    struct row_key key;

    key.bytes[0] = 'O';
    memcpy(key.bytes + 1, nonce, NONCE_BYTES);
    key.len = 1 + NONCE_BYTES;
    return key;
}

struct row_key key_of_answer(uint64_t session, uint64_t sequence)
{
    struct row_key key = key_of_number('W', session);

    put_be16(key.bytes + 9, (uint16_t)(sequence % SESSION_WINDOW));
    key.len = 11;
    return key;
}

struct row_key key_of_staged(uint64_t session)
{
    return key_of_number('T', session);
}

struct row_key key_of_stage(uint64_t session, uint64_t stage)
{
    struct row_key key = key_of_staged(session);

    put_be64(key.bytes + 9, stage);
    key.len = 17;
    return key;
}

struct row_key key_of_part(uint64_t session, uint64_t stage, uint32_t part)
{
    struct row_key key = key_of_stage(session, stage);

    put_be32(key.bytes + 17, part);
    key.len = 21;
    return key;
}

struct row_key key_of_locks(uint64_t ino, uint8_t space, uint8_t state)
{
    struct row_key key = key_of_number('L', ino);

    key.bytes[9] = space;
    key.bytes[10] = state;
    key.len = 11;
    return key;
}

struct row_key key_of_session_locks(uint64_t session)
{
    return key_of_number('K', session);
}

void key_append_be64(struct row_key *key, uint64_t number)
{
    CHECK_OP(key->len + 8, <=, ROW_KEY_BYTES_MAX);
    put_be64(key->bytes + key->len, number);
    key->len += 8;
}

struct row_key key_of_state(void)
{
    return (struct row_key){.len = 2, .bytes = {'M', 's'}};
}

struct row_key key_of_members(void)
{
    return (struct row_key){.len = 2, .bytes = {'M', 'm'}};
}

uint64_t key_cookie(const uint8_t *key, size_t key_len)
{
    CHECK(key_len > 17 && key_len <= ROW_KEY_BYTES_MAX);
    return get_be64(key + 9);
}

const uint8_t *key_name(const uint8_t *key, size_t key_len, size_t *out_len)
{
    CHECK(key_len > 17 && key_len <= ROW_KEY_BYTES_MAX);
    *out_len = key_len - 17;
    return key + 17;
}

uint64_t digest_with(uint64_t digest, const void *bytes, size_t len)
{
    return XXH3_64bits_withSeed(bytes, len, digest);
}

bool row_get(struct tree *tree, const struct row_key *key, struct buffer *out)
{
    return tree->kv.get(tree->kv.context, key->bytes, key->len, out);
}

void row_put(struct tree *tree, const struct row_key *key, const void *value, size_t len)
{
    if (tree->undo != NULL) {
        undo_note(tree, key);
    }
    tree->digest = digest_with(tree->digest, key->bytes, key->len);
    tree->digest = digest_with(tree->digest, value, len);
    tree->kv.put(tree->kv.context, key->bytes, key->len, value, len);
}

void row_remove(struct tree *tree, const struct row_key *key)
{
    if (tree->undo != NULL) {
        undo_note(tree, key);
    }
    tree->digest = digest_with(tree->digest ^ DIGEST_REMOVED, key->bytes, key->len);
    tree->kv.remove(tree->kv.context, key->bytes, key->len);
}
