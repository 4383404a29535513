/* SPDX-License-Identifier: ISC */
#include "proxy/route.h"

#include <string.h>

#include "proxy/route_private.h"

const char *door_name(enum door d)
{
    static const char *const names[] = {
        [DOOR_NONE] = "-",
        [DOOR_PREFIX] = "prefix",
        [DOOR_NS] = "ns",
        [DOOR_MIRROR] = "mirror",
        [DOOR_LOCAL] = "local",
        [DOOR_ADMIN] = "admin",
        [DOOR_INTERCEPT] = "intercept",
    };
    return names[d];
}

/* Write the path with runs of '/' made one and escapes decoded, at most `path->len`
 * bytes. An escaped '/' separates nothing: it stays escaped, and so fails every
 * grammar. False when an escape is broken. */
static bool normalise(struct span *path, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < path->len; i++) {
        char c = path->p[i];
        if (c == '/' && len > 0 && out[len - 1] == '/')
            continue;
        if (c == '%') {
            int byte = route_unescape(span_from(*path, i));
            if (byte < 0)
                return false;
            if (byte != '/') {
                c = (char)byte;
                i += 2;
            }
        }
        out[len] = c;
        len++;
    }
    *path = (struct span){out, len};
    return true;
}

static bool is_normal(struct span path)
{
    for (size_t i = 1; i < path.len; i++)
        if (path.p[i] == '/' && path.p[i - 1] == '/')
            return false;
    return memchr(path.p, '%', path.len) == NULL;
}

/* The parts of a path that names are in. */
struct shape {
    struct span host;      /* of /<host>/v2/...; p is NULL without */
    struct span name;      /* as it stands in the path, perhaps with a registry */
    struct span reference; /* what follows the name and the word of the endpoint */
};

static bool looks_like_registry(struct span s)
{
    return name_looks_like_registry(s.p, s.len);
}

/* "<name>/blobs" of which uploads are made: the name, p is NULL when it is not that. */
static struct span uploads_name(struct span path)
{
    static const char word[] = "/blobs";
    const size_t len = sizeof word - 1;

    if (path.len <= len || memcmp(path.p + path.len - len, word, len) != 0)
        return (struct span){NULL, 0};
    return (struct span){path.p, path.len - len};
}

/* "<name>/blobs/uploads/<id>", the id and the slash before it may be missing. */
static bool parse_uploads(struct target *t, struct span rest, struct shape *shape)
{
    const char *slash = memrchr(rest.p, '/', rest.len);

    if (slash == NULL)
        return false;
    struct span last = span_from(rest, (size_t)(slash + 1 - rest.p));
    struct span before = {rest.p, (size_t)(slash - rest.p)};
    if (span_equal(last, "uploads")) {
        shape->name = uploads_name(before);
        t->endpoint = ENDPOINT_UPLOADS;
        return shape->name.p != NULL;
    }
    slash = memrchr(before.p, '/', before.len);
    if (slash == NULL || !span_equal(span_from(before, (size_t)(slash + 1 - rest.p)), "uploads"))
        return false;
    shape->name = uploads_name((struct span){rest.p, (size_t)(slash - rest.p)});
    shape->reference = last;
    t->endpoint = last.len > 0 ? ENDPOINT_UPLOAD : ENDPOINT_UPLOADS;
    return shape->name.p != NULL;
}

/* "<name>/<word>/<reference>", read from the right, because a name may hold the words. */
static enum outcome parse_endpoint(struct target *t, struct span rest, struct shape *shape)
{
    if (parse_uploads(t, rest, shape))
        return OUT_LOCAL;
    static const struct {
        const char *word;
        enum endpoint endpoint;
    } endpoints[] = {
        {"manifests", ENDPOINT_MANIFEST},
        {"blobs", ENDPOINT_BLOB},
        {"referrers", ENDPOINT_REFERRERS},
        {"tags", ENDPOINT_TAGS},
    };
    const char *second = memrchr(rest.p, '/', rest.len);
    if (second == NULL)
        return OUT_NO_ROUTE;
    const char *first = memrchr(rest.p, '/', (size_t)(second - rest.p));
    const char *word = first != NULL ? first + 1 : rest.p;
    shape->reference = span_from(rest, (size_t)(second + 1 - rest.p));
    shape->name = (struct span){rest.p, first != NULL ? (size_t)(first - rest.p) : 0};
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        if (span_equal((struct span){word, (size_t)(second - word)}, endpoints[i].word)) {
            t->endpoint = endpoints[i].endpoint;
            bool no_route = shape->reference.len == 0 ||
                            (t->endpoint == ENDPOINT_TAGS && !span_equal(shape->reference, "list"));
            return no_route ? OUT_NO_ROUTE : OUT_LOCAL;
        }
    }
    return OUT_NO_ROUTE;
}

/* What follows "/v2": nothing, or a slash and more. */
static enum outcome parse_rest(struct target *t, struct span rest, enum role role,
                               struct shape *shape)
{
    if (rest.len > 0)
        rest = span_from(rest, 1);
    struct span after = rest;
    struct span first = span_cut(&after, '/');
    bool prefix_alone = role == ROLE_REGISTRY && shape->host.p == NULL && after.len == 0 &&
                        looks_like_registry(first);
    if (role == ROLE_REGISTRY && shape->host.p == NULL && span_equal(rest, "_catalog")) {
        t->endpoint = ENDPOINT_CATALOG;
        return OUT_LOCAL;
    }
    if (first.len > 0 && !prefix_alone)
        return parse_endpoint(t, rest, shape);
    t->endpoint = ENDPOINT_PING;
    shape->name = first;
    return OUT_LOCAL;
}

static void set_own(struct target *t, enum endpoint endpoint, struct span tag)
{
    memcpy(t->tag, tag.p, tag.len);
    t->tag[tag.len] = '\0';
    t->endpoint = endpoint;
    t->door = DOOR_ADMIN;
}

/* "/-/setup/<page>" and the like, where pages have names as tags have. */
static bool parse_own_folder(struct target *t, struct span path)
{
    static const struct {
        const char *path;
        enum endpoint endpoint;
    } folders[] = {
        {"/-/setup/", ENDPOINT_SETUP},
        {"/-/api/", ENDPOINT_REPORT},
        {"/-/page/", ENDPOINT_PAGE},
    };

    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        size_t len = strlen(folders[i].path);

        if (path.len < len || memcmp(path.p, folders[i].path, len) != 0)
            continue;
        struct span page = span_from(path, len);
        bool is_page =
            page.len > 0 ? name_is_tag(page.p, page.len) : folders[i].endpoint == ENDPOINT_SETUP;
        if (is_page)
            set_own(t, folders[i].endpoint, page);
        return is_page;
    }
    return false;
}

static enum outcome parse_path(struct target *t, struct span path, enum role role,
                               struct shape *shape)
{
    static const struct {
        const char *path;
        enum endpoint endpoint;
    } own[] = {
        {"/-/healthz", ENDPOINT_HEALTH},        {"/-/metrics", ENDPOINT_METRICS},
        {"/-/setup/ca.crt", ENDPOINT_CA},       {"/-/readyz", ENDPOINT_READY},
        {"/-/token", ENDPOINT_TOKEN},           {"/-/api/fetch", ENDPOINT_ORDERS},
        {"/-/api/prefetch", ENDPOINT_PREFETCH}, {"/-/api/collect", ENDPOINT_COLLECT},
        {"/-/api/room", ENDPOINT_ROOM},
    };
    bool may_be_own = path.len > 2 && path.p[1] == '-';
    for (size_t i = 0; may_be_own && i < sizeof own / sizeof own[0]; i++) {
        if (span_equal(path, own[i].path)) {
            t->endpoint = own[i].endpoint;
            t->door = DOOR_ADMIN;
            return OUT_LOCAL;
        }
    }
    if (may_be_own && parse_own_folder(t, path))
        return OUT_LOCAL;
    if (path.len == 1) {
        set_own(t, ENDPOINT_PAGE, span_from(path, 1));
        return OUT_LOCAL;
    }
    struct span rest = span_from(path, 1);
    struct span first = span_cut(&rest, '/');
    if (!span_equal(first, "v2")) {
        if (rest.p == NULL || !looks_like_registry(first))
            return OUT_NO_ROUTE;
        shape->host = first;
        first = span_cut(&rest, '/');
        if (!span_equal(first, "v2"))
            return OUT_NO_ROUTE;
    }
    const char *v2_end = first.p + first.len;
    rest = (struct span){v2_end, (size_t)(path.p + path.len - v2_end)};
    return parse_rest(t, rest, role, shape);
}

static bool same_registry(struct span a, struct span b)
{
    char canonical_a[NAME_MAX_SIZE];
    char canonical_b[NAME_MAX_SIZE];
    return name_set_registry(canonical_a, a.p, a.len) == 0 &&
           name_set_registry(canonical_b, b.p, b.len) == 0 && strcmp(canonical_a, canonical_b) == 0;
}

/* Take the registry off the front of the name. */
static struct span cut_registry(struct span *name)
{
    struct span rest = *name;
    struct span first = span_cut(&rest, '/');
    *name = rest.p != NULL ? rest : span_from(*name, name->len);
    return first;
}

/* The door, and whose the name is: `*registry` has no length when it is local. */
static enum outcome choose_registry(struct target *t, struct shape *shape, enum role role,
                                    const char *mirror_of, struct span *registry)
{
    struct span ns = {t->ns, strlen(t->ns)};
    struct span name = shape->name;
    struct span first = cut_registry(&name);
    if (role == ROLE_MIRROR) {
        t->door = DOOR_MIRROR;
        *registry = (struct span){mirror_of, strlen(mirror_of)};
        bool other = (shape->host.p != NULL && !same_registry(shape->host, *registry)) ||
                     (ns.len > 0 && !same_registry(ns, *registry));
        return other ? OUT_NAME_UNKNOWN : OUT_LOCAL;
    }
    if (shape->host.p != NULL) {
        t->door = DOOR_PREFIX;
        *registry = shape->host;
        return ns.len > 0 && !same_registry(ns, shape->host) ? OUT_BAD_REQUEST : OUT_LOCAL;
    }
    if (ns.len > 0) {
        /* BuildKit puts the path of its mirror, which may be this registry, before the
         * name, and sends ns too. */
        t->door = DOOR_NS;
        *registry = ns;
        if (name.len > 0 && looks_like_registry(first) && same_registry(first, ns))
            shape->name = name;
        return OUT_LOCAL;
    }
    if (looks_like_registry(first)) {
        t->door = DOOR_PREFIX;
        *registry = first;
        shape->name = name;
        return OUT_LOCAL;
    }
    t->door = t->endpoint == ENDPOINT_PING ? DOOR_NONE : DOOR_LOCAL;
    return OUT_LOCAL;
}

static enum outcome parse_name(struct target *t, struct shape *shape, enum role role,
                               const char *mirror_of)
{
    struct span registry = {"", 0};
    enum outcome o = choose_registry(t, shape, role, mirror_of, &registry);
    if (o != OUT_LOCAL)
        return o;
    const struct span *name = &shape->name;
    int err = 0;
    if (t->endpoint == ENDPOINT_CATALOG)
        return t->door == DOOR_LOCAL ? OUT_LOCAL : OUT_NO_ROUTE;
    if (t->endpoint == ENDPOINT_PING) {
        err = registry.len > 0 ? name_set_registry(t->name.registry, registry.p, registry.len) : 0;
    } else if (t->door != DOOR_LOCAL) {
        err = name_set(&t->name, registry.p, registry.len, name->p, name->len);
    } else if (name_is_repository(name->p, name->len)) {
        memcpy(t->name.repository, name->p, name->len);
        t->name.repository[name->len] = '\0';
    } else {
        return OUT_NAME_INVALID;
    }
    return err == 0 ? OUT_LOCAL : OUT_NAME_INVALID;
}

static enum outcome parse_reference(struct target *t, struct span reference)
{
    bool tags_allowed = t->endpoint == ENDPOINT_MANIFEST;
    if (t->endpoint == ENDPOINT_UPLOAD) {
        if (!name_is_tag(reference.p, reference.len))
            return OUT_UPLOAD_UNKNOWN;
        memcpy(t->tag, reference.p, reference.len);
        t->tag[reference.len] = '\0';
        return OUT_LOCAL;
    }
    if (digest_parse(&t->digest, reference.p, reference.len) == 0) {
        t->by_digest = true;
        return OUT_LOCAL;
    }
    if (!tags_allowed || digest_looks_like(reference.p, reference.len))
        return OUT_DIGEST_INVALID;
    if (!name_is_tag(reference.p, reference.len))
        return OUT_TAG_INVALID;
    memcpy(t->tag, reference.p, reference.len);
    t->tag[reference.len] = '\0';
    return OUT_LOCAL;
}

static bool has_reference(enum endpoint e)
{
    return e == ENDPOINT_MANIFEST || e == ENDPOINT_BLOB || e == ENDPOINT_REFERRERS ||
           e == ENDPOINT_UPLOAD;
}

/* The arrays are left as they are but for their first bytes: this is on the way of
 * every request. */
static void target_init(struct target *t)
{
    t->endpoint = ENDPOINT_PING;
    t->door = DOOR_NONE;
    t->name.registry[0] = '\0';
    t->name.repository[0] = '\0';
    t->by_digest = false;
    t->digest = (struct digest){0};
    t->tag[0] = '\0';
    t->ns[0] = '\0';
    t->query[0] = '\0';
}

void route_init(struct target *t, enum door door)
{
    target_init(t);
    t->door = door;
}

enum outcome route_parse(struct target *t, struct span target, enum role role,
                         const char *mirror_of)
{
    target_init(t);
    if (target.len > HTTP_TARGET_MAX)
        return OUT_URI_TOO_LONG;
    struct span query = http_target_origin(target);
    struct span path = span_cut(&query, '?');
    if (path.len == 0 || path.p[0] != '/')
        return OUT_NO_ROUTE;
    char normal[HTTP_TARGET_MAX];
    if (!is_normal(path) && !normalise(&path, normal))
        return OUT_BAD_REQUEST;
    struct shape shape = {.name = {"", 0}, .reference = {"", 0}};
    enum outcome o = parse_path(t, path, role, &shape);
    if (o != OUT_LOCAL || t->door == DOOR_ADMIN)
        return o;
    if (query.p != NULL)
        o = route_parse_query(t, query);
    if (o == OUT_LOCAL)
        o = parse_name(t, &shape, role, mirror_of);
    return o == OUT_LOCAL && has_reference(t->endpoint) ? parse_reference(t, shape.reference) : o;
}
