/* SPDX-License-Identifier: Apache-2.0
 *
 * Text for terminals and scripts. Called by quorumctl and the mount.
 */
#include "common/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 character at `bytes`; 0: none. Overlong forms and surrogates are none. */
static size_t utf8_len(const uint8_t *bytes, size_t len)
{
    static const struct {
        uint8_t mask, lead;
        size_t len;
        uint32_t min;
    } forms[] = {{0x80, 0x00, 1, 0},
                 {0xE0, 0xC0, 2, 0x80},
                 {0xF0, 0xE0, 3, 0x800},
                 {0xF8, 0xF0, 4, 0x10000}};

    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if ((bytes[0] & forms[f].mask) != forms[f].lead || len < forms[f].len) {
            continue;
        }
        uint32_t point = bytes[0] & (uint8_t)~forms[f].mask;
        for (size_t i = 1; i < forms[f].len; i++) {
            if ((bytes[i] & 0xC0) != 0x80) {
                return 0;
            }
            point = point << 6 | (bytes[i] & 0x3Fu);
        }
        bool is_surrogate = point >= 0xD800 && point <= 0xDFFF;
        return point >= forms[f].min && point <= 0x10FFFF && !is_surrogate ? forms[f].len : 0;
    }
    return 0;
}

enum err text_escape(struct buffer *out, const void *bytes, size_t len, bool blanks_too)
{
    const uint8_t *at = bytes;
    enum err err = ERR_OK;

    while (len > 0 && err == ERR_OK) {
        size_t step = utf8_len(at, len);
        bool is_control = at[0] < 0x20 || at[0] == 0x7F || at[0] == '\\' ||
                          (step == 2 && at[0] == 0xC2 && at[1] < 0xA0);
        if (step == 0 || is_control || (blanks_too && at[0] == ' ')) {
            err = buffer_printf(out, "\\x%02x", at[0]);
            step = 1;
        } else {
            err = buffer_append(out, at, step);
        }
        at += step;
        len -= step;
    }
    return err;
}

#define NO_DIGIT 16u

static unsigned hex_digit(char letter)
{
    if (letter >= '0' && letter <= '9') {
        return (unsigned)(letter - '0');
    }
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? (unsigned)(letter - 'a') + 10u : NO_DIGIT;
}

/* The byte that the escape at `text` stands for, and its length; 0: it is none. */
static size_t escape_at(const char *text, size_t len, uint8_t *out)
{
    if (len >= 2 && text[1] == '\\') {
        *out = '\\';
        return 2;
    }
    if (len >= 2 && text[1] == 'n') {
        *out = '\n';
        return 2;
    }
    if (len < 4 || text[1] != 'x' || hex_digit(text[2]) == NO_DIGIT ||
        hex_digit(text[3]) == NO_DIGIT) {
        return 0;
    }
    *out = (uint8_t)(hex_digit(text[2]) << 4 | hex_digit(text[3]));
    return 4;
}

enum err text_unescape(struct buffer *out, const char *text, size_t len)
{
    enum err err = ERR_OK;

    while (len > 0 && err == ERR_OK) {
        const char *backslash = memchr(text, '\\', len);
        size_t plain = backslash != NULL ? (size_t)(backslash - text) : len;
        uint8_t byte = 0;
        err = buffer_append(out, text, plain);
        text += plain;
        len -= plain;
        if (len > 0 && err == ERR_OK) {
            size_t step = escape_at(text, len, &byte);
            err = step != 0 ? buffer_append_u8(out, byte) : ERR_INVALID;
            text += step;
            len -= step;
        }
    }
    return err;
}
