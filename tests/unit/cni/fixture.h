/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_CNI_FIXTURE_H
#define KUBELITE_TESTS_CNI_FIXTURE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cni/cni-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

/* A configuration directory, a directory of script plugins, a cache, and a log that the scripts
 * write; all below one temporary directory. */
typedef struct Fixture {
        Loop *loop;
        Cni *cni;
        char dir[64];
        char *conf, *bin, *cache, *log;
        char *bin_dirs[3];
        uint64_t timeout_ms;
        int n_changed;
        /* the last callback */
        int n_done;
        char *error;
        char *ip;
} Fixture;

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static inline void on_changed(void *data)
{
        ((Fixture *)data)->n_changed++;
}

static inline void fixture_open(Fixture *f)
{
        CniOptions options = { .conf_dir = f->conf,
                               .bin_dirs = f->bin_dirs,
                               .cache_dir = f->cache,
                               .timeout_ms = f->timeout_ms,
                               .changed = on_changed,
                               .data = f };
        KL_AUTOERR err = NULL;

        if (cni_new(f->loop, &options, &f->cni, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static inline int fixture_setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        snprintf(f->dir, sizeof(f->dir), "/tmp/kubelite-cni-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->conf = str_format("%s/net.d", f->dir);
        f->bin = str_format("%s/bin", f->dir);
        f->cache = str_format("%s/cache", f->dir);
        f->log = str_format("%s/log", f->dir);
        f->bin_dirs[0] = f->bin;
        f->timeout_ms = 5000;
        assert_int_equal(mkdir(f->conf, 0755), 0);
        assert_int_equal(mkdir(f->bin, 0755), 0);
        assert_int_equal(loop_new(&f->loop, NULL), 0);
        *state = f;
        return 0;
}

static inline int fixture_teardown(void **state)
{
        Fixture *f = *state;

        cni_free(f->cni);
        loop_free(f->loop);
        assert_int_equal(tree_remove(f->dir), 0);
        free(f->conf);
        free(f->bin);
        free(f->cache);
        free(f->log);
        free(f->error);
        free(f->ip);
        free(f);
        return 0;
}

static inline void put_file(const char *dir, const char *name, const char *text, mode_t mode)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);

        assert_int_equal(file_replace(path, text, strlen(text), mode, false), 0);
}

static inline void put_conf(Fixture *f, const char *name, const char *text)
{
        put_file(f->conf, name, text, 0644);
}

/* body: shell, with the input in $in. */
static inline void put_plugin(Fixture *f, const char *name, const char *body)
{
        KL_AUTOFREE char *text = str_format("#!/bin/sh\nin=$(cat)\n"
                                            "echo \"$CNI_COMMAND %s $in\" >>%s\n%s\n",
                                            name, f->log, body);

        put_file(f->bin, name, text, 0755);
}

#define RESULT                                                                                     \
        "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],"       \
        "\"ips\":[{\"interface\":0,\"address\":\"10.9.0.2/24\",\"gateway\":\"10.9.0.1\"}]}"

#define GOOD_PLUGIN "[ $CNI_COMMAND = ADD ] && echo '" RESULT "'; exit 0"

static inline char *read_log(Fixture *f)
{
        char *text = NULL;
        size_t len;

        if (file_read(f->log, 1 << 24, &text, &len) < 0)
                return strdup("");
        return text;
}

/* "ADD one,ADD two,": the verbs and plugins of the log. */
static inline char *log_verbs(Fixture *f)
{
        KL_AUTOFREE char *log = read_log(f);
        KL_AUTOSTRV lines = strv_split(log, '\n');
        KL_AUTOBUF out = BUF_INIT;

        for (size_t i = 0; lines && lines[i]; i++) {
                const char *brace = strstr(lines[i], " {");

                buf_add(&out, lines[i], brace ? (size_t)(brace - lines[i]) : strlen(lines[i]));
                buf_add_char(&out, ',');
        }
        return strdup(buf_str(&out));
}

static inline void assert_verbs(Fixture *f, const char *expected)
{
        KL_AUTOFREE char *verbs = log_verbs(f);

        assert_string_equal(verbs, expected);
}

static inline void on_done(CniCall *call, const CniResult *result, const KlError *error, void *data)
{
        Fixture *f = data;

        f->n_done++;
        free(f->error);
        f->error = error ? strdup(error->msg) : NULL;
        free(f->ip);
        f->ip = result && result->ips[0] ? strdup(result->ips[0]) : NULL;
}

static inline void on_guard(Timer *timer, void *data)
{
        *(bool *)data = true;
}

/* Turns the loop until the condition holds, 20 s at most. */
#define WAIT_FOR(f, condition)                                                                     \
        do {                                                                                       \
                bool late_ = false;                                                                \
                Timer *guard_ = timer_new((f)->loop, on_guard, &late_);                            \
                Timer *tick_ = timer_new((f)->loop, on_guard, &(bool){ false });                   \
                timer_start(guard_, 20000);                                                        \
                while (!(condition) && !late_) {                                                   \
                        timer_start(tick_, 10);                                                    \
                        loop_turn((f)->loop, true);                                                \
                }                                                                                  \
                timer_free(guard_);                                                                \
                timer_free(tick_);                                                                 \
                if (late_)                                                                         \
                        fail_msg("waited in vain for: %s", #condition);                            \
        } while (0)

static inline CniAttachment attachment(const char *id)
{
        return (CniAttachment){ .id = id,
                                .netns = "/proc/self/ns/net",
                                .ifname = "eth0",
                                .pod_namespace = "default",
                                .pod_name = "web",
                                .pod_uid = "u-1" };
}

static inline void add_attachment(Fixture *f, const CniAttachment *a)
{
        KL_AUTOERR err = NULL;
        CniCall *call;

        f->n_done = 0;
        if (cni_add(f->cni, a, on_done, f, &call, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(f->n_done, 0);
        WAIT_FOR(f, f->n_done);
}

static inline void add(Fixture *f, const char *id)
{
        CniAttachment a = attachment(id);

        add_attachment(f, &a);
}

static inline void del(Fixture *f, const char *id)
{
        CniCall *call;

        f->n_done = 0;
        assert_int_equal(cni_del(f->cni, id, "eth0", on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done);
}

static inline size_t n_records(Fixture *f)
{
        CniKey *keys = NULL;
        size_t n = 0;

        assert_int_equal(cni_record_list(f->cache, &keys, &n, NULL), 0);
        cni_keys_free(keys, n);
        return n;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
