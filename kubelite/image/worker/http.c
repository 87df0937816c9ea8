/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The HTTP client of the fetcher. One libcurl handle, so that connections are used again. Only http
 * and https, no redirects (who follows them decides what may travel on), no .netrc, no cookies.
 */

#include "image/worker/http-internal.h"

#include "base/str.h"

#include <ctype.h>
#include <curl/curl.h>

#define HEADER_MAX 4096
#define BUFFER_SIZE (512L << 10)

struct Http {
        CURL *curl;
        char error[CURL_ERROR_SIZE];
};

typedef struct Transfer {
        CURL *curl;
        const HttpRequest *request;
        HttpResponse *response;
        int error;
} Transfer;

int http_new(Http **ret, KlError **err)
{
        KL_AUTO(http_free) Http *http = calloc(1, sizeof(*http));

        if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return kl_error(err, -ENOMEM, NULL, "cannot start libcurl");
        http->curl = curl_easy_init();
        if (!http->curl)
                return kl_error(err, -ENOMEM, NULL, "cannot start libcurl");
        *ret = KL_STEAL(http);
        return 0;
}

Http *http_free(Http *http)
{
        if (!http)
                return NULL;
        if (http->curl)
                curl_easy_cleanup(http->curl);
        free(http);
        return NULL;
}

void http_response_deinit(HttpResponse *response)
{
        free(response->type);
        free(response->digest);
        free(response->location);
        strv_free(response->challenges);
        buf_deinit(&response->error_body);
        *response = (HttpResponse){ 0 };
}

/* --- what comes back --- */

static void take_text(char **to, const char *value, size_t len)
{
        free(*to);
        *to = strndup(value, len);
}

/* "<start>-<end>/<size>" */
static uint64_t range_start(const char *value, size_t len)
{
        char digits[24];
        size_t n = 0;
        uint64_t start = 0;

        while (n < len && n < sizeof(digits) - 1 && isdigit((unsigned char)value[n])) {
                digits[n] = value[n];
                n++;
        }
        digits[n] = '\0';
        return str_to_u64(digits, INT64_MAX, &start) < 0 ? UINT64_MAX : start;
}

static size_t on_header(char *data, size_t size, size_t n, void *user_data)
{
        Transfer *t = user_data;
        HttpResponse *response = t->response;
        size_t total = size * n, len = total;
        const char *colon = memchr(data, ':', len);
        const char *value;
        size_t name_len;

        if (!colon || len > HEADER_MAX)
                return total;
        name_len = (size_t)(colon - data);
        value = colon + 1;
        while (len > 0 && isspace((unsigned char)data[len - 1]))
                len--;
        while (value < data + len && isspace((unsigned char)*value))
                value++;
        len = value < data + len ? (size_t)(data + len - value) : 0;
        if (name_len == 12 && strncasecmp(data, "content-type", 12) == 0)
                take_text(&response->type, value, len);
        else if (name_len == 8 && strncasecmp(data, "location", 8) == 0)
                take_text(&response->location, value, len);
        else if (name_len == 21 && strncasecmp(data, "docker-content-digest", 21) == 0)
                take_text(&response->digest, value, len);
        else if (name_len == 13 && strncasecmp(data, "content-range", 13) == 0 && len > 6 &&
                 strncasecmp(value, "bytes ", 6) == 0)
                response->range_start = range_start(value + 6, len - 6);
        else if (name_len == 16 && strncasecmp(data, "www-authenticate", 16) == 0 &&
                 strv_len(response->challenges) < HTTP_CHALLENGES_MAX)
                strv_addf(&response->challenges, "%.*s", (int)len, value);
        return total;
}

static size_t on_body(char *data, size_t size, size_t n, void *user_data)
{
        Transfer *t = user_data;
        size_t len = size * n;
        long status = 0;
        int r = 0;

        curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
        t->response->status = status;
        if (status < 200 || status > 299) {
                Buf *to = &t->response->error_body;
                size_t room = HTTP_ERROR_BODY_MAX - to->len;

                buf_add(to, data, len < room ? len : room);
                return len;
        }
        if (t->request->sink) {
                r = t->request->sink(t->response, data, len, t->request->user_data);
        } else if (t->request->body) {
                buf_add(t->request->body, data, len);
                r = buf_error(t->request->body);
        }
        if (r < 0)
                t->error = r;
        return r < 0 ? 0 : len;
}

/* --- what goes out --- */

static void set_blob(CURL *curl, CURLoption option, const char *pem)
{
        struct curl_blob blob = { (void *)(pem ? pem : ""), pem ? strlen(pem) : 0, CURL_BLOB_COPY };

        curl_easy_setopt(curl, option, pem ? &blob : NULL);
}

static void set_tls(CURL *curl, const HttpTls *tls)
{
        if (!tls->insecure && !tls->ca && getenv("SSL_CERT_FILE"))
                curl_easy_setopt(curl, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
        if (tls->ca)
                set_blob(curl, CURLOPT_CAINFO_BLOB, tls->ca);
        if (tls->cert)
                set_blob(curl, CURLOPT_SSLCERT_BLOB, tls->cert);
        if (tls->key)
                set_blob(curl, CURLOPT_SSLKEY_BLOB, tls->key);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, tls->insecure ? 0L : 1L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, tls->insecure ? 0L : 2L);
}

/* libcurl takes http_proxy in lower case only, since CGI programs could be given the other; this is
 * none, and other runtimes take both. */
static void set_proxy(CURL *curl, const char *url)
{
        if (str_starts(url, "http://") && !getenv("http_proxy") && getenv("HTTP_PROXY"))
                curl_easy_setopt(curl, CURLOPT_PROXY, getenv("HTTP_PROXY"));
}

static int set_headers(CURL *curl, const HttpRequest *request, struct curl_slist **headers)
{
        KL_AUTOFREE char *authorization = NULL, *accept = NULL;
        struct curl_slist *list;

        if (request->authorization) {
                authorization = str_format("Authorization: %s", request->authorization);
                list = authorization ? curl_slist_append(*headers, authorization) : NULL;
                if (!list)
                        return -ENOMEM;
                *headers = list;
        }
        if (request->accept) {
                accept = str_format("Accept: %s", request->accept);
                list = accept ? curl_slist_append(*headers, accept) : NULL;
                if (!list)
                        return -ENOMEM;
                *headers = list;
        }
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
        return 0;
}

static void set_request(Http *http, const HttpRequest *request)
{
        CURL *curl = http->curl;
        char range[32];

        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->error);
        curl_easy_setopt(curl, CURLOPT_URL, request->url);
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_SIZE);
        curl_easy_setopt(curl, CURLOPT_USERAGENT, "kubelite/" KUBELITE_VERSION);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)HTTP_CONNECT_S);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                         (long)(request->stall_s ? request->stall_s : HTTP_STALL_S));
        if (!request->sink)
                curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)HTTP_INLINE_S);
        if (request->head)
                curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        if (request->form)
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->form);
        if (request->basic_user) {
                curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
                curl_easy_setopt(curl, CURLOPT_USERNAME, request->basic_user);
                curl_easy_setopt(curl, CURLOPT_PASSWORD,
                                 request->basic_password ? request->basic_password : "");
        }
        if (request->offset > 0) {
                snprintf(range, sizeof(range), "%llu-", (unsigned long long)request->offset);
                curl_easy_setopt(curl, CURLOPT_RANGE, range);
        }
        set_tls(curl, &request->tls);
        set_proxy(curl, request->url);
}

static int code_of(CURLcode code)
{
        switch ((int)code) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_COULDNT_CONNECT:
                return -ECONNREFUSED;
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
                return -EACCES;
        case CURLE_SSL_CONNECT_ERROR: /* most likely it does not speak TLS */
                return -EPROTO;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EIO;
        }
}

int http_perform(Http *http, const HttpRequest *request, HttpResponse *ret, KlError **err)
{
        Transfer transfer = { http->curl, request, ret, 0 };
        struct curl_slist *headers = NULL;
        CURLcode code;
        int r;

        *ret = (HttpResponse){ 0 };
        curl_easy_reset(http->curl);
        http->error[0] = '\0';
        set_request(http, request);
        curl_easy_setopt(http->curl, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(http->curl, CURLOPT_HEADERDATA, &transfer);
        curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &transfer);
        r = set_headers(http->curl, request, &headers);
        code = r < 0 ? CURLE_OUT_OF_MEMORY : curl_easy_perform(http->curl);
        curl_slist_free_all(headers);
        curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &ret->status);
        if (code == CURLE_OK)
                return 0;
        if (transfer.error == -EMSGSIZE)
                return kl_error(err, -EMSGSIZE, NULL, "the answer from %s is larger than allowed",
                                request->url);
        if (transfer.error < 0) {
                ret->sink_error = transfer.error;
                return kl_error_errno(err, transfer.error, NULL, "write what was fetched");
        }
        return kl_error(err, code_of(code), NULL, "failed to do request: %s \"%s\": %s",
                        request->head   ? "Head"
                        : request->form ? "Post"
                                        : "Get",
                        request->url, http->error[0] ? http->error : curl_easy_strerror(code));
}

/* --- texts --- */

char *http_origin(const char *url)
{
        CURLU *u = curl_url();
        char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;

        if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
                origin = str_format("%s://%s:%s", scheme, host, port);
        curl_free(scheme);
        curl_free(host);
        curl_free(port);
        curl_url_cleanup(u);
        return origin;
}

const char *http_status_text(long status)
{
        static const struct {
                long status;
                const char *text;
        } texts[] = {
                { 400, "Bad Request" },        { 401, "Unauthorized" },
                { 403, "Forbidden" },          { 404, "Not Found" },
                { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
                { 408, "Request Timeout" },    { 416, "Requested Range Not Satisfiable" },
                { 429, "Too Many Requests" },  { 500, "Internal Server Error" },
                { 502, "Bad Gateway" },        { 503, "Service Unavailable" },
                { 504, "Gateway Timeout" },
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                if (texts[i].status == status)
                        return texts[i].text;
        return "Status";
}
