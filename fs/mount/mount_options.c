/* SPDX-License-Identifier: Apache-2.0
 *
 * From argv to struct mount_options, for main.c. An option once released keeps its meaning.
 *
 * `mount -t quorumfs` and fstab call this program as mount.quorumfs SOURCE TARGET -o OPTIONS and
 * hand over options that are not ours; those that mean something to nobody here are accepted.
 */
#include "fs/mount/mount_options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/parse.h"
#include "common/path.h"

#define TIMEO_S_DEFAULT 10u
#define TIMEO_S_MAX     86400u
#define PORT_DEFAULT    2181u
#define CACHE_BYTES_MIN MIB
#define CACHE_BYTES_MAX (1024ull * 1024u * MIB)

const char mount_options_help[] =
    "Usage: quorumfs [OPTION]... SERVERS[/SUBTREE] MOUNTPOINT\n"
    "Mount the tree of a quorumfs ensemble.\n"
    "\n"
    "SERVERS is a list HOST[:PORT],... or unix:PATH,... of replicas, tried in order.\n"
    "\n"
    "  -f, --foreground       stay in the foreground\n"
    "  -d, --debug            foreground, and log each step\n"
    "  -o OPTION[,OPTION]...  mount options, see below\n"
    "  -h, --help             show this help\n"
    "  -V, --version          show the version\n"
    "\n"
    "Mount options:\n"
    "  ro, rw                 read only; read and write (default)\n"
    "  timeo=S                give up after S seconds without a leader (default 10)\n"
    "  soft, hard             give up after timeo (default); wait for ever\n"
    "  sync                   publish every write before it returns\n"
    "  read=cached|pinned     pinned: never read through the page cache\n"
    "  inotify=full|off       watchers see what other hosts change (default); or not\n"
    "  nolock                 flock and fcntl answer ENOLCK\n"
    "  consistency=sequential|linearizable\n"
    "                         linearizable: every open and lookup asks the leader\n"
    "  session_timeout=S      seconds after which a lost mount is given up\n"
    "  cache=BYTES            keep contents up to this sum (default 64M)\n"
    "  uid=N, gid=N, umask=M  show all files with this owner, group, mode\n"
    "  name=NAME              this host's name for holders (default its host name)\n"
    "  subtree=PATH           mount this directory (needed after unix:PATH)\n"
    "  allow_other            other users may enter (default for root)\n"
    "  default_permissions    the kernel checks modes (default for root)\n"
    "  fsname=NAME            name shown in /proc/mounts (default SERVERS)\n"
    "  log=FILE               append log lines to FILE\n"
    "  [no]suid [no]dev [no]exec [no]atime\n"
    "                         as for mount(8)\n";

/* Options of fstab and mount(8) that ask nothing of us. */
static const char *const options_ignored[] = {
    "defaults", "auto",   "noauto",   "user",     "nouser",     "users", "owner",
    "_netdev",  "nofail", "relatime", "lazytime", "norelatime", "group", "strictatime"};

/* Handed on to the kernel as they are. */
static const char *const options_kernel[] = {"suid",   "nosuid",  "dev",   "nodev",     "exec",
                                             "noexec", "noatime", "atime", "nodiratime"};

static bool is_one_of(const char *const *list, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], word) == 0) {
            return true;
        }
    }
    return false;
}

static enum err replace_string(char **to, const char *from)
{
    char *copy = strdup(from);
    if (copy == NULL) {
        return ERR_MEMORY;
    }
    free(*to);
    *to = copy;
    return ERR_OK;
}

static enum err parse_seconds(const char *name, const char *value, uint64_t min, uint64_t max,
                              uint32_t *out_ms, struct buffer *error)
{
    uint64_t seconds = 0;
    if (parse_u64(value, min, max, &seconds) != ERR_OK) {
        (void)buffer_printf(error, "%s must be a number of seconds from %llu to %llu, not '%s'",
                            name, (unsigned long long)min, (unsigned long long)max, value);
        return ERR_INVALID;
    }
    *out_ms = (uint32_t)(seconds * 1000u);
    return ERR_OK;
}

/* name=first or name=second. */
static enum err parse_choice(const char *name, const char *value, const char *first,
                             const char *second, bool *out_second, struct buffer *error)
{
    if (strcmp(value, first) != 0 && strcmp(value, second) != 0) {
        (void)buffer_printf(error, "%s must be %s or %s, not '%s'", name, first, second, value);
        return ERR_INVALID;
    }
    *out_second = strcmp(value, second) == 0;
    return ERR_OK;
}

static enum err parse_id(const char *name, const char *value, bool *out_given, uint32_t *out_id,
                         struct buffer *error)
{
    uint64_t id = 0;
    /* The highest number means "none" to chown(2). */
    if (parse_u64(value, 0, UINT32_MAX - 1, &id) != ERR_OK) {
        (void)buffer_printf(error, "%s must be a number, not '%s'", name, value);
        return ERR_INVALID;
    }
    *out_given = true;
    *out_id = (uint32_t)id;
    return ERR_OK;
}

static enum err parse_umask(const char *value, struct mount_options *out, struct buffer *error)
{
    uint32_t mask = 0;
    if (parse_mode(value, &mask) != ERR_OK || mask > 0777u) {
        (void)buffer_printf(error, "umask must be an octal number up to 777, not '%s'", value);
        return ERR_INVALID;
    }
    out->show_mode = true;
    out->mode = 0777u & ~mask;
    return ERR_OK;
}

static enum err parse_cache(const char *value, struct mount_options *out, struct buffer *error)
{
    if (parse_bytes(value, CACHE_BYTES_MIN, CACHE_BYTES_MAX, &out->cache_bytes) != ERR_OK) {
        (void)buffer_printf(error, "cache must be a number of bytes from 1M to 1024G, not '%s'",
                            value);
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* What all files are shown as. */
static enum err take_shown(struct mount_options *out, const char *name, const char *value,
                           bool *out_known, struct buffer *error)
{
    *out_known = true;
    if (strcmp(name, "uid") == 0) {
        return parse_id(name, value, &out->show_uid, &out->uid, error);
    }
    if (strcmp(name, "gid") == 0) {
        return parse_id(name, value, &out->show_gid, &out->gid, error);
    }
    if (strcmp(name, "umask") == 0) {
        return parse_umask(value, out, error);
    }
    *out_known = false;
    return ERR_OK;
}

static enum err take_with_value(struct mount_options *out, const char *name, const char *value,
                                struct buffer *error)
{
    bool known = false;
    enum err err = take_shown(out, name, value, &known, error);
    if (known) {
        return err;
    }
    if (strcmp(name, "cache") == 0) {
        return parse_cache(value, out, error);
    }
    if (strcmp(name, "name") == 0) {
        return replace_string(&out->name, value);
    }
    if (strcmp(name, "timeo") == 0) {
        return parse_seconds(name, value, 1, TIMEO_S_MAX, &out->timeo_ms, error);
    }
    if (strcmp(name, "session_timeout") == 0) {
        return parse_seconds(name, value, SESSION_TIMEOUT_MS_MIN / 1000u,
                             SESSION_TIMEOUT_MS_MAX / 1000u, &out->session_timeout_ms, error);
    }
    if (strcmp(name, "read") == 0) {
        return parse_choice(name, value, "cached", "pinned", &out->read_pinned, error);
    }
    if (strcmp(name, "inotify") == 0) {
        return parse_choice(name, value, "full", "off", &out->inotify_off, error);
    }
    if (strcmp(name, "consistency") == 0) {
        return parse_choice(name, value, "sequential", "linearizable", &out->linearizable, error);
    }
    if (strcmp(name, "subtree") == 0) {
        return replace_string(&out->subtree, value);
    }
    if (strcmp(name, "fsname") == 0) {
        return replace_string(&out->fsname, value);
    }
    if (strcmp(name, "log") == 0) {
        return replace_string(&out->log, value);
    }
    if (strcmp(name, "comment") == 0) {
        return ERR_OK;
    }
    (void)buffer_printf(error, "unknown mount option '%s'", name);
    return ERR_INVALID;
}

static enum err take_word(struct mount_options *out, const char *word, struct buffer *error)
{
    const struct {
        const char *word;
        bool *flag;
        bool value;
    } flags[] = {
        {"ro", &out->read_only, true},
        {"rw", &out->read_only, false},
        {"allow_other", &out->allow_other, true},
        {"default_permissions", &out->default_permissions, true},
        {"hard", &out->hard, true},
        {"soft", &out->hard, false},
        {"nolock", &out->nolock, true},
        {"sync", &out->sync, true},
        {"async", &out->sync, false},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(flags[i].word, word) == 0) {
            *flags[i].flag = flags[i].value;
            return ERR_OK;
        }
    }
    if (is_one_of(options_kernel, sizeof options_kernel / sizeof options_kernel[0], word)) {
        return buffer_printf(&out->kernel, ",%s", word);
    }
    if (strncmp(word, "x-", 2) == 0 ||
        is_one_of(options_ignored, sizeof options_ignored / sizeof options_ignored[0], word)) {
        return ERR_OK;
    }
    (void)buffer_printf(error, "unknown mount option '%s'", word);
    return ERR_INVALID;
}

/* One -o argument: words and name=value, parted by commas; `\,` is a comma in a value. */
static enum err take_list(struct mount_options *out, const char *list, struct buffer *error)
{
    enum err err = ERR_OK;
    char *word = malloc(strlen(list) + 1);
    if (word == NULL) {
        return ERR_MEMORY;
    }
    while (*list != '\0' && err == ERR_OK) {
        size_t len = 0;
        for (; *list != '\0' && *list != ','; list++) {
            if (list[0] == '\\' && list[1] == ',') {
                list++;
            }
            word[len++] = *list;
        }
        word[len] = '\0';
        list += *list == ',';
        char *value = strchr(word, '=');
        if (len == 0) {
            continue;
        }
        if (value != NULL && strncmp(word, "x-", 2) != 0) {
            *value = '\0';
            err = take_with_value(out, word, value + 1, error);
        } else {
            err = take_word(out, word, error);
        }
    }
    free(word);
    return err;
}

/* Checks each address. */
static enum err check_servers(const char *servers, struct buffer *error)
{
    char address[PATH_BYTES_MAX];
    char host[PATH_BYTES_MAX];
    uint16_t port = 0;
    const char *from = servers;
    while (true) {
        size_t len = strcspn(from, ",");
        if (len >= sizeof address) {
            (void)buffer_printf(error, "the address of a server is too long");
            return ERR_INVALID;
        }
        memcpy(address, from, len);
        address[len] = '\0';
        if (parse_address(address, PORT_DEFAULT, host, sizeof host, &port) != ERR_OK) {
            (void)buffer_printf(error, "'%s' is not the address of a server", address);
            return ERR_INVALID;
        }
        if (from[len] == '\0') {
            return ERR_OK;
        }
        from += len + 1;
    }
}

/* Parts SERVERS from /SUBTREE: the first slash of the last address, unless that is unix:PATH. */
static enum err take_source(struct mount_options *out, const char *source, struct buffer *error)
{
    const char *last = strrchr(source, ',');
    last = last == NULL ? source : last + 1;
    const char *slash = strncmp(last, "unix:", 5) == 0 ? NULL : strchr(last, '/');
    enum err err = replace_string(&out->servers, source);
    if (err != ERR_OK) {
        return err;
    }
    if (slash != NULL) {
        out->servers[slash - source] = '\0';
        err = replace_string(&out->subtree, slash);
    }
    if (err == ERR_OK && out->fsname == NULL) {
        err = replace_string(&out->fsname, source);
    }
    return err == ERR_OK ? check_servers(out->servers, error) : err;
}

static enum err check_subtree(struct mount_options *out, struct buffer *error)
{
    if (out->subtree == NULL) {
        return replace_string(&out->subtree, "/");
    }
    size_t len = strlen(out->subtree);
    while (len > 1 && out->subtree[len - 1] == '/') {
        out->subtree[--len] = '\0';
    }
    if (path_check(out->subtree, len) != ERR_OK) {
        (void)buffer_printf(error, "'%s' is not an absolute path of the tree", out->subtree);
        return ERR_INVALID;
    }
    return ERR_OK;
}

static enum err take_arguments(int argc, char *const *argv, struct mount_options *out,
                               struct buffer *error)
{
    static const struct option options_long[] = {
        {"foreground", no_argument, NULL, 'f'},    {"debug", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},          {"version", no_argument, NULL, 'V'},
        {"options", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
    enum err err = ERR_OK;
    int option = 0;
    optind = 0; /* glibc: begin anew, also when a test calls twice. */
    opterr = 0;
    /* -s, -n and -v come from mount(8). */
    while (err == ERR_OK &&
           (option = getopt_long(argc, argv, ":fdhVsnvo:", options_long, NULL)) != -1) {
        switch (option) {
        case 'f':
            out->foreground = true;
            break;
        case 'd':
            out->debug = true;
            out->foreground = true;
            break;
        case 'h':
            out->help = true;
            return ERR_OK;
        case 'V':
            out->version = true;
            return ERR_OK;
        case 'o':
            err = take_list(out, optarg, error);
            break;
        case 's':
        case 'n':
        case 'v':
            break;
        case ':':
            (void)buffer_printf(error, "option '%s' needs an argument", argv[optind - 1]);
            return ERR_INVALID;
        default:
            (void)buffer_printf(error, "unknown option '%s'", argv[optind - 1]);
            return ERR_INVALID;
        }
    }
    return err;
}

enum err mount_options_parse(int argc, char *const *argv, bool root, struct mount_options *out,
                             struct buffer *error)
{
    *out = (struct mount_options){
        .timeo_ms = TIMEO_S_DEFAULT * 1000u,
        .allow_other = root,
        .default_permissions = root,
        .cache_bytes = CONTENT_CACHE_BYTES_MAX,
    };
    enum err err = take_arguments(argc, argv, out, error);
    if (err != ERR_OK || out->help || out->version) {
        return err;
    }
    if (argc - optind != 2) {
        (void)buffer_printf(error, "%s",
                            argc - optind < 2 ? "SERVERS and MOUNTPOINT are needed"
                                              : "too many arguments");
        return ERR_INVALID;
    }
    err = take_source(out, argv[optind], error);
    if (err == ERR_OK) {
        err = check_subtree(out, error);
    }
    if (err == ERR_OK) {
        err = replace_string(&out->mountpoint, argv[optind + 1]);
    }
    return err;
}

void mount_options_done(struct mount_options *options)
{
    free(options->servers);
    free(options->subtree);
    free(options->mountpoint);
    free(options->fsname);
    free(options->log);
    free(options->name);
    buffer_done(&options->kernel);
    *options = (struct mount_options){0};
}
