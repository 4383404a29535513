/* SPDX-License-Identifier: ISC */
/* The records: manifests and what they name, tags, the images of local repositories, pins. */
#include "cache/audit_private.h"

#include <stdlib.h>
#include <string.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/loss.h"
#include "cache/manifest.h"
#include "cache/parent.h"
#include "cache/pin.h"
#include "cache/repository.h"
#include "cache/stride.h"
#include "cache/tag.h"

static char *reference_name(const struct name *n, const char *tag)
{
    char text[NAME_MAX_SIZE];

    name_text(n, text);
    return mem_format("%s:%s", text, tag);
}

/* A record that counts as not there is found as such by its own walk. */
static bool is_held(struct db_txn *txn, const struct digest *d)
{
    struct blob_record r;

    return blob_get(txn, d, &r) == 0;
}

/* --- manifests --- */

struct held_manifest {
    struct digest digest;
    struct manifest_record record;
    uint64_t file_bytes;
};

struct manifests {
    struct auditor *x;
    struct held_manifest *list; /* of one stride */
    size_t count;
    size_t room;
};

struct parents {
    struct db_txn *txn;
    const struct digest *manifest;
    bool is_missing;
};

static int look_for_parent(void *arg, const struct manifest_child *child)
{
    struct parents *p = arg;

    p->is_missing = parent_get(p->txn, &child->digest, p->manifest, child->role) == ERR_NOT_FOUND;
    return p->is_missing;
}

static void keep_manifest(struct manifests *m, const struct digest *d,
                          const struct manifest_record *r, uint64_t file_bytes)
{
    if (m->count == m->room) {
        m->room = m->room == 0 ? 64 : m->room * 2;
        m->list = mem_resize(m->list, m->room * sizeof m->list[0]);
    }
    m->list[m->count++] = (struct held_manifest){*d, *r, file_bytes};
}

static int look_at_manifest(void *arg, struct db_txn *txn, struct db_value key,
                            struct db_value value)
{
    struct manifests *m = arg;
    struct audit *a = m->x->audit;
    struct manifest_record r;
    struct blob_record blob;
    struct digest d;
    struct parents p = {.txn = txn, .manifest = &d};
    int used = digest_from_key(&d, key.data, key.size);

    (void)value;
    a->manifests++;
    int err = used == (int)key.size ? manifest_get(txn, &d, &r) : ERR_DAMAGED;

    if (err == 0)
        err = manifest_walk(txn, &d, look_for_parent, &p);
    if (err == ERR_IO)
        return err;
    if (err < 0) {
        audit_add_record(a, DB_MANIFESTS, key);
    } else if (p.is_missing) {
        struct finding *f = audit_add(a, AUDIT_PARENT_MISSING);

        f->digest = d;
        f->size_bytes = r.size_bytes;
    } else if (!m->x->options->is_quick && blob_get(txn, &d, &blob) == 0) {
        keep_manifest(m, &d, &r, blob.size_bytes);
    }
    return 0;
}

struct comparison {
    const struct manifest *manifest;
    unsigned count;
};

static int compare_child(void *arg, const struct manifest_child *child)
{
    struct comparison *c = arg;

    if (c->count >= manifest_child_count(c->manifest))
        return 1;
    const struct descriptor *d = manifest_child(c->manifest, c->count++);

    return !digest_equal(&d->digest, &child->digest) || d->size_bytes != child->size_bytes ||
           (int)d->role != child->role;
}

static int compare(struct db_txn *txn, const struct digest *d, const struct manifest_record *r,
                   const struct manifest *m, bool *differs)
{
    struct comparison c = {.manifest = m};
    const struct descriptor *subject = manifest_subject(m);
    bool has_subject = r->subject.alg != 0;
    int result = manifest_walk(txn, d, compare_child, &c);

    /* Evicted meanwhile. */
    if (result == ERR_NOT_FOUND)
        return 0;
    /* Version 1 of the record has no subject. */
    *differs = result != 0 || c.count != manifest_child_count(m) ||
               r->is_index != manifest_is_index(m) ||
               (has_subject && (subject == NULL || !digest_equal(&subject->digest, &r->subject)));
    return result < 0 && result != ERR_DAMAGED ? result : 0;
}

/* A file that is bad was found by the walk of the blobs. */
static int read_manifest(struct auditor *x, const struct digest *d, const struct manifest_record *r,
                         uint64_t file_bytes)
{
    struct manifest *m;
    struct db_txn *txn;
    bool differs = false;
    char why[256];
    char *data;

    if (file_bytes > MANIFEST_SIZE_MAX || blob_read(x->store, d, file_bytes, &data) != 0)
        return 0;
    int err = file_bytes != r->size_bytes
                  ? ERR_INVALID
                  : manifest_parse(&m, r->media_type, data, file_bytes, why, sizeof why);

    free(data);
    if (err != 0) {
        differs = true;
    } else {
        err = db_read(x->reader, &txn);
        if (err == 0) {
            err = compare(txn, d, r, m, &differs);
            db_read_end(x->reader);
        }
        manifest_free(&m);
        if (err != 0)
            return err;
    }
    if (differs) {
        struct finding *f = audit_add(x->audit, AUDIT_MANIFEST_DIFFERS);

        f->digest = *d;
        f->size_bytes = file_bytes;
    }
    return 0;
}

static int read_manifests(void *arg)
{
    struct manifests *m = arg;
    int err = 0;

    for (size_t i = 0; err == 0 && i < m->count; i++)
        err = read_manifest(m->x, &m->list[i].digest, &m->list[i].record, m->list[i].file_bytes);
    m->count = 0;
    return err;
}

static int audit_manifests(struct auditor *x)
{
    struct manifests m = {.x = x};
    int err = db_stride(x->reader, DB_MANIFESTS, NULL, 0, look_at_manifest, read_manifests, &m);

    free(m.list);
    return err;
}

/* --- tags --- */

/* What an upstream's tag leads to need not be held: it can be fetched. */
static int look_at_tag(void *arg, struct db_txn *txn, struct db_value key, struct db_value value)
{
    struct auditor *x = arg;
    char tag[NAME_TAG_MAX_SIZE];
    struct manifest_record manifest;
    struct tag_record r;
    struct name n;

    x->audit->tags++;
    if (tag_read(key, value, &n, tag, &r) != 0) {
        audit_add_record(x->audit, DB_TAGS, key);
        return 0;
    }
    if (!name_is_local(&n) ||
        (manifest_get(txn, &r.digest, &manifest) == 0 && is_held(txn, &r.digest)))
        return 0;
    struct finding *f = audit_add(x->audit, AUDIT_TAG_LOOSE);

    f->digest = r.digest;
    f->name = reference_name(&n, tag);
    f->table = DB_TAGS;
    f->key_len = key.size;
    memcpy(f->key, key.data, key.size);
    return 0;
}

/* --- the images of local repositories --- */

struct index_audit {
    struct auditor *x;
    struct db_txn *txn;
    const struct name *name;
    const struct digest *manifest;
    struct digest missing; /* alg 0: none */
    uint64_t missing_bytes;
};

static int find_upstream(void *arg, const struct name *n)
{
    (void)arg;
    return !name_is_local(n);
}

/* The children of an index may be absent. */
static int look_at_child(void *arg, const struct manifest_child *child)
{
    struct index_audit *i = arg;

    if (child->role == CHILD_MANIFEST || is_held(i->txn, &child->digest))
        return 0;
    int result = source_walk(i->txn, &child->digest, find_upstream, NULL);

    if (result != 0)
        return result < 0 ? result : 0;
    struct foreign_urls urls;

    if (foreign_urls_get(i->txn, i->name->registry, &child->digest, &urls) == 0) {
        foreign_urls_clear(&urls);
        return 0;
    }
    i->missing = child->digest;
    i->missing_bytes = child->size_bytes;
    return 1;
}

static int look_at_image(void *arg, const struct digest *d, int64_t seen_at_s)
{
    struct index_audit *i = arg;
    struct manifest_record r;
    char name[NAME_MAX_SIZE];
    char digest[DIGEST_TEXT_MAX];

    (void)seen_at_s;
    if (manifest_get(i->txn, d, &r) != 0 || !is_held(i->txn, d) ||
        manifest_walk(i->txn, d, look_at_child, i) != 1)
        return 0;
    struct finding *f = audit_add(i->x->audit, AUDIT_IMAGE_INCOMPLETE);

    name_text(i->name, name);
    f->digest = i->missing;
    f->size_bytes = i->missing_bytes;
    f->name = mem_format("%s@%s", name, digest_text(d, digest));
    return 0;
}

static int look_at_repository(void *arg, const struct name *n)
{
    struct index_audit *i = arg;

    i->name = n;
    return link_walk(i->txn, n, look_at_image, i);
}

/* --- pins --- */

static int look_at_pin(void *arg, const struct pin *p)
{
    const struct index_audit *i = arg;
    const struct reference *r = &p->reference;
    char text[REFERENCE_TEXT_MAX];
    struct tag_record tag = {.digest = r->digest};

    if ((r->by_digest || tag_get(i->txn, &r->name, r->tag, &tag) == 0) &&
        is_held(i->txn, &tag.digest))
        return 0;
    reference_text(r, text);
    audit_add(i->x->audit, AUDIT_PIN_LOOSE)->name = mem_copy(text, strlen(text));
    return 0;
}

/* --- losses --- */

static int look_at_loss(void *arg, const struct loss *l)
{
    const struct index_audit *i = arg;

    if (is_held(i->txn, &l->digest))
        return 0;
    struct finding *f = audit_add(i->x->audit, AUDIT_LOST);

    f->digest = l->digest;
    f->size_bytes = l->size_bytes;
    return 0;
}

int audit_index(struct auditor *x)
{
    struct index_audit i = {.x = x};
    int err = audit_manifests(x);

    if (err == 0)
        err = db_stride(x->reader, DB_TAGS, NULL, 0, look_at_tag, NULL, x);
    if (err == 0)
        err = db_read(x->reader, &i.txn);
    if (err != 0)
        return err;
    err = repository_walk_local(i.txn, NULL, look_at_repository, &i);
    if (err == 0)
        err = pin_walk(i.txn, look_at_pin, &i);
    if (err == 0)
        err = loss_walk(i.txn, look_at_loss, &i);
    db_read_end(x->reader);
    return err;
}
