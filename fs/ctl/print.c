/* SPDX-License-Identifier: Apache-2.0
 *
 * How values look, as text and as JSON. Called by the files of the commands.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/buffer.h"
#include "common/text.h"
#include "fs/ctl/ctl.h"

#define NS_PER_S 1000000000

void ctl_print_name(const void *bytes, size_t len)
{
    struct buffer text = {0};

    if (text_escape(&text, bytes, len, /* blanks too */ false) == ERR_OK) {
        (void)fwrite(text.data, 1, text.len, stdout);
    }
    buffer_done(&text);
}

void ctl_json_number(json_t *object, const char *key, uint64_t value)
{
    /* JSON integers of jansson are signed: an incarnation may need all 64 bits. */
    char text[24];

    if (value <= INT64_MAX) {
        (void)json_object_set_new(object, key, json_integer((json_int_t)value));
    } else {
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
        (void)json_object_set_new(object, key, json_string(text));
    }
}

void ctl_json_bytes(json_t *object, const char *key, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    json_t *text = json_stringn(len > 0 ? bytes : "", len);
    struct buffer hex = {0};
    char hex_key[64];

    if (text != NULL) {
        (void)json_object_set_new(object, key, text);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        (void)buffer_printf(&hex, "%02x", from[i]);
    }
    (void)snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    (void)json_object_set_new(object, hex_key, json_stringn((const char *)hex.data, hex.len));
    buffer_done(&hex);
}

json_t *ctl_json_attr(const Wire__Attr *attr)
{
    json_t *object = json_object();
    char mode[16];
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"uid", attr->uid},         {"gid", attr->gid},           {"bytes", attr->data_bytes},
        {"version", attr->version}, {"cversion", attr->cversion}, {"aversion", attr->aversion},
        {"czxid", attr->czxid},     {"mzxid", attr->mzxid},       {"pzxid", attr->pzxid},
        {"azxid", attr->azxid},     {"children", attr->children}, {"subdirs", attr->subdirs},
        {"owner", attr->owner},     {"ino", attr->ino},           {"parent", attr->parent},
    };
    const struct {
        const char *key;
        int64_t value;
    } times[] = {
        {"atime_ns", attr->atime_ns},
        {"mtime_ns", attr->mtime_ns},
        {"children_mtime_ns", attr->children_mtime_ns},
        {"ctime_ns", attr->ctime_ns},
        {"birth_ns", attr->birth_ns},
    };

    (void)json_object_set_new(object, "kind", json_string(ctl_kind_name(attr->kind)));
    (void)snprintf(mode, sizeof mode, "%04o", attr->mode);
    (void)json_object_set_new(object, "mode", json_string(mode));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ctl_json_number(object, numbers[i].key, numbers[i].value);
    }
    (void)json_object_set_new(object, "has_xattrs", json_boolean(attr->has_xattrs));
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        (void)json_object_set_new(object, times[i].key, json_integer(times[i].value));
    }
    return object;
}

void ctl_json_print(json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(value);
}

const char *ctl_kind_name(Wire__Kind kind)
{
    switch (kind) {
    case WIRE__KIND__KIND_PLAIN:
        return "plain";
    case WIRE__KIND__KIND_FILE:
        return "file";
    case WIRE__KIND__KIND_DIR:
        return "dir";
    case WIRE__KIND__KIND_SYMLINK:
        return "symlink";
    case WIRE__KIND__KIND_FIFO:
        return "fifo";
    case WIRE__KIND__KIND_SOCKET:
        return "socket";
    case WIRE__KIND__KIND_CHAR_DEVICE:
        return "char device";
    case WIRE__KIND__KIND_BLOCK_DEVICE:
        return "block device";
    case WIRE__KIND__KIND_NONE:
    case _WIRE__KIND_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static char kind_letter(Wire__Kind kind)
{
    switch (kind) {
    case WIRE__KIND__KIND_PLAIN:
        return 'z'; /* of a ZooKeeper client: file and directory in one */
    case WIRE__KIND__KIND_FILE:
        return '-';
    case WIRE__KIND__KIND_DIR:
        return 'd';
    case WIRE__KIND__KIND_SYMLINK:
        return 'l';
    case WIRE__KIND__KIND_FIFO:
        return 'p';
    case WIRE__KIND__KIND_SOCKET:
        return 's';
    case WIRE__KIND__KIND_CHAR_DEVICE:
        return 'c';
    case WIRE__KIND__KIND_BLOCK_DEVICE:
        return 'b';
    case WIRE__KIND__KIND_NONE:
    case _WIRE__KIND_IS_INT_SIZE:
        break;
    }
    return '?';
}

void ctl_mode_text(const Wire__Attr *attr, char out[11])
{
    static const char letters[] = "rwxrwxrwx";
    static const struct {
        uint32_t bit;
        size_t at;
        char with_x, without_x;
    } special[] = {{04000, 3, 's', 'S'}, {02000, 6, 's', 'S'}, {01000, 9, 't', 'T'}};

    memcpy(out, "----------", 11);
    out[0] = kind_letter(attr->kind);
    for (size_t i = 0; i < 9; i++) {
        if ((attr->mode & (0400u >> i)) != 0) {
            out[i + 1] = letters[i];
        }
    }
    for (size_t i = 0; i < 3; i++) {
        char *to = &out[special[i].at];
        if ((attr->mode & special[i].bit) == 0) {
            continue;
        }
        if (*to == 'x') {
            *to = special[i].with_x;
        } else {
            *to = special[i].without_x;
        }
    }
}

void ctl_time_text(int64_t time_ns, char out[40])
{
    int64_t seconds = time_ns / NS_PER_S;
    int64_t rest_ns = time_ns % NS_PER_S;
    struct tm parts;
    char date[24] = "?";

    if (rest_ns < 0) {
        rest_ns += NS_PER_S;
        seconds--;
    }
    time_t when = (time_t)seconds;
    if (gmtime_r(&when, &parts) != NULL) {
        (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &parts);
    }
    (void)snprintf(out, 40, "%s.%09u UTC", date, (unsigned)rest_ns);
}
