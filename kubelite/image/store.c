/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's store: all records in memory, read at the start and again after each change that a
 * worker made. Nothing here writes to the disk: removals and cleaning are forked workers.
 *
 * A removal counts at once in memory; on the disk it follows, and after a crash in between the
 * image is there again.
 */

#include "image/store-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#define REMOVAL_DEADLINE_MS (10 * 60 * 1000)
#define CLEAN_DEADLINE_MS (30 * 60 * 1000)
#define ID_PREFIX_MIN 12

typedef struct Removal {
        List link;
        ImageStore *store;
        char *id, *tag;
        Worker *worker; /* NULL while it waits */
} Removal;

static Removal *removal_free(Removal *removal)
{
        if (!removal)
                return NULL;
        worker_free(removal->worker);
        list_unlink(&removal->link);
        free(removal->id);
        free(removal->tag);
        free(removal);
        return NULL;
}
KL_DEFINE_CLEANUP(Removal *, removal_free);

/* --- the records in memory --- */

static int compare_records(const void *a, const void *b)
{
        const ImageRecord *x = *(ImageRecord *const *)a, *y = *(ImageRecord *const *)b;
        const char *s = x->tags[0] ? x->tags[0] : x->image.id;
        const char *t = y->tags[0] ? y->tags[0] : y->image.id;

        return strcmp(s, t);
}

static int store_sort(ImageStore *store)
{
        size_t n = map_len(store->records);
        ImageRecord **sorted = calloc(n + 1, sizeof(ImageRecord *));
        ImageRecord *record;

        if (!sorted)
                return -ENOMEM;
        free(store->sorted);
        store->sorted = sorted;
        store->n_sorted = 0;
        for (size_t i = 0; map_next(store->records, &i, NULL, &record);)
                sorted[store->n_sorted++] = record;
        qsort(sorted, store->n_sorted, sizeof(ImageRecord *), compare_records);
        return 0;
}

static void on_broken(const char *name, const KlError *err, void *data)
{
        log_warning(NULL, "Image record '%s' is not usable, ignoring: %s", name, kl_error_msg(err));
}

/* What is being removed stays removed. */
static void apply_removals(ImageStore *store, Map *records)
{
        list_for_each (removal, &store->removals, Removal, link) {
                ImageRecord *record = map_get(records, removal->id);

                if (record && removal->tag)
                        image_record_remove_tag(record, removal->tag);
                if (record && (!removal->tag || !record->tags[0]))
                        map_remove(records, removal->id);
        }
}

int store_reload(ImageStore *store, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        ImageRecord *old, *record;
        int r = layout_load(store->layout, on_broken, NULL, &records, err);

        if (r < 0)
                return r;
        apply_removals(store, records);
        for (size_t i = 0; store->records && map_next(store->records, &i, NULL, &old);) {
                record = map_get(records, old->image.id);
                if (record)
                        record->n_held = old->n_held;
        }
        map_free(store->records);
        store->records = KL_STEAL(records);
        if (store_sort(store) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (store->changed)
                store->changed(store->data);
        return 0;
}

/* --- finding --- */

static ImageRecord *find_by_id(ImageStore *store, const char *id)
{
        const char *hex = str_starts(id, "sha256:") ? id + 7 : id;
        size_t len = strlen(hex);
        ImageRecord *found = NULL, *record;

        if (len < ID_PREFIX_MIN || strspn(hex, "0123456789abcdef") != len)
                return NULL;
        for (size_t i = 0; map_next(store->records, &i, NULL, &record);) {
                if (!str_starts(digest_hex(record->image.id), hex))
                        continue;
                if (found)
                        return NULL; /* ambiguous */
                found = record;
        }
        return found;
}

/* A name with a tag and a digest means the digest. */
static char *lookup_name(const char *reference, bool *ret_digest)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };

        if (image_ref_parse(reference, &ref, NULL) < 0)
                return NULL;
        *ret_digest = ref.digest != NULL;
        if (ref.digest)
                return str_format("%s/%s@%s", ref.host, ref.repository, ref.digest);
        return image_ref_format(&ref);
}

static ImageRecord *find_record(ImageStore *store, const char *reference, char **ret_tag)
{
        KL_AUTOFREE char *name = NULL;
        bool by_digest = false;
        ImageRecord *record = find_by_id(store, reference);

        if (record)
                return record;
        name = lookup_name(reference, &by_digest);
        for (size_t i = 0; name && map_next(store->records, &i, NULL, &record);) {
                if (!strv_contains(by_digest ? record->digests : record->tags, name))
                        continue;
                if (ret_tag && !by_digest)
                        *ret_tag = KL_STEAL(name);
                return record;
        }
        return NULL;
}

const Image *image_find(ImageStore *store, const char *reference)
{
        ImageRecord *record = find_record(store, reference, NULL);

        return record ? &record->image : NULL;
}

const Image *image_at(ImageStore *store, size_t i)
{
        return i < store->n_sorted ? &store->sorted[i]->image : NULL;
}

const char *image_store_layers_dir(const ImageStore *store)
{
        return store->layers_dir;
}

int image_hold(ImageStore *store, const char *id)
{
        ImageRecord *record = map_get(store->records, id);

        if (!record)
                return -ENOENT;
        record->n_held++;
        return 0;
}

void image_release(ImageStore *store, const char *id)
{
        ImageRecord *record = map_get(store->records, id);

        if (record && record->n_held > 0)
                record->n_held--;
}

bool image_is_held(const ImageStore *store, const char *id)
{
        const ImageRecord *record = map_get(store->records, id);

        return record && record->n_held > 0;
}

/* --- removal --- */

static void removals_next(ImageStore *store);

/* In a forked worker, which has none of our descriptors. */
static int remove_body(void *arg)
{
        Removal *removal = arg;
        KL_AUTO(layout_close) Layout *layout = NULL;
        KL_AUTOERR err = NULL;
        int r = layout_open(removal->store->layout->path, &layout, &err);

        if (r == 0)
                r = layout_remove(layout, removal->id, removal->tag, &err);
        if (r < 0 && r != -ENOENT) {
                dprintf(STDERR_FILENO, "%s", kl_error_msg(err));
                return 1;
        }
        return 0;
}

static void on_removed(Worker *worker, WorkerResult *result, void *data)
{
        Removal *removal = data;
        ImageStore *store = removal->store;
        char how[128];

        if (result->status != 0) {
                worker_describe(result, REMOVAL_DEADLINE_MS, how, sizeof(how));
                log_error(NULL, "Removing image '%s' from the disk %s: %s", removal->id, how,
                          result->errors);
        }
        removal_free(removal);
        removals_next(store);
        deferred_schedule(store->start);
}

/* One at a time. */
static void removals_next(ImageStore *store)
{
        KL_AUTOERR err = NULL;
        Removal *removal =
                list_empty(&store->removals) ? NULL : list_first(&store->removals, Removal, link);
        WorkerSpec spec = {
                .name = "image-remove",
                .body = remove_body,
                .body_arg = removal,
                .deadline_ms = REMOVAL_DEADLINE_MS,
                .done = on_removed,
                .data = removal,
        };

        if (!removal || removal->worker || store->n_running > 0)
                return;
        if (worker_start(store->loop, &spec, &removal->worker, &err) == 0)
                return;
        log_error(NULL, "Cannot remove image '%s' from the disk: %s", removal->id,
                  kl_error_msg(err));
        removal_free(removal);
}

bool store_is_removing(const ImageStore *store)
{
        return !list_empty(&store->removals);
}

int image_remove(ImageStore *store, const char *reference, KlError **err)
{
        KL_AUTO(removal_free) Removal *removal = NULL;
        KL_AUTOFREE char *tag = NULL;
        ImageRecord *record = find_record(store, reference, &tag);
        bool last;

        if (!record)
                return kl_error(err, -ENOENT, NULL, "image '%s' is not here", reference);
        last = !tag || strv_len(record->tags) <= 1;
        if (last && record->n_held > 0)
                return kl_error(err, -EBUSY, NULL, "image '%s' is used by a container", reference);
        removal = calloc(1, sizeof(*removal));
        if (!removal)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&removal->link);
        removal->store = store;
        removal->id = strdup(record->image.id);
        removal->tag = KL_STEAL(tag);
        if (!removal->id)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (!last)
                image_record_remove_tag(record, removal->tag);
        else
                map_remove(store->records, removal->id);
        list_append(&store->removals, &removal->link);
        removal = NULL;
        if (store_sort(store) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        removals_next(store);
        if (store->changed)
                store->changed(store->data);
        return 0;
}

/* --- the store --- */

static void on_start(Deferred *deferred, void *data)
{
        ImageStore *store = data;

        removals_next(store);
        store_start_tasks(store);
}

/* In a forked worker too. */
static int clean_body(void *arg)
{
        ImageStore *store = arg;
        KL_AUTO(layout_close) Layout *layout = NULL;
        KL_AUTOERR err = NULL;

        if (layout_open(store->layout->path, &layout, &err) == 0 && layout_clean(layout, &err) == 0)
                return 0;
        dprintf(STDERR_FILENO, "%s", kl_error_msg(err));
        return 1;
}

static void on_cleaned(Worker *worker, WorkerResult *result, void *data)
{
        ImageStore *store = data;

        if (result->status != 0)
                log_warning(NULL, "Cannot clean the image store, ignoring: %s", result->errors);
        store->cleaner = worker_free(store->cleaner);
}

static int start_cleaner(ImageStore *store, KlError **err)
{
        WorkerSpec spec = {
                .name = "image-clean",
                .body = clean_body,
                .body_arg = store,
                .deadline_ms = CLEAN_DEADLINE_MS,
                .done = on_cleaned,
                .data = store,
        };

        return worker_start(store->loop, &spec, &store->cleaner, err);
}

static int fill_options(ImageStore *store, const ImageStoreOptions *options)
{
        unsigned int wanted = options->max_parallel_pulls;

        store->changed = options->changed;
        store->data = options->data;
        store->max_parallel =
                wanted > 0 && wanted < STORE_PARALLEL_MAX ? wanted : STORE_PARALLEL_MAX;
        store->worker_path = strdup(options->worker_path);
        if (options->registries)
                store->registries = strdup(options->registries);
        store->start = deferred_new(store->loop, on_start, store);
        return store->worker_path && store->start && (!options->registries || store->registries)
                       ? 0
                       : -ENOMEM;
}

int image_store_new(Loop *loop, const ImageStoreOptions *options, ImageStore **ret, KlError **err)
{
        KL_AUTO(image_store_free) ImageStore *store = calloc(1, sizeof(*store));
        int r;

        if (!store)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        store->loop = loop;
        store->lock_fd = -1;
        list_init(&store->tasks);
        list_init(&store->removals);
        if (fill_options(store, options) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = layout_open(options->dir, &store->layout, err);
        if (r < 0)
                return r;
        store->layers_dir = str_format("%s/layers", store->layout->path);
        if (!store->layers_dir)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        store->lock_fd = layout_own(store->layout, err);
        if (store->lock_fd < 0)
                return store->lock_fd;
        r = layout_load(store->layout, on_broken, NULL, &store->records, err);
        if (r < 0)
                return r;
        if (store_sort(store) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = start_cleaner(store, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(store);
        return 0;
}

ImageStore *image_store_free(ImageStore *store)
{
        if (!store)
                return NULL;
        store_free_tasks(store);
        list_for_each (removal, &store->removals, Removal, link)
                removal_free(removal);
        worker_free(store->cleaner);
        deferred_free(store->start);
        map_free(store->records);
        free(store->sorted);
        kl_close(store->lock_fd);
        layout_close(store->layout);
        free(store->layers_dir);
        free(store->worker_path);
        free(store->registries);
        free(store);
        return NULL;
}
