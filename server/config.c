/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads and checks the configuration of a replica. Called by main.c; hands a checked struct on to
 * daemon.c.
 *
 * inih reads a line more generously than is good for a replica: it joins indented lines, cuts long
 * ones in two, and says nothing of a section without keys. So it gets its lines from read_line(),
 * which refuses these.
 *
 * Invariant: the first error counts; from then on nothing is read any more.
 */
#include "server/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/parse.h"
#include "common/version.h"

#define PEER_PORT        2888u
#define ID_MAX           65535u
#define TIMER_MS_MAX     60000u
#define LOG_KEEP_MIB_MIN 16u /* four segments that hold more than one group each */
#define LOG_KEEP_MIB_MAX 1048576u
#define HOST_BYTES_MAX   240u /* so that [HOST]:PORT fits into ADDRESS_BYTES_MAX */
#define KEPT_SEGMENTS    4u   /* of the log at least, as only whole ones are removed */
#define SOCKET_BYTES_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

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
    KEY_LOG_KEEP,
    KEY_FEATURE_LEVEL,
    KEY_FILE_BYTES_MAX,
    KEYS,
};

static const char *const key_names[KEYS] = {
    "id",           "data",          "socket",          "peer_listen",     "key_file",
    "log_level",    "heartbeat_ms",  "election_min_ms", "election_max_ms", "listen",
    "log_keep_mib", "feature_level", "file_bytes_max",
};

struct reading {
    const char *path;
    FILE *file;
    struct config *config;
    struct buffer *error; /* what went wrong, without the place */
    int line;             /* the one that was read last; the first is 1 */
    int error_line;       /* 0: no line has gone wrong */
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
        .log_keep_bytes = LOG_KEEP_BYTES,
        .feature_level = FEATURE_LEVEL_MAX,
        .file_bytes_max = FILE_BYTES_MAX,
        .members = {.count = 1, .member = {{.id = 1, .voter = true, .address = "127.0.0.1:2888"}}},
    };
}

/* ---- values ---- */

/* A bad value; returns 0, which is what inih takes for an error. */
static int bad(struct reading *reading, const char *name, const char *value, const char *why)
{
    reading->error_line = reading->line;
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

/* The kernel takes no longer path for a unix socket. */
static int take_socket(struct reading *reading, const char *value)
{
    if (strcmp(value, "none") == 0) {
        reading->config->socket[0] = '\0';
        return 1;
    }
    if (strlen(value) > SOCKET_BYTES_MAX) {
        return bad(reading, "socket", value, "too long for a unix socket");
    }
    return take_path(reading, "socket", value, reading->config->socket);
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

/* Only the machine itself, until connections are encrypted. A name that begins with 127 may be
 * that of any host. */
static bool is_loopback(const char *host)
{
    struct in_addr address = {0};

    if (inet_pton(AF_INET, host, &address) == 1) {
        return ntohl(address.s_addr) >> 24 == 127;
    }
    return strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static bool is_same_address(const struct config_address *a, const struct config_address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

static int take_address(struct reading *reading, const char *name, const char *value,
                        uint16_t default_port, struct config_address *to)
{
    struct config_address address = {.port = 0};

    /* A host of the name unix would, with its port, be taken for the path of a socket. */
    if (parse_address(value, default_port, address.host, HOST_BYTES_MAX + 1, &address.port) !=
            ERR_OK ||
        address.port == 0 || strcmp(address.host, "unix") == 0) {
        return bad(reading, name, value, "must be HOST, HOST:PORT or [IPV6]:PORT");
    }
    *to = address;
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
        return bad(reading, "listen", value, "must be a loopback address (127.0.0.1, [::1])");
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        if (is_same_address(&config->listen[i], address)) {
            return bad(reading, "listen", value, "this address stands there twice");
        }
    }
    config->listen_count++;
    return 1;
}

static int take_log_keep(struct reading *reading, const char *name, const char *value)
{
    uint64_t mib = 0;

    if (take_number(reading, name, value, LOG_KEEP_MIB_MIN, LOG_KEEP_MIB_MAX, &mib) == 0) {
        return 0;
    }
    reading->config->log_keep_bytes = mib * MIB;
    return 1;
}

static int take_level(struct reading *reading, const char *name, const char *value)
{
    uint64_t level = 0;

    if (take_number(reading, name, value, FEATURE_BASE, FEATURE_LEVEL_MAX, &level) == 0) {
        return 0;
    }
    reading->config->feature_level = (uint32_t)level;
    return 1;
}

static int take_file_bytes(struct reading *reading, const char *name, const char *value)
{
    if (parse_bytes(value, FILE_BYTES_MAX, FILE_BYTES_LIMIT, &reading->config->file_bytes_max) !=
        ERR_OK) {
        return bad(reading, name, value, "must be a size from 1M to 64M");
    }
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
        return take_socket(reading, value);
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
    case KEY_LOG_KEEP:
        return take_log_keep(reading, name, value);
    case KEY_FEATURE_LEVEL:
        return take_level(reading, name, value);
    case KEY_FILE_BYTES_MAX:
        return take_file_bytes(reading, name, value);
    case KEYS:
        break;
    }
    return 0;
}

static int take_line(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;

    if (strcmp(section, "members") == 0) {
        return take_member(reading, name, value);
    }
    if (section[0] != '\0') { /* read_line did not see it behind a byte order mark */
        return bad(reading, name, value, "unknown section");
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

/* An error of the line that was just read; returns NULL, which is what inih takes for the end. */
static char *bad_line(struct reading *reading, const char *why)
{
    reading->error_line = reading->line;
    (void)buffer_printf(reading->error, "%s", why);
    return NULL;
}

/* A section is refused by its own line, as inih tells nothing of one without keys. */
static char *check_line(struct reading *reading, char *line)
{
    size_t name_len = strcspn(line, "]");

    if (line[0] != '[' || line[name_len] != ']') {
        return line;
    }
    line[name_len + 1] = '\0'; /* what stands behind it means nothing */
    if (strcmp(line, "[members]") != 0) {
        (void)buffer_printf(reading->error, "unknown section ");
        return bad_line(reading, line);
    }
    return line;
}

/* The reader for inih: the next line without its indent; NULL: the end, or an error. */
static char *read_line(char *line, int bytes_max, void *user)
{
    struct reading *reading = user;
    size_t room = (size_t)bytes_max - 2; /* a newline and the NUL */
    size_t len = 0;
    int c = 0;

    if (reading->error_line != 0) {
        return NULL;
    }
    reading->line++;
    while ((c = getc(reading->file)) != EOF && c != '\n') {
        if (c == '\0') {
            return bad_line(reading, "a zero byte: this is no text");
        }
        if (len == room) {
            return bad_line(reading, "the line is too long");
        }
        if (len > 0 || (c != ' ' && c != '\t')) {
            line[len++] = (char)c;
        }
    }
    if (c == EOF && len == 0) {
        return NULL;
    }
    line[len] = '\0';
    return check_line(reading, line);
}

/* ---- the whole ---- */

/* What is wrong with the whole; `format` names key and value. */
__attribute__((format(printf, 2, 3))) static enum err complain(struct reading *reading,
                                                               const char *format, ...)
{
    char text[CONFIG_PATH_BYTES + 256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)buffer_printf(reading->error, "%s", text);
    return ERR_CONFIG;
}

static enum err check_key_file(struct reading *reading, const struct stat *attr)
{
    const char *path = reading->key_file;

    if (!S_ISREG(attr->st_mode)) {
        return complain(reading, "key_file = %s: not a file", path);
    }
    if ((attr->st_mode & 077) != 0) {
        return complain(reading, "key_file = %s: mode %04o is open to others, wanted 0600", path,
                        (unsigned)(attr->st_mode & 07777));
    }
    if (attr->st_size < (off_t)KEY_BYTES_MIN || attr->st_size > (off_t)KEY_BYTES_MAX) {
        return complain(reading, "key_file = %s: %lld bytes, wanted %u to %u", path,
                        (long long)attr->st_size, KEY_BYTES_MIN, KEY_BYTES_MAX);
    }
    return ERR_OK;
}

static enum err read_key_file(struct reading *reading)
{
    struct config *config = reading->config;
    struct stat attr = {0};
    enum err err = ERR_OK;
    ssize_t len = 0;
    int fd = open(reading->key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang */

    if (fd < 0 || fstat(fd, &attr) != 0) {
        err = complain(reading, "key_file = %s: %s", reading->key_file, strerror(errno));
        goto out;
    }
    err = check_key_file(reading, &attr);
    if (err != ERR_OK) {
        goto out;
    }
    len = read(fd, config->key, sizeof(config->key));
    if (len != (ssize_t)attr.st_size) {
        err = complain(reading, "key_file = %s: cannot be read", reading->key_file);
        goto out;
    }
    config->key_len = (size_t)len;

out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

static enum err check_addresses(struct reading *reading)
{
    const struct config *config = reading->config;
    const struct raft_members *members = &config->members;

    for (size_t i = 0; i < members->count; i++) {
        for (size_t j = i + 1; j < members->count; j++) {
            if (strcmp(members->member[i].address, members->member[j].address) == 0) {
                return complain(
                    reading, "members %" PRIu64 " and %" PRIu64 " have the same address %s",
                    members->member[i].id, members->member[j].id, members->member[i].address);
            }
        }
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        if (is_same_address(&config->listen[i], &config->peer_listen)) {
            return complain(reading, "listen and peer_listen have the same address %s, port %u",
                            config->peer_listen.host, (unsigned)config->peer_listen.port);
        }
    }
    return ERR_OK;
}

static enum err check_members(struct reading *reading)
{
    struct config *config = reading->config;
    const struct raft_members *members = &config->members;
    const struct raft_member *self = raft_members_find(members, config->id);

    if (members->count == 0) {
        return complain(reading, "[members] is missing or empty");
    }
    if (self == NULL) {
        return complain(reading, "id = %" PRIu64 ": not among the [members]", config->id);
    }
    if (config->peer_listen.host[0] == '\0' && members->count > 1) {
        enum err err = parse_address(self->address, PEER_PORT, config->peer_listen.host,
                                     sizeof(config->peer_listen.host), &config->peer_listen.port);
        CHECK_OP(err, ==, ERR_OK); /* take_member made this text */
    }
    if (config->peer_listen.host[0] != '\0' && reading->key_file[0] == '\0') {
        return complain(reading, "key_file is missing: replicas need a shared key");
    }
    return check_addresses(reading);
}

static enum err check_timers(struct reading *reading)
{
    const struct config *config = reading->config;

    if (config->election_min_ms < 3 * config->heartbeat_ms) {
        return complain(reading, "election_min_ms = %u: must be at least 3 times heartbeat_ms = %u",
                        config->election_min_ms, config->heartbeat_ms);
    }
    if (config->election_max_ms <= config->election_min_ms) {
        return complain(reading, "election_max_ms = %u: must be more than election_min_ms = %u",
                        config->election_max_ms, config->election_min_ms);
    }
    return ERR_OK;
}

static enum err check_all(struct reading *reading)
{
    const struct config *config = reading->config;
    enum err err = ERR_OK;

    if (!reading->seen[KEY_ID] || !reading->seen[KEY_DATA]) {
        return complain(reading, "%s is missing", reading->seen[KEY_ID] ? "data" : "id");
    }
    if (config->listen_count == 0 && config->socket[0] == '\0') {
        return complain(reading, "listen and socket are both none: no client could connect");
    }
    err = check_members(reading);
    err = err == ERR_OK ? check_timers(reading) : err;
    return err == ERR_OK && reading->key_file[0] != '\0' ? read_key_file(reading) : err;
}

/* Puts "FILE: " or "FILE:LINE: " before what went wrong. */
static enum err refused(struct reading *reading)
{
    struct buffer text = {0};

    if (reading->error_line > 0) {
        (void)buffer_printf(&text, "%s:%d: ", reading->path, reading->error_line);
    } else {
        (void)buffer_printf(&text, "%s: ", reading->path);
    }
    (void)buffer_append(&text, reading->error->data, reading->error->len);
    buffer_clear(reading->error);
    (void)buffer_printf(reading->error, "%.*s", (int)text.len, (const char *)text.data);
    buffer_done(&text);
    return ERR_CONFIG;
}

static enum err read_lines(struct reading *reading)
{
    int line = ini_parse_stream(read_line, reading, take_line, reading);

    if (reading->error_line != 0 && (line <= 0 || line >= reading->error_line)) {
        return ERR_CONFIG;
    }
    if (line != 0) {
        /* inih goes on behind a line that it does not understand: this was the first error. */
        buffer_clear(reading->error);
        reading->error_line = line > 0 ? line : 0;
        return complain(reading, line > 0 ? "neither KEY = VALUE nor [SECTION]" : "out of memory");
    }
    return ferror(reading->file) != 0 ? complain(reading, "cannot be read: %s", strerror(errno))
                                      : ERR_OK;
}

enum err config_read(const char *path, struct config *config, struct buffer *error)
{
    struct reading reading = {
        .path = path, .config = config, .error = error, .listen_default = true};
    enum err err = ERR_OK;

    config_default(config);
    config->members.count = 0;
    (void)snprintf(config->socket, sizeof(config->socket), "/run/quorumfs/quorumd.sock");
    buffer_clear(error);
    reading.file = fopen(path, "re");
    if (reading.file == NULL) {
        (void)complain(&reading, "cannot be read: %s", strerror(errno));
        return refused(&reading);
    }
    err = read_lines(&reading);
    (void)fclose(reading.file);
    err = err == ERR_OK ? check_all(&reading) : err;
    return err == ERR_OK ? ERR_OK : refused(&reading);
}

size_t config_segment_bytes(const struct config *config)
{
    uint64_t bytes = config->log_keep_bytes / KEPT_SEGMENTS;

    return bytes < LOG_SEGMENT_BYTES ? (size_t)bytes : LOG_SEGMENT_BYTES;
}
