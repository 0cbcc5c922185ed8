/* SPDX-License-Identifier: Apache-2.0
 *
 * A store in a temporary folder for the tests of server/store.
 */
#include "tests/lib/store_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"

static void wake(void *arg)
{
    struct store_fixture *fixture = arg;

    CHECK_OP(pthread_mutex_lock(&fixture->lock), ==, 0);
    fixture->wakes++;
    (void)pthread_cond_signal(&fixture->woken);
    CHECK_OP(pthread_mutex_unlock(&fixture->lock), ==, 0);
}

void store_fixture_init(struct store_fixture *fixture)
{
    const char *base = getenv("TMPDIR");
    char folder[sizeof(fixture->folder)];

    int len =
        snprintf(folder, sizeof(folder), "%s/test-store-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(len > 0 && (size_t)len < sizeof(folder));
    CHECK(mkdtemp(folder) != NULL);
    store_fixture_init_at(fixture, folder);
}

void store_fixture_init_at(struct store_fixture *fixture, const char *folder)
{
    *fixture = (struct store_fixture){.store = NULL};
    int len = snprintf(fixture->folder, sizeof(fixture->folder), "%s", folder);
    CHECK(len > 0 && (size_t)len < sizeof(fixture->folder));
    CHECK_OP(pthread_mutex_init(&fixture->lock, NULL), ==, 0);
    CHECK_OP(pthread_cond_init(&fixture->woken, NULL), ==, 0);
}

void store_fixture_open(struct store_fixture *fixture)
{
    struct buffer error = {.data = NULL};
    struct store_options options = {
        .folder = fixture->folder,
        .block_cache_bytes = fixture->has_default_sizes ? 0 : MIB,
        .write_buffer_bytes = fixture->has_default_sizes ? 0 : 64 * KIB,
        .wake = wake,
        .wake_arg = fixture,
    };

    fixture->wakes = 0;
    enum err err = store_open(&options, &fixture->store, &error);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "store_open: %s\n", (const char *)error.data);
    }
    CHECK_OP(err, ==, ERR_OK);
    buffer_done(&error);
    fixture->kv = store_kv(fixture->store);
}

void store_fixture_close(struct store_fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

void store_fixture_done(struct store_fixture *fixture)
{
    store_fixture_close(fixture);
    buffer_done(&fixture->value);
    (void)pthread_cond_destroy(&fixture->woken);
    (void)pthread_mutex_destroy(&fixture->lock);
    store_fixture_remove_folder(fixture->folder);
}

/* RocksDB makes plain files only. */
void store_fixture_remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *file = NULL;

    CHECK(folder != NULL);
    while ((file = readdir(folder)) != NULL) {
        (void)unlinkat(dirfd(folder), file->d_name, 0);
    }
    (void)closedir(folder);
    CHECK_OP(rmdir(path), ==, 0);
}

void store_fixture_wait(struct store_fixture *fixture)
{
    CHECK_OP(pthread_mutex_lock(&fixture->lock), ==, 0);
    while (fixture->wakes == 0) {
        CHECK_OP(pthread_cond_wait(&fixture->woken, &fixture->lock), ==, 0);
    }
    fixture->wakes--;
    CHECK_OP(pthread_mutex_unlock(&fixture->lock), ==, 0);
}

void store_fixture_drain(struct store_fixture *fixture, uint64_t *now_ms)
{
    store_poll(fixture->store, *now_ms, 0);
    *now_ms += OVERLAY_FREEZE_MS;
    store_poll(fixture->store, *now_ms, 0);
    store_fixture_wait(fixture);
    store_poll(fixture->store, *now_ms, 0);
}

void store_fixture_put(struct store_fixture *fixture, const char *key, const char *value)
{
    fixture->kv.put(fixture->kv.context, key, strlen(key), value, strlen(value));
}

void store_fixture_remove(struct store_fixture *fixture, const char *key)
{
    fixture->kv.remove(fixture->kv.context, key, strlen(key));
}

const char *store_fixture_get(struct store_fixture *fixture, const char *key)
{
    if (!fixture->kv.get(fixture->kv.context, key, strlen(key), &fixture->value)) {
        CHECK_OP(fixture->value.len, ==, 0);
        return NULL;
    }
    CHECK_OP(buffer_append_u8(&fixture->value, 0), ==, ERR_OK);
    return (const char *)fixture->value.data;
}
