/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The HTTP/1.1 parser: a state machine over pushed bytes. The head is collected whole (it is at
 * most HTTP1_HEAD_MAX) and cut into strings in place; the body is never copied, its parts point
 * into the caller's input. Between messages the parser holds no memory.
 *
 * Framing is where request smuggling lives, so whatever two readers could understand differently is
 * refused: both lengths and chunks, lengths that differ, folded lines, blanks before the colon,
 * control characters, and for requests a bare LF.
 */

#include "codec/http1.h"

#include "base/str.h"

#include <assert.h>
#include <strings.h>

enum {
        STATE_HEAD,
        STATE_LENGTH,
        STATE_UNTIL_CLOSE,
        STATE_CHUNK_SIZE,
        STATE_CHUNK_DATA,
        STATE_CHUNK_END,
        STATE_TRAILER,
        STATE_END,
        STATE_SWITCHED,
};

#define BLANK_LINES_MAX 2

static bool is_token_char(unsigned char c)
{
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
                return true;
        return c != '\0' && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(const char *s)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if (!is_token_char((unsigned char)*s))
                        return false;
        return true;
}

static bool is_value(const char *s)
{
        for (; *s; s++)
                if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
                        return false;
        return true;
}

bool http_target_is_valid(const char *s)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if ((unsigned char)*s <= 0x20 || *s == 0x7f)
                        return false;
        return true;
}

const char *http_header_get(const HttpHeader *headers, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (strcasecmp(headers[i].name, name) == 0)
                        return headers[i].value;
        return NULL;
}

bool http_list_has(const char *list, const char *token)
{
        size_t n = strlen(token);

        while (list && *list) {
                size_t len;

                list += strspn(list, ", \t");
                len = strcspn(list, ", \t");
                if (len == n && strncasecmp(list, token, n) == 0)
                        return true;
                list += len;
        }
        return false;
}

void http1_parser_init(Http1Parser *p, Http1Kind kind)
{
        *p = (Http1Parser){ .kind = kind, .text = BUF_INIT_LIMIT(HTTP1_HEAD_MAX) };
}

static void parser_next_head(Http1Parser *p)
{
        free(p->head.headers);
        buf_deinit(&p->text);
        p->head = (Http1Head){ 0 };
        p->state = STATE_HEAD;
        p->line_len = p->line_total = 0;
        p->left = 0;
}

void http1_parser_deinit(Http1Parser *p)
{
        parser_next_head(p);
}

void http1_parser_expect(Http1Parser *p, const char *method)
{
        p->no_body = str_eq(method, "HEAD");
        p->connect = str_eq(method, "CONNECT");
}

bool http1_parser_idle(const Http1Parser *p)
{
        return p->state == STATE_HEAD && p->text.len == 0;
}

/* --- the head --- */

static int parse_version(const char *s, int *ret_minor)
{
        if (strncmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1') || s[8])
                return -EPROTO;
        *ret_minor = s[7] - '0';
        return 0;
}

static int parse_request_line(Http1Parser *p, char *line, KlError **err)
{
        char *target = strchr(line, ' ');
        char *version = target ? strchr(target + 1, ' ') : NULL;

        if (!version)
                return kl_error(err, -EPROTO, NULL, "malformed request line");
        *target++ = '\0';
        *version++ = '\0';
        if (!is_token(line) || !http_target_is_valid(target) ||
            parse_version(version, &p->head.minor) < 0)
                return kl_error(err, -EPROTO, NULL, "malformed request line");
        p->head.method = line;
        p->head.target = target;
        return 0;
}

static int parse_status_line(Http1Parser *p, char *line, KlError **err)
{
        char *status = strchr(line, ' ');
        char *reason;
        uint64_t n;

        if (status)
                *status++ = '\0';
        if (!status || parse_version(line, &p->head.minor) < 0)
                return kl_error(err, -EPROTO, NULL, "not an HTTP/1.1 response");
        reason = strchr(status, ' ');
        if (reason)
                *reason++ = '\0';
        if (strlen(status) != 3 || str_to_u64(status, 999, &n) < 0 || n < 100)
                return kl_error(err, -EPROTO, NULL, "malformed status line");
        p->head.status = (int)n;
        p->head.reason = reason && is_value(reason) ? reason : "";
        return 0;
}

static int parse_header_line(Http1Parser *p, char *line, KlError **err)
{
        char *value = strchr(line, ':');
        size_t len;

        if (!value)
                return kl_error(err, -EPROTO, NULL, "malformed header line");
        *value++ = '\0';
        value += strspn(value, " \t");
        for (len = strlen(value); len > 0 && strchr(" \t", value[len - 1]); len--)
                value[len - 1] = '\0';
        if (!is_token(line) || !is_value(value))
                return kl_error(err, -EPROTO, NULL, "malformed header line");
        if (p->head.n_headers == HTTP1_HEADERS_MAX)
                return kl_error(err, -EMSGSIZE, NULL, "more than %d headers", HTTP1_HEADERS_MAX);
        p->head.headers[p->head.n_headers++] = (HttpHeader){ line, value };
        return 0;
}

static int count_lines(const Http1Parser *p)
{
        int n = 0;

        for (size_t i = 0; i < p->text.len && n < HTTP1_HEADERS_MAX; i++)
                n += p->text.data[i] == '\n';
        return n;
}

/* Cuts the collected text into lines; each ends in LF, and in CRLF unless that is tolerated. */
static int parse_head_lines(Http1Parser *p, KlError **err)
{
        char *line = p->text.data, *end = p->text.data + p->text.len;
        bool first = true;
        int r;

        if (memchr(p->text.data, '\0', p->text.len))
                return kl_error(err, -EPROTO, NULL, "NUL in an HTTP head");
        p->head.headers = calloc((size_t)count_lines(p) + 1, sizeof(*p->head.headers));
        if (!p->head.headers)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        while (line < end) {
                char *lf = memchr(line, '\n', (size_t)(end - line));

                assert(lf);
                *lf = '\0';
                if (lf > line && lf[-1] == '\r')
                        lf[-1] = '\0';
                else if (p->kind == HTTP1_REQUEST)
                        return kl_error(err, -EPROTO, NULL, "line ends in a bare LF");
                if (!*line)
                        break;
                if (first)
                        r = p->kind == HTTP1_REQUEST ? parse_request_line(p, line, err)
                                                     : parse_status_line(p, line, err);
                else
                        r = parse_header_line(p, line, err);
                if (r < 0)
                        return r;
                first = false;
                line = lf + 1;
        }
        return 0;
}

static int parse_length(Http1Head *head, const char *value, KlError **err)
{
        uint64_t n;

        if (str_to_u64(value, INT64_MAX, &n) < 0)
                return kl_error(err, -EPROTO, NULL, "malformed Content-Length");
        if (head->content_length >= 0 && (uint64_t)head->content_length != n)
                return kl_error(err, -EPROTO, NULL, "two Content-Length headers that differ");
        head->content_length = (int64_t)n;
        return 0;
}

static int read_framing(Http1Parser *p, KlError **err)
{
        Http1Head *head = &p->head;
        bool close = false, keep = false, upgrade = false;
        int n_hosts = 0, r = 0;

        head->content_length = -1;
        for (size_t i = 0; i < head->n_headers && r == 0; i++) {
                const HttpHeader *h = &head->headers[i];

                if (strcasecmp(h->name, "Content-Length") == 0) {
                        r = parse_length(head, h->value, err);
                } else if (strcasecmp(h->name, "Transfer-Encoding") == 0) {
                        if (head->chunked || strcasecmp(h->value, "chunked") != 0)
                                return kl_error(err, -EPROTO, NULL, "unknown Transfer-Encoding");
                        head->chunked = true;
                } else if (strcasecmp(h->name, "Connection") == 0) {
                        close |= http_list_has(h->value, "close");
                        keep |= http_list_has(h->value, "keep-alive");
                        upgrade |= http_list_has(h->value, "upgrade");
                } else if (strcasecmp(h->name, "Host") == 0) {
                        n_hosts++;
                }
        }
        if (r < 0)
                return r;
        if (head->chunked && (head->content_length >= 0 || head->minor == 0))
                return kl_error(err, -EPROTO, NULL, "Transfer-Encoding where it may not be");
        if (p->kind == HTTP1_REQUEST && (n_hosts > 1 || (n_hosts == 0 && head->minor > 0)))
                return kl_error(err, -EPROTO, NULL, "a request needs one Host header");
        head->keep_alive = !close && (head->minor > 0 || keep);
        if (upgrade)
                head->upgrade = http_header_get(head->headers, head->n_headers, "Upgrade");
        return 0;
}

static bool response_has_no_body(const Http1Parser *p)
{
        int status = p->head.status;

        return p->no_body || status < 200 || status == 204 || status == 304;
}

static int state_after_head(Http1Parser *p)
{
        bool response = p->kind == HTTP1_RESPONSE;

        if (response && (p->head.status == 101 || (p->connect && p->head.status / 100 == 2)))
                return STATE_SWITCHED;
        if (response && response_has_no_body(p))
                return STATE_END;
        if (p->head.chunked)
                return STATE_CHUNK_SIZE;
        if (p->head.content_length > 0) {
                p->left = (uint64_t)p->head.content_length;
                return STATE_LENGTH;
        }
        if (!response || p->head.content_length == 0)
                return STATE_END;
        p->head.keep_alive = false;
        return STATE_UNTIL_CLOSE;
}

/* Collects up to the blank line. */
static int parse_head(Http1Parser *p, const char *data, size_t len, size_t *used, Http1Part *ret,
                      KlError **err)
{
        bool done = false;
        int r;

        /* After an interim response the old head is still there. */
        if (p->head.headers)
                parser_next_head(p);
        while (*used < len && !done) {
                const char *from = data + *used, *lf = memchr(from, '\n', len - *used);
                size_t n = lf ? (size_t)(lf - from) + 1 : len - *used;
                bool blank;

                buf_add(&p->text, from, n);
                if (buf_error(&p->text) == -ENOMEM)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                if (buf_error(&p->text))
                        return kl_error(err, -EMSGSIZE, NULL, "HTTP head larger than %u bytes",
                                        HTTP1_HEAD_MAX);
                *used += n;
                p->line_len += n;
                if (!lf)
                        break;
                blank = p->line_len == 1 ||
                        (p->line_len == 2 && p->text.data[p->text.len - 2] == '\r');
                if (blank && p->text.len == p->line_len) {
                        if (++p->line_total > BLANK_LINES_MAX)
                                return kl_error(err, -EPROTO, NULL, "blank lines before a head");
                        buf_clear(&p->text);
                        blank = false;
                }
                p->line_len = 0;
                done = blank;
        }
        ret->type = HTTP1_MORE;
        if (!done)
                return 0;
        r = parse_head_lines(p, err);
        if (r == 0)
                r = read_framing(p, err);
        if (r < 0)
                return r;
        p->state = state_after_head(p);
        p->line_len = p->line_total = 0;
        if (p->kind == HTTP1_RESPONSE && p->head.status < 200 && p->state == STATE_END)
                p->state = STATE_HEAD;
        ret->type = HTTP1_HEAD;
        return 0;
}

/* --- the body --- */

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* line_len counts digits while they last and is then SIZE_MAX (extension) or SIZE_MAX - 1 (CR). */
#define LINE_EXTENSION SIZE_MAX
#define LINE_CR (SIZE_MAX - 1)

static int chunk_size_char(Http1Parser *p, char c, bool *ret_done, KlError **err)
{
        int digit = hex_digit(c);
        bool digits = p->line_len < LINE_CR;

        if (++p->line_total > HTTP1_CHUNK_LINE_MAX)
                return kl_error(err, -EMSGSIZE, NULL, "chunk line too long");
        if (digits && digit >= 0 && p->line_len < 15) {
                p->left = p->left << 4 | (unsigned int)digit;
                p->line_len++;
                return 0;
        }
        if (p->line_len == 0)
                return kl_error(err, -EPROTO, NULL, "malformed chunk size");
        if (c == '\n' && (p->line_len == LINE_CR || p->kind == HTTP1_RESPONSE)) {
                *ret_done = true;
                return 0;
        }
        if (c == '\r' && p->line_len != LINE_CR) {
                p->line_len = LINE_CR;
                return 0;
        }
        if ((digits && (c == ';' || c == ' ' || c == '\t')) ||
            (p->line_len == LINE_EXTENSION && ((unsigned char)c >= 0x20 || c == '\t'))) {
                p->line_len = LINE_EXTENSION;
                return 0;
        }
        return kl_error(err, -EPROTO, NULL, "malformed chunk size");
}

static int parse_chunk_size(Http1Parser *p, const char *data, size_t len, size_t *used,
                            KlError **err)
{
        bool done = false;
        int r;

        while (*used < len && !done) {
                r = chunk_size_char(p, data[(*used)++], &done, err);
                if (r < 0)
                        return r;
        }
        if (done) {
                p->state = p->left > 0 ? STATE_CHUNK_DATA : STATE_TRAILER;
                p->line_len = p->line_total = 0;
        }
        return 0;
}

static int parse_chunk_end(Http1Parser *p, const char *data, size_t len, size_t *used,
                           KlError **err)
{
        while (*used < len) {
                char c = data[(*used)++];

                if (c == '\r' && p->line_len == 0) {
                        p->line_len = 1;
                        continue;
                }
                if (c != '\n' || (p->line_len == 0 && p->kind == HTTP1_REQUEST))
                        return kl_error(err, -EPROTO, NULL, "malformed chunk end");
                p->state = STATE_CHUNK_SIZE;
                p->line_len = p->line_total = 0;
                p->left = 0;
                return 0;
        }
        return 0;
}

/* Trailers are read over: nobody here needs them. */
static int parse_trailer(Http1Parser *p, const char *data, size_t len, size_t *used, KlError **err)
{
        while (*used < len) {
                char c = data[(*used)++];

                if (++p->line_total > HTTP1_HEAD_MAX)
                        return kl_error(err, -EMSGSIZE, NULL, "HTTP trailers larger than %u bytes",
                                        HTTP1_HEAD_MAX);
                if (c == '\n' && p->line_len == 0) {
                        p->state = STATE_END;
                        return 0;
                }
                if (c == '\n')
                        p->line_len = 0;
                else if (c != '\r')
                        p->line_len++;
        }
        return 0;
}

static void take_body(Http1Parser *p, const char *data, size_t len, size_t *used, Http1Part *ret)
{
        size_t n = len - *used;

        if (p->state != STATE_UNTIL_CLOSE) {
                n = n < p->left ? n : (size_t)p->left;
                p->left -= n;
        }
        *ret = (Http1Part){ .type = HTTP1_BODY, .data = data + *used, .len = n };
        *used += n;
        if (p->state == STATE_LENGTH && p->left == 0)
                p->state = STATE_END;
        if (p->state == STATE_CHUNK_DATA && p->left == 0)
                p->state = STATE_CHUNK_END;
}

/* One step of the machine; ret->type stays HTTP1_MORE where no part came of it. */
static int parse_step(Http1Parser *p, const char *data, size_t len, size_t *used, Http1Part *ret,
                      KlError **err)
{
        switch (p->state) {
        case STATE_HEAD:
                return parse_head(p, data, len, used, ret, err);
        case STATE_CHUNK_SIZE:
                return parse_chunk_size(p, data, len, used, err);
        case STATE_CHUNK_END:
                return parse_chunk_end(p, data, len, used, err);
        case STATE_TRAILER:
                return parse_trailer(p, data, len, used, err);
        default:
                if (*used < len)
                        take_body(p, data, len, used, ret);
                return 0;
        }
}

int http1_parse(Http1Parser *p, const char *data, size_t len, size_t *ret_used, Http1Part *ret,
                KlError **err)
{
        size_t used = 0;
        int r;

        *ret = (Http1Part){ .type = HTTP1_MORE };
        do {
                if (p->state == STATE_SWITCHED || p->state == STATE_END)
                        break;
                r = parse_step(p, data, len, &used, ret, err);
                if (r < 0)
                        return r;
        } while (ret->type == HTTP1_MORE && used < len);
        if (ret->type == HTTP1_MORE && p->state == STATE_SWITCHED)
                ret->type = HTTP1_SWITCHED;
        if (ret->type == HTTP1_MORE && p->state == STATE_END) {
                parser_next_head(p);
                ret->type = HTTP1_END;
        }
        *ret_used = used;
        return 0;
}

int http1_parse_eof(Http1Parser *p, KlError **err)
{
        if (http1_parser_idle(p) || p->state == STATE_UNTIL_CLOSE || p->state == STATE_SWITCHED)
                return 0;
        return kl_error(err, -EPROTO, NULL, "the connection was closed in the middle of a message");
}

/* --- writing --- */

bool http_headers_are_valid(const HttpHeader *headers, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!is_token(headers[i].name) || !is_value(headers[i].value))
                        return false;
        return true;
}

static void write_headers(Buf *to, const HttpHeader *headers, size_t n)
{
        for (size_t i = 0; i < n; i++)
                buf_addf(to, "%s: %s\r\n", headers[i].name, headers[i].value);
        buf_add_str(to, "\r\n");
}

int http1_write_request(Buf *to, const char *method, const char *target, const HttpHeader *headers,
                        size_t n_headers)
{
        if (!is_token(method) || !http_target_is_valid(target) ||
            !http_headers_are_valid(headers, n_headers))
                return -EINVAL;
        buf_addf(to, "%s %s HTTP/1.1\r\n", method, target);
        write_headers(to, headers, n_headers);
        return buf_error(to);
}

int http1_write_response(Buf *to, int status, const char *reason, const HttpHeader *headers,
                         size_t n_headers)
{
        if (status < 100 || status > 999 || !is_value(reason) ||
            !http_headers_are_valid(headers, n_headers))
                return -EINVAL;
        buf_addf(to, "HTTP/1.1 %d %s\r\n", status, reason);
        write_headers(to, headers, n_headers);
        return buf_error(to);
}

void http1_write_chunk(Buf *to, const void *data, size_t len)
{
        if (len == 0)
                return;
        buf_addf(to, "%zx\r\n", len);
        buf_add(to, data, len);
        buf_add_str(to, "\r\n");
}

void http1_write_last_chunk(Buf *to)
{
        buf_add_str(to, "0\r\n\r\n");
}
