/* SPDX-License-Identifier: Apache-2.0 */

/*
 * SPDY's header blocks: a count, then names and values with their lengths, as one zlib stream per
 * direction over the whole session, with a dictionary that both ends know. Since the streams have a
 * memory, every block must be inflated, also one that nobody wants.
 *
 * Limits: an inflated block is at most SPDY_HEADER_BLOCK_MAX (a bomb is noticed there, whatever it
 * would have become), lengths are held against what is left of it. Our own side compresses with the
 * smallest memory that holds the dictionary: what we say is short.
 */

#include "codec/spdy-internal.h"

#include "base/str.h"

#include <zlib.h>

#define DICTIONARY_SIZE 1423
#define DEFLATE_WINDOW_BITS 11 /* 2 KiB: the dictionary must fit */
#define DEFLATE_MEMORY 1

struct SpdyInflate {
        z_stream z;
};

struct SpdyDeflate {
        z_stream z;
};

/* The dictionary's first part: each word is preceded by its length in four bytes. */
static const char dictionary_words[] =
        "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,"
        "accept-language,accept-ranges,age,allow,authorization,cache-control,connection,"
        "content-base,content-encoding,content-language,content-length,content-location,"
        "content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,"
        "if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,"
        "max-forwards,pragma,proxy-authenticate,proxy-authorization,range,referer,"
        "retry-after,server,te,trailer,transfer-encoding,upgrade,user-agent,vary,via,warning,"
        "www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,"
        "keep-alive,origin";

/* The second part stands as it is. */
static const char dictionary_text[] =
        "100101201202205206300302303304305306307402405406407408409410411412413414415416417502"
        "504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Re"
        "quest401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Impl"
        "emented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00"
        ":00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,imag"
        "e/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivate"
        "max-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static void dictionary_build(unsigned char ret[static DICTIONARY_SIZE])
{
        size_t n = 0;

        for (const char *word = dictionary_words; *word; word += strspn(word, ",")) {
                size_t len = strcspn(word, ",");

                spdy_put_u32(ret + n, (uint32_t)len);
                memcpy(ret + n + 4, word, len);
                n += 4 + len;
                word += len;
        }
        memcpy(ret + n, dictionary_text, DICTIONARY_SIZE - n);
}

/* --- reading --- */

SpdyInflate *spdy_inflate_new(void)
{
        SpdyInflate *inf = calloc(1, sizeof(*inf));

        if (inf && inflateInit(&inf->z) != Z_OK) {
                free(inf);
                return NULL;
        }
        return inf;
}

SpdyInflate *spdy_inflate_free(SpdyInflate *inf)
{
        if (inf)
                inflateEnd(&inf->z);
        free(inf);
        return NULL;
}

static int give_dictionary(SpdyInflate *inf)
{
        unsigned char dictionary[DICTIONARY_SIZE];

        dictionary_build(dictionary);
        return inflateSetDictionary(&inf->z, dictionary, sizeof(dictionary));
}

/* All of the block, and nothing of it left over. */
static int inflate_block(SpdyInflate *inf, const char *block, size_t len, Buf *to, KlError **err)
{
        inf->z.next_in = (unsigned char *)(uintptr_t)block;
        inf->z.avail_in = (unsigned int)len;
        do {
                size_t step = to->limit - to->len < 4096 ? to->limit - to->len : 4096;
                unsigned char spare[1];
                char *at = step ? buf_reserve(to, step) : (char *)spare;
                int r;

                if (!at)
                        return kl_error_oom(err);
                inf->z.next_out = (unsigned char *)at;
                inf->z.avail_out = step ? (unsigned int)step : 1;
                r = inflate(&inf->z, Z_SYNC_FLUSH);
                if (r == Z_NEED_DICT)
                        r = give_dictionary(inf);
                if (r == Z_MEM_ERROR)
                        return kl_error_oom(err);
                if (r != Z_OK && r != Z_BUF_ERROR)
                        return kl_error(err, -EPROTO, NULL, "SPDY header block does not inflate");
                if (!step && inf->z.avail_out == 0)
                        return kl_error(err, -EMSGSIZE, NULL, "SPDY header block over %u bytes",
                                        SPDY_HEADER_BLOCK_MAX);
                if (step)
                        buf_commit(to, step - inf->z.avail_out);
                if (r == Z_BUF_ERROR)
                        break;
        } while (inf->z.avail_in > 0 || inf->z.avail_out == 0);
        if (inf->z.avail_in > 0)
                return kl_error(err, -EPROTO, NULL, "SPDY header block does not inflate");
        return 0;
}

/* A string with its length before it. It moves by a byte onto the length, which makes room for a
 * NUL behind it. */
static char *take_string(Buf *text, size_t *at, size_t *ret_len)
{
        size_t len;
        char *s;

        if (text->len - *at < 4)
                return NULL;
        len = spdy_u32(text->data + *at);
        *at += 4;
        if (len > text->len - *at)
                return NULL;
        s = text->data + *at - 1;
        memmove(s, s + 1, len);
        s[len] = '\0';
        *at += len;
        *ret_len = len;
        return s;
}

static bool is_name(const char *name, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (name[i] <= ' ' || name[i] == 0x7f || (name[i] >= 'A' && name[i] <= 'Z'))
                        return false;
        return len > 0;
}

/*
 * Values are lists separated by NUL: the first one counts, as for who reads a header by its name.
 * Control characters have no business in one.
 */
static bool is_value(const char *value, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (((unsigned char)value[i] < ' ' && value[i] != '\0' && value[i] != '\t') ||
                    value[i] == 0x7f)
                        return false;
        return true;
}

static int parse_block(SpdyHeaders *h)
{
        size_t at = 4, name_len, value_len;
        uint32_t n;

        if (h->text.len < 4)
                return SPDY_HEADERS_INVALID;
        n = spdy_u32(h->text.data);
        if (n > SPDY_HEADERS_MAX)
                return SPDY_HEADERS_INVALID;
        while (h->n < n) {
                char *name = take_string(&h->text, &at, &name_len);
                char *value = name ? take_string(&h->text, &at, &value_len) : NULL;

                if (!value || !is_name(name, name_len) || !is_value(value, value_len))
                        return SPDY_HEADERS_INVALID;
                h->list[h->n++] = (HttpHeader){ name, value };
        }
        if (at != h->text.len)
                return SPDY_HEADERS_INVALID;
        return 0;
}

static int check_duplicates(const SpdyHeaders *h)
{
        for (size_t i = 1; i < h->n; i++)
                if (http_header_get(h->list, i, h->list[i].name))
                        return SPDY_HEADERS_INVALID;
        return 0;
}

int spdy_headers_read(SpdyInflate *inf, const char *block, size_t len, SpdyHeaders *ret,
                      KlError **err)
{
        ret->n = 0;
        ret->text = (Buf)BUF_INIT_LIMIT(SPDY_HEADER_BLOCK_MAX);
        KL_TRY(inflate_block(inf, block, len, &ret->text, err));
        return parse_block(ret) || check_duplicates(ret) ? SPDY_HEADERS_INVALID : 0;
}

/* --- writing --- */

SpdyDeflate *spdy_deflate_new(void)
{
        unsigned char dictionary[DICTIONARY_SIZE];
        SpdyDeflate *def = calloc(1, sizeof(*def));

        if (!def)
                return NULL;
        if (deflateInit2(&def->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS,
                         DEFLATE_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
                free(def);
                return NULL;
        }
        dictionary_build(dictionary);
        deflateSetDictionary(&def->z, dictionary, sizeof(dictionary));
        return def;
}

SpdyDeflate *spdy_deflate_free(SpdyDeflate *def)
{
        if (def)
                deflateEnd(&def->z);
        free(def);
        return NULL;
}

static void put_string(Buf *to, const char *s)
{
        unsigned char len[4];

        spdy_put_u32(len, (uint32_t)strlen(s));
        buf_add(to, len, sizeof(len));
        buf_add_str(to, s);
}

int spdy_headers_write(SpdyDeflate *def, const HttpHeader *headers, size_t n, Buf *to)
{
        KL_AUTOBUF plain = BUF_INIT;
        unsigned char count[4];
        size_t bound;
        char *at;

        spdy_put_u32(count, (uint32_t)n);
        buf_add(&plain, count, sizeof(count));
        for (size_t i = 0; i < n; i++) {
                put_string(&plain, headers[i].name);
                put_string(&plain, headers[i].value);
        }
        /* A flush adds at most an empty block to what a finished stream would take. */
        bound = deflateBound(&def->z, plain.len) + 16;
        at = buf_reserve(to, bound);
        if (buf_error(&plain) || !at)
                return -ENOMEM;
        def->z.next_in = (unsigned char *)plain.data;
        def->z.avail_in = (unsigned int)plain.len;
        def->z.next_out = (unsigned char *)at;
        def->z.avail_out = (unsigned int)bound;
        deflate(&def->z, Z_SYNC_FLUSH);
        buf_commit(to, bound - def->z.avail_out);
        return 0;
}
