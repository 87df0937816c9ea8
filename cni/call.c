/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ADD, DEL and CHECK of one attachment, as a sequence of plugin runs.
 *
 * A call goes through: load the record; if a former daemon left it half done, wait for that one's
 * plugins (settle.c); an ADD over an old record takes that down first; then the plugins, one after
 * the other, forwards for ADD and CHECK, backwards for DEL. A DEL goes on past a plugin that fails,
 * so that one broken link leaks nothing of the others, but then the record stays.
 *
 * Calls for one id run in the order in which they came; calls are started from the loop only
 * (cni->kick), so no callback comes within cni_add and its like. A call frees itself after its
 * callback.
 */

#include "cni/cni-internal.h"
#include "cni/cni-result.h"
#include "cni/cni-settle.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define SETTLE_MARGIN_MS 10000

typedef enum CallVerb { CALL_ADD, CALL_DEL, CALL_CHECK } CallVerb;

struct CniCall {
        Cni *cni;
        List link;
        CallVerb verb;
        CniFunc done;
        void *data;
        char *id, *ifname;
        bool running, abandoned;

        CniRecord *fresh;  /* ADD: the attachment to make */
        CniRecord *record; /* as it is on disk */
        size_t at;         /* plugin at work; a DEL counts down from it */
        char *previous;    /* result of the chain so far */
        KlError *error;    /* an ADD's, while it is taken down */
        KlError *del_error;
        void (*after_del)(CniCall *call);
        CniResult *result;

        Worker *worker;
        CniChoice *choice;
};

static void add_step(CniCall *call);
static void del_step(CniCall *call);
static void check_step(CniCall *call);

static CniCall *call_free(CniCall *call)
{
        if (!call)
                return NULL;
        if (!list_empty(&call->link) && call->running)
                call->cni->n_running--;
        list_unlink(&call->link);
        worker_free(call->worker);
        cni_choice_free(call->choice);
        cni_record_free(call->fresh);
        cni_record_free(call->record);
        cni_result_free(call->result);
        kl_error_free(call->error);
        kl_error_free(call->del_error);
        free(call->previous);
        free(call->id);
        free(call->ifname);
        free(call);
        return NULL;
}

KL_DEFINE_CLEANUP(CniCall *, call_free);

static void call_finish(CniCall *call)
{
        Cni *cni = call->cni;
        bool left_behind = call->del_error;

        if (!call->error)
                kl_error_move(&call->error, &call->del_error);
        call->cni->n_running--;
        list_unlink(&call->link);
        if (!call->abandoned)
                call->done(call, call->error ? NULL : call->result, call->error, call->data);
        call_free(call);
        deferred_schedule(cni->kick);
        cni_collector_call_ended(cni, left_behind);
}

static int run_plugin(CniCall *call, const char *verb, WorkerFunc done, KlError **err)
{
        const CniRecord *record = call->record;
        CniInvocation inv = {
                .verb = verb,
                .plugin = cni_config_plugin(record->config, call->at),
                .network = record->config->name,
                .version = record->version,
                .record = record,
                .previous = call->previous,
                .timeout_ms = call->cni->timeout_ms,
        };
        int r = cni_invoke(call->cni, &inv, done, call, &call->worker, err);

        return r < 0 ? cni_wrap_plugin(err, r, inv.plugin, verb) : 0;
}

/* Outcome of the plugin at work, with its name on the error. */
static int plugin_outcome(CniCall *call, const char *verb, const WorkerResult *result,
                          KlError **err)
{
        int r = cni_outcome(result, call->cni->timeout_ms, err);

        if (r < 0)
                cni_wrap_plugin(err, r, cni_config_plugin(call->record->config, call->at), verb);
        return r;
}

/* --- DEL --- */

static void del_failed(CniCall *call, KlError **err)
{
        if (!call->del_error)
                kl_error_move(&call->del_error, err);
}

static void del_end(CniCall *call)
{
        int r;

        if (!call->del_error) {
                r = cni_record_remove(call->cni->cache_dir, call->id, call->ifname);
                if (r < 0)
                        kl_error_errno(&call->del_error, r, NULL, "remove the CNI record of '%s'",
                                       call->id);
        }
        call->after_del(call);
}

static void on_del(Worker *worker, WorkerResult *result, void *data)
{
        CniCall *call = data;
        KL_AUTOERR err = NULL;

        if (plugin_outcome(call, "DEL", result, &err) < 0)
                del_failed(call, &err);
        call->worker = worker_free(worker);
        del_step(call);
}

static void del_step(CniCall *call)
{
        while (call->at > 0) {
                KL_AUTOERR err = NULL;

                call->at--;
                if (run_plugin(call, "DEL", on_del, &err) == 0)
                        return;
                del_failed(call, &err);
        }
        del_end(call);
}

/* n: the plugins to take down. A record that cannot be written (a full disk) does not keep an
 * attachment alive; it says ADDED or ADDING then, and is taken down again. */
static void del_start(CniCall *call, size_t n, void (*after)(CniCall *call))
{
        CniRecord *record = call->record;
        char *owner = strdup(call->cni->owner);
        KL_AUTOERR err = NULL;

        call->after_del = after;
        call->at = n;
        free(KL_STEAL(call->previous));
        if (record->result && record->version >= CNI_0_4_0)
                call->previous = strdup(record->result);
        record->state = CNI_DELETING;
        record->started_ms = time_monotonic_ms();
        record->pid = 0;
        if (owner) {
                free(record->owner);
                record->owner = owner;
        }
        if (cni_record_save(call->cni->cache_dir, record, &err) < 0)
                log_warning(NULL, "Cannot note that a network attachment goes, ignoring: %s",
                            kl_error_msg(err));
        del_step(call);
}

/* --- ADD --- */

static void after_failed_add(CniCall *call)
{
        if (call->del_error)
                log_warning(NULL,
                            "Cannot take down what is left of a failed network attachment "
                            "of '%s', will be tried again: %s",
                            call->id, kl_error_msg(call->del_error));
        call_finish(call);
}

/* started: plugins that ran. */
static void add_failed(CniCall *call, KlError **err, size_t started)
{
        kl_error_move(&call->error, err);
        del_start(call, started, after_failed_add);
}

static int add_store(CniCall *call, KlError **err)
{
        CniRecord *record = call->record;
        int r;

        r = cni_result_parse(call->previous, call->ifname, &call->result, err);
        if (r == 0 && !call->result->ips[0])
                r = kl_error(err, -ENODATA, NULL, "network \"%s\" gave no address to \"%s\"",
                             record->config->name, call->ifname);
        if (r < 0)
                return r;
        record->result = KL_STEAL(call->previous);
        record->state = CNI_ADDED;
        record->pid = 0;
        record->pid_start = 0;
        return cni_record_save(call->cni->cache_dir, record, err);
}

static void add_end(CniCall *call)
{
        KL_AUTOERR err = NULL;

        if (add_store(call, &err) < 0)
                add_failed(call, &err, call->at);
        else if (call->abandoned)
                del_start(call, call->at, call_finish);
        else
                call_finish(call);
}

static int add_outcome(CniCall *call, const WorkerResult *result, KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;
        int r;

        r = plugin_outcome(call, "ADD", result, err);
        if (r < 0)
                return r;
        r = cni_result_convert(result->out, result->out_len, call->record->version, &text, err);
        if (r < 0) {
                kl_error_wrap(err, r, "cannot decode its result");
                return cni_wrap_plugin(err, r, cni_config_plugin(call->record->config, call->at),
                                       "ADD");
        }
        free(call->previous);
        call->previous = buf_steal(&text);
        return 0;
}

static void on_add(Worker *worker, WorkerResult *result, void *data)
{
        CniCall *call = data;
        KL_AUTOERR err = NULL;
        int r = add_outcome(call, result, &err);

        call->worker = worker_free(worker);
        call->at++;
        if (r < 0)
                add_failed(call, &err, call->at);
        else if (call->at < call->record->config->n_plugins)
                add_step(call);
        else
                add_end(call);
}

/* The intent is on disk before the first plugin runs; the process is added to it as soon as there
 * is one. A plugin that ran unrecorded is recognised by its environment. */
static void add_step(CniCall *call)
{
        CniRecord *record = call->record;
        KL_AUTOERR err = NULL;

        if (run_plugin(call, "ADD", on_add, &err) < 0) {
                add_failed(call, &err, call->at);
                return;
        }
        record->started_ms = time_monotonic_ms();
        record->pid = worker_pid(call->worker);
        record->pid_start = record->pid ? cni_process_start(record->pid) : 0;
        if (cni_record_save(call->cni->cache_dir, record, &err) < 0)
                log_debug(NULL, "Cannot note the process of a CNI plugin, ignoring: %s",
                          kl_error_msg(err));
}

static void on_version(CniVersion version, const KlError *error, void *data)
{
        CniCall *call = data;
        int r;

        call->choice = NULL;
        if (error) {
                kl_error(&call->error, error->code, error->reason, "%s", error->msg);
                call_finish(call);
                return;
        }
        call->record = KL_STEAL(call->fresh);
        call->record->version = version;
        call->record->state = CNI_ADDING;
        call->record->started_ms = time_monotonic_ms();
        call->record->owner = strdup(call->cni->owner);
        call->at = 0;
        r = call->record->owner ? 0 : kl_error(&call->error, -ENOMEM, NULL, "out of memory");
        if (r == 0)
                r = cni_record_save(call->cni->cache_dir, call->record, &call->error);
        if (r < 0)
                call_finish(call);
        else
                add_step(call);
}

static void add_start(CniCall *call)
{
        if (cni_choose_version(call->cni, call->fresh->config, on_version, call, &call->choice,
                               &call->error) < 0)
                call_finish(call);
}

static void add_after_old(CniCall *call)
{
        call->record = cni_record_free(call->record);
        if (call->del_error || call->abandoned)
                call_finish(call);
        else
                add_start(call);
}

/* --- CHECK --- */

static void on_check(Worker *worker, WorkerResult *result, void *data)
{
        CniCall *call = data;
        int r = plugin_outcome(call, "CHECK", result, &call->error);

        call->worker = worker_free(worker);
        call->at++;
        if (r < 0)
                call_finish(call);
        else
                check_step(call);
}

static void check_step(CniCall *call)
{
        if (call->at == call->record->config->n_plugins ||
            run_plugin(call, "CHECK", on_check, &call->error) < 0)
                call_finish(call);
}

/* Versions before 0.4.0 have no CHECK: there is nothing to find fault with. */
static void check_start(CniCall *call)
{
        const CniRecord *record = call->record;

        if (record->state != CNI_ADDED)
                kl_error(&call->error, -ENOENT, NULL, "'%s' is not attached to a network",
                         call->id);
        if (call->error || record->version < CNI_0_4_0 || record->config->disable_check) {
                call_finish(call);
                return;
        }
        call->previous = strdup(record->result ? record->result : "{}");
        call->at = 0;
        check_step(call);
}

/* --- begin --- */

static void call_proceed(CniCall *call)
{
        if (call->verb == CALL_CHECK)
                check_start(call);
        else
                del_start(call, call->record->config->n_plugins,
                          call->verb == CALL_ADD ? add_after_old : call_finish);
}

static void call_without_record(CniCall *call)
{
        if (call->verb == CALL_ADD) {
                add_start(call);
                return;
        }
        if (call->verb == CALL_CHECK)
                kl_error(&call->error, -ENOENT, NULL, "'%s' is not attached to a network",
                         call->id);
        call_finish(call);
}

static int settle_body(void *arg)
{
        CniCall *call = arg;
        int r = cni_settle(call->record, call->cni->timeout_ms);

        return r < 0 ? 1 : 0;
}

static void on_settled(Worker *worker, WorkerResult *result, void *data)
{
        CniCall *call = data;
        bool settled = WIFEXITED(result->status) && WEXITSTATUS(result->status) == 0;

        call->worker = worker_free(worker);
        if (settled) {
                call_proceed(call);
                return;
        }
        kl_error(&call->error, -EBUSY, NULL, "CNI plugins of a former daemon do not end for '%s'",
                 call->id);
        call_finish(call);
}

static void call_settle(CniCall *call)
{
        WorkerSpec spec = {
                .name = "CNI settle",
                .body = settle_body,
                .body_arg = call,
                .deadline_ms = call->cni->timeout_ms + SETTLE_MARGIN_MS,
                .done = on_settled,
                .data = call,
        };

        if (worker_start(call->cni->loop, &spec, &call->worker, &call->error) < 0)
                call_finish(call);
}

static void call_begin(CniCall *call)
{
        Cni *cni = call->cni;
        KL_AUTOERR err = NULL;
        int r;

        call->running = true;
        cni->n_running++;
        if (call->verb == CALL_ADD && call->abandoned) {
                call_finish(call);
                return;
        }
        r = cni_record_load(cni->cache_dir, call->id, call->ifname, &call->record, &err);
        if (r < 0) {
                log_warning(NULL,
                            "A network attachment cannot be taken down by its record, "
                            "ignoring: %s",
                            kl_error_msg(err));
                cni_record_remove(cni->cache_dir, call->id, call->ifname);
        }
        if (r != 0)
                call_without_record(call);
        else if (call->record->state != CNI_ADDED && !str_eq(call->record->owner, cni->owner))
                call_settle(call);
        else
                call_proceed(call);
}

static bool is_first_of_id(const Cni *cni, const CniCall *call)
{
        list_for_each (other, &cni->calls, CniCall, link)
                if (str_eq(other->id, call->id))
                        return other == call;
        return true;
}

void cni_calls_next(Cni *cni)
{
        bool again = true;

        while (again && !cni_collector_blocks(cni)) {
                again = false;
                list_for_each (call, &cni->calls, CniCall, link)
                        if (!call->running && is_first_of_id(cni, call)) {
                                call_begin(call);
                                again = true;
                                break;
                        }
        }
}

bool cni_has_call(const Cni *cni, const char *id)
{
        list_for_each (call, &cni->calls, CniCall, link)
                if (str_eq(call->id, id))
                        return true;
        return false;
}

void cni_calls_drop(Cni *cni)
{
        while (!list_empty(&cni->calls))
                call_free(list_first(&cni->calls, CniCall, link));
}

static int call_new(Cni *cni, CallVerb verb, const char *id, const char *ifname, CniFunc done,
                    void *data, CniCall **ret, KlError **err)
{
        KL_AUTO(call_free) CniCall *call = calloc(1, sizeof(*call));

        if (!call)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *call = (CniCall){ .cni = cni, .verb = verb, .done = done, .data = data };
        list_init(&call->link);
        call->id = strdup(id);
        call->ifname = strdup(ifname);
        if (!call->id || !call->ifname)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(call);
        return 0;
}

static void call_enqueue(CniCall *call, CniCall **ret)
{
        list_append(&call->cni->calls, &call->link);
        deferred_schedule(call->cni->kick);
        if (ret)
                *ret = call;
}

int cni_add(Cni *cni, const CniAttachment *attachment, CniFunc done, void *data, CniCall **ret,
            KlError **err)
{
        KL_AUTO(call_free) CniCall *call = NULL;
        const char *why = cni_not_ready_message(cni);
        int r;

        if (!cni->config)
                return kl_error(err, -EAGAIN, NULL, "%s", why);
        r = call_new(cni, CALL_ADD, attachment->id ? attachment->id : "",
                     attachment->ifname ? attachment->ifname : "", done, data, &call, err);
        if (r == 0)
                r = cni_record_new(attachment, cni->config, &call->fresh, err);
        if (r < 0)
                return r;
        call_enqueue(KL_STEAL(call), ret);
        return 0;
}

int cni_del(Cni *cni, const char *id, const char *ifname, CniFunc done, void *data, CniCall **ret,
            KlError **err)
{
        CniCall *call;
        int r = call_new(cni, CALL_DEL, id, ifname, done, data, &call, err);

        if (r == 0)
                call_enqueue(call, ret);
        return r;
}

int cni_check(Cni *cni, const char *id, const char *ifname, CniFunc done, void *data, CniCall **ret,
              KlError **err)
{
        CniCall *call;
        int r = call_new(cni, CALL_CHECK, id, ifname, done, data, &call, err);

        if (r == 0)
                call_enqueue(call, ret);
        return r;
}

CniCall *cni_call_abandon(CniCall *call)
{
        if (call)
                call->abandoned = true;
        return NULL;
}
