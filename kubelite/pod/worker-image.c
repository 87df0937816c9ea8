/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Images for containers: pull policy, back-off (10 s doubling to 300 s, as upstream), events and
 * waiting reasons of pkg/kubelet/images/image_manager.go. All credentials that match an image are
 * tried in their order before a pull counts as failed; without any it is anonymous.
 */

#include "pod/worker-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "pod/pull-secrets.h"

#define IMAGE_BACKOFF_MIN_MS 10000
#define IMAGE_BACKOFF_MAX_MS 300000
/* How long ErrImagePull is shown before it turns into ImagePullBackOff. */
#define ERR_IMAGE_PULL_MS 1000

static void image_waiting(WorkContainer *c, const char *reason, const char *message)
{
        char *copy = message ? strdup(message) : NULL;

        free(c->view.waiting_message);
        c->view.waiting_reason = reason;
        c->view.waiting_message = copy;
}

static void image_failed(PodWorker *w, WorkContainer *c, const char *reason, const char *message)
{
        uint64_t now = time_monotonic_ms();

        c->image_state = IMAGE_FAILED;
        c->image_backoff_ms = c->image_backoff_ms ? c->image_backoff_ms * 2 : IMAGE_BACKOFF_MIN_MS;
        if (c->image_backoff_ms > IMAGE_BACKOFF_MAX_MS)
                c->image_backoff_ms = IMAGE_BACKOFF_MAX_MS;
        c->image_retry_ms = now + c->image_backoff_ms;
        c->image_failed_ms = 0;
        image_waiting(c, reason, message);
        worker_event(w, c, EVENT_WARNING, "Failed", "Error: %s", reason);
        worker_dirty(w, true);
}

static void image_ready(PodWorker *w, WorkContainer *c)
{
        c->image_state = IMAGE_READY;
        c->image_retry_ms = 0;
        c->image_backoff_ms = 0;
        c->image_failed_ms = 0;
        image_waiting(c, NULL, NULL);
        worker_dirty(w, true);
}

/* Go's %v of a duration rounded to milliseconds: "1.271s", "35ms". */
static void format_duration(uint64_t ms, char *buf, size_t size)
{
        if (ms < 1000)
                snprintf(buf, size, "%llums", (unsigned long long)ms);
        else if (ms < 60000)
                snprintf(buf, size, "%.4gs", (double)ms / 1000);
        else
                snprintf(buf, size, "%llum%.4gs", (unsigned long long)ms / 60000,
                         (double)(ms % 60000) / 1000);
}

static const ImageAuth *find_credential(const WorkContainer *c)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };

        if (!c->keyring || image_ref_parse(c->view.spec->image, &ref, NULL) < 0)
                return NULL;
        return keyring_find(c->keyring, &ref, c->credential);
}

static int try_pull(PodWorker *w, WorkContainer *c, KlError **err);

static void on_pulled(ImageJob *job, const Image *image, const KlError *error, void *data)
{
        WorkContainer *c = data;
        PodWorker *w = c->worker;
        const char *reason = kl_error_reason(error, "ErrImagePull");
        char took[32];

        c->pull = NULL;
        worker_count_pull_done(w, c, image);
        c->credential++;
        if (!image && find_credential(c) && try_pull(w, c, NULL) == 0)
                return;
        c->keyring = keyring_free(c->keyring);
        if (!image) {
                worker_event(w, c, EVENT_WARNING, "Failed", "Failed to pull image \"%s\": %s",
                             c->view.spec->image, kl_error_msg(error));
                free(c->image_error);
                c->image_error = strdup(kl_error_msg(error));
                image_failed(w, c, reason, kl_error_msg(error));
                c->image_failed_ms = time_monotonic_ms();
                return;
        }
        format_duration(time_monotonic_ms() - c->pull_started_ms, took, sizeof(took));
        worker_event(w, c, EVENT_NORMAL, "Pulled",
                     "Successfully pulled image \"%s\" in %s (%s including waiting). Image size: "
                     "%llu bytes.",
                     c->view.spec->image, took, took, (unsigned long long)image->size_bytes);
        c->image_pulled = true;
        image_ready(w, c);
}

static int try_pull(PodWorker *w, WorkContainer *c, KlError **err)
{
        ImagePull pull = {
                .reference = c->view.spec->image,
                .auth = find_credential(c),
                .done = on_pulled,
                .data = c,
        };

        KL_TRY(image_pull(w->context->images, &pull, &c->pull, err));
        worker_count_pull_begun(w);
        return 0;
}

static ObjectRef *find_secret(const char *name, void *data)
{
        return worker_object(data, OBJECT_SECRET, name);
}

/* False while a pull secret has not been answered for: the answer makes the pod dirty. */
static bool gather_credentials(PodWorker *w, WorkContainer *c)
{
        KL_AUTOFREE char *missing = NULL;

        c->keyring = keyring_free(c->keyring);
        c->credential = 0;
        if (pull_secrets_gather(w->pod->image_pull_secrets, find_secret, w, w->context->root_dir,
                                &c->keyring, &missing) > 0)
                return false;
        if (missing)
                worker_event(w, NULL, EVENT_WARNING, "FailedToRetrieveImagePullSecret",
                             "Unable to retrieve some image pull secrets (%s); attempting to pull "
                             "the image may not succeed.",
                             missing);
        return true;
}

static void start_pull(PodWorker *w, WorkContainer *c)
{
        KL_AUTOERR err = NULL;

        if (!gather_credentials(w, c))
                return;
        c->image_state = IMAGE_PULLING;
        c->pull_started_ms = time_monotonic_ms();
        worker_event(w, c, EVENT_NORMAL, "Pulling", "Pulling image \"%s\"", c->view.spec->image);
        if (try_pull(w, c, &err) < 0)
                image_failed(w, c, kl_error_reason(err, "ErrImagePull"), kl_error_msg(err));
}

/* False if the name is no image name; told once a back-off. */
static bool check_name(PodWorker *w, WorkContainer *c)
{
        KL_AUTOFREE char *message = NULL;
        KL_AUTOERR err = NULL;
        ImageRef ref;

        if (image_ref_parse(c->view.spec->image, &ref, &err) == 0) {
                image_ref_deinit(&ref);
                return true;
        }
        message = str_format("Failed to apply default image tag \"%s\": couldn't parse image name "
                             "\"%s\": invalid reference format",
                             c->view.spec->image, c->view.spec->image);
        worker_event(w, c, EVENT_WARNING, "InspectFailed", "%s", message ? message : "");
        image_failed(w, c, "InvalidImageName", message);
        return false;
}

void worker_ensure_image(PodWorker *w, WorkContainer *c)
{
        const Container *spec = c->view.spec;
        KL_AUTOFREE char *message = NULL;
        bool present;

        c->image_pulled = false;
        if (!check_name(w, c))
                return;
        present = image_find(w->context->images, spec->image);
        if (spec->pull_policy == PULL_ALWAYS || (!present && spec->pull_policy != PULL_NEVER)) {
                start_pull(w, c);
                return;
        }
        if (present) {
                image_ready(w, c);
                return;
        }
        message = str_format("Container image \"%s\" is not present with pull policy of Never",
                             spec->image);
        worker_event(w, c, EVENT_WARNING, "ErrImageNeverPull", "%s", message ? message : "");
        image_failed(w, c, "ErrImageNeverPull", message);
}

uint64_t worker_image_backoff_due(PodWorker *w, WorkContainer *c, uint64_t now_ms)
{
        KL_AUTOFREE char *message = NULL;

        if (c->image_state != IMAGE_FAILED || !c->image_failed_ms)
                return 0;
        if (now_ms < c->image_failed_ms + ERR_IMAGE_PULL_MS)
                return c->image_failed_ms + ERR_IMAGE_PULL_MS;
        c->image_failed_ms = 0;
        message = str_format("Back-off pulling image \"%s\": %s: %s", c->view.spec->image,
                             c->view.waiting_reason ? c->view.waiting_reason : "ErrImagePull",
                             c->image_error ? c->image_error : "");
        worker_event(w, c, EVENT_NORMAL, "BackOff", "Back-off pulling image \"%s\"",
                     c->view.spec->image);
        worker_event(w, c, EVENT_WARNING, "Failed", "Error: ImagePullBackOff");
        image_waiting(c, "ImagePullBackOff", message);
        w->status_dirty = true;
        return 0;
}

void worker_cancel_pull(WorkContainer *c)
{
        c->pull = image_job_cancel(c->pull);
        c->keyring = keyring_free(c->keyring);
        if (c->image_state == IMAGE_PULLING)
                c->image_state = IMAGE_UNKNOWN;
}
