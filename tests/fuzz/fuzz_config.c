/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a configuration file: they are refused with a sentence that begins with the name of
 * the file, or give a configuration that a replica can run with.
 */
#include "server/config.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool ends_within(const char *text, size_t bytes)
{
    return memchr(text, '\0', bytes) != NULL;
}

static void check_members(const struct config *config)
{
    const struct raft_members *members = &config->members;

    CHECK(members->count >= 1 && members->count <= MEMBERS_MAX);
    CHECK(raft_members_find(members, config->id) != NULL);
    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->member[i];
        CHECK(member->id != 0 && member->voter && member->incarnation == 0);
        CHECK(i == 0 || members->member[i - 1].id < member->id);
        CHECK(ends_within(member->address, sizeof(member->address)));
        for (size_t j = 0; j < i; j++) {
            CHECK(strcmp(members->member[j].address, member->address) != 0);
        }
    }
    CHECK(members->count == 1 || (config->peer_listen.port != 0 && config->key_len > 0));
}

static void check_good(const struct config *config)
{
    CHECK(config->data[0] != '\0' && ends_within(config->data, sizeof(config->data)));
    CHECK(ends_within(config->socket, sizeof(config->socket)));
    CHECK(config->listen_count <= LISTEN_MAX);
    CHECK(config->listen_count > 0 || config->socket[0] != '\0');
    for (size_t i = 0; i < config->listen_count; i++) {
        CHECK(config->listen[i].port != 0 && config->listen[i].host[0] != '\0');
    }
    CHECK(config->log_level <= LOG_LEVEL_DEBUG);
    CHECK(config->heartbeat_ms >= 1 && config->election_min_ms >= 3 * config->heartbeat_ms);
    CHECK(config->election_max_ms > config->election_min_ms);
    check_members(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1; /* one file in memory, written anew each time */
    static char path[64];
    static struct config config;
    struct buffer error = {0};

    if (fd < 0) {
        fd = memfd_create("quorumfs-fuzz-config", MFD_CLOEXEC);
        CHECK(fd >= 0);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    if (config_read(path, &config, &error) == ERR_OK) {
        CHECK(error.len == 0);
        check_good(&config);
    } else {
        CHECK(error.len > strlen(path));
        CHECK(memcmp(error.data, path, strlen(path)) == 0 && error.data[strlen(path)] == ':');
    }
    buffer_done(&error);
    return 0;
}
