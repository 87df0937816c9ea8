/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Strategic merge patches of the Node's status. Two lists need care: addresses merge by type on the
 * server, which cannot hold two of one type, so they carry `$patch: replace`; conditions merge by
 * type, so only ours are named and other writers' stay. `$setElementOrder` is never sent: old
 * servers answer it with a 500.
 */

#include "node/node-object.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

static bool section_differs(const NodePatch *patch, int i)
{
        const char *now = patch->now->text[i];

        return now && !str_eq(now, patch->accepted->text[i]);
}

static bool condition_differs(const NodePatch *patch, int i)
{
        const NodeCondition *now = &patch->conditions[i], *last = &patch->accepted_conditions[i];

        return !str_eq(now->status, last->status) || !str_eq(now->reason, last->reason) ||
               !str_eq(now->message, last->message);
}

bool node_patch_needed(const NodePatch *patch)
{
        for (int i = 0; i < NODE_SECTIONS; i++)
                if (section_differs(patch, i))
                        return true;
        for (int i = 0; i < NODE_CONDITIONS; i++)
                if (condition_differs(patch, i))
                        return true;
        return patch->stale_resources && *patch->stale_resources;
}

static void print_condition(JsonWriter *w, const NodePatch *patch, int i, const char *heartbeat)
{
        const NodeCondition *now = &patch->conditions[i];
        char transition[TIME_RFC3339_SIZE];

        jw_object(w);
        jw_kstr(w, "lastHeartbeatTime", heartbeat);
        if (condition_differs(patch, i)) {
                time_format_rfc3339(now->transition_us, transition);
                jw_kstr(w, "lastTransitionTime", transition);
                jw_kstr(w, "message", now->message);
                jw_kstr(w, "reason", now->reason);
                jw_kstr(w, "status", now->status);
        }
        jw_kstr(w, "type", node_condition_names[i]);
        jw_end(w);
}

/* The object's text with `,"name":null` for each stale name before its closing brace. */
static void print_resources(Buf *to, const char *text, char *const *stale)
{
        size_t n = strlen(text);
        bool comma = n > 2;

        buf_add(to, text, n - 1);
        for (; stale && *stale; stale++, comma = true)
                buf_addf(to, "%s\"%s\":null", comma ? "," : "", *stale);
        buf_add_char(to, '}');
}

static void print_section(JsonWriter *w, const NodePatch *patch, int i)
{
        const char *text = patch->now->text[i];
        KL_AUTOBUF changed = BUF_INIT;

        if (i == NODE_SECTION_ADDRESSES)
                buf_addf(&changed, "[{\"$patch\":\"replace\"},%s", text + 1);
        else if (i == NODE_SECTION_CAPACITY || i == NODE_SECTION_ALLOCATABLE)
                print_resources(&changed, text, patch->stale_resources);
        else
                buf_add_str(&changed, text);
        if (buf_error(&changed) < 0) {
                w->to->error = buf_error(&changed);
                return;
        }
        jw_key(w, node_section_names[i]);
        jw_raw(w, buf_str(&changed), changed.len);
}

int node_patch_print(const NodePatch *patch, Buf *to)
{
        bool stale = patch->stale_resources && *patch->stale_resources;
        JsonWriter w = JSON_WRITER(to);
        char now[TIME_RFC3339_SIZE];

        time_format_rfc3339(patch->now_us, now);
        jw_object(&w);
        jw_kobject(&w, "metadata");
        jw_kstr(&w, "uid", patch->uid);
        jw_end(&w);
        jw_kobject(&w, "status");
        for (int i = 0; i < NODE_SECTIONS; i++) {
                bool resources = i == NODE_SECTION_CAPACITY || i == NODE_SECTION_ALLOCATABLE;

                if (section_differs(patch, i) || (stale && resources))
                        print_section(&w, patch, i);
        }
        jw_karray(&w, "conditions");
        for (int i = 0; i < NODE_CONDITIONS; i++)
                print_condition(&w, patch, i, now);
        jw_end(&w);
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}

/* --- adoption --- */

bool node_value_contains(const Value *theirs, const Value *ours)
{
        const char *key;
        const Value *child;

        if (!theirs && value_type(ours) == VALUE_ARRAY && value_len(ours) == 0)
                return true;
        if (value_type(ours) != VALUE_OBJECT)
                return value_equal(theirs, ours);
        for (void *it = NULL; value_next(ours, &it, &key, &child);) {
                const Value *other = value_get(theirs, key);

                /* Empty texts are left out by the server. */
                if (!other && str_eq(value_str(child), ""))
                        continue;
                if (!node_value_contains(other, child))
                        return false;
        }
        return true;
}

typedef struct Wanted {
        const char *key, *value; /* NULL: to be removed */
} Wanted;

static bool any_differs(const Wanted *wanted, size_t n, const Value *existing)
{
        for (size_t i = 0; i < n; i++)
                if (!str_eq(wanted[i].value, value_get_str(existing, wanted[i].key)))
                        return true;
        return false;
}

static void print_wanted(JsonWriter *w, const char *name, const Wanted *wanted, size_t n,
                         const Value *existing)
{
        if (!any_differs(wanted, n, existing))
                return;
        jw_kobject(w, name);
        for (size_t i = 0; i < n; i++)
                if (!str_eq(wanted[i].value, value_get_str(existing, wanted[i].key)))
                        jw_kstr(w, wanted[i].key, wanted[i].value);
        jw_end(w);
}

/* Those that upstream reconciles: its own, and well-known ones if --node-labels gives them. */
static size_t wanted_labels(const NodeIdentity *identity, Wanted *ret)
{
        static const char *const well_known[] = {
                "topology.kubernetes.io/zone",
                "topology.kubernetes.io/region",
                "failure-domain.beta.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/region",
                "node.kubernetes.io/instance-type",
                "beta.kubernetes.io/instance-type",
        };
        const Wanted own[] = {
                { "kubernetes.io/arch", identity->architecture },
                { "kubernetes.io/hostname", identity->hostname },
                { "kubernetes.io/os", "linux" },
        };
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTS(own); i++) {
                const char *asked = config_pair_get(identity->labels, own[i].key);

                ret[n++] = (Wanted){ own[i].key, asked ? asked : own[i].value };
        }
        for (size_t i = 0; i < ELEMENTS(well_known); i++) {
                const char *asked = config_pair_get(identity->labels, well_known[i]);

                if (asked)
                        ret[n++] = (Wanted){ well_known[i], asked };
        }
        return n;
}

#define WANTED_MAX 16

int node_adopt_print(const NodeIdentity *identity, const Value *existing, Buf *to)
{
        const Value *labels = value_path(existing, "metadata.labels");
        const Value *annotations = value_path(existing, "metadata.annotations");
        Wanted wanted[WANTED_MAX];
        Wanted annotated[2] = {
                { "volumes.kubernetes.io/controller-managed-attach-detach",
                  identity->attach_detach ? "true" : NULL },
                { "alpha.kubernetes.io/provided-node-ip", identity->provided_ip },
        };
        size_t n = wanted_labels(identity, wanted);
        size_t n_annotated = identity->provided_ip ? 2 : 1;
        JsonWriter w = JSON_WRITER(to);

        if (!any_differs(wanted, n, labels) && !any_differs(annotated, n_annotated, annotations))
                return 0;
        jw_object(&w);
        jw_kobject(&w, "metadata");
        print_wanted(&w, "annotations", annotated, n_annotated, annotations);
        print_wanted(&w, "labels", wanted, n, labels);
        jw_kstr(&w, "uid", value_str(value_path(existing, "metadata.uid")));
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}
