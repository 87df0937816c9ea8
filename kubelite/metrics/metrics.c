/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The registry. A family's series are in a map by their label values, joined by a byte that no
 * UTF-8 has; the same key, sorted, is the order in which they are shown. Families without labels
 * have one series each; counters and histograms of these are there from the start, gauges once they
 * are set.
 */

#include "metrics/metrics.h"

#include "base/map.h"
#include "base/str.h"

#include <assert.h>
#include <math.h>

#define KEY_SEPARATOR '\xff'
#define KEY_SIZE (METRIC_LABELS_MAX * (METRIC_LABEL_VALUE_MAX + 1) + 1)

typedef struct Series {
        char *key;
        double value; /* a histogram's sum */
        uint64_t count;
        uint64_t buckets[]; /* of a histogram: not cumulated */
} Series;

static Map *registry[METRIC_COUNT];

static void series_free(void *data)
{
        Series *s = data;

        free(s->key);
        free(s);
}

static size_t n_labels(const MetricFamily *family)
{
        size_t n = 0;

        while (n < METRIC_LABELS_MAX && family->labels[n])
                n++;
        return n;
}

static size_t n_buckets(const MetricFamily *family)
{
        size_t n = 0;

        while (family->buckets && isfinite(family->buckets[n]))
                n++;
        return family->buckets ? n + 1 : 0;
}

static void make_key(const MetricFamily *family, const char *const *labels,
                     char ret[static KEY_SIZE])
{
        size_t n = n_labels(family), len = 0;

        assert(!labels[n]);
        for (size_t i = 0; i < n; i++) {
                size_t size;

                assert(labels[i]);
                size = strnlen(labels[i], METRIC_LABEL_VALUE_MAX);
                memcpy(ret + len, labels[i], size);
                for (char *c = ret + len;
                     (c = memchr(c, KEY_SEPARATOR, (size_t)(ret + len + size - c)));)
                        *c = '?';
                len += size;
                ret[len++] = KEY_SEPARATOR;
        }
        ret[len] = '\0';
}

static Series *series_new(MetricId id, const char *key)
{
        size_t buckets = n_buckets(&metric_families[id]);
        Series *s = calloc(1, sizeof(*s) + buckets * sizeof(s->buckets[0]));

        if (!s)
                return NULL;
        s->key = strdup(key);
        if (!s->key || map_set(registry[id], key, s) < 0) {
                series_free(s);
                return NULL;
        }
        return s;
}

static Series *series_get(MetricId id, const char *const *labels)
{
        char key[KEY_SIZE];
        Series *s;

        make_key(&metric_families[id], labels, key);
        if (!registry[id])
                registry[id] = map_new(series_free);
        if (!registry[id])
                return NULL;
        s = map_get(registry[id], key);
        if (!s && map_len(registry[id]) >= METRIC_SERIES_MAX) {
                metric_add(METRIC_SERIES_DROPPED, 1);
                return NULL;
        }
        return s ? s : series_new(id, key);
}

static void observe(const MetricFamily *family, Series *s, double value)
{
        size_t i = 0;

        while (value > family->buckets[i])
                i++;
        s->buckets[i]++;
        s->count++;
        s->value += value;
}

void metrics_change(MetricId id, MetricChange change, double value, const char *const *labels)
{
        const MetricFamily *family = &metric_families[id];
        Series *s;

        assert((family->type == EXPO_HISTOGRAM) == (change == METRIC_CHANGE_OBSERVE));
        if (isnan(value) || !(s = series_get(id, labels)))
                return;
        switch (change) {
        case METRIC_CHANGE_ADD:
                s->value += value;
                break;
        case METRIC_CHANGE_SET:
                s->value = value;
                break;
        case METRIC_CHANGE_OBSERVE:
                observe(family, s, value);
                break;
        }
}

double metrics_read(MetricId id, const char *const *labels)
{
        const MetricFamily *family = &metric_families[id];
        char key[KEY_SIZE];
        const Series *s;

        make_key(family, labels, key);
        s = registry[id] ? map_get(registry[id], key) : NULL;
        if (!s)
                return 0;
        return family->type == EXPO_HISTOGRAM ? (double)s->count : s->value;
}

/* The part of a key that is a label's value. */
static const char *key_part(const char *key, size_t i, size_t *ret_len)
{
        const char *end;

        while (i-- > 0)
                key = strchr(key, KEY_SEPARATOR) + 1;
        end = strchr(key, KEY_SEPARATOR);
        *ret_len = (size_t)(end - key);
        return key;
}

static void forget_in(MetricId id, size_t label, const char *value)
{
        size_t value_len = strnlen(value, METRIC_LABEL_VALUE_MAX);
        const char *key;

        for (size_t i = 0; map_next(registry[id], &i, &key, NULL);) {
                size_t len;
                const char *part = key_part(key, label, &len);

                if (len == value_len && memcmp(part, value, len) == 0)
                        map_remove(registry[id], key);
        }
}

void metric_forget(MetricId id, const char *label, const char *value)
{
        MetricId from = id == METRIC_COUNT ? 0 : id, to = id == METRIC_COUNT ? id : id + 1;

        for (MetricId f = from; f < to; f++)
                for (size_t i = 0; registry[f] && i < n_labels(&metric_families[f]); i++)
                        if (str_eq(metric_families[f].labels[i], label))
                                forget_in(f, i, value);
}

void metric_clear(MetricId id)
{
        registry[id] = map_free(registry[id]);
}

void metrics_reset(void)
{
        for (MetricId id = 0; id < METRIC_COUNT; id++)
                metric_clear(id);
}

/* --- rendering --- */

static void add_labels(const MetricFamily *family, const Series *s, ExpoSample *sample)
{
        char value[METRIC_LABEL_VALUE_MAX + 1];

        for (size_t i = 0; i < n_labels(family); i++) {
                size_t len;
                const char *part = key_part(s->key, i, &len);

                memcpy(value, part, len);
                value[len] = '\0';
                expo_label(sample, family->labels[i], value);
        }
}

static void write_histogram(const MetricFamily *family, const Series *s, Buf *to)
{
        uint64_t cumulated = 0;
        ExpoSample sample;

        for (size_t i = 0; i < n_buckets(family); i++) {
                char bound[EXPO_VALUE_SIZE];

                cumulated += s->buckets[i];
                expo_format(family->buckets[i], bound);
                sample = expo_begin(to, family->name, "_bucket");
                add_labels(family, s, &sample);
                expo_label(&sample, "le", bound);
                expo_end_u64(&sample, cumulated, 0);
        }
        sample = expo_begin(to, family->name, "_sum");
        add_labels(family, s, &sample);
        expo_end(&sample, s->value, 0);
        sample = expo_begin(to, family->name, "_count");
        add_labels(family, s, &sample);
        expo_end_u64(&sample, s->count, 0);
}

static void write_series(const MetricFamily *family, const Series *s, Buf *to)
{
        ExpoSample sample;

        if (family->type == EXPO_HISTOGRAM) {
                write_histogram(family, s, to);
                return;
        }
        sample = expo_begin(to, family->name, "");
        add_labels(family, s, &sample);
        expo_end(&sample, s->value, 0);
}

static int compare_series(const void *a, const void *b)
{
        return strcmp((*(const Series *const *)a)->key, (*(const Series *const *)b)->key);
}

static void write_family(MetricId id, Buf *to)
{
        const MetricFamily *family = &metric_families[id];
        size_t n = 0, len = registry[id] ? map_len(registry[id]) : 0;
        KL_AUTOFREE Series **sorted = calloc(len + 1, sizeof(*sorted));
        Series *s;

        if (!sorted) {
                to->error = -ENOMEM;
                return;
        }
        for (size_t i = 0; registry[id] && map_next(registry[id], &i, NULL, &s);)
                sorted[n++] = s;
        qsort(sorted, n, sizeof(*sorted), compare_series);
        if (n)
                expo_family(to, family->name, family->help, family->type);
        for (size_t i = 0; i < n; i++)
                write_series(family, sorted[i], to);
}

void metrics_write(MetricPage page, Buf *to)
{
        for (MetricId id = 0; id < METRIC_COUNT; id++) {
                const MetricFamily *family = &metric_families[id];
                unsigned int pages = family->pages ? family->pages : METRIC_PAGE_METRICS;

                if (!(pages & page))
                        continue;
                if (n_labels(family) == 0 && family->type != EXPO_GAUGE)
                        series_get(id, METRIC_VALUES(NULL));
                write_family(id, to);
        }
}
