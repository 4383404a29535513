/* SPDX-License-Identifier: ISC */
/* cachalot inspect: an image as a tree, from its index down to its layers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/manifest_referrer.h"
#include "cache/pin.h"
#include "cache/survey.h"
#include "cache/tag.h"
#include "tools/command.h"
#include "tools/content.h"
#include "tools/output.h"
#include "tools/target.h"

#define SHORT_DIGEST 12
/* More make no sense to a person; of a hostile index there could be billions. */
#define NODES_MAX 10000

struct tree {
    struct db_txn *txn;
    const struct target *target;
    struct table *table;
    size_t nodes;
    bool is_cut;
    int64_t now_s;
};

/* One manifest in the tree. */
struct branch {
    struct tree *tree;
    unsigned depth;
    json_t *children;
};

static void add_node_row(struct tree *tree, const struct content *c, unsigned depth,
                         const char *what)
{
    char digest[DIGEST_TEXT_MAX], size[TEXT_MAX], age[TEXT_MAX];
    char *from =
        content_from_text(c, tree->target->has_reference ? &tree->target->reference.name : NULL);
    digest_text(&c->digest, digest);
    table_add(tree->table, "%*s%s", (int)(2 * depth), "", what);
    table_add(tree->table, "%.*s", SHORT_DIGEST, strchr(digest, ':') + 1);
    table_add(tree->table, "%s", size_text(size, c->size_bytes));
    table_add(tree->table, "%s", c->is_held ? "yes" : "no");
    table_add(tree->table, "%s",
              c->is_held ? age_text(age, tree->now_s - c->record.used_at_s) : "-");
    table_add(tree->table, "%s", from);
    free(from);
}

static int walk_children(struct tree *tree, const struct digest *d, unsigned depth,
                         json_t **children);

/* A node with what is below it. `what` is what people see of its role. */
static int add_node(struct tree *tree, const struct digest *d, uint64_t size_bytes, int role,
                    const char *platform, unsigned depth, json_t *into)
{
    struct content c;
    struct manifest_record r = {0};
    if (++tree->nodes > NODES_MAX) {
        tree->is_cut = true;
        return 0;
    }
    int err = content_read(&c, tree->txn, d, size_bytes);
    if (err != 0)
        return err;
    bool is_manifest = role == CHILD_MANIFEST && manifest_get(tree->txn, d, &r) == 0;
    const char *name = is_manifest && r.is_index ? "index" : role_name(role);
    add_node_row(tree, &c, depth, *platform != '\0' ? platform : name);
    json_t *node = content_json(&c);
    json_object_set_new(node, "role", json_string(name));
    json_object_set_new(node, "platform", *platform != '\0' ? json_string(platform) : json_null());
    if (is_manifest)
        json_object_set_new(node, "media_type", json_string(r.media_type));
    json_array_append_new(into, node);
    content_clear(&c);
    json_t *children = NULL;
    if (is_manifest && depth < MANIFEST_DEPTH_MAX)
        err = walk_children(tree, d, depth + 1, &children);
    if (children != NULL)
        json_object_set_new(node, "children", children);
    return err;
}

static int visit_child(void *arg, const struct manifest_child *child)
{
    struct branch *b = arg;
    return add_node(b->tree, &child->digest, child->size_bytes, child->role, child->platform,
                    b->depth, b->children);
}

/* What a damaged record names is not known. */
static int walk_children(struct tree *tree, const struct digest *d, unsigned depth,
                         json_t **children)
{
    struct branch b = {tree, depth, json_array()};
    int err = manifest_walk(tree->txn, d, visit_child, &b);
    *children = b.children;
    return err == ERR_NOT_FOUND || err == ERR_DAMAGED ? 0 : err;
}

/* --- what refers to it --- */

struct referring {
    struct tree *tree;
    size_t prefix_len;
    json_t *list;
};

static int visit_referrer(void *arg, struct db_value key, struct db_value value)
{
    struct referring *r = arg;
    struct referrer_record record;
    struct digest d;
    struct content c;
    const uint8_t *rest = (const uint8_t *)key.data + r->prefix_len;
    if (digest_from_key(&d, rest, key.size - r->prefix_len) < 0 ||
        referrer_read(value, &record) != 0)
        return 0;
    int err = content_read(&c, r->tree->txn, &d, record.size_bytes);
    if (err != 0)
        return err;
    char *type = printable(*record.artifact_type != '\0' ? record.artifact_type : "of no type");
    char *what = mem_format("referrer %s", type);
    add_node_row(r->tree, &c, 0, what);
    json_t *json = content_json(&c);
    json_object_set_new(json, "artifact_type", json_string(type));
    json_array_append_new(r->list, json);
    free(what);
    free(type);
    content_clear(&c);
    return 0;
}

/* Referrers are those of one repository. */
static int add_referrers(struct tree *tree, json_t *list)
{
    uint8_t prefix[REFERRER_KEY_MAX];
    struct referring r = {.tree = tree, .list = list};
    if (!tree->target->has_reference)
        return 0;
    r.prefix_len = referrer_key(&tree->target->reference.name, &tree->target->digest, prefix);
    return db_walk(tree->txn, DB_REFERRERS, prefix, r.prefix_len, NULL, 0, visit_referrer, &r);
}

/* --- printing --- */

static void add_fact(struct table *t, const char *head, const char *text)
{
    table_add(t, "%s", head);
    table_add(t, "%s", text);
}

static void add_tag(struct table *t, const struct tree *tree, const struct reference *r)
{
    struct tag_record tag;
    char changed[TEXT_MAX], checked[TEXT_MAX];
    if (r->by_digest || tag_get(tree->txn, &r->name, r->tag, &tag) != 0)
        return;
    age_text(changed, tree->now_s - tag.changed_at_s);
    age_text(checked, tree->now_s - tag.checked_at_s);
    bool is_previous = !digest_equal(&tag.digest, &tree->target->digest);
    table_add(t, "tag");
    if (name_is_local(&r->name))
        table_add(t, "pushed %s ago", changed);
    else
        table_add(t, "here for %s, confirmed %s ago%s", changed,
                  tag.checked_at_s == 0 ? "long" : checked,
                  is_previous ? "; to a manifest that is not held: this is the one before" : "");
}

static void print_table(const struct tree *tree)
{
    char digest[DIGEST_TEXT_MAX], reference[REFERENCE_TEXT_MAX];
    const struct target *target = tree->target;
    struct manifest_record r;
    struct table *t = table_new("lw");
    if (target->has_reference) {
        reference_text(&target->reference, reference);
        add_fact(t, "image", reference);
    }
    add_fact(t, "digest", digest_text(&target->digest, digest));
    if (manifest_get(tree->txn, &target->digest, &r) == 0)
        add_fact(t, "type", r.media_type);
    if (target->has_reference) {
        bool is_pinned = pin_covers(tree->txn, &target->reference, &target->digest);
        add_tag(t, tree, &target->reference);
        add_fact(t, "pinned", is_pinned ? "yes" : "no");
    }
    table_print_plain(t);
    table_free(&t);
    putchar('\n');
    table_print(tree->table);
    if (tree->is_cut)
        printf("\nOnly the first %d are shown.\n", NODES_MAX);
}

static void print_json(const struct tree *tree, json_t *roots, json_t *referrers)
{
    char reference[REFERENCE_TEXT_MAX];
    const struct target *t = tree->target;
    json_t *json = json_copy(json_array_get(roots, 0));
    if (t->has_reference)
        reference_text(&t->reference, reference);
    json_object_set_new(json, "reference", t->has_reference ? json_string(reference) : json_null());
    json_object_set_new(
        json, "pinned",
        json_boolean(t->has_reference && pin_covers(tree->txn, &t->reference, &t->digest)));
    json_object_set(json, "referrers", referrers);
    json_object_set_new(json, "cut", json_boolean(tree->is_cut));
    json_print(json);
}

enum exit_code cmd_inspect(const struct options *o, int argc, char **argv)
{
    struct cache cache;
    struct target target;
    (void)argc;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    code = target_find(&target, o, cache.txn, argv[0]);
    if (code == EXIT_DONE) {
        static const char *const heads[] = {"WHAT", "DIGEST", "SIZE", "HELD", "USED", "FROM"};
        struct tree tree = {cache.txn, &target, table_new("llrlrw"), 0, false, time(NULL)};
        json_t *roots = json_array(), *referrers = json_array();
        uint64_t size_bytes = 0;
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
            table_add(tree.table, "%s", heads[i]);
        int role = content_role(cache.txn, &target.digest, &size_bytes);
        if (target.has_reference)
            role = CHILD_MANIFEST;
        int err = add_node(&tree, &target.digest, size_bytes, role, "", 0, roots);
        if (err == 0)
            err = add_referrers(&tree, referrers);
        if (err != 0)
            code = cache_complain(o, err);
        else if (o->format == FORMAT_JSON && !o->quiet)
            print_json(&tree, roots, referrers);
        else if (!o->quiet)
            print_table(&tree);
        if (err == 0)
            code = output_end();
        json_decref(roots);
        json_decref(referrers);
        table_free(&tree.table);
    }
    cache_close(&cache);
    return code;
}
