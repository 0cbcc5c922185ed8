/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of `.quorumfs/ctl`. Handed them by ctl.c.
 */
#include "fs/mount/ctl_line.h"

#include <string.h>

#include "common/check.h"
#include "common/parse.h"
#include "common/text.h"

#define FILE_MODE 0644u
#define DIR_MODE  0755u

enum takes {
    TAKES_PATH = 1,
    TAKES_DATA = 2,
    TAKES_VERSION = 4,
    TAKES_KIND = 8, /* -s -e -d */
};

static const struct verb {
    const char *name;
    enum ctl_verb verb;
    unsigned takes;
} verbs[] = {
    {"create", CTL_CREATE, TAKES_PATH | TAKES_DATA | TAKES_KIND},
    {"set", CTL_SET, TAKES_PATH | TAKES_DATA | TAKES_VERSION},
    {"delete", CTL_DELETE, TAKES_PATH | TAKES_VERSION},
    {"check", CTL_CHECK, TAKES_PATH | TAKES_VERSION},
    {"sync", CTL_SYNC, 0},
    {"multi", CTL_MULTI, 0},
    {"commit", CTL_COMMIT, 0},
    {"abort", CTL_ABORT, 0},
};

struct word {
    const char *text;
    size_t len;
};

/* What is left of the line. */
struct rest {
    const char *text;
    size_t len;
};

static void skip_blanks(struct rest *rest)
{
    while (rest->len > 0 && (*rest->text == ' ' || *rest->text == '\t')) {
        rest->text++;
        rest->len--;
    }
}

/* The next word, empty at the end, with one blank behind it taken too. */
static struct word take_word(struct rest *rest)
{
    struct word word = {.text = NULL};
    skip_blanks(rest);
    word.text = rest->text;
    while (rest->len > 0 && *rest->text != ' ' && *rest->text != '\t') {
        rest->text++;
        rest->len--;
    }
    word.len = (size_t)(rest->text - word.text);
    if (rest->len > 0) {
        rest->text++;
        rest->len--;
    }
    return word;
}

static bool word_is(struct word word, const char *text)
{
    return word.len == strlen(text) && memcmp(word.text, text, word.len) == 0;
}

static bool word_is_version(struct word word, uint32_t *out)
{
    char text[16];
    uint64_t number = 0;
    if (word.len >= sizeof text) {
        return false;
    }
    memcpy(text, word.text, word.len);
    text[word.len] = '\0';
    if (parse_u64(text, 0, UINT32_MAX, &number) != ERR_OK) {
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

/* An option of the verb. Returns why not, or NULL. */
static const char *take_option(const struct verb *verb, struct word word, struct rest *rest,
                               struct ctl_line *out)
{
    bool of_kind = (verb->takes & TAKES_KIND) != 0;
    if (of_kind && word_is(word, "-s")) {
        out->sequential = true;
    } else if (of_kind && word_is(word, "-e")) {
        out->ephemeral = true;
    } else if (of_kind && word_is(word, "-d")) {
        out->directory = true;
    } else if ((verb->takes & TAKES_VERSION) != 0 && word_is(word, "-v")) {
        if (!word_is_version(take_word(rest), &out->version)) {
            return "-v needs a version";
        }
        out->if_version = true;
    } else {
        return "unknown option";
    }
    return NULL;
}

static enum err take_path(struct word word, const char *root, struct buffer *out)
{
    if (word.len == 0 || word.text[0] != '/') {
        return ERR_INVALID;
    }
    enum err err = strcmp(root, "/") == 0 ? ERR_OK : buffer_append(out, root, strlen(root));
    /* The root of a mount that is not that of the tree has no `/` behind it. */
    bool is_root = word.len == 1 && out->len > 0;
    return err == ERR_OK && !is_root ? text_unescape(out, word.text, word.len) : err;
}

/* Options, path and data. ERR_INVALID with the reason. */
static enum err take_words(const struct verb *verb, struct rest *rest, const char *root,
                           struct ctl_line *out, const char **out_reason)
{
    struct word word = take_word(rest);
    enum err err = ERR_OK;
    while (word.len > 1 && word.text[0] == '-') {
        *out_reason = take_option(verb, word, rest, out);
        if (*out_reason != NULL) {
            return ERR_INVALID;
        }
        word = take_word(rest);
    }
    if ((verb->takes & TAKES_PATH) != 0) {
        *out_reason = "a path is needed that begins with /, with \\xNN for what is not plain";
        err = take_path(word, root, &out->path);
        word = (struct word){.text = NULL};
    }
    if (err == ERR_OK && (verb->takes & TAKES_DATA) != 0) {
        *out_reason = "\\ may stand before \\, n and xNN only";
        err = text_unescape(&out->data, rest->text, rest->len);
        *rest = (struct rest){.text = NULL};
    }
    skip_blanks(rest);
    if (err == ERR_OK && (word.len != 0 || rest->len != 0)) {
        *out_reason = "too many words";
        err = ERR_INVALID;
    }
    return err;
}

enum err ctl_line_parse(const char *text, size_t len, const char *root, struct ctl_line *out,
                        const char **out_reason)
{
    struct rest rest = {.text = text, .len = len};
    struct word word = take_word(&rest);
    *out = (struct ctl_line){.verb = CTL_SYNC};
    *out_reason = "unknown command: create set delete check multi commit abort sync";
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (word_is(word, verbs[i].name)) {
            out->verb = verbs[i].verb;
            return take_words(&verbs[i], &rest, root, out, out_reason);
        }
    }
    return ERR_INVALID;
}

void ctl_line_done(struct ctl_line *line)
{
    buffer_done(&line->path);
    buffer_done(&line->data);
}

bool ctl_line_has_part(const struct ctl_line *line)
{
    return line->verb == CTL_CREATE || line->verb == CTL_SET || line->verb == CTL_DELETE ||
           line->verb == CTL_CHECK;
}

static void make_create(const struct ctl_line *line, const struct ctl_maker *maker,
                        struct ctl_part *out)
{
    wire__create_op__init(&out->create);
    out->create.at = &out->at;
    out->create.kind = line->directory ? WIRE__KIND__KIND_DIR : WIRE__KIND__KIND_FILE;
    out->create.mode = line->directory ? DIR_MODE : FILE_MODE;
    out->create.uid = maker->uid;
    out->create.gid = maker->gid;
    out->create.data = wire_bytes(line->data.data, line->data.len);
    out->create.sequential = line->sequential;
    out->create.ephemeral = line->ephemeral;
    if (line->ephemeral) {
        out->create.holder = wire_bytes(maker->holder, strlen(maker->holder));
    }
    out->part.body_case = WIRE__PART__BODY_CREATE;
    out->part.create = &out->create;
}

static void make_write(const struct ctl_line *line, struct ctl_part *out)
{
    wire__write_op__init(&out->write);
    out->write.at = &out->at;
    out->write.truncate = true;
    out->write.append = wire_bytes(line->data.data, line->data.len);
    out->write.if_version = line->if_version;
    out->write.version = line->version;
    out->part.body_case = WIRE__PART__BODY_WRITE;
    out->part.write = &out->write;
}

static void make_remove(const struct ctl_line *line, struct ctl_part *out)
{
    wire__remove_op__init(&out->remove);
    out->remove.at = &out->at;
    out->remove.if_version = line->if_version;
    out->remove.version = line->version;
    out->part.body_case = WIRE__PART__BODY_REMOVE;
    out->part.remove = &out->remove;
}

static void make_check(const struct ctl_line *line, struct ctl_part *out)
{
    wire__check_op__init(&out->check);
    out->check.at = &out->at;
    out->check.if_version = line->if_version;
    out->check.version = line->version;
    out->part.body_case = WIRE__PART__BODY_CHECK;
    out->part.check = &out->check;
}

void ctl_line_part(const struct ctl_line *line, const struct ctl_maker *maker, struct ctl_part *out)
{
    CHECK(ctl_line_has_part(line));
    wire__part__init(&out->part);
    wire__address__init(&out->at);
    out->at.path = wire_bytes(line->path.data, line->path.len);
    if (line->verb == CTL_CREATE) {
        make_create(line, maker, out);
    } else if (line->verb == CTL_SET) {
        make_write(line, out);
    } else if (line->verb == CTL_DELETE) {
        make_remove(line, out);
    } else {
        make_check(line, out);
    }
}
