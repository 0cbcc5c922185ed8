/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads and checks the configuration of a replica. Called by main.c; hands a checked struct on to
 * daemon.c.
 */
#include "server/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/parse.h"

#define PEER_PORT    2888u
#define ID_MAX       65535u
#define TIMER_MS_MAX 60000u

/* Keys that may stand only once, as bits of reading.seen. */
enum key {
    KEY_ID,
    KEY_DATA,
    KEY_SOCKET,
    KEY_PEER_LISTEN,
    KEY_KEY_FILE,
    KEY_LOG_LEVEL,
    KEY_HEARTBEAT,
    KEY_ELECTION_MIN,
    KEY_ELECTION_MAX,
    KEY_LISTEN,
    KEYS,
};

static const char *const key_names[KEYS] = {
    "id",        "data",         "socket",          "peer_listen",     "key_file",
    "log_level", "heartbeat_ms", "election_min_ms", "election_max_ms", "listen",
};

struct reading {
    const char *path;
    struct config *config;
    struct buffer *error;
    bool seen[KEYS];
    bool listen_default; /* the listen address of the defaults is still there */
    char key_file[CONFIG_PATH_BYTES];
};

void config_default(struct config *config)
{
    *config = (struct config){
        .id = 1,
        .data = "quorum-data",
        .listen = {{.host = "127.0.0.1", .port = CONFIG_PORT}},
        .listen_count = 1,
        .socket = "quorum-data/quorumd.sock",
        .log_level = LOG_LEVEL_INFO,
        .heartbeat_ms = 50,
        .election_min_ms = 300,
        .election_max_ms = 600,
        .members = {.count = 1, .member = {{.id = 1, .voter = true, .address = "127.0.0.1:2888"}}},
    };
}

/* ---- values ---- */

/* A bad value; returns 0, which is what inih takes for an error. */
static int bad(struct reading *reading, const char *name, const char *value, const char *why)
{
    (void)buffer_printf(reading->error, "%s = %s: %s", name, value, why);
    return 0;
}

static int take_path(struct reading *reading, const char *name, const char *value, char *to)
{
    if (value[0] == '\0') {
        return bad(reading, name, value, "a path is needed");
    }
    if (strlen(value) >= CONFIG_PATH_BYTES) {
        return bad(reading, name, value, "too long");
    }
    (void)snprintf(to, CONFIG_PATH_BYTES, "%s", value);
    return 1;
}

static int take_number(struct reading *reading, const char *name, const char *value, uint64_t min,
                       uint64_t max, uint64_t *to)
{
    char why[80];

    if (parse_u64(value, min, max, to) == ERR_OK) {
        return 1;
    }
    (void)snprintf(why, sizeof(why), "must be a number from %" PRIu64 " to %" PRIu64, min, max);
    return bad(reading, name, value, why);
}

static int take_ms(struct reading *reading, const char *name, const char *value, uint32_t *to)
{
    uint64_t number = 0;

    if (take_number(reading, name, value, 1, TIMER_MS_MAX, &number) == 0) {
        return 0;
    }
    *to = (uint32_t)number;
    return 1;
}

/* Only the machine itself, until connections are encrypted. */
static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

static int take_address(struct reading *reading, const char *name, const char *value,
                        uint16_t default_port, struct config_address *to)
{
    if (strncmp(value, "unix:", 5) == 0 ||
        parse_address(value, default_port, to->host, sizeof(to->host), &to->port) != ERR_OK) {
        return bad(reading, name, value, "must be HOST[:PORT]");
    }
    return 1;
}

static int take_listen(struct reading *reading, const char *value)
{
    struct config *config = reading->config;
    struct config_address *address = NULL;

    if (reading->listen_default) {
        reading->listen_default = false;
        config->listen_count = 0;
    }
    if (strcmp(value, "none") == 0) {
        return 1;
    }
    if (config->listen_count == LISTEN_MAX) {
        return bad(reading, "listen", value, "too many addresses");
    }
    address = &config->listen[config->listen_count];
    if (take_address(reading, "listen", value, CONFIG_PORT, address) == 0) {
        return 0;
    }
    if (!is_loopback(address->host)) {
        return bad(reading, "listen", value, "only loopback addresses, as there is no TLS yet");
    }
    config->listen_count++;
    return 1;
}

static int take_log_level(struct reading *reading, const char *value)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(value, levels[i]) == 0) {
            reading->config->log_level = (enum log_level)i;
            return 1;
        }
    }
    return bad(reading, "log_level", value, "must be error, warn, info or debug");
}

static int take_member(struct reading *reading, const char *name, const char *value)
{
    struct raft_members *members = &reading->config->members;
    struct config_address address = {.port = 0};
    uint64_t id = 0;
    size_t at = 0;

    if (parse_u64(name, 1, ID_MAX, &id) != ERR_OK) {
        return bad(reading, name, value, "a member's key is its id, a number from 1 to 65535");
    }
    if (members->count == MEMBERS_MAX) {
        return bad(reading, name, value, "too many members");
    }
    if (take_address(reading, name, value, PEER_PORT, &address) == 0) {
        return 0;
    }
    while (at < members->count && members->member[at].id < id) {
        at++;
    }
    if (at < members->count && members->member[at].id == id) {
        return bad(reading, name, value, "this member stands there twice");
    }
    memmove(&members->member[at + 1], &members->member[at],
            (members->count - at) * sizeof(members->member[0]));
    members->member[at] = (struct raft_member){.id = id, .voter = true};
    (void)snprintf(members->member[at].address, sizeof(members->member[at].address),
                   strchr(address.host, ':') != NULL ? "[%.240s]:%u" : "%.240s:%u", address.host,
                   (unsigned)address.port);
    members->count++;
    return 1;
}

/* ---- lines ---- */

static int take_key(struct reading *reading, enum key key, const char *value)
{
    struct config *config = reading->config;
    const char *name = key_names[key];

    switch (key) {
    case KEY_ID:
        return take_number(reading, name, value, 1, ID_MAX, &config->id);
    case KEY_DATA:
        return take_path(reading, name, value, config->data);
    case KEY_SOCKET:
        if (strcmp(value, "none") == 0) {
            config->socket[0] = '\0';
            return 1;
        }
        return take_path(reading, name, value, config->socket);
    case KEY_PEER_LISTEN:
        return take_address(reading, name, value, PEER_PORT, &config->peer_listen);
    case KEY_KEY_FILE:
        return take_path(reading, name, value, reading->key_file);
    case KEY_LOG_LEVEL:
        return take_log_level(reading, value);
    case KEY_HEARTBEAT:
        return take_ms(reading, name, value, &config->heartbeat_ms);
    case KEY_ELECTION_MIN:
        return take_ms(reading, name, value, &config->election_min_ms);
    case KEY_ELECTION_MAX:
        return take_ms(reading, name, value, &config->election_max_ms);
    case KEY_LISTEN:
        return take_listen(reading, value);
    case KEYS:
        break;
    }
    return 0;
}

static int take_line(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;

    if (reading->error->len > 0) {
        return 0; /* inih goes on behind an error: the first one counts */
    }
    if (strcmp(section, "members") == 0) {
        return take_member(reading, name, value);
    }
    if (section[0] != '\0') {
        (void)buffer_printf(reading->error, "unknown section [%s]", section);
        return 0;
    }
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(name, key_names[i]) != 0) {
            continue;
        }
        if (reading->seen[i] && i != KEY_LISTEN) {
            return bad(reading, name, value, "this key stands there twice");
        }
        reading->seen[i] = true;
        return take_key(reading, (enum key)i, value);
    }
    return bad(reading, name, value, "unknown key");
}

/* ---- the whole ---- */

static enum err read_key_file(struct reading *reading)
{
    struct config *config = reading->config;
    const char *path = reading->key_file;
    struct stat attr = {0};
    ssize_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &attr) != 0) {
        (void)buffer_printf(reading->error, "key_file = %s: %s", path, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return ERR_CONFIG;
    }
    len = read(fd, config->key, sizeof(config->key));
    (void)close(fd);
    if ((attr.st_mode & 077) != 0) {
        (void)buffer_printf(reading->error,
                            "key_file = %s: mode %04o is open to others, wanted 0600", path,
                            (unsigned)(attr.st_mode & 07777));
        return ERR_CONFIG;
    }
    if (len < (ssize_t)KEY_BYTES_MIN || attr.st_size > (off_t)KEY_BYTES_MAX) {
        (void)buffer_printf(reading->error, "key_file = %s: %lld bytes, wanted %u to %u", path,
                            (long long)attr.st_size, KEY_BYTES_MIN, KEY_BYTES_MAX);
        return ERR_CONFIG;
    }
    config->key_len = (size_t)len;
    return ERR_OK;
}

static enum err complain(struct reading *reading, const char *what)
{
    (void)buffer_printf(reading->error, "%s", what);
    return ERR_CONFIG;
}

static enum err check_members(struct reading *reading)
{
    struct config *config = reading->config;
    const struct raft_members *members = &config->members;
    const struct raft_member *self = raft_members_find(members, config->id);

    for (size_t i = 0; i < members->count; i++) {
        for (size_t j = i + 1; j < members->count; j++) {
            if (strcmp(members->member[i].address, members->member[j].address) == 0) {
                (void)buffer_printf(
                    reading->error, "members %" PRIu64 " and %" PRIu64 " have the same address %s",
                    members->member[i].id, members->member[j].id, members->member[i].address);
                return ERR_CONFIG;
            }
        }
    }
    if (self == NULL) {
        (void)buffer_printf(reading->error, "id = %" PRIu64 ": not among the [members]",
                            config->id);
        return ERR_CONFIG;
    }
    if (members->count > 1 && reading->key_file[0] == '\0') {
        return complain(reading, "key_file is missing: several members need a shared key");
    }
    if (config->peer_listen.host[0] == '\0' && members->count > 1) {
        (void)parse_address(self->address, PEER_PORT, config->peer_listen.host,
                            sizeof(config->peer_listen.host), &config->peer_listen.port);
    }
    return ERR_OK;
}

static enum err check_all(struct reading *reading)
{
    struct config *config = reading->config;
    enum err err = ERR_OK;

    if (!reading->seen[KEY_ID] || !reading->seen[KEY_DATA]) {
        return complain(reading, reading->seen[KEY_ID] ? "data is missing" : "id is missing");
    }
    if (config->members.count == 0) {
        return complain(reading, "[members] is missing or empty");
    }
    err = check_members(reading);
    if (err == ERR_OK && config->election_min_ms < 3 * config->heartbeat_ms) {
        err = complain(reading, "election_min_ms must be at least 3 times heartbeat_ms");
    }
    if (err == ERR_OK && config->election_max_ms <= config->election_min_ms) {
        err = complain(reading, "election_max_ms must be more than election_min_ms");
    }
    if (err == ERR_OK && config->listen_count == 0 && config->socket[0] == '\0') {
        err = complain(reading, "listen and socket are both none: no client could connect");
    }
    if (err == ERR_OK && reading->key_file[0] != '\0') {
        err = read_key_file(reading);
    }
    return err;
}

/* Puts "FILE: " or "FILE:LINE: " before what went wrong. */
static enum err refused(struct reading *reading, int line)
{
    struct buffer text = {0};

    if (line > 0) {
        (void)buffer_printf(&text, "%s:%d: ", reading->path, line);
    } else {
        (void)buffer_printf(&text, "%s: ", reading->path);
    }
    (void)buffer_printf(&text, "%s",
                        reading->error->len > 0 ? (const char *)reading->error->data
                                                : "not KEY = VALUE, or the line is too long");
    buffer_clear(reading->error);
    (void)buffer_printf(reading->error, "%s", text.data != NULL ? (const char *)text.data : "");
    buffer_done(&text);
    return ERR_CONFIG;
}

enum err config_read(const char *path, struct config *config, struct buffer *error)
{
    struct reading reading = {
        .path = path, .config = config, .error = error, .listen_default = true};
    int line = 0;

    config_default(config);
    config->members.count = 0;
    (void)snprintf(config->socket, sizeof(config->socket), "/run/quorumfs/quorumd.sock");
    buffer_clear(error);
    line = ini_parse(path, take_line, &reading);
    if (line == -1) {
        (void)buffer_printf(error, "cannot be read: %s", strerror(errno));
        return refused(&reading, 0);
    }
    if (line != 0) {
        return refused(&reading, line);
    }
    return check_all(&reading) == ERR_OK ? ERR_OK : refused(&reading, 0);
}
