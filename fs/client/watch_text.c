/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes as lines of text. Pure.
 */
#include "fs/client/watch_text.h"

#include <string.h>

#include "common/text.h"

const char *watch_text_event(const Wire__Change *change)
{
    switch (change->kind) {
    case WIRE__EVENT_KIND__EVENT_CREATED:
        return "created";
    case WIRE__EVENT_KIND__EVENT_DATA:
        return "data";
    case WIRE__EVENT_KIND__EVENT_ATTR:
        return "attr";
    case WIRE__EVENT_KIND__EVENT_REMOVED:
        return "removed";
    case WIRE__EVENT_KIND__EVENT_RENAMED:
        return change->exchanged ? "exchanged" : "renamed";
    case WIRE__EVENT_KIND__EVENT_LOCK_GRANTED:
    case WIRE__EVENT_KIND__EVENT_NONE:
    case WIRE__EVENT_KIND__EVENT_RESYNC:
    case WIRE__EVENT_KIND__EVENT_REVOKED:
    case _WIRE__EVENT_KIND_IS_INT_SIZE:
        break;
    }
    return "unknown";
}

static enum err append_path(const ProtobufCBinaryData *path, const char *root, struct buffer *out)
{
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (path->len < len || memcmp(path->data, root, len) != 0 ||
        (path->len > len && path->data[len] != '/')) {
        return buffer_append(out, "-", 1);
    }
    if (path->len == len) {
        return buffer_append(out, "/", 1);
    }
    return text_escape(out, path->data + len, path->len - len, true /* blanks_too */);
}

enum err watch_text_change(const Wire__Change *change, const char *root, struct buffer *out)
{
    enum err err =
        buffer_printf(out, "%llu %s ", (unsigned long long)change->zxid, watch_text_event(change));
    if (err == ERR_OK) {
        err = append_path(&change->path, root, out);
    }
    if (err == ERR_OK) {
        err = buffer_printf(out, " %u", change->version);
    }
    if (err == ERR_OK && change->to_path.len > 0) {
        err = buffer_append(out, " ", 1);
        err = err == ERR_OK ? append_path(&change->to_path, root, out) : err;
    }
    return err == ERR_OK ? buffer_append(out, "\n", 1) : err;
}

enum err watch_text_gap(uint64_t from, uint64_t to, struct buffer *out)
{
    return buffer_printf(out, "%llu gap %llu-%llu\n", (unsigned long long)to,
                         (unsigned long long)from, (unsigned long long)to);
}
